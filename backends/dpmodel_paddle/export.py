"""A model as an inference model of Paddle, for every size: what ``paddle.jit.save`` writes, in a zip archive."""

import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dpmodel.data.structure import Structure
from dpmodel.export.arguments import arguments_of, axes_of, computed, example, names_of, results_of
from dpmodel.export.forms import Options
from dpmodel.export.record import Record
from dpmodel.graph import Graph
from dpmodel.io.deepmd import ModelFile
from dpmodel_paddle.arrays import to_numpy, to_tensor
from dpmodel_paddle.derivative import grad_and_aux
from dpmodel_paddle.engine import ALONE, find_device
from dpmodel_paddle.model import Module
from dpmodel_paddle.quiet import paddle
from dpmodel_paddle.static import exact_numbers, quiet_places

MEMBERS = ("model.json", "model.pdiparams")  # the program and its parameters


class Exported(paddle.nn.Layer):
    """A model as a function of the arguments of ``dpmodel.export.arguments``."""

    def __init__(self, file: ModelFile) -> None:
        super().__init__()
        self.model = Module(file.model)
        self._settings = file.settings

    @paddle.jit.not_to_static  # the source is traced as it stands
    def forward(self, arguments: list[Any]) -> tuple[Any, ...]:
        first, *rest = computed(self.model.pure(), arguments, self._settings, grad_and_aux)
        sizes = [paddle.numel(x) for x in arguments]  # Paddle refuses arguments that nothing depends on
        return first + 0 * paddle.cast(paddle.add_n(sizes), first.dtype), *rest


def versions() -> dict[str, str]:
    """See ``dpmodel.export.forms.Exporter``."""
    return {"paddle": paddle.__version__}


def write(path: Path, file: ModelFile, options: Options) -> None:
    """See ``dpmodel.export.forms.Exporter``."""
    settings = file.settings
    specifications = [
        paddle.static.InputSpec([None if isinstance(axis, str) else axis for axis in axes], str(x.dtype), name)
        for name, axes, x in zip(names_of(settings), axes_of(settings), example(settings), strict=True)
    ]
    program = Exported(file)
    program.eval()
    for parameter in program.parameters():
        parameter.stop_gradient = True
    with TemporaryDirectory() as folder, ALONE, exact_numbers(), quiet_places(), paddle.no_grad():
        static = paddle.jit.to_static(program, [specifications], full_graph=True, backend=None)
        paddle.jit.save(static, f"{folder}/model", [specifications])
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in MEMBERS:
                archive.write(Path(folder) / name, name)


def read(path: Path, record: Record, device: str | None) -> "Loaded":
    """See ``dpmodel.export.forms.Exporter``."""
    return Loaded(path, record, find_device(device))


class Loaded:
    """A program that was read."""

    def __init__(self, path: Path, record: Record, device: str) -> None:
        self.device, self._settings = device, record.settings
        with TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive, ALONE:
            for name in MEMBERS:
                (Path(folder) / name).write_bytes(archive.read(name))
            self._run = paddle.jit.load(f"{folder}/model")
        self._run.eval()

    def __call__(self, structure: Structure, graph: Graph) -> dict[str, np.ndarray]:
        arguments = arguments_of(graph, structure.positions, self._settings)
        with ALONE, paddle.no_grad():
            values = self._run(*(to_tensor(x, self.device) for x in arguments))
        values = values if isinstance(values, list | tuple) else [values]
        return results_of([to_numpy(x) for x in values], len(structure.types))
