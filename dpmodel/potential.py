"""What a user holds: a model on an array library, asked about structures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from dpmodel.backend import Engine
from dpmodel.backend import backend as find_backend
from dpmodel.data.elements import masses_of
from dpmodel.data.structure import Structure, from_ase, per_frame, structures
from dpmodel.data.systems import System, find_systems
from dpmodel.edit.bias import change_bias as rebiased
from dpmodel.edit.compression import compress as tabulate
from dpmodel.edit.precision import with_precision
from dpmodel.edit.type_map import change_type_map as retyped
from dpmodel.edit.verified_save import write_checked
from dpmodel.errors import DpmodelError, InputError
from dpmodel.evaluator import Evaluator, HeatFlux, Prediction, Wants, stack
from dpmodel.export.read import load_program
from dpmodel.export.record import has_record
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import read_model
from dpmodel.model.build import build
from dpmodel.model.model import Model
from dpmodel.model.settings import ModelSettings
from dpmodel.statistics.environment import statistics, with_statistics

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
    trusted: bool = False,
) -> "Potential":
    """Load a model file: deepmd-kit's ``.dp``, ``.yaml``, ``.pt`` or ``.pth``, or ``.dp.json``; or an exported program.

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
    trusted : bool
        Run the program in an exported file (``dpmodel export``), which could do anything; its form says on which
        backend, and its own test is run first.  Other files never run anything.

    Raises
    ------
    FileError
        If the file cannot be read as a model, or the program in it does not pass its test.
    BackendError
        If the backend, its framework or the device is not there.
    """
    if has_record(path):
        file, engine, evaluator = load_program(
            path, backend, device, trusted=trusted, fixed=head or precision or compile
        )
        return Potential(file, engine, evaluator=evaluator)
    engine = find_backend(backend).engine(device, compile)
    file = read_model(path, head)
    return Potential(with_precision(file, precision) if precision else file, engine)


def create(
    settings: Mapping[str, Any],
    backend: str = "numpy",
    *,
    seed: int = 0,
    device: str | None = None,
    compile: bool | None = None,
) -> "Potential":
    """A new model with random parameters from the ``model`` section of an input file.

    The same ``seed`` gives the same parameters on every backend.  Raises SettingError, naming the setting by its path.
    """
    engine = find_backend(backend).engine(device, compile)
    read = ModelSettings.read(settings, "model")
    return Potential(ModelFile(read, build(read, seed)), engine)


def compress(
    potential: "Potential", *, min_pair_distance: float | None = None, step: float = 0.01, extrapolate: float = 5.0
) -> "Potential":
    """``potential`` with tables instead of its embedding networks (of models with ``tebd_input_mode: strip``).

    Parameters
    ----------
    potential : Potential
        The model; it stays as it is.
    min_pair_distance : float, optional
        Shortest distance (angstrom) that the fine part of the tables has to cover; the one of the training data, if
        the file has it.
    step, extrapolate : float
        Spacing of the knots, and how many times its end a table goes on at ten times that spacing.

    Raises
    ------
    DpmodelError
        With everything that stands in the way, and what to do about it.
    """
    distance = potential.file.min_pair_distance if min_pair_distance is None else min_pair_distance
    if distance is None:
        raise DpmodelError("the file does not say how close atoms came in the training data: give min_pair_distance")
    file = tabulate(potential.file, min_pair_distance=distance, step=step, extrapolate=extrapolate)
    return Potential(file, potential.engine, strict=potential.strict)


def change_type_map(
    potential: "Potential", type_map: Sequence[str], *, systems: Sequence[str | PathLike[str]] = ()
) -> "Potential":
    """``potential`` for the types ``type_map``, matched by name: more of them, fewer, or in another order.

    Types that stay keep their numbers.  New ones have to be trained: they have no output bias, the statistics of their
    atoms in ``systems`` (of none: mean 0, deviation 1), and, without ``use_econf_tebd``, a random embedding.  Raises
    InputError if no type would stay, SettingError for names that cannot be, FileError for ``systems``.
    """
    return Potential(retyped(potential.file, type_map, built_for(systems)), potential.engine, strict=potential.strict)


def built_for(systems: Sequence[str | PathLike[str]]) -> Callable[[ModelSettings], Model]:
    """How to build a model with the statistics of all frames in and below ``systems``, if there are any."""

    def built(settings: ModelSettings) -> Model:
        paths = find_systems([fspath(path) for path in systems])
        frames = (frame for path in paths for frame in System(path, settings, ()))
        return with_statistics(build(settings), settings, statistics(frames, settings))

    return built if systems else build


def change_bias(
    potential: "Potential",
    energies: Mapping[str, float] | None = None,
    *,
    systems: Sequence[str | PathLike[str]] = (),
) -> "Potential":
    """``potential`` with another energy for every atom of a type.

    Parameters
    ----------
    potential : Potential
        An energy model; it stays as it is.
    energies : dict, optional
        The output bias by the name of the type, eV; types that are not named keep theirs.
    systems : list of path, optional
        Instead: labeled data, whose energies the model should have on average, by least squares.

    Raises
    ------
    InputError, FileError
        For other models, unknown types, and data without energies.
    """
    file = rebiased(potential.file, potential.engine, energies=energies, systems=systems)
    return Potential(file, potential.engine, strict=potential.strict)


class Potential:
    """A model ready to evaluate structures; make one with ``dpmodel.load`` or ``dpmodel.create``.

    ``settings``: everything the model was built from.  ``strict``: more neighbors than the model keeps are an error,
    not a warning.
    """

    def __init__(self, file: ModelFile, engine: Engine, *, strict: bool = False, evaluator: Any = None) -> None:
        self.file, self.engine, self.strict = file, engine, strict
        self.settings = file.settings
        self.evaluator: Evaluator = evaluator or Evaluator(file, engine)

    def to(self, backend: str, *, device: str | None = None, compile: bool | None = None) -> "Potential":
        """The same model, array for array, on another backend or device; arguments and errors as for ``load``."""
        return Potential(self.file, find_backend(backend).engine(device, compile), strict=self.strict)

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
        return f"<DPA-2 {kind} model of {', '.join(self.type_map)}, cutoff {self.cutoff:g} angstrom, {where}>"

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
            Frame and atomic parameters, if the model has them.
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
        frames = structures(
            positions, types, cell, pbc, type_map=self.type_map, fparam=fparam, aparam=aparam, **self._parameters()
        )
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
        given = [self._numbered(i, frame) for i, frame in enumerate(frames)]
        if not given:
            raise InputError("there are no frames")
        done: list[Prediction] = []
        with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
            task = bar.add_task("frames", total=len(given))
            for part in self.evaluator.evaluate(given, wants, strict=self.strict):
                done += part
                bar.update(task, completed=len(done))
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
        from dpmodel.relax import relax_many

        given = [self._numbered(i, frame) for i, frame in enumerate(frames)]
        for i, frame in enumerate(given):
            if cell and not frame.pbc.all():
                raise InputError(f"frame {i}: its cell cannot relax, for it is not periodic in all directions")
        with Progress(console=Console(stderr=True), transient=True, disable=not progress) as bar:
            task = bar.add_task("relaxed", total=len(given))
            return relax_many(
                given,
                self.evaluate_many,
                max_force=max_force,
                max_steps=max_steps,
                with_cell=cell,
                pressure=pressure / EV_PER_A3,
                watch=lambda done: bar.update(task, completed=done),
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
        frames = structures(
            positions, types, cell, pbc, type_map=self.type_map, fparam=fparam, aparam=aparam, **self._parameters()
        )
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
        if self.settings.fitting_net.type != "ener":
            raise InputError(f"a {self.settings.fitting_net.type} model has no heat flux: energy models do")
        frames = structures(
            positions, types, cell, pbc, type_map=self.type_map, fparam=fparam, aparam=aparam, **self._parameters()
        )
        numbers = np.stack([frame.types for frame in frames])
        nf, n = numbers.shape
        speeds = per_frame("velocities", velocities, nf, (n, 3), "angstrom/fs, one for each atom")
        weights = masses_of(self.type_map) if masses is None else masses
        by_type = per_frame("masses", weights, 1, (len(self.type_map),), "g/mol, one for each type")[0]
        return self.evaluator.heat_flux(frames, speeds, np.append(by_type, 0.0)[numbers])

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> None:
        """Write the model to ``path`` (``.dp``, ``.yaml`` or ``.pt``), readable by deepmd-kit.

        The file is there only after it was read back and gave this model's numbers.  Raises FileError where it does
        not, and where there is a file already, unless ``overwrite``.
        """
        write_checked(path, self.file, self.file, overwrite=overwrite)

    def structure(self, frame: Any) -> Structure:
        """``frame``, a ``Structure`` or ``ase.Atoms``, as this model reads it.  Raises InputError."""
        if not isinstance(frame, Structure):
            return from_ase(frame, self.type_map, **self._parameters())
        return structures(
            frame.positions,
            frame.types,
            frame.cell,
            frame.pbc,
            type_map=self.type_map,
            fparam=frame.fparam,
            aparam=frame.aparam,
            **self._parameters(),
        )[0]

    def expect_forces(self) -> None:
        """Raise InputError unless this is a model of energies: no other has forces."""
        kind = self.settings.fitting_net.type
        if kind != "ener":
            raise InputError(f"a {kind} model has no forces to move atoms with")

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
