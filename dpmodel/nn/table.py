"""An embedding net of one number as a table of fifth-order polynomials (specification/compression.md 3, 4).

Between knots the interpolant is twice continuously differentiable; beyond them it goes on linearly.
"""

from dpmodel.module import buffer, module
from dpmodel.ops.arrays import gather
from dpmodel.xp import Array, detach, namespace


@module
class Table:
    """Knots ``fine`` apart from ``lower`` to ``upper``, then ``coarse`` apart to ``top``."""

    coefficients: Array = buffer("n_rows 6 width")  # of 1, dx, ..., dx^5 in each interval
    n_rows: int
    width: int
    lower: float
    upper: float
    top: float
    fine: float
    coarse: float
    check_frequency: float = -1.0  # carried along in deepmd-kit's files, without effect

    @property
    def n_fine(self) -> int:
        """Intervals of the fine part; truncated as deepmd-kit does."""
        return int((self.upper - self.lower) / self.fine)

    def __call__(self, x: Array) -> Array:
        """(..., 1) to (..., width)."""
        xp = namespace(x)
        x = x[..., 0]
        inside = xp.clip(x, self.lower, self.top)
        row, start = self.interval(detach(inside))
        dx, beyond = (inside - start)[..., None], (x - inside)[..., None]
        a = gather(self.coefficients, row)
        a = [a[..., k, :] for k in range(6)]
        value = a[0] + dx * (a[1] + dx * (a[2] + dx * (a[3] + dx * (a[4] + dx * a[5]))))
        slope = a[1] + dx * (2.0 * a[2] + dx * (3.0 * a[3] + dx * (4.0 * a[4] + dx * (5.0 * a[5]))))
        return value + slope * beyond

    def interval(self, x: Array) -> tuple[Array, Array]:
        """Row of the table and the knot where it begins, for ``x`` between ``lower`` and ``top``."""
        xp = namespace(x)
        fine = xp.clip(xp.floor((x - self.lower) / self.fine), 0.0, float(max(self.n_fine - 1, 0)))
        last = float(self.n_rows - 1 - self.n_fine)
        coarse = xp.clip(xp.floor((x - self.upper) / self.coarse), 0.0, last)
        is_fine = x < self.upper
        row = xp.where(is_fine, fine, coarse + float(self.n_fine))
        start = xp.where(is_fine, fine * self.fine + self.lower, coarse * self.coarse + self.upper)
        return xp.astype(row, xp.int64), start


@module
class TypeTable:
    """The network of types alone, evaluated on all of them (specification/compression.md 6): exact."""

    rows: Array = buffer("n_rows width")
    n_rows: int
    width: int
