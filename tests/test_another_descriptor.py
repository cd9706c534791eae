"""A descriptor of two bodies, put together here: what is outside ``dpmodel/dpa2`` serves it as it serves DPA-2."""

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from dpmodel.backend import Engine
from dpmodel.dpa2.descriptor import Description
from dpmodel.dpa2.neighborhood import neighborhood
from dpmodel.graph import Block, Graph
from dpmodel.initializers import Initializer
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.module import module, param, state
from dpmodel.nn import MLP
from dpmodel.ops.arrays import append_row, gather
from dpmodel.ops.geometry import norm, switch
from dpmodel.potential import Potential
from dpmodel.settings import Settings, setting
from dpmodel.train.batches import open_batches
from dpmodel.train.collate import collate
from dpmodel.train.learner import Learner
from dpmodel.train.script import read_script
from dpmodel.xp import Array, namespace
from small_water import script, write_system


class PairSettings(Settings):
    type: Literal["pairs"] = setting("pairs", "The kind of descriptor.")
    rcut: float = setting(4.0, "Cutoff radius.", unit="Å")
    nsel: int = setting(40, "Number of neighbors.")
    width: int = setting(5, "Width of the descriptor.")

    cutoff = property(lambda s: s.rcut)
    dim_out = rotation_width = property(lambda s: s.width)
    blocks = property(lambda s: {"pairs": Block(s.rcut, s.nsel)})
    truncate: ClassVar = True
    trainable: ClassVar = True
    use_econf_tebd: ClassVar = False
    exclude_types: ClassVar = ()
    dtype: ClassVar = "float64"


class PairModelSettings(ModelSettings):
    descriptor: PairSettings = setting(..., "How an atom is described.")  # type: ignore[assignment]


@module
class Pairs:
    """d_i = c_(t_i) sum_j s(r_ij) c_(t_j) g(s(r_ij)): an embedded distance, weighted by both types."""

    embedding: MLP
    charges: Array = param("n_types width")
    n_types: int
    width: int
    cutoff: float

    def __call__(self, graph: Graph, vectors: Array, execution: Any = None) -> Description:
        near = neighborhood(graph, vectors, graph.blocks["pairs"])
        xp, distance = namespace(vectors), norm(near.vectors)
        s = switch(distance, 0.0, self.cutoff)
        charges = append_row(self.charges, 0.0)
        g = self.embedding(s[:, :, None]) * gather(charges, near.neighbor_types) * s[:, :, None]
        unit = near.vectors / distance[:, :, None]
        own = gather(charges, near.types)
        return Description(own * xp.sum(g, axis=1), xp.matrix_transpose(g) @ unit, g, unit, s)


def pair_model(settings: PairModelSettings) -> ModelFile:
    draw, s = Initializer(3), settings.descriptor
    embedding = MLP.embedding(draw("embedding"), (1, s.width), activation="tanh", time_step=False)
    charges = draw("charges").normal((settings.n_types, s.width), 1.0)
    pairs = Pairs(embedding=embedding, charges=charges, n_types=settings.n_types, width=s.width, cutoff=s.rcut)
    return ModelFile(settings, build(settings, 5, pairs))


SETTINGS = PairModelSettings.read({"type_map": ["O", "H"], "descriptor": {}, "fitting_net": {"neuron": [6]}})
FILE = pair_model(SETTINGS)
CELL = np.array([[5.0, 0.0, 0.0], [0.8, 5.5, 0.0], [-0.3, 0.4, 6.0]])
TYPES = np.array([0, 1, 1, 0, 1, 1, 0])
POSITIONS = np.random.default_rng(1).uniform(0.0, 1.0, (7, 3)) @ CELL


def energy_of(positions: np.ndarray, cell: np.ndarray) -> float:
    """The energy by loops over atoms and images."""
    d: Any = FILE.model.descriptor
    images = np.array(list(np.ndindex(5, 5, 5))) - 2
    features = np.zeros((len(TYPES), d.width))
    for i, x in enumerate(positions):
        for j, y in enumerate(positions):
            for r in np.linalg.norm(y - x + images @ cell, axis=1):
                if 0.0 < r < d.cutoff:
                    s = switch(np.array(r), 0.0, d.cutoff)
                    features[i] += d.charges[TYPES[i]] * d.charges[TYPES[j]] * s * d.embedding(s[None])
    return float(FILE.model.fitting.network(features).sum())


def slope(positions: np.ndarray, cell: np.ndarray, strain: np.ndarray, moved: np.ndarray) -> float:
    """How fast the energy changes while atoms are ``moved`` and space is strained."""
    h, deform = 1e-5, np.eye(3)
    up, down = (
        energy_of((positions + k * moved) @ (deform + k * strain), cell @ (deform + k * strain)) for k in (h, -h)
    )
    return (up - down) / (2 * h)


def test_energies_forces_and_virials(engine: Engine) -> None:
    """Against loops over atoms and images, and differences of those."""
    found: Any = Potential(FILE, engine).evaluate(POSITIONS, TYPES, CELL)
    np.testing.assert_allclose(found.energy[0], energy_of(POSITIONS, CELL), rtol=1e-12)
    moved, strain = np.random.default_rng(2).normal(size=(7, 3)), np.random.default_rng(3).normal(size=(3, 3))
    np.testing.assert_allclose(-(found.forces[0] * moved).sum(), slope(POSITIONS, CELL, 0 * strain, moved), rtol=1e-6)
    np.testing.assert_allclose(-(found.virial[0] * strain).sum(), slope(POSITIONS, CELL, strain, 0 * moved), rtol=1e-6)


def test_a_training_step(engine: Engine, tmp_path: Path) -> None:
    """The same on every backend; it makes the loss smaller, and moves the descriptor too."""
    write_system(tmp_path / "a", 2)
    made = read_script(script(tmp_path / "a"))
    task = replace(made.tasks["Default"], model=SETTINGS)
    frames = open_batches(task.data.training_data, SETTINGS, 1, "training").frames(0)
    batch = collate(frames, SETTINGS.selection, rounded=engine.rounds_shapes)
    learner = Learner(replace(made, tasks={"Default": task}), {"Default": FILE}, engine)
    first, second = (learner.step("Default", batch, 0.001)["rmse"] for _ in range(2))
    assert second < first
    before, after = state(FILE.model), state(learner.models()["Default"].model)
    moved = {path for path, value in after.items() if not np.array_equal(value, before[path])}
    assert {"descriptor.charges", "descriptor.embedding.layers.0.weight", "fitting.network.layers.0.weight"} <= moved
