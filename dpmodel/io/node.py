"""Values of a file's tree: in a few words, for messages, and compared."""

from typing import Any

import numpy as np

SAME = {
    "none": "linear",
    "": "linear",
    "gelu_tf": "gelu",
    "default": "float64",
    "double": "float64",
    "single": "float32",
}


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
