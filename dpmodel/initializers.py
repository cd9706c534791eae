"""Initial values of arrays: each is seeded by its own path.

Adding a layer leaves the others unchanged, and every backend starts from identical parameters.
"""

import zlib
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Initializer:
    """Draws the arrays below ``path``; ``draw("layers.0")`` draws those one level down.

    ``seed=None`` gives arrays of the right shape with nothing in them: a blank to read a file into.
    """

    seed: int | None
    dtype: str = "float64"
    path: str = ""

    def __call__(self, name: str) -> "Initializer":
        return Initializer(self.seed, self.dtype, f"{self.path}.{name}" if self.path else name)

    def cast(self, dtype: str) -> "Initializer":
        """The same stream in another precision."""
        return Initializer(self.seed, dtype, self.path)

    def normal(self, shape: tuple[int, ...], std: float, mean: float = 0.0) -> np.ndarray:
        """Independent N(mean, std^2)."""
        return self._empty(shape) if self.seed is None else self._as(mean + std * self._rng().standard_normal(shape))

    def orthogonal(self, shape: tuple[int, int], std: float) -> np.ndarray:
        """Rows or columns, whichever are fewer, at right angles and of equal length; elements vary by ``std``."""
        if self.seed is None:
            return self._empty(shape)
        tall = (max(shape), min(shape))
        q, r = np.linalg.qr(self._rng().standard_normal(tall))
        q = q * np.sign(np.diag(r)) * std * tall[0] ** 0.5  # with the signs all directions are equally likely
        return self._as(q if shape == tall else q.T)

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        """Independent and uniform in [low, high)."""
        return self._empty(shape) if self.seed is None else self._as(self._rng().uniform(low, high, shape))

    def full(self, shape: tuple[int, ...], value: float) -> np.ndarray:
        """The same value everywhere."""
        return self._empty(shape, value) if self.seed is None else self._as(np.full(shape, value))

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng([self.seed or 0, zlib.crc32(self.path.encode())])

    def _empty(self, shape: tuple[int, ...], value: float = 0.0) -> np.ndarray:
        """Of the right shape, without memory of its own: settings of a file may ask for more than there is."""
        return np.broadcast_to(self._as(np.asarray(value)), shape)

    def _as(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(x, dtype=self.numpy_dtype)

    @property
    def numpy_dtype(self) -> np.dtype:
        if self.dtype == "bfloat16":
            import ml_dtypes  # comes with JAX

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(self.dtype)
