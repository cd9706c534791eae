"""The learning curve ``lcurve.out``, in deepmd-kit's format (specification/training.md 5.1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dpmodel.errors import FileError
from dpmodel.io.files import read_text, replacing

Columns = Mapping[str, float]  # by name: "rmse", "rmse_e", ...
NAN = float("nan")


class Curve:
    """Writes one row at a time; each is on the disk when ``row`` returns.

    ``names``: columns of each task; ``validated``: whether the task has validation data; ``multi``: whether columns
    are called after their task; ``done``: steps of an earlier part of the run, whose rows stay; those of later steps,
    which a run that was killed had written, are done again.  None: a new file.
    """

    def __init__(
        self,
        path: str,
        names: Mapping[str, Sequence[str]],
        validated: Mapping[str, bool],
        *,
        multi: bool,
        done: int | None,
    ) -> None:
        self.path, self._names, self._validated, self._multi = Path(path), names, validated, multi
        old = "" if done is None or not self.path.exists() else self._until(done)
        with replacing(self.path) as file:
            file.write((old + self._header()).encode())

    def _until(self, done: int) -> str:
        """Headers and whole rows of the file, without those of steps after ``done``."""
        rows = [row for row in read_text(self.path).splitlines(keepends=True) if row.endswith("\n")]
        return "".join(row for row in rows if row.startswith("#") or _step(row) <= done)

    def row(
        self, step: int, trained: Mapping[str, Columns], valid: Mapping[str, Columns], learning_rate: float
    ) -> None:
        """Values of every task at ``step``, counted from 1; NaN where there are none."""
        text = f"{step:7d}"
        for task, names in self._names.items():
            for name in names:
                trn = trained.get(task, {}).get(name, NAN)
                val = valid.get(task, {}).get(name, NAN)
                text += f"   {val:11.2e} {trn:11.2e}" if self._validated[task] else f"   {trn:11.2e}"
        self._write(f"{text}   {learning_rate:8.1e}\n", "a")

    def _header(self) -> str:
        text = f"# {'step':5s}"
        for task, names in self._names.items():
            suffix = f"_{task}" if self._multi else ""
            for name in names:
                trn, val = f"{name}_trn{suffix}", f"{name}_val{suffix}"
                text += f"   {val:>11s} {trn:>11s}" if self._validated[task] else f"   {trn:>11s}"
        return f"{text}   {'lr':8s}\n# nan: the data have no such label\n"

    def _write(self, text: str, mode: str) -> None:
        try:
            with self.path.open(mode) as file:
                file.write(text)
        except OSError as error:
            raise FileError(f"{self.path}: cannot be written: {error.strerror}") from error


def _step(row: str) -> float:
    """The step of a row, infinite for what is none."""
    first = row.split(maxsplit=1)[:1]
    return int(first[0]) if first and first[0].isdigit() else float("inf")


def read_curve(path: str) -> dict[str, list[float]]:
    """Columns of a learning curve by name, "step" and "lr" among them; headers in the middle are skipped."""
    lines = read_text(path).splitlines()
    if not lines or not lines[0].startswith("# step"):
        raise FileError(f"{path}: expected a learning curve, whose first line starts with '# step'")
    names = lines[0][1:].split()
    rows: dict[float, list[float]] = {}
    for number, line in enumerate(lines, 1):
        if line.startswith("#") or not line.strip():
            continue
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            raise FileError(f"{path}: line {number}: expected numbers, found {line.strip()[:60]!r}") from None
        if len(values) != len(names):
            raise FileError(f"{path}: line {number}: expected {len(names)} numbers, found {len(values)}")
        rows[values[0]] = values  # after a restart the later row counts
    return {name: [row[k] for row in rows.values()] for k, name in enumerate(names)}
