"""The values that a model file may hold, checked, in words for messages, and compared.

They are arrays of ordinary numbers, and plain JSON values.  Neither NumPy nor HDF5 has bfloat16, and deepmd-kit's
PyTorch backend cannot read what it writes in its place.  Such arrays are float32 in every tree, which is exact; the
setting ``precision`` still says bfloat16.
"""

from typing import Any

import numpy as np

from dpmodel.errors import FileError
from dpmodel.setting_types import PRECISIONS

_SIZES = {"int": (8, 16, 32, 64), "uint": (8, 16, 32, 64), "float": (16, 32, 64)}
DTYPES = {"bool": np.dtype(bool)} | {f"{k}{n}": np.dtype(f"{k}{n}") for k, sizes in _SIZES.items() for n in sizes}
SAME = {"none": "linear", "": "linear", "gelu_tf": "gelu"} | PRECISIONS  # synonyms


def describe(value: Any) -> str:
    """``value`` as a message shows it: "null", "an array of shape (2, 3)", "'text'"."""
    if value is None:
        return "null"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, list):
        text = repr(value) if 0 < len(value) <= 20 and all(isinstance(x, str | int | float) for x in value) else ""
        return text if 0 < len(text) <= 60 else f"a list of {len(value)}"
    if value == {}:
        return "an empty mapping"
    text = f"a mapping with keys {', '.join(list(map(str, value))[:4])}" if isinstance(value, dict) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def same(a: Any, b: Any) -> bool:
    """Whether two copies of a setting agree, synonyms and case of names aside."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return False
    if isinstance(a, str) or isinstance(b, str):
        return canonical(a) == canonical(b)
    return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)


def canonical(name: Any) -> Any:
    if name is None:
        return "linear"  # an activation that is not there
    if not isinstance(name, str):
        return name
    return SAME.get(name.lower(), "linear" if name.lower() == "linear" else name)


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
