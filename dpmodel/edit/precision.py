"""Models in another precision."""

import numpy as np

from dpmodel.initializers import Initializer
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, state


def with_precision(file: ModelFile, precision: str) -> ModelFile:
    """The same model with its networks in another precision; biases of atoms stay float64."""
    data = file.settings.model_dump()
    data["descriptor"]["precision"] = data["fitting_net"]["precision"] = precision
    settings = ModelSettings.read(data, "model")
    blank = state(build(settings, seed=None))
    in_tables = Initializer(None).cast(settings.descriptor.dtype).numpy_dtype

    def cast(path: str, value: np.ndarray) -> np.ndarray:
        if path.endswith("type_embedding.features"):  # known to every precision
            return blank[path]
        return value.astype(blank[path].dtype if path in blank else in_tables, copy=False)

    with np.errstate(over="ignore"):  # infinite numbers are refused where a model is written
        arrays = {path: cast(path, value) for path, value in state(file.model).items()}
    return file.changed(settings, Rebuilder(file.model)(arrays))
