"""The record in an exported file: how to ask it, and a structure with the numbers that it must give.

Every exported file is a zip archive; the record is its member ``dpmodel.json``, in PyTorch's archives among the extra
files, and reading it runs nothing.
"""

import json
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from os import PathLike, fspath
from typing import Any

import numpy as np

from dpmodel.backend import backend
from dpmodel.data.samples import asked, mixture
from dpmodel.data.structure import Structure
from dpmodel.edit.verified_save import tolerance_of
from dpmodel.errors import FileError, NeighborOverflowWarning
from dpmodel.evaluator import Evaluator, Wants
from dpmodel.graph import Selection
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.files import damaged, sniff
from dpmodel.model.heads import HEADS
from dpmodel.model.settings import ModelSettings

MEMBER = "dpmodel.json"
LAYOUT = 1  # of the record
LARGEST = 64 << 20  # bytes of a record
UNITS = {"length": "angstrom", "energy": "eV", "virial": "eV, sum of force (x) position"}
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Record:
    """``answers``: by name, for ``structure``, within ``tolerance`` of the largest number of each."""

    form: str
    settings: ModelSettings
    versions: Mapping[str, str]
    structure: Structure
    answers: Arrays
    tolerance: float

    @property
    def selection(self) -> Selection:
        return self.settings.selection


def record_of(file: ModelFile, form: str, versions: Mapping[str, str]) -> Record:
    """The record of a model, with the answers that NumPy gives."""
    settings = file.settings
    structure = asked(mixture(settings.n_types), settings.type_map, settings)
    evaluator = Evaluator(file, backend("numpy").engine())
    is_energy = settings.fitting_net.type == "ener"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeighborOverflowWarning)
        [[p]] = evaluator.evaluate([structure], Wants(atom_virial="edges" if is_energy else None), strict=False)
    names = ("energy", "atom_energy", "forces", "virial", "atom_virial")
    answers = {name: getattr(p, name) for name in names} if is_energy else p.outputs
    answers = {name: value[0] for name, value in answers.items()}
    versions = {"dpmodel": version("dpmodel"), **versions}
    return Record(form, settings, versions, structure, answers, tolerance_of(settings))


def output_name(settings: ModelSettings) -> str:
    """The quantity that a model gives of every structure: energy, dipole, ..."""
    fitting = settings.fitting_net
    return getattr(fitting, "property_name", None) or HEADS[fitting.type].output


def as_json(record: Record) -> str:
    """The record as text; everything that a loader without dpmodel needs is on its first level."""
    s, chosen = record.structure, record.selection
    arrays = {"positions": s.positions, "types": s.types, "cell": s.cell, "pbc": s.pbc}
    arrays |= {"fparam": s.fparam, "aparam": s.aparam, **record.answers}
    nearest = "each block sees the nsel nearest neighbors within its cutoff, of the widest block's nsel nearest"
    tree = {
        "dpmodel_export": LAYOUT,
        "form": record.form,
        "versions": record.versions,
        "type_map": record.settings.type_map,
        "virtual_type": chosen.n_types,
        "units": UNITS,
        "cutoff": chosen.cutoff,
        "blocks": {name: {"cutoff": b.cutoff, "nsel": b.nsel} for name, b in chosen.blocks.items()},
        "nsel": nearest if chosen.truncate else "each block sees all neighbors within its cutoff",
        "truncate": chosen.truncate,
        "pair_exclude_types": chosen.pair_exclude,
        "empty_slot": chosen.far,
        "output": output_name(record.settings),
        "settings": record.settings.model_dump(mode="json"),
        "tolerance": record.tolerance,
        "test": arrays,
    }
    return json.dumps(tree, default=lambda x: x.tolist())


def add_record(path: str | PathLike[str], record: Record) -> None:
    """Put ``record`` into the archive at ``path``, where PyTorch has extra files if it is one of PyTorch's."""
    with zipfile.ZipFile(path, "a") as archive:
        roots = {name.partition("/")[0] for name in archive.namelist() if "/" in name}
        archive.writestr(f"{roots.pop()}/extra/{MEMBER}" if len(roots) == 1 else MEMBER, as_json(record))


def _member(archive: zipfile.ZipFile) -> str | None:
    """The name of the record, if there is one."""
    return next((name for name in archive.namelist() if name == MEMBER or name.endswith(f"/extra/{MEMBER}")), None)


def has_record(path: str | PathLike[str]) -> bool:
    """Whether ``path`` is an exported file.  Raises FileError where there is no readable file."""
    sniff(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _member(archive) is not None
    except (zipfile.BadZipFile, OSError):
        return False


def read_record(path: str | PathLike[str]) -> Record:
    """The record of an exported file; nothing is run.  Raises FileError for one that is damaged or too new."""
    name = fspath(path)
    with damaged(name, "exported file"), zipfile.ZipFile(name) as archive:
        member = _member(archive) or MEMBER
        if archive.getinfo(member).file_size > LARGEST:
            raise ValueError(f"{MEMBER} is larger than {LARGEST} bytes")
        tree = json.loads(archive.read(member))
        layout = tree["dpmodel_export"]
    if layout != LAYOUT:
        written = tree.get("versions", {}).get("dpmodel", "another version")
        raise FileError(f"{name}: expected an exported file of layout {LAYOUT}, found {layout!r}, of dpmodel {written}")
    with damaged(name, "exported file"):
        return _from(tree)


def _from(tree: Mapping[str, Any]) -> Record:
    arrays = {key: None if value is None else np.array(value) for key, value in tree["test"].items()}
    structure = {key: arrays.pop(key) for key in ("positions", "types", "cell", "pbc", "fparam", "aparam")}
    settings = ModelSettings.read(tree["settings"], "model")
    return Record(
        str(tree["form"]),
        settings,
        dict(tree["versions"]),
        Structure(**structure),
        {name: np.asarray(value, dtype=float) for name, value in arrays.items()},
        float(tree["tolerance"]),
    )
