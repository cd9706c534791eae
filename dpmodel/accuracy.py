"""Errors of predictions against labels: what testing and validation show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Literal

import numpy as np

from dpmodel.data.systems import Frame
from dpmodel.model.settings import ModelSettings
from dpmodel.prediction import Prediction

PREDICTED = {"energy": "energy", "force": "forces", "virial": "virial"}  # labels: fields of predictions
AGREEMENT = {"float64": 1e-10, "float32": 2e-5}  # of two computations of one model, relative to the largest number
SHIFT = 1e-3  # added to labels that errors are divided by, as deepmd-kit does


@dataclass(frozen=True)
class Quantity:
    """A quantity that is compared: ``label`` by its name in the data; differences are divided by atoms or the cell's
    volume, or counted for each ``atom``, component by component.

    ``cumulative``: sums of components up to each of them.
    """

    label: str
    unit: str
    per: Literal["atoms", "volume", "frame", "atom"]
    cumulative: bool = False
    relative: bool = False  # show the other measures, parts of the label among them, as well

    @property
    def name(self) -> str:
        """Its name: of the label but for the stress, a virial per volume, and sums of densities of states."""
        return "stress" if self.per == "volume" else self.label.replace("dos", "cdf") if self.cumulative else self.label

    def values(self, frame: Frame, prediction: Prediction, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Label and prediction of one frame, of which the atoms ``counted`` (n,) bool count; None without the label."""
        cell = frame.structure.cell
        if self.label not in frame.labels or (self.per == "volume" and cell is None):
            return None
        both = np.stack([frame.labels[self.label], predicted(prediction, self.label)])
        if self.per == "atom":
            both = both[:, counted]
        elif self.per != "frame":
            size = max(1, counted.sum()) if cell is None or self.per == "atoms" else abs(np.linalg.det(cell))
            both = both / size
        both = np.cumsum(both, axis=-1) if self.cumulative else both
        return both[0], both[1]


def quantities(settings: ModelSettings) -> tuple[Quantity, ...]:
    """The quantities of a model, described by ``settings``, that labels of data can be compared with."""
    fitting, name = settings.fitting_net, settings.fitting_net.output
    if fitting.type == "ener":
        energy, force = Quantity("energy", "eV/atom", "atoms"), Quantity("force", "eV/Å", "atom")
        return energy, force, Quantity("virial", "eV/atom", "atoms")
    if fitting.type == "property":
        intensive = getattr(fitting, "intensive", False)
        return (Quantity(name, "" if intensive else "/atom", "frame" if intensive else "atoms", relative=True),)
    frame, atom = Quantity(name, "/atom", "atoms"), Quantity(f"atom_{name}", "", "atom")
    if fitting.type != "dos":
        return frame, atom
    sums = Quantity(name, "/atom", "atoms", cumulative=True), Quantity(f"atom_{name}", "", "atom", cumulative=True)
    return frame, atom, *sums


STRESS = Quantity("virial", "eV/Å³", "volume")


def predicted(prediction: Prediction, label: str) -> np.ndarray:
    """The prediction for a label of one frame."""
    value = getattr(prediction, PREDICTED[label]) if label in PREDICTED else prediction.outputs[label]
    return np.asarray(value[0])


@dataclass
class Errors:
    """Differences between predictions and labels; sums over ``number`` of them."""

    squares: float = 0.0
    absolute: float = 0.0
    relative: float = 0.0
    smooth: float = 0.0  # half of small squares, as deepmd-kit's smooth_mae with beta = 1
    number: int = 0

    def add(self, label: np.ndarray, prediction: np.ndarray) -> None:
        """Take in more of them."""
        difference = prediction - label
        size = np.abs(difference)
        self.squares += float((difference**2).sum())
        self.absolute += float(size.sum())
        self.smooth += float(np.where(size < 1.0, 0.5 * size**2, size - 0.5).sum())
        self.relative += float(np.abs(difference / (label + SHIFT)).sum())
        self.number += difference.size

    @property
    def rmse(self) -> float:
        return float(np.sqrt(self.squares / self.number)) if self.number else float("nan")

    @property
    def mae(self) -> float:
        return self.absolute / self.number if self.number else float("nan")

    @property
    def others(self) -> dict[str, float]:
        """The rest of the measures that a loss of properties can have, by their names."""
        sums = {"mape": self.relative, "mse": self.squares, "smooth_mae": self.smooth}
        return {name: value / self.number if self.number else float("nan") for name, value in sums.items()}


@dataclass
class Accuracy:
    """Errors of one system, or of all, by quantity."""

    path: str
    settings: ModelSettings
    compared: tuple[Quantity, ...]
    n_frames: int = 0
    errors: dict[str, Errors] = field(default_factory=dict)

    def add(self, frame: Frame, prediction: Prediction) -> None:
        """Take in one frame."""
        self.n_frames += 1
        excluded = () if self.settings.fitting_net.type == "ener" else self.settings.atom_exclude_types
        counted = np.isin(frame.structure.types, (-1, *excluded), invert=True)
        for quantity in self.compared:
            values = quantity.values(frame, prediction, counted)
            if values is not None:
                self.errors.setdefault(quantity.name, Errors()).add(*values)

    def __iadd__(self, other: "Accuracy") -> "Accuracy":
        self.n_frames += other.n_frames
        for name, errors in other.errors.items():
            sums = self.errors.setdefault(name, Errors())
            for part in fields(Errors):
                setattr(sums, part.name, getattr(sums, part.name) + getattr(errors, part.name))
        return self

    def numbers(self) -> dict[str, float]:
        """Errors by their names, ``rmse_energy`` and the like."""
        measured = {quantity.name: quantity for quantity in self.compared if quantity.name in self.errors}
        result: dict[str, float] = {}
        for name, quantity in measured.items():
            errors = self.errors[name]
            result |= {f"rmse_{name}": errors.rmse, f"mae_{name}": errors.mae}
            result |= {f"{key}_{name}": x for key, x in errors.others.items()} if quantity.relative else {}
        return result


def total(systems: Iterable[Accuracy]) -> Accuracy:
    """All frames of all systems together."""
    every = list(systems)
    result = Accuracy("total", every[0].settings, every[0].compared)
    for one in every:
        result += one
    return result


def accuracy(
    path: str,
    settings: ModelSettings,
    frames: Sequence[Frame],
    predictions: Sequence[Prediction],
    compared: tuple[Quantity, ...] | None = None,
) -> Accuracy:
    """Errors of ``predictions`` of the ``frames`` of the system at ``path``, one each."""
    result = Accuracy(path, settings, quantities(settings) if compared is None else compared)
    for frame, prediction in zip(frames, predictions, strict=True):
        result.add(frame, prediction)
    return result


def details(accuracy: Accuracy, frames: Sequence[Frame], predictions: Sequence[Prediction]) -> Mapping[str, np.ndarray]:
    """Arrays of labels and predictions, the types, and names of those that count per atom (``per_atom``)."""
    values = {"types": np.stack([frame.structure.types for frame in frames])}
    compared = [q for q in accuracy.compared if not q.cumulative and all(q.label in f.labels for f in frames)]
    for quantity in compared:
        values[quantity.label] = np.stack([frame.labels[quantity.label] for frame in frames])
        values[f"predicted_{quantity.label}"] = np.stack([predicted(p, quantity.label) for p in predictions])
    return values | {"per_atom": np.array([q.label for q in compared if q.per == "atoms"], dtype=str)}


def json_number(x: float) -> float | None:
    """``x``, or null where it is not finite."""
    return x if isfinite(x) else None
