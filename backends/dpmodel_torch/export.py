"""A model as a program of ``torch.export``, for every size; compiled ahead of time or not."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from dpmodel.data.structure import Structure
from dpmodel.export.arguments import arguments_of, axes_of, computed, example, results_of
from dpmodel.export.forms import Options
from dpmodel.export.record import Record
from dpmodel.graph import Graph
from dpmodel.io.deepmd import ModelFile
from dpmodel_torch.arrays import to_numpy, to_tensor
from dpmodel_torch.engine import find_device, grad_and_aux
from dpmodel_torch.model import Module

MOST = 1 << 24  # of any size
symbolic: Any = torch.fx.experimental._config


class Exported(nn.Module):
    """A model as a function of the arguments of ``dpmodel.export.arguments``."""

    def __init__(self, file: ModelFile) -> None:
        super().__init__()
        self.model = Module(file.model).requires_grad_(False)
        self._settings = file.settings

    def forward(self, *arguments: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return computed(self.model.pure(), arguments, self._settings, grad_and_aux)


def versions() -> dict[str, str]:
    """See ``dpmodel.export.forms.Exporter``."""
    return {"torch": torch.__version__}


def write(path: Path, file: ModelFile, options: Options) -> None:
    """See ``dpmodel.export.forms.Exporter``."""
    program = exported(file)
    if options.ahead:
        torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    else:
        torch.export.save(program, path)


def exported(file: ModelFile) -> torch.export.ExportedProgram:
    """The program; derivatives are traced first, as ``torch.export`` does not trace them."""
    arguments = [to_tensor(x) for x in example(file.settings)]
    free = sorted({axis for axes in axes_of(file.settings) for axis in axes if isinstance(axis, str)})
    dims = {name: torch.export.Dim(f"n_{name}", min=2, max=MOST) for name in free}
    dynamic = [{k: dims[axis] for k, axis in enumerate(axes) if axis in dims} for axes in axes_of(file.settings)]
    with warnings.catch_warnings(), symbolic.patch(use_duck_shape=False):
        warnings.simplefilter("ignore")
        graph = make_fx(Exported(file), tracing_mode="symbolic", _allow_non_fake_inputs=True)(*arguments)
        return torch.export.export(graph, tuple(arguments), dynamic_shapes=tuple(dynamic), strict=False)


def read(path: Path, record: Record, device: str | None) -> "Loaded":
    """See ``dpmodel.export.forms.Exporter``."""
    return Loaded(path, record, find_device(device))


class Loaded:
    """A program that was read, compiled or not."""

    def __init__(self, path: Path, record: Record, device: torch.device) -> None:
        self.device, self._at, self._settings = str(device), device, record.settings
        with zipfile.ZipFile(path) as archive:
            compiled = any("aotinductor" in name for name in archive.namelist())
        self._run: Any = torch._inductor.aoti_load_package(str(path)) if compiled else torch.export.load(path).module()

    def __call__(self, structure: Structure, graph: Graph) -> dict[str, np.ndarray]:
        arguments = arguments_of(graph, structure.positions, self._settings)
        with torch.no_grad():
            values = self._run(*(to_tensor(x, self._at) for x in arguments))
        return results_of([to_numpy(x) for x in values], len(structure.types))
