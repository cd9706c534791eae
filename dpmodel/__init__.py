"""DPA-2 written once against the Array API, for NumPy, PyTorch, JAX and Paddle.

    import dpmodel
    potential = dpmodel.load("water.dp", backend="torch")
    p = potential.evaluate(coords, types, cell)
    p.energy, p.forces, p.virial
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from dpmodel.data.structure import Structure
    from dpmodel.errors import BackendError, DpmodelError, FileError, InputError, NeighborOverflowWarning, SettingError
    from dpmodel.potential import Potential, Prediction, load

_HOMES = {
    "load": "potential",
    "Potential": "potential",
    "Prediction": "potential",
    "Structure": "data.structure",
    "DpmodelError": "errors",
    "FileError": "errors",
    "SettingError": "errors",
    "InputError": "errors",
    "BackendError": "errors",
    "NeighborOverflowWarning": "errors",
}

__all__ = [*_HOMES]  # noqa: PLE0604  (names below are imported when they are first used)


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: ``import dpmodel`` itself costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dpmodel' has no attribute {name!r}")
    return getattr(import_module(f"dpmodel.{_HOMES[name]}"), name)
