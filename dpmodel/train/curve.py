"""The learning curve ``lcurve.out``, in deepmd-kit's format (specification/training.md 5.1)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from dpmodel.errors import FileError

Columns = Mapping[str, float]  # by name: "rmse", "rmse_e", ...
NAN = float("nan")


class Curve:
    """Writes one row at a time; each is on the disk when ``row`` returns.

    ``names``: columns of each task; ``validated``: whether the task has validation data; ``multi``: whether columns
    are called after their task.
    """

    def __init__(
        self, path: str, names: Mapping[str, Sequence[str]], validated: Mapping[str, bool], *, multi: bool, append: bool
    ) -> None:
        self.path, self._names, self._validated, self._multi = Path(path), names, validated, multi
        self._write(self._header(), "a" if append else "w")

    def row(
        self, step: int, trained: Mapping[str, Columns], valid: Mapping[str, Columns], learning_rate: float
    ) -> None:
        """Values of every task at ``step``, counted from 1; NaN where there are none."""
        text = f"{step:7d}"
        for task, names in self._names.items():
            for name in names:
                mine = trained.get(task, {}).get(name, NAN)
                theirs = valid.get(task, {}).get(name, NAN)
                text += f"   {theirs:11.2e} {mine:11.2e}" if self._validated[task] else f"   {mine:11.2e}"
        self._write(f"{text}   {learning_rate:8.1e}\n", "a")

    def _header(self) -> str:
        text = f"# {'step':5s}"
        for task, names in self._names.items():
            suffix = f"_{task}" if self._multi else ""
            for name in names:
                mine, theirs = f"{name}_trn{suffix}", f"{name}_val{suffix}"
                text += f"   {theirs:>11s} {mine:>11s}" if self._validated[task] else f"   {mine:>11s}"
        return f"{text}   {'lr':8s}\n# nan: the data have no such label\n"

    def _write(self, text: str, mode: str) -> None:
        try:
            with self.path.open(mode) as file:
                file.write(text)
        except OSError as error:
            raise FileError(f"{self.path}: cannot be written: {error.strerror}") from error


def read_curve(path: str) -> dict[str, list[float]]:
    """Columns of a learning curve by name, "step" and "lr" among them; headers in the middle are skipped."""
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: cannot be read: {error}") from error
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
