"""NumPy arrays to tensors and back, exactly; memory is never shared."""

from typing import Any

import numpy as np

from dpmodel.errors import BackendError
from dpmodel_paddle.quiet import paddle
from dpmodel_paddle.trees import mapped

Array = Any


def to_tensor(x: np.ndarray, device: str | None = None) -> Array:
    """The same numbers in the same dtype on ``device`` (None: where Paddle is set to).

    Raises
    ------
    BackendError
        If the numbers are of half precision, in which Paddle does not multiply matrices on a CPU.
    """
    if x.dtype.name in ("float16", "bfloat16"):
        raise BackendError(
            f"the paddle backend computes in float64 and float32, not in {x.dtype.name}: load with precision='float32'"
        )
    return paddle.to_tensor(x, place=device)


def to_numpy(x: Array) -> np.ndarray:
    """The same numbers in the same dtype."""
    return x.detach().numpy().copy()


def tensors(arrays: Any, device: str | None = None) -> Any:
    """Nested tuples, lists and dicts of NumPy arrays, such as a graph, as tensors on ``device``."""
    return mapped(lambda x: to_tensor(x, device), arrays)
