"""Models and numbers of deepmd-kit (tests/reference; see make_reference.py there)."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from dpmodel.io.container import read_tree
from dpmodel.io.deepmd import ModelFile, from_tree

HERE = Path(__file__).parents[1] / "reference"
EVERY = sorted(path.parent.name for path in HERE.glob("*/io.npz"))
HEADS = [name for name in EVERY if name.startswith("head_")]
ENERGY = [name for name in EVERY if name not in HEADS]


@dataclass(frozen=True)
class Case:
    """One folder: ``path`` of the model, ``io`` what goes in and what should come out (nf frames of n atoms)."""

    name: str
    path: Path
    io: dict[str, np.ndarray]

    @property
    def tolerance(self) -> float:
        """Relative to the largest number of an array."""
        return 2e-5 if self.name == "float32" else 1e-10

    @property
    def file(self) -> ModelFile:
        return _file(self.path)

    @property
    def frames(self) -> dict[str, Any]:
        """Arguments of ``Potential.evaluate``."""
        given = {"positions": "coord", "types": "atype", "cell": "box", "fparam": "fparam", "aparam": "aparam"}
        return {argument: self.io[key] for argument, key in given.items() if key in self.io}

    def check(self, ours: Any, key: str, where: np.ndarray | None = None) -> None:
        """Compare with a stored array, on the atoms or slots ``where`` if not on all."""
        ours, stored = np.asarray(ours), self.io[key]
        assert ours.shape == stored.shape, f"{self.name}: {key}"
        if where is not None:
            ours, stored = ours[where], stored[where]
        np.testing.assert_allclose(
            ours, stored, rtol=0, atol=self.tolerance * np.abs(stored).max(), err_msg=f"{self.name}: {key}"
        )


@cache
def _file(path: Path) -> ModelFile:
    return from_tree(read_tree(path), path.parent.name)


@cache
def case(name: str) -> Case:
    with np.load(HERE / name / "io.npz") as io:
        arrays = {key: value[..., 0] if key.endswith("energy") else value for key, value in io.items()}
        return Case(name, HERE / name / "model.dp", arrays)
