"""What a user holds: a model on an array library, asked about structures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np

from dpmodel.backend import Engine, backend
from dpmodel.data.bucket import bucket
from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.selection import selection
from dpmodel.data.structure import Structure, from_ase, structures
from dpmodel.errors import InputError
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import read_model, write_model
from dpmodel.model.build import build
from dpmodel.model.heads import HEADS
from dpmodel.model.predict import EnergyForces, atomic_output, describe, hessian_product, predict
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, state
from dpmodel.run import Run
from dpmodel.types import Graph

GROUP = 16  # atoms whose pair features fit the cache together; bounds the memory without derivatives
BATCH = 1024  # atoms in one call; frames beyond it wait for the next


@dataclass(frozen=True)
class Prediction:
    """What a model says of frames of the same size; NumPy arrays, float64.

    An energy model fills the first fields, any other head ``outputs``: ``{"dipole": (nf, 3),
    "atom_dipole": (nf, n, 3)}`` and the like.  Virtual atoms have zeros.
    """

    energy: np.ndarray | None = None  # (nf,) eV
    atom_energy: np.ndarray | None = None  # (nf, n) eV
    forces: np.ndarray | None = None  # (nf, n, 3) eV/angstrom
    virial: np.ndarray | None = None  # (nf, 3, 3) eV: sum of force (x) position; trace > 0 wants to expand
    atom_virial: np.ndarray | None = None  # (nf, n, 3, 3) eV: each edge's share on the neighbour it ends on
    hessian: np.ndarray | None = None  # (nf, n, 3, n, 3) eV/angstrom^2
    outputs: dict[str, np.ndarray] = field(default_factory=dict)


def load(
    path: str | PathLike[str],
    backend: str = "numpy",
    *,
    head: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    compile: bool | None = None,
) -> "Potential":
    """Load a model file: deepmd-kit's ``.dp``, ``.yaml``, ``.pt`` or ``.pth``.

    Parameters
    ----------
    path : path
        The file.
    backend : str
        "numpy", "torch", "jax", "paddle", or any that is installed under the entry points ``dpmodel.backends``.
    head : str, optional
        Which of several models in a multi-task file.
    precision : str, optional
        "float64" or "float32": evaluate networks in this precision rather than the file's.  Positions stay float64.
    device : str, optional
        "cpu", "cuda:0", ...; the backend's default otherwise.
    compile : bool, optional
        Compile or not; the backend's default otherwise.

    Raises
    ------
    FileError
        If the file cannot be read as a model.
    BackendError
        If the backend, its framework or the device is not there.
    """
    chosen = _engine(backend, device, compile)
    model_file = read_model(path, head)
    return Potential(with_precision(model_file, precision) if precision else model_file, chosen)


def _engine(name: str, device: str | None, compile: bool | None) -> Engine:
    return backend(name).engine(device, compile)


def with_precision(model_file: ModelFile, precision: str) -> ModelFile:
    """The same model with its networks in another precision; biases of atoms stay float64."""
    data = model_file.settings.model_dump()
    data["descriptor"]["precision"] = data["fitting_net"]["precision"] = precision
    settings = ModelSettings.read(data)
    mould = build(settings, seed=None)
    types = {path: value.dtype for path, value in state(mould).items()}
    arrays = {path: value.astype(types[path], copy=False) for path, value in state(model_file.model).items()}
    return ModelFile(settings, Rebuilder(mould)(arrays), model_file.extras)


class Potential:
    """A model ready to evaluate structures; make one with ``dpmodel.load``.

    ``settings``: everything the model was built from.  ``strict``: more neighbours than the model keeps are an error,
    not a warning.
    """

    def __init__(self, model_file: ModelFile, engine: Engine, *, strict: bool = False) -> None:
        self.file, self.engine, self.strict = model_file, engine, strict
        self.settings = model_file.settings
        self.selection = selection(self.settings)
        self._state = {path: engine.native(value) for path, value in state(model_file.model).items()}
        self._rebuild = Rebuilder(model_file.model)
        self._functions: dict[Any, Callable[..., Any]] = {}

    @property
    def type_map(self) -> tuple[str, ...]:
        """Names of the types; a type is its position in this list."""
        return self.settings.type_map

    @property
    def cutoff(self) -> float:
        """The longest edge, angstrom; message passing reaches further."""
        return self.settings.cutoff

    def __repr__(self) -> str:
        kind, where = self.settings.fitting_net.type, f"{self.engine.name} on {self.engine.device}"
        return f"<DPA-2 {kind} model of {', '.join(self.type_map)}, cutoff {self.cutoff:g} angstrom, {where}>"

    def evaluate(
        self,
        coords: Any,
        types: Any,
        cell: Any = None,
        *,
        pbc: Any = None,
        fparam: Any = None,
        aparam: Any = None,
        forces: bool = True,
        atom_virial: bool = False,
        hessian: bool = False,
    ) -> Prediction:
        """Energies, forces and virials of one or several frames of the same atoms.

        Parameters
        ----------
        coords : (n, 3) or (nf, n, 3)
            Positions, angstrom.
        types : (n,) or (nf, n) int
            Index into ``type_map``; -1 for virtual atoms.
        cell : (3, 3) or (nf, 3, 3), optional
            Rows are lattice vectors, angstrom; of either handedness.  None: no periodicity.
        pbc : bool, (3,) or (nf, 3), optional
            Which lattice vectors repeat; by default all of them if there is a cell.
        fparam, aparam : (k,) or (nf, k); (n, k) or (nf, n, k), optional
            Frame and atomic parameters, if the model has them.
        forces, atom_virial, hessian : bool
            What to compute beside the energy.  ``forces`` brings the virial; the Hessian takes 3 n derivatives.

        Raises
        ------
        InputError
            Naming the frame and the atom that cannot be used.
        """
        wants = self.settings.fitting_net
        frames = structures(
            coords,
            types,
            cell,
            pbc,
            type_map=self.type_map,
            fparam=fparam,
            aparam=aparam,
            n_fparam=wants.numb_fparam,
            n_aparam=wants.numb_aparam,
            default_fparam=wants.default_fparam,
        )
        parts = list(self._batches(frames, forces or atom_virial, atom_virial, hessian))
        return stack([prediction for part in parts for prediction in part])

    def evaluate_many(
        self,
        frames: Iterable[Any],
        *,
        forces: bool = True,
        atom_virial: bool = False,
        hessian: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> list[Prediction]:
        """Predictions, one each, of structures of any size: ``ase.Atoms`` or ``dpmodel.Structure``.

        Frames share calls as far as memory allows.  ``progress`` is told after each call how many frames are done.
        """
        given = [frame if isinstance(frame, Structure) else self._from_ase(frame) for frame in frames]
        if not given:
            raise InputError("there are no frames")
        done: list[Prediction] = []
        for part in self._batches(given, forces or atom_virial, atom_virial, hessian):
            done += part
            if progress is not None:
                progress(len(done))
        return done

    def describe(self, coords: Any, types: Any, cell: Any = None, *, pbc: Any = None) -> np.ndarray:
        """The descriptor of each atom, (nf, n, dim) float64, dimensionless; arguments as for ``evaluate``."""
        frames = structures(coords, types, cell, pbc, type_map=self.type_map)
        parts = []
        for batch in _batches(frames, BATCH):
            graph, positions = self._graph(batch)
            found = self.engine.numpy(self._call("describe", graph, positions).descriptor).astype(np.float64)
            parts.append(found[: len(positions)].reshape(len(batch), -1, found.shape[-1]))
        every = np.concatenate(parts)
        every[np.stack([frame.types for frame in frames]) < 0] = 0.0
        return every

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to ``path`` (``.dp``, ``.yaml`` or ``.pt``), readable by deepmd-kit."""
        write_model(path, self.file)

    # --- from structures to the engine and back ---

    def _from_ase(self, atoms: Any) -> Structure:
        wants = self.settings.fitting_net
        return from_ase(
            atoms,
            self.type_map,
            n_fparam=wants.numb_fparam,
            n_aparam=wants.numb_aparam,
            default_fparam=wants.default_fparam,
        )

    def _batches(
        self, frames: Sequence[Structure], forces: bool, atom_virial: bool, hessian: bool
    ) -> Iterator[list[Prediction]]:
        for batch in _batches(frames, BATCH):
            graph, positions = self._graph(batch)
            if self.settings.fitting_net.type != "ener":
                yield self._other(
                    batch, self._call("atomic", graph, positions), atom_virial=atom_virial, hessian=hessian
                )
                continue
            values = self._energies(graph, positions, forces)
            if not atom_virial:
                values.pop("atom_virial", None)
            if hessian:
                values["hessian"] = self._hessian(graph, positions, batch)
            yield [Prediction(**_of_frame(values, f, batch)) for f in range(len(batch))]

    def _graph(self, frames: Sequence[Structure]) -> tuple[Graph, np.ndarray]:
        return build_graph(frames, self.selection, strict=self.strict), flat_positions(frames)

    def _call(self, what: str, graph: Graph, positions: np.ndarray, *more: np.ndarray) -> Any:
        """One of the core's functions on the engine."""
        if what not in self._functions:
            self._functions[what] = self.engine.compile(self._function(what))
        if self.engine.rounds_shapes:
            graph = bucket(graph, self.selection)
            extra = len(graph.types) - len(positions)
            positions, more = _padded(positions, extra), tuple(_padded(x, extra) for x in more)
        native = [self.engine.native(x) for x in (positions, *more)]
        arrays = Graph(*(None if x is None else self.engine.native(x) for x in graph))
        return self._functions[what](self._state, arrays, *native)

    def _function(self, what: str) -> Callable[..., Any]:
        rebuild, grad = self._rebuild, self.engine.grad_and_aux
        eager = Run() if self.engine.rounds_shapes else Run(group=GROUP)
        functions: dict[str, Callable[..., Any]] = {
            "atomic": lambda s, graph, x: atomic_output(rebuild(s), graph, x, eager),
            "describe": lambda s, graph, x: describe(rebuild(s), graph, x, eager),
            "predict": lambda s, graph, x: predict(rebuild(s), graph, x, grad),
            "hessian": lambda s, graph, x, direction: hessian_product(rebuild(s), graph, x, direction, grad),
        }
        return functions[what]

    def _energies(self, graph: Graph, positions: np.ndarray, forces: bool) -> dict[str, np.ndarray]:
        """Fields of ``Prediction`` on the atom axis."""
        n = len(positions)
        if forces:
            found = EnergyForces(*map(self.engine.numpy, self._call("predict", graph, positions)))
            values = {name: getattr(found, name) for name in found._fields}
        else:
            atom_energy = self.engine.numpy(self._call("atomic", graph, positions))[:, 0]
            members = np.where(graph.members < n, graph.members, n)
            values = {"atom_energy": atom_energy, "energy": np.append(atom_energy[:n], 0.0)[members].sum(axis=1)}
        return {name: v if name in ("energy", "virial") else v[:n] for name, v in values.items()}

    def _hessian(self, graph: Graph, positions: np.ndarray, frames: Sequence[Structure]) -> np.ndarray:
        """(A, 3, m, 3): every coordinate against those of its own frame, one direction of all frames at a time."""
        n, m = graph.members.shape[0], graph.members.shape[1]
        result = np.zeros((len(positions), 3, m, 3))
        sizes = np.array([len(frame.types) for frame in frames])
        for i in range(m):
            for k in range(3):
                direction = np.zeros_like(positions)
                direction[graph.members[np.arange(n)[sizes > i], i], k] = 1.0
                column = self.engine.numpy(self._call("hessian", graph, positions, direction))
                result[:, :, i, k] = column[: len(positions)]
        return result

    def _other(self, frames: Sequence[Structure], y: Any, *, atom_virial: bool, hessian: bool) -> list[Prediction]:
        """Predictions of a head that is no energy: sums over atoms, or means where the property is intensive."""
        if atom_virial or hessian:
            raise InputError(f"a {self.settings.fitting_net.type} model has no virial and no Hessian")
        fitting = self.settings.fitting_net
        name = getattr(fitting, "property_name", HEADS[fitting.type].output)
        atomic, start, done = self.engine.numpy(y), 0, []
        for frame in frames:
            mine = atomic[start : start + len(frame.types)]
            start += len(frame.types)
            total = mine.sum(axis=0)
            if getattr(fitting, "intensive", False):
                total = total / max(1, np.isin(frame.types, self._counted()).sum())
            done.append(Prediction(outputs={name: total[None], f"atom_{name}": mine[None]}))
        return done

    def _counted(self) -> list[int]:
        return [t for t in range(self.settings.n_types) if t not in self.settings.atom_exclude_types]


def _batches(frames: Sequence[Structure], most: int) -> Iterator[list[Structure]]:
    """Consecutive frames of at most ``most`` atoms together, or one that is larger."""
    batch: list[Structure] = []
    for frame in frames:
        if batch and sum(len(f.types) for f in batch) + len(frame.types) > most:
            yield batch
            batch = []
        batch.append(frame)
    yield batch


def _padded(x: np.ndarray, extra: int) -> np.ndarray:
    return np.pad(x, ((0, extra), (0, 0)))


def _of_frame(values: dict[str, np.ndarray], f: int, frames: Sequence[Structure]) -> dict[str, Any]:
    """The fields of one frame, with an axis of one frame."""
    start = sum(len(frame.types) for frame in frames[:f])
    n = len(frames[f].types)
    found = {name: v[f] if name in ("energy", "virial") else v[start : start + n] for name, v in values.items()}
    if "hessian" in found:
        found["hessian"] = found["hessian"][:, :, :n]
    return {name: v[None] for name, v in found.items()}


def stack(predictions: Sequence[Prediction]) -> Prediction:
    """Predictions of frames of the same size as one."""
    first = predictions[0]
    fields = {
        name: np.concatenate([getattr(p, name) for p in predictions])
        for name in ("energy", "atom_energy", "forces", "virial", "atom_virial", "hessian")
        if getattr(first, name) is not None
    }
    outputs = {name: np.concatenate([p.outputs[name] for p in predictions]) for name in first.outputs}
    return Prediction(**fields, outputs=outputs)
