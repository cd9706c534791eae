"""From structures to the arrays of an engine, through the core's functions, and back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dpmodel.backend import Engine
from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.structure import Structure, wrapped
from dpmodel.errors import InputError
from dpmodel.execution import Exchange, Execution
from dpmodel.graph import Graph
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.metadata import RIGIDITY
from dpmodel.model.heads import HEADS, expect_energies
from dpmodel.model.model import Model
from dpmodel.model.predict import (
    EnergyForces,
    atomic_output,
    describe,
    edge_gradient,
    features,
    hessian_product,
    predict,
)
from dpmodel.module import Rebuilder, state
from dpmodel.prediction import HeatFlux, Prediction, expect_finite, of_frame
from dpmodel.xp import Array, map_arrays

if TYPE_CHECKING:
    from dpmodel.domains import Domains, Halo
    from dpmodel.memory import Memory
    from dpmodel.statistics.rigidity import Rigidity

KINETIC = 103.6426965  # eV in a g/mol (angstrom/fs)^2
BATCH = 1024  # atoms in one call; frames beyond it wait for the next

Gauge = Literal["edges", "dense"]
Layer = Literal["descriptor", "features"]


@dataclass(frozen=True)
class Wants:
    """The quantities to compute beside the energy."""

    forces: bool = True
    atom_virial: Gauge | None = None
    hessian: bool = False
    uncertainty: bool = False

    @classmethod
    def of(cls, forces: bool, atom_virial: bool | str, hessian: bool, uncertainty: bool = False) -> "Wants":
        gauges: dict[bool | str, Gauge | None] = {False: None, True: "edges", "edges": "edges", "dense": "dense"}
        if atom_virial not in gauges:
            raise InputError(f'atom_virial should be False, True, "edges" or "dense", got {atom_virial!r}')
        return cls(forces or gauges[atom_virial] == "edges", gauges[atom_virial], hessian, uncertainty)


def quiet() -> Any:
    """NumPy's warnings are off: results are looked at afterwards."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


class Evaluator:
    """A model's functions on an engine, each compiled when it is first called.

    Methods take graphs of atoms in NumPy arrays and give NumPy arrays, those of all frames on one axis.
    """

    def __init__(self, file: ModelFile, engine: Engine, memory: str | float | None = None) -> None:
        self.file, self.engine = file, engine
        self._limit = memory
        if memory is not None:
            self.memory  # noqa: B018  (a limit that is none is an error at once)
        self.selection = file.settings.selection
        self.state = {path: engine.native(value) for path, value in state(file.model).items()}
        self.rebuild = Rebuilder(file.model)
        self._sizes: dict[tuple[int, ...], dict[str, int]] = {}  # of the graphs so far, where programs are compiled
        # of the latest bins of atoms only, for these are as many as there are steps of trajectories
        self._program = lru_cache(maxsize=64)(self._compiled)

    def evaluate(self, frames: Sequence[Structure], wants: Wants, *, strict: bool) -> Iterator[list[Prediction]]:
        """Predictions of all frames, one each, a batch of them at a time."""
        done = 0
        for batch in _batches(frames, BATCH):
            graph = build_graph(batch, self.selection, strict=strict, first_frame=done)
            yield self.predictions(batch, graph, wants, done)
            done += len(batch)

    def predictions(
        self, frames: Sequence[Structure], graph: Graph, wants: Wants, first_frame: int = 0
    ) -> list[Prediction]:
        """Predictions of the frames of ``graph``, one each.

        Raises InputError for numbers that are not finite; its frames count from ``first_frame``.
        """
        positions = flat_positions(frames)
        make = self._energies if self.file.settings.fitting_net.type == "ener" else self._outputs
        with quiet():
            made = make(frames, graph, positions, wants)
        expect_finite(made, graph, positions, self.selection.cutoff, first_frame)
        return made

    def _energies(
        self, frames: Sequence[Structure], graph: Graph, positions: np.ndarray, wants: Wants
    ) -> list[Prediction]:
        """Predictions of an energy model."""
        values = self._energies_of_atoms(graph, positions, wants.forces)
        if wants.atom_virial is None:
            values.pop("atom_virial", None)
        if wants.atom_virial == "dense":
            values["atom_virial"] = self._dense_virial(graph, positions, frames)
        if wants.hessian:
            values["hessian"] = self._hessian(graph, positions, frames)
        if wants.uncertainty:
            values |= self._uncertainty(graph, positions)
        return [Prediction(**of_frame(values, f, frames)) for f in range(len(frames))]

    def _uncertainty(self, graph: Graph, positions: np.ndarray) -> dict[str, np.ndarray]:
        """Standard deviations of the energies of frames and atoms, eV, by the rigidity of the last layer."""
        rows = self.last_layer(graph, positions)
        sums = np.concatenate([rows, np.zeros((1, rows.shape[1]))])[graph.members].sum(axis=1)
        return {
            "atom_uncertainty": self.rigidity.deviation(rows),
            "energy_uncertainty": self.rigidity.deviation(sums),
        }

    def last_layer(self, graph: Graph, positions: np.ndarray, halo: "Halo | None" = None) -> np.ndarray:
        """(N, d) the last hidden layer of the fitting net, zero for atoms whose energy does not count.

        With ``halo``, of the centers of a process: all have to call this together.
        """
        n = len(graph.neighbors)
        if halo is None:
            rows = self._plain(features, graph, positions)
        else:
            domains = self._domains
            execution = replace(self.engine.run(slope=False), exchange=domains.exchange)
            with domains.through(halo):
                rows = self._call(features, execution, (), graph, (positions,), domains.padded(graph))
        silent = np.isin(graph.types[:n], (self.file.model.n_types, *self.file.settings.atom_exclude_types))
        return np.where(silent[:, None], 0.0, rows[:n].astype(np.float64))

    @cached_property
    def rigidity(self) -> "Rigidity":
        """The calibration of the last layer, from the file; raises InputError where that was not calibrated."""
        from dpmodel.statistics.rigidity import Rigidity

        if RIGIDITY not in self.file.extras:
            raise InputError("the model does not know its uncertainty: let 'dpmodel calibrate' tell it")
        n_features = self.file.model.fitting.network.layers[-1].n_in
        return Rigidity.of_entry(self.file.extras[RIGIDITY], n_features, RIGIDITY)

    def describe(
        self, frames: Sequence[Structure], *, strict: bool, layer: Layer = "descriptor"
    ) -> Iterator[np.ndarray]:
        """The descriptor of each atom, or the last hidden layer of the fitting net ("features"), frame by frame.

        Arrays (n, dim) float64; zero for virtual atoms.
        """
        done = 0
        for batch in _batches(frames, BATCH):
            graph = build_graph(batch, self.selection, strict=strict, first_frame=done)
            done += len(batch)
            with quiet():
                rows = self._plain(LAYERS[layer], graph, flat_positions(batch)).astype(np.float64)
            ends = np.cumsum([len(frame.types) for frame in batch])
            real = [frame.types[:, None] >= 0 for frame in batch]
            parts = [np.where(r, rows[end - len(r) : end], 0.0) for r, end in zip(real, ends, strict=True)]
            made = [Prediction(outputs={f"atom_{layer}": part[None]}) for part in parts]
            expect_finite(made, graph, flat_positions(batch), self.selection.cutoff, done - len(batch))
            yield from parts

    def heat_flux(self, frames: Sequence[Structure], velocities: np.ndarray, masses: np.ndarray) -> HeatFlux:
        """The heat flux of frames of the same size; velocities (nf, n, 3) angstrom/fs, masses (nf, n) g/mol."""
        atom_energy, fluxes, done = [], [], 0
        for batch in _batches(frames, BATCH):
            graph, speeds = build_graph(batch, self.selection, first_frame=done), velocities[done : done + len(batch)]
            done += len(batch)
            x, n = flat_positions(batch), len(batch)
            with quiet():
                flux, energy = self.virial_heat_flux(graph, x, speeds.reshape(-1, 3)), self.atomic_output(graph, x)
            both = zip(energy.reshape(n, 1, -1), flux, strict=True)
            made = [Prediction(atom_energy=e, outputs={"heat flux": j}) for e, j in both]
            expect_finite(made, graph, x, self.selection.cutoff, done - n)
            fluxes.append(flux)
            atom_energy.append(energy[:, 0])
        energy = np.concatenate(atom_energy).reshape(masses.shape)
        energy = energy + 0.5 * KINETIC * masses * (velocities**2).sum(axis=-1)
        return HeatFlux(np.concatenate(fluxes), (energy[..., None] * velocities).sum(axis=1))

    def virial_heat_flux(
        self, graph: Graph, positions: np.ndarray, velocities: np.ndarray, halo: "Halo | None" = None
    ) -> np.ndarray:
        """The heat flux that interactions carry, (nf, 3) eV angstrom per unit of time of ``velocities`` (N, 3).

        With ``halo``, the part of a process: all have to call this together, and nothing may be compiled, so that all
        meet in the same order.
        """
        from dpmodel.data.images import explicit_images
        from dpmodel.model.heat_flux import heat_flux

        images, moved, owner = explicit_images(graph, positions, self.selection)
        if halo is None:
            speeds = np.concatenate([velocities, np.zeros((len(owner) - len(velocities), 3))])
            return self._differentiated(heat_flux, images, moved, speeds, owner)
        domains, count = self._domains, len(positions)
        # no groups: processes have equal graphs
        execution = Execution(exchange=lambda x, _: domains.exchange(x, count))
        with domains.through(halo):
            return self._call(heat_flux, execution, (self.engine.grad_and_aux,), images, (moved, velocities, owner))

    def atomic_output(self, graph: Graph, positions: np.ndarray) -> np.ndarray:
        """(N, ...) the output of every center, without derivatives."""
        return self._plain(atomic_output, graph, positions)[: len(graph.neighbors)]

    def energy_forces(self, graph: Graph, positions: np.ndarray) -> EnergyForces:
        """Energies, forces and virials of an energy model."""
        return _unpadded(self._differentiated(predict, graph, positions), graph, np.arange(len(positions)))

    def edge_gradient(self, graph: Graph, positions: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """(N, n, 3) the slope of the energies, each with its ``weight`` (N,), by every edge vector."""
        n_centers, n = graph.neighbors.shape
        return self._differentiated(edge_gradient, graph, positions, weight)[:n_centers, :n]

    def hessian_product(self, graph: Graph, positions: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """(N, 3) the Hessian times ``direction`` (N, 3)."""
        return self._differentiated(hessian_product, graph, positions, direction)[: len(positions)]

    def evaluate_domain(self, graph: Graph, positions: np.ndarray, *, halo: "Halo") -> EnergyForces:
        """The part of a process in a system that it shares with others: the energies of its centers, and what they do
        to the forces, (A, 3), and atomic virials of all its atoms, ghosts included.

        All processes have to call this together.
        """
        from dpmodel.data.padding import padded_index

        domains = self._domains
        padded = domains.padded(graph)
        with domains.through(halo):
            values = self._differentiated(predict, graph, positions, padded=padded, exchange=domains.exchange)
        return _unpadded(values, graph, padded_index(graph, len(padded.neighbors)))

    @cached_property
    def _domains(self) -> "Domains":
        from dpmodel.domains import Domains

        return Domains(self.engine, self.selection)

    @cached_property
    def memory(self) -> "Memory":
        """The memory that derivatives may take."""
        from dpmodel.memory import Memory

        return Memory(self.engine, self.file.settings.descriptor, self._limit)

    def _plain(self, function: Callable[..., Any], graph: Graph, *rows: np.ndarray) -> Any:
        """``function(model, graph, *rows, execution)``; ``rows`` have a row an atom."""
        return self._call(function, self.engine.run(slope=False), (), graph, rows)

    def _differentiated(
        self,
        function: Callable[..., Any],
        graph: Graph,
        *rows: np.ndarray,
        padded: Graph | None = None,
        exchange: Exchange | None = None,
    ) -> Any:
        """``function(model, graph, *rows, grad_and_aux, execution)``."""
        execution = self.engine.run(slope=True)
        if exchange is not None:
            execution = replace(execution, exchange=exchange)
        return self._call(function, execution, (self.engine.grad_and_aux,), graph, rows, padded)

    def _call(
        self,
        function: Callable[..., Any],
        execution: Execution,
        means: tuple[Any, ...],
        graph: Graph,
        rows: Sequence[np.ndarray],
        padded: Graph | None = None,
    ) -> Any:
        """``function(model, graph, *rows, *means, execution)`` on the engine, in NumPy arrays.

        ``padded``: the graph in the sizes to compile for; those of results.
        """
        engine = self.engine
        if engine.rounds_shapes:
            from dpmodel.data.padding import pad_rows

            padded = self._padded(graph) if padded is None else padded
            graph, rows = padded, [pad_rows(x, graph, padded) for x in rows]
        arrays = map_arrays(engine.native, (graph, *rows))

        def run(plan: Execution) -> Any:
            return map_arrays(engine.numpy, self._program(function, plan, *means)(self.state, *arrays))

        return self.memory.run(execution, graph, run, alone=execution.exchange is Execution().exchange)

    def _padded(self, graph: Graph) -> Graph:
        """``graph`` in sizes to compile for, whose widths never shrink: those of trajectories fluctuate."""
        from dpmodel.data.padding import pad_graph, rounded_sizes

        sizes = rounded_sizes(graph, self.selection)
        rows = tuple(sizes[axis] for axis in ("centers", "ghosts", "members"))
        self._sizes[rows] = rounded_sizes(graph, self.selection, self._sizes.get(rows))
        return pad_graph(graph, self.selection, self._sizes[rows])

    def _compiled(self, function: Callable[..., Any], execution: Execution, *means: Any) -> Callable[..., Any]:
        rebuild = self.rebuild
        return self.engine.compile(lambda state, *x: function(rebuild(state), *x, *means, execution))

    def _energies_of_atoms(self, graph: Graph, positions: np.ndarray, forces: bool) -> dict[str, np.ndarray]:
        """Fields of ``Prediction`` on the atom axis."""
        if forces:
            return self.energy_forces(graph, positions)._asdict()
        atom_energy = self.atomic_output(graph, positions)[:, 0]
        return {"atom_energy": atom_energy, "energy": np.append(atom_energy, 0.0)[graph.members].sum(axis=1)}

    def _dense_virial(self, graph: Graph, positions: np.ndarray, frames: Sequence[Structure]) -> np.ndarray:
        """deepmd-kit's split of the virial, (N, 3, 3): it depends on which image of an atom is in the cell (4.4).

        w_m = -sum_i (de_i/dx_m) (x_m - x_i), the positions wrapped into the cell; x_i is moved inside the derivative.
        """
        home = np.concatenate([wrapped(frame) for frame in frames])
        g = self.edge_gradient(graph, positions, np.ones(len(positions)))
        moved = np.stack([self.edge_gradient(graph, positions, x) for x in home.T], axis=-1)  # sum_i de_i/dd_e x_i
        vectors = positions[graph.neighbors] - positions[:, None] + graph.shift
        ends = home[:, None] + vectors
        result = (g[..., None] * home[:, None, None, :] - moved).sum(axis=1)
        np.add.at(result, graph.neighbors, moved - g[..., None] * ends[..., None, :])
        return result

    def _hessian(self, graph: Graph, positions: np.ndarray, frames: Sequence[Structure]) -> np.ndarray:
        """(N, 3, m, 3): every coordinate against those of its own frame, one direction of all frames at a time."""
        m = graph.members.shape[1]
        result = np.zeros((len(positions), 3, m, 3))
        sizes = np.array([len(frame.types) for frame in frames])
        for i in range(m):
            for k in range(3):
                direction = np.zeros_like(positions)
                direction[graph.members[sizes > i, i], k] = 1.0
                result[:, :, i, k] = self.hessian_product(graph, positions, direction)
        return result

    def _outputs(
        self, frames: Sequence[Structure], graph: Graph, positions: np.ndarray, wants: Wants
    ) -> list[Prediction]:
        """Predictions of a head that is no energy: sums over atoms, or means where the property is intensive."""
        fitting = self.file.settings.fitting_net
        if wants.atom_virial or wants.hessian or wants.uncertainty:
            expect_energies(fitting.type)
        name = getattr(fitting, "property_name", HEADS[fitting.type].output)
        atomic = self.atomic_output(graph, positions)
        uncounted, done, start = (-1, *self.file.settings.atom_exclude_types), [], 0
        for frame in frames:
            part = atomic[start : start + len(frame.types)]
            start += len(frame.types)
            total = part.sum(axis=0)
            if getattr(fitting, "intensive", False):
                total = total / max(1, np.isin(frame.types, uncounted, invert=True).sum())
            done.append(Prediction(outputs={name: total[None], f"atom_{name}": part[None]}))
        return done


def _descriptor(model: Model, graph: Graph, positions: Array, execution: Execution) -> Array:
    return describe(model, graph, positions, execution).descriptor


LAYERS: dict[Layer, Callable[..., Array]] = {"descriptor": _descriptor, "features": features}


def _unpadded(values: EnergyForces, graph: Graph, rows: np.ndarray) -> EnergyForces:
    """Those of the atoms of ``graph``, which have these ``rows``."""
    return values._replace(
        atom_energy=values.atom_energy[: len(graph.neighbors)],
        forces=values.forces[rows],
        atom_virial=values.atom_virial[rows],
    )


def _batches(frames: Sequence[Structure], most: int) -> Iterator[list[Structure]]:
    """Consecutive frames of at most ``most`` atoms together, or one that is larger."""
    batch: list[Structure] = []
    size = 0
    for frame in frames:
        if batch and size + len(frame.types) > most:
            yield batch
            batch, size = [], 0
        batch.append(frame)
        size += len(frame.types)
    yield batch
