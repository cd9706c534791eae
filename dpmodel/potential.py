"""The potential: a model on an array library, asked about structures."""

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from dpmodel.backend import Engine
from dpmodel.backend import backend as find_backend
from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.structure import Structure, from_ase, per_frame, structures
from dpmodel.errors import InputError
from dpmodel.evaluator import Evaluator, Wants
from dpmodel.graph import Graph
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.files import ZIP, sniff
from dpmodel.io.model import read_model
from dpmodel.model.build import build
from dpmodel.model.heads import expect_energies
from dpmodel.model.model import Model
from dpmodel.model.settings import ModelSettings
from dpmodel.prediction import HeatFlux, Prediction, stack

if TYPE_CHECKING:
    from dpmodel.relax import Relaxation

EV_PER_A3 = 160.21766208  # GPa


def load(
    path: str | PathLike[str],
    backend: str = "numpy",
    *,
    head: str | None = None,
    precision: str | None = None,
    device: str | None = None,
    compile: bool | None = None,
    strict: bool = False,
    memory: str | float | None = None,
    trusted: bool = False,
) -> "Potential":
    """Load a model file: deepmd-kit's ``.dp``, ``.yaml``, ``.pt`` or ``.pth``, or ``.dp.json``; or an exported program.

    Parameters
    ----------
    path : path
        The file.
    backend : str
        "numpy", "torch", "jax", "paddle", or any that is installed under the entry points ``dpmodel.backends``; "auto":
        the fastest of those whose frameworks are there, which the logger "dpmodel" tells.
    head : str, optional
        Which of several models in a multi-task file.
    precision : str, optional
        "float64" or "float32": evaluate networks in this precision rather than the file's.  Positions stay float64.
    device : str, optional
        "cpu", "cuda:0", ...; the backend's default otherwise.
    compile : bool, optional
        Compile or not; the backend's default otherwise.
    strict : bool
        More neighbors than the model keeps are an error, not a warning.
    memory : str or float, optional
        What derivatives may take, "4GB" or bytes; half of what the machine has to spare otherwise.  Where they would
        take more, they are recomputed in bins of atoms, which needs less memory and 1.4 times the time.
    trusted : bool
        Run the program in an exported file (``dpmodel export``), which could do anything; its form says on which
        backend, and its own test is run first.  Other files never run anything, and the model inside a file that was
        written ``--with-model`` is one of them.

    Raises
    ------
    FileError
        If the file cannot be read as a model, or the program in it does not pass its test.
    BackendError
        If the backend, its framework or the device is not there.
    """
    if sniff(path) == ZIP:
        from dpmodel.export.read import load_program
        from dpmodel.export.record import has_record
        from dpmodel.io.inside import has_model

        if has_record(path) and (trusted or not has_model(path)):
            fixed = head or precision or compile
            program = load_program(path, backend, device, trusted=trusted, fixed=fixed)
            return Potential(program[0], program[1], strict=strict, evaluator=program[2])
    engine = find_backend(backend).engine(device, compile)
    file = read_model(path, head)
    if precision:
        from dpmodel.edit.precision import with_precision

        file = with_precision(file, precision)
    return Potential(file, engine, strict=strict, memory=memory)


def create(
    settings: Mapping[str, Any],
    backend: str = "numpy",
    *,
    seed: int = 0,
    device: str | None = None,
    compile: bool | None = None,
    strict: bool = False,
) -> "Potential":
    """A new model with random parameters from the ``model`` section of an input file.

    The same ``seed`` gives the same parameters on every backend; the rest is as for ``load``.
    Raises SettingError, naming the setting by its path.
    """
    engine = find_backend(backend).engine(device, compile)
    read = ModelSettings.read(settings, "model")
    return Potential(ModelFile(read, build(read, seed)), engine, strict=strict)


class Potential:
    """A model ready to evaluate structures; make one with ``dpmodel.load`` or ``dpmodel.create``.

    ``settings``: everything the model was built from.  Potentials can be copied and pickled, and several threads may
    ask one at a time.
    """

    def __init__(
        self,
        file: ModelFile,
        engine: Engine,
        *,
        strict: bool = False,
        memory: str | float | None = None,
        evaluator: Any = None,
    ) -> None:
        self.file, self.engine, self.strict, self.memory = file, engine, strict, memory
        self.settings = file.settings
        self.evaluator: Evaluator = evaluator or Evaluator(file, engine, memory)

    def __reduce__(self) -> tuple[Any, ...]:
        """The file, and where the engine was: neither devices nor compiled functions can be copied."""
        if not isinstance(self.file, ModelFile):
            raise InputError("the program of an exported file cannot be copied or pickled: load the file once more")
        engine = self.engine
        return _restored, (self.file, engine.name, engine.device, engine.rounds_shapes, self.strict, self.memory)

    def to(self, backend: str, *, device: str | None = None, compile: bool | None = None) -> "Potential":
        """The same model, array for array, on another backend or device; arguments and errors as for ``load``."""
        engine = find_backend(backend).engine(device, compile)
        return Potential(self.file, engine, strict=self.strict, memory=self.memory)

    @property
    def type_map(self) -> tuple[str, ...]:
        """Names of the types; a type is its position in this list."""
        return self.settings.type_map

    @property
    def cutoff(self) -> float:
        """The longest edge, angstrom; message passing reaches further."""
        return self.settings.cutoff

    @property
    def model(self) -> Model:
        """The module tree with the engine's arrays: ``model.descriptor.call(...)`` is deepmd-kit's interface."""
        return self.evaluator.rebuild(self.evaluator.state)

    def __repr__(self) -> str:
        kind, where = self.settings.fitting_net.type, f"{self.engine.name} on {self.engine.device}"
        return f"<DPA-2 {kind} model of {', '.join(self.type_map)}, cutoff {self.cutoff:g} Å, {where}>"

    def evaluate(
        self,
        positions: Any,
        types: Any,
        cell: Any = None,
        *,
        pbc: Any = None,
        fparam: Any = None,
        aparam: Any = None,
        forces: bool = True,
        atom_virial: bool | str = False,
        hessian: bool = False,
        uncertainty: bool = False,
    ) -> Prediction:
        """Energies, forces and virials of one or several frames of the same atoms.

        Parameters
        ----------
        positions : (n, 3) or (nf, n, 3)
            Positions, angstrom.
        types : (n,) or (nf, n) int
            Index into ``type_map``; -1 for virtual atoms.
        cell : (3, 3) or (nf, 3, 3), optional
            Rows are lattice vectors, angstrom; of either handedness.  None: no periodicity.
        pbc : bool, (3,) or (nf, 3), optional
            Which lattice vectors repeat; by default all of them if there is a cell.
        fparam, aparam : (k,) or (nf, k); (n, k) or (nf, n, k), optional
            Frame and atomic parameters, if the model has them; the axis of k = 1 may be missing.
        forces : bool
            Forces and virial too.
        atom_virial : bool or str
            The virial's split among atoms, which is not unique: True or "edges" gives each edge's share to the
            neighbor it ends on, unchanged by translations; "dense" is deepmd-kit's (docs/specification/model.md 4.4).
        hessian : bool
            Second derivatives too; they take 3 n times as long as the forces.
        uncertainty : bool
            Standard deviations of the energies of frames and atoms, if ``dpmodel calibrate`` made the file.

        Raises
        ------
        InputError
            Naming the frame and the atom that cannot be used.
        """
        wants = Wants.of(forces, atom_virial, hessian, uncertainty)
        frames = self._frames(positions, types, cell, pbc, fparam, aparam)
        parts = self.evaluator.evaluate(frames, wants, strict=self.strict)
        return stack([prediction for part in parts for prediction in part])

    def evaluate_many(
        self,
        frames: Iterable[Any],
        *,
        forces: bool = True,
        atom_virial: bool | str = False,
        hessian: bool = False,
        uncertainty: bool = False,
        progress: bool = False,
    ) -> list[Prediction]:
        """Predictions, one each, of structures of any size: ``ase.Atoms`` or ``dpmodel.Structure``.

        Frames share calls as far as memory allows.  ``progress`` shows a bar on standard error.
        """
        wants = Wants.of(forces, atom_virial, hessian, uncertainty)
        structures = [self._numbered(i, frame) for i, frame in enumerate(frames)]
        if not structures:
            raise InputError("there are no frames")
        done: list[Prediction] = []
        from dpmodel.progress import progress_bar

        with progress_bar("frames", len(structures), progress) as show:
            for part in self.evaluator.evaluate(structures, wants, strict=self.strict):
                done += part
                show(len(done))
        return done

    def relax_many(
        self,
        frames: Iterable[Any],
        *,
        cell: bool = False,
        max_force: float = 0.01,
        max_steps: int = 1000,
        pressure: float = 0.0,
        progress: bool = False,
    ) -> list["Relaxation"]:
        """Relaxations of structures of any size, ``ase.Atoms`` or ``dpmodel.Structure``, evaluated together.

        Parameters
        ----------
        cell : bool
            The cell of each, too, at ``pressure``.
        max_force : float
            eV/angstrom: a structure is done when no force is longer; those on the cell count, per atom.
        max_steps : int
            A structure that needs more stays where it is, not ``converged``.
        pressure : float
            GPa.
        """
        from dpmodel.progress import progress_bar
        from dpmodel.relax import relax_many

        structures = [self._numbered(i, frame) for i, frame in enumerate(frames)]
        for i, frame in enumerate(structures):
            if cell and not frame.pbc.all():
                raise InputError(f"frame {i}: its cell cannot relax, for it is not periodic in all directions")
        with progress_bar("relaxed", len(structures), progress) as show:
            return relax_many(
                structures,
                self.evaluate_many,
                max_force=max_force,
                max_steps=max_steps,
                with_cell=cell,
                pressure=pressure / EV_PER_A3,
                watch=show,
            )

    def describe(self, positions: Any, types: Any, cell: Any = None, *, pbc: Any = None) -> np.ndarray:
        """The descriptor of each atom, (nf, n, dim) float64, dimensionless; arguments as for ``evaluate``."""
        frames = structures(positions, types, cell, pbc, type_map=self.type_map)
        return np.stack(list(self.evaluator.describe(frames, strict=self.strict)))

    def features(
        self, positions: Any, types: Any, cell: Any = None, *, pbc: Any = None, fparam: Any = None, aparam: Any = None
    ) -> np.ndarray:
        """The last hidden layer of the fitting net for each atom, (nf, n, dim) float64, in which the output is linear.

        Arguments as for ``evaluate``.  With ``atom_ener`` in the settings, less the layer of an atom in vacuum.
        """
        frames = self._frames(positions, types, cell, pbc, fparam, aparam)
        return np.stack(list(self.evaluator.describe(frames, strict=self.strict, layer="features")))

    def heat_flux(
        self,
        positions: Any,
        types: Any,
        cell: Any,
        velocities: Any,
        *,
        pbc: Any = None,
        masses: Any = None,
        fparam: Any = None,
        aparam: Any = None,
    ) -> HeatFlux:
        """The exact heat flux of an energy model, for thermal conductivities by the formula of Green and Kubo.

        Parameters
        ----------
        positions, types, cell, pbc, fparam, aparam
            As for ``evaluate``.
        velocities : (n, 3) or (nf, n, 3)
            Angstrom/fs.
        masses : (n_types,), optional
            g/mol, of every type; by default those of the elements that the types are named after.

        Raises
        ------
        InputError
            Naming the frame and the atom that cannot be used; where masses are missing; for other models.
        """
        from dpmodel.data.elements import masses_of

        self.expect_forces()
        frames = self._frames(positions, types, cell, pbc, fparam, aparam)
        numbers = np.stack([frame.types for frame in frames])
        nf, n = numbers.shape
        speeds = per_frame("velocities", velocities, nf, (n, 3), "Å/fs, one for each atom")
        weights = masses_of(self.type_map) if masses is None else masses
        by_type = per_frame("masses", weights, 1, (len(self.type_map),), "g/mol, one for each type")[0]
        return self.evaluator.heat_flux(frames, speeds, np.append(by_type, 0.0)[numbers])

    def graph(self, frames: Iterable[Any], *, rounded: bool = False) -> tuple[Graph, np.ndarray]:
        """The graph and the positions (A, 3) of ``ase.Atoms`` or ``dpmodel.Structure``, one or more of any size.

        NumPy arrays, all structures on one axis of atoms: what ``dpmodel_torch.Model``, ``dpmodel_jax.apply`` and so on
        take.  ``rounded``: virtual atoms and empty slots at the ends round the sizes up, so that structures share few
        shapes, for programs that are compiled for each.  Raises InputError, naming the structure.
        """
        ready = [self._numbered(i, frame) for i, frame in enumerate(frames)]
        graph, positions = build_graph(ready, self.settings.selection, strict=self.strict), flat_positions(ready)
        if not rounded:
            return graph, positions
        from dpmodel.data.padding import pad_graph, pad_rows

        padded = pad_graph(graph, self.settings.selection)
        return padded, pad_rows(positions, graph, padded)

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model to ``path`` (``.dp``, ``.yaml`` or ``.pt``), readable by deepmd-kit.

        The file is there only after it was read back and gave this model's numbers.  Raises FileError where it does
        not, and where there is a file already, unless ``overwrite``.
        """
        from dpmodel.edit.verified_save import write_checked

        write_checked(path, self.file, self.file, overwrite=overwrite)

    def structure(self, frame: Any) -> Structure:
        """``frame``, a ``Structure`` or ``ase.Atoms``, as this model reads it.  Raises InputError."""
        if not isinstance(frame, Structure):
            return from_ase(frame, self.type_map, **self._parameters())
        return self._frames(frame.positions, frame.types, frame.cell, frame.pbc, frame.fparam, frame.aparam)[0]

    def expect_forces(self) -> None:
        """Raise InputError unless this is a model of energies: no other has forces."""
        expect_energies(self.settings.fitting_net.type)

    def _frames(self, positions: Any, types: Any, cell: Any, pbc: Any, fparam: Any, aparam: Any) -> list[Structure]:
        parameters = {"fparam": fparam, "aparam": aparam} | self._parameters()
        return structures(positions, types, cell, pbc, type_map=self.type_map, **parameters)

    def _numbered(self, i: int, frame: Any) -> Structure:
        try:
            return self.structure(frame)
        except InputError as error:
            raise InputError(f"structure {i}: {error}") from None

    def _parameters(self) -> dict[str, Any]:
        wants = self.settings.fitting_net
        return {
            "n_fparam": wants.numb_fparam,
            "n_aparam": 0 if wants.use_aparam_as_mask else wants.numb_aparam,
            "default_fparam": wants.default_fparam,
        }


def _restored(
    file: ModelFile, backend: str, device: str, compile: bool, strict: bool, memory: str | float | None
) -> Potential:
    return Potential(file, find_backend(backend).engine(device, compile), strict=strict, memory=memory)
