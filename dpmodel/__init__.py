"""DPA-2 written once against the Array API, for NumPy, PyTorch, JAX and Paddle.

import dpmodel
potential = dpmodel.load("water.dp", backend="torch")
p = potential.evaluate(positions, types, cell)
p.energy, p.forces, p.virial
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpmodel.data.structure import Structure as Structure
    from dpmodel.editing import change_bias as change_bias
    from dpmodel.editing import change_type_map as change_type_map
    from dpmodel.editing import compress as compress
    from dpmodel.errors import BackendError as BackendError
    from dpmodel.errors import DpmodelError as DpmodelError
    from dpmodel.errors import FileError as FileError
    from dpmodel.errors import HeadError as HeadError
    from dpmodel.errors import InputError as InputError
    from dpmodel.errors import NeighborOverflowWarning as NeighborOverflowWarning
    from dpmodel.errors import OutOfMemoryWarning as OutOfMemoryWarning
    from dpmodel.errors import SettingError as SettingError
    from dpmodel.errors import TrainingError as TrainingError
    from dpmodel.potential import Potential as Potential
    from dpmodel.potential import create as create
    from dpmodel.potential import load as load
    from dpmodel.prediction import Prediction as Prediction

_HOMES = {
    "potential": ("load", "create", "Potential"),
    "editing": ("compress", "change_type_map", "change_bias"),
    "prediction": ("Prediction",),
    "data.structure": ("Structure",),
    "errors": (
        "DpmodelError",
        "FileError",
        "HeadError",
        "SettingError",
        "InputError",
        "BackendError",
        "TrainingError",
        "NeighborOverflowWarning",
        "OutOfMemoryWarning",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __dir__() -> list[str]:
    return [*globals(), *_HOME_OF]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: ``import dpmodel`` itself costs nothing."""
    if name == "__version__":
        return import_module("importlib.metadata").version("dpmodel")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'dpmodel' has no attribute {name!r}")
    return getattr(import_module(f"dpmodel.{_HOME_OF[name]}"), name)
