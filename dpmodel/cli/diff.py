"""In which settings and arrays two models differ.

The exit code is 1 if they do.

Examples:
    dpmodel diff model.dp model.pt
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from dpmodel.cli.options import Json, Model
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.metadata import RIGIDITY
from dpmodel.io.model import read_model
from dpmodel.module import state
from dpmodel.settings import by_path

ABSENT = "-"


def main(
    model: Model,
    other: Model,
    head_a: Annotated[str | None, typer.Option(help="Which model of the first file, if it has several.")] = None,
    head_b: Annotated[str | None, typer.Option(help="Which model of the second file.")] = None,
    as_json: Json = False,
) -> None:
    differences = diff_files(model, other, head_a, head_b)
    print(differences.to_json() if as_json else differences)
    if not differences.equal:
        raise typer.Exit(1)


@dataclass(frozen=True)
class SettingDifference:
    """A setting that differs; "-" where a model has no such setting."""

    path: str
    a: Any
    b: Any

    def __str__(self) -> str:
        a, b = (value if value == ABSENT else json.dumps(value) for value in (self.a, self.b))
        return f"  {self.path}: {a} | {b}"


@dataclass(frozen=True)
class ArrayDifference:
    """An array that differs: "float64 (2, 4)" in each model, "-" where there is none.

    Of arrays of the same shape: the ``largest`` difference, that ``relative`` to the largest number of the first
    model, and the ``number`` of entries that differ.
    """

    path: str
    a: str
    b: str
    largest: float | None = None
    relative: float | None = None
    number: int | None = None

    def __str__(self) -> str:
        form = self.a if self.a == self.b else f"{self.a} | {self.b}"
        if self.largest is None:
            return f"  {self.path}: {form}"
        return f"  {self.path}: {form}: {self.number} differ, by {self.largest:.1e} (relative: {self.relative:.1e})"


@dataclass(frozen=True)
class Differences:
    """All differences of two models."""

    settings: list[SettingDifference]
    arrays: list[ArrayDifference]
    neighbors: tuple[str, str]  # which ones each takes

    @property
    def equal(self) -> bool:
        return not self.settings and not self.arrays

    def to_json(self) -> str:
        plain = asdict(self)
        del plain["neighbors"]  # words for people: the setting is descriptor.truncate
        return json.dumps({"equal": self.equal} | plain, indent=2)

    def __str__(self) -> str:
        if self.equal:
            return "the models are equal: every setting, and every array bit for bit"
        taken = "" if self.neighbors[0] == self.neighbors[1] else f"\nneighbors: {' | '.join(self.neighbors)}"
        sections: dict[str, Sequence[object]] = {"settings": self.settings, "arrays": self.arrays}
        return "\n".join("\n".join([name, *map(str, lines)]) for name, lines in sections.items() if lines) + taken


def diff_files(a: Path, b: Path, head_a: str | None = None, head_b: str | None = None) -> Differences:
    """The differences of the models in two files of any kinds; heads as for ``dpmodel.load``."""
    return diff(read_model(a, head_a), read_model(b, head_b))


def diff(a: ModelFile, b: ModelFile) -> Differences:
    """The differences of two models: settings by path, arrays by path."""
    ours, theirs = (dict(by_path(f.settings.model_dump())) | {"min_nbor_dist": f.min_pair_distance} for f in (a, b))
    settings = [
        SettingDifference(path, ours.get(path, ABSENT), theirs.get(path, ABSENT))
        for path in ours | theirs
        if path not in ours or path not in theirs or ours[path] != theirs[path]
    ]
    left, right = state(a.model) | _uncertainty(a), state(b.model) | _uncertainty(b)
    differences = (_array(path, left.get(path), right.get(path)) for path in left | right)
    neighbors = a.settings.descriptor.nsel_meaning, b.settings.descriptor.nsel_meaning
    return Differences(settings, [difference for difference in differences if difference is not None], neighbors)


def _uncertainty(file: ModelFile) -> dict[str, np.ndarray]:
    """The numbers of the file's uncertainty, as arrays by path."""
    return {f"{RIGIDITY}.{path}": np.asarray(x) for path, x in by_path(file.extras.get(RIGIDITY, {}))}


def _array(path: str, a: np.ndarray | None, b: np.ndarray | None) -> ArrayDifference | None:
    """The difference of two arrays; None if they are the same bit for bit."""
    one, two = (ABSENT if x is None else f"{x.dtype} {x.shape}" for x in (a, b))
    if a is None or b is None or a.shape != b.shape:
        return ArrayDifference(path, one, two)
    if a.dtype == b.dtype and a.tobytes() == b.tobytes():
        return None
    x, y = a.astype(np.float64), b.astype(np.float64)
    largest, scale = (float(np.abs(z).max(initial=0.0)) for z in (x - y, x))
    relative = largest / scale if scale else float(largest > 0.0)
    differ = (x != y) | (np.signbit(x) != np.signbit(y))  # -0.0 is not 0.0
    return ArrayDifference(path, one, two, largest, relative, int(np.count_nonzero(differ)))
