"""NumPy arrays to tensors and back, exactly; memory is never shared."""

import numpy as np
import torch


def to_tensor(x: np.ndarray, device: torch.device | str | None = None) -> torch.Tensor:
    """The same numbers in the same dtype on ``device``."""
    x = np.ascontiguousarray(x).reshape(np.shape(x))
    if x.dtype.name == "bfloat16":  # of ml_dtypes, which torch does not know
        return torch.tensor(x.view(np.uint16), device=device).view(torch.bfloat16)
    return torch.tensor(x, device=device)


def to_numpy(x: torch.Tensor) -> np.ndarray:
    """The same numbers in the same dtype; bfloat16 is that of ml_dtypes."""
    x = x.detach().cpu()
    if x.dtype == torch.bfloat16:
        import ml_dtypes  # comes with JAX

        return x.view(torch.uint16).numpy().view(ml_dtypes.bfloat16).copy()
    return x.numpy().copy()
