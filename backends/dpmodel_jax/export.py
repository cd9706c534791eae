"""A model as StableHLO by ``jax.export``, for every size."""

import zipfile
from importlib import import_module
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export as jax_export

from dpmodel.data.structure import Structure
from dpmodel.errors import BackendError
from dpmodel.export.arguments import arguments_of, axes_of, computed, example, results_of
from dpmodel.export.forms import Options
from dpmodel.export.record import Record
from dpmodel.graph import Graph
from dpmodel.io.deepmd import ModelFile
from dpmodel.module import Rebuilder, state
from dpmodel_jax.engine import find_device, grad_and_aux

MEMBER = "model.stablehlo"


def versions() -> dict[str, str]:
    """See ``dpmodel.export.forms.Exporter``."""
    return {"jax": jax.__version__}


def write(path: Path, file: ModelFile, options: Options) -> None:
    """See ``dpmodel.export.forms.Exporter``."""
    _expect_flatbuffers()
    settings, rebuild, arrays = file.settings, Rebuilder(file.model), state(file.model)

    def program(*arguments: jax.Array) -> tuple[jax.Array, ...]:
        model = rebuild({name: jax.numpy.asarray(value) for name, value in arrays.items()})
        return computed(model, arguments, settings, grad_and_aux)

    with jax.enable_x64(True):
        names = sorted({axis for axes in axes_of(settings) for axis in axes if isinstance(axis, str)})
        blocks = [name for name in names if name in settings.selection.blocks]
        constraints = [f"neighbors >= {name}" for name in blocks]
        sizes = jax_export.symbolic_shape(", ".join(names), constraints=constraints)
        symbols: dict[Any, Any] = dict(zip(names, sizes, strict=True))
        shapes = [
            jax.ShapeDtypeStruct([symbols.get(axis, axis) for axis in axes], x.dtype)
            for axes, x in zip(axes_of(settings), example(settings), strict=True)
        ]
        exported = jax_export.export(jax.jit(program), platforms=options.platforms or None)(*shapes)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, exported.serialize())


def read(path: Path, record: Record, device: str | None) -> "Loaded":
    """See ``dpmodel.export.forms.Exporter``."""
    _expect_flatbuffers()
    return Loaded(path, record, find_device(device))


class Loaded:
    """A program that was read; compiled for every new set of sizes."""

    def __init__(self, path: Path, record: Record, device: jax.Device) -> None:
        self.device, self._at, self._settings = str(device.platform), device, record.settings
        with zipfile.ZipFile(path) as archive:
            exported = jax_export.deserialize(bytearray(archive.read(MEMBER)))
        self._run = jax.jit(exported.call)

    def __call__(self, structure: Structure, graph: Graph) -> dict[str, np.ndarray]:
        arguments = arguments_of(graph, structure.positions, self._settings)
        with jax.enable_x64(True):
            values = self._run(*(jax.device_put(x, self._at) for x in arguments))
        return results_of([np.array(x) for x in values], len(structure.types))


def _expect_flatbuffers() -> None:
    try:
        import_module("flatbuffers")  # which jax.export writes with
    except ModuleNotFoundError as error:
        raise BackendError("StableHLO needs the package 'flatbuffers': pip install 'dpmodel[jax]'") from error
