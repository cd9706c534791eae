"""The values that a model file may hold: arrays of ordinary numbers, and plain JSON values.

Neither NumPy nor HDF5 has bfloat16, and deepmd-kit's PyTorch backend cannot read what it writes in its place.
Such arrays are float32 in every tree, which is exact; the setting ``precision`` still says bfloat16.
"""

from typing import Any

import numpy as np

from dpmodel.errors import FileError
from dpmodel.io.node import describe

_SIZES = {"int": (8, 16, 32, 64), "uint": (8, 16, 32, 64), "float": (16, 32, 64)}
DTYPES = {"bool": np.dtype(bool)} | {f"{k}{n}": np.dtype(f"{k}{n}") for k, sizes in _SIZES.items() for n in sizes}


def check_array(value: Any, where: str) -> np.ndarray:
    """``value`` as a NumPy array in native byte order, if its dtype is one that model files hold."""
    if not isinstance(value, np.ndarray | np.generic | bool | int | float):
        raise FileError(f"{where}: expected an array, found {describe(value)}")
    try:
        array = np.asarray(value)
    except OverflowError:
        raise FileError(f"{where}: expected a number of at most 64 bits, found {describe(value)}") from None
    if array.dtype.name == "bfloat16":  # ml_dtypes
        array = array.astype(np.float32)
    if array.dtype.name not in DTYPES:
        raise FileError(f"{where}: expected one of the dtypes {', '.join(DTYPES)}, found {array.dtype}")
    return array.astype(DTYPES[array.dtype.name], copy=False)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 numbers, given as uint16, in float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def plain_value(value: Any, where: str) -> str | int | float | bool | None:
    """``value`` if JSON can hold it; NumPy scalars become Python numbers."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value) in (str, bool, int, float):
        return value
    hint = "; arrays belong below a key '@variables'" if isinstance(value, np.ndarray) else ""
    raise FileError(f"{where}: expected text, a number, true, false or null, found {describe(value)}{hint}")
