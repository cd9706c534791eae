"""Values of a file's tree in a few words, for messages."""

from typing import Any

import numpy as np


def describe(value: Any) -> str:
    """``value`` as a message shows it: "null", "an array of shape (2, 3)", "'text'"."""
    if value is None:
        return "null"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, dict):
        return f"a mapping with keys {', '.join(list(map(str, value))[:4])}" if value else "an empty mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
