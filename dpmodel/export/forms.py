"""The forms in which a model leaves Python, and who writes and reads them."""

from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from dpmodel.backend import backend
from dpmodel.data.structure import Structure
from dpmodel.errors import BackendError, InputError
from dpmodel.export.record import Record
from dpmodel.graph import Graph
from dpmodel.io.deepmd import ModelFile


class Form(NamedTuple):
    suffix: str
    backend: str
    words: str
    extra: str  # of dpmodel, which installs what it needs
    forces_only: bool = False  # serves models of energies alone


FORMS = {
    "deepmd-kit": Form(".pth", "torch", "TorchScript for deepmd-kit 3.2 and what speaks to it", "torch", True),
    "metatomic": Form(".pt", "torch", "TorchScript for metatomic and what speaks to it", "metatomic", True),
    "torch": Form(".pt2", "torch", "torch.export, or with --aot a compiled library, for Python and C++", "torch"),
    "stablehlo": Form(".stablehlo", "jax", "jax.export", "jax"),
    "paddle": Form(".pdz", "paddle", "an inference model of Paddle, in a zip archive", "paddle"),
}


@dataclass(frozen=True)
class Options:
    """``ahead``: compile ahead of time (torch); ``platforms``: those of StableHLO: cpu, cuda, rocm, tpu."""

    ahead: bool = False
    platforms: tuple[str, ...] = ()


class Program(Protocol):
    """An exported program, ready to run."""

    device: str

    def __call__(self, structure: Structure, graph: Graph) -> dict[str, np.ndarray]:
        """Of one structure: energy (), atom_energy (n,), forces (n, 3), virial (3, 3) and atom_virial (n, 3, 3) of an
        energy model, in eV and angstrom; of another ``output`` (n, ...).
        """


class Exporter(Protocol):
    """A module of a backend that serves one form."""

    def versions(self) -> dict[str, str]:
        """Of the libraries that write the file."""

    def write(self, path: Path, file: ModelFile, options: Options) -> None:
        """Write a zip archive.  Raises InputError, in one line, for a model that cannot be written so."""

    def read(self, path: Path, record: Record, device: str | None) -> Program:
        """The program at ``path``; what the library raises for a damaged file is left to the caller."""


def form_of(path: str | PathLike[str], wanted: str | None) -> str:
    """The name of the form to write ``path`` in: ``wanted``, or what the suffix says.  Raises InputError."""
    name = fspath(path)
    if wanted is None:
        forms = [form for form, about in FORMS.items() if name.lower().endswith(about.suffix)]
        if not forms:
            suffixes = ", ".join(f"{about.suffix} ({form})" for form, about in FORMS.items())
            raise InputError(f"{name}: the suffix says which form to write: {suffixes}; or say it with --for")
        return forms[0]
    if wanted not in FORMS:
        raise InputError(f"--for: expected one of {', '.join(FORMS)}, got {wanted!r}")
    if not name.lower().endswith(FORMS[wanted].suffix):
        raise InputError(f"{name}: a file for {wanted} should end in {FORMS[wanted].suffix}")
    return wanted


def exporter_of(form: str) -> Any:
    """The writer and reader of ``form``.  Raises BackendError where its libraries are missing."""
    about = FORMS[form]
    library = backend(about.backend)
    if not hasattr(library, "exporter"):
        raise BackendError(f"the {about.backend} backend exports nothing")
    try:
        return library.exporter(form)
    except ModuleNotFoundError as error:
        raise BackendError(f"{form} needs the package {error.name!r}: pip install 'dpmodel[{about.extra}]'") from error
