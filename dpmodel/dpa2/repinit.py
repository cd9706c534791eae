"""repinit: the first description of an atom, from all its neighbors (specification/descriptor.md 5).

The dense layout of deepmd-kit visits empty slots too, and where the mean is not zero they
contribute.  Those of a center are all alike, so they are one more slot here, counted ``n_pad`` times.
"""

from dpmodel.dpa2.attention import GatedAttention
from dpmodel.dpa2.neighborhood import Neighborhood, environment_of
from dpmodel.module import buffer, module
from dpmodel.nn import MLP, Table, TypeTable, joint
from dpmodel.ops.arrays import gather
from dpmodel.ops.geometry import statistics_of
from dpmodel.xp import Array, like, namespace, shape


@module
class EnvironmentEmbedding:
    """Statistics, cutoff and embedding that repinit and the three-body block have in common."""

    mean: Array = buffer("n_types 4")
    stddev: Array = buffer("n_types 4")
    embedding: MLP
    strip: MLP | None
    table: Table | None = None  # compressed models: what ``embedding`` does, tabulated
    type_table: TypeTable | None = None  # compressed models: what ``strip`` does
    n_types: int
    n_slots: int  # nsel
    cutoff: float  # angstrom
    smooth_cutoff: float  # angstrom
    smooth: bool
    protection: float  # angstrom
    excluded: tuple[tuple[int, int], ...]
    padding_leak: bool

    def look(self, near: Neighborhood) -> tuple[Array, Array, Array, Array, Array]:
        """(rows, switch, real, neighbor types, multiplicity) of every slot, and of the empty ones as one more."""
        env = environment_of(self, near)
        once = env.switch * 0.0 + 1.0
        if not self.padding_leak:
            return env.rows, env.switch, env.real, near.neighbor_types, once
        xp = namespace(near.vectors)
        mean, stddev = statistics_of(near.types, self.mean, self.stddev)
        empty = self.n_slots - xp.sum(xp.astype(near.occupied, mean.dtype), axis=1, keepdims=True)
        nothing = xp.zeros(shape(empty), **like(empty))
        return (
            xp.concat([env.rows, (-mean / stddev)[:, None, :]], axis=1),
            xp.concat([env.switch, nothing], axis=1),
            xp.concat([env.real, xp.zeros(shape(empty), **like(env.real))], axis=1),
            xp.concat([near.neighbor_types, near.first_type[:, None]], axis=1),
            xp.concat([once, empty], axis=1),
        )

    def radial(self, x: Array) -> Array:
        """Embedding of one number, (..., 1) to (..., width); strip mode only."""
        return self.embedding(x) if self.table is None else self.table(x)

    def pair_table(self, type_table: Array, *, one_side: bool) -> Array:
        """Strip network on every pair of types, row ``t_i * (n_types + 1) + t_j``; one-sided: row ``t_j``."""
        if self.type_table is not None:
            return self.type_table.rows
        assert self.strip is not None
        xp = namespace(type_table)
        if one_side:
            return self.strip(type_table)
        rows, dim = shape(type_table)
        neighbor = xp.broadcast_to(type_table[None, :, :], (rows, rows, dim))
        center = xp.broadcast_to(type_table[:, None, :], (rows, rows, dim))
        return self.strip(xp.reshape(xp.concat([neighbor, center], axis=-1), (rows * rows, 2 * dim)))


@module
class Repinit:
    """Moments of the embedded neighborhood: D = G G_axis^T, G = (1/nsel) sum_j gg_j (x) em_j."""

    near: EnvironmentEmbedding
    attention: tuple[GatedAttention, ...]
    axis: int
    one_side: bool

    def __call__(self, near: Neighborhood, type_table: Array) -> Array:
        """(N, ng * axis)."""
        xp = namespace(near.vectors)
        rows, switch, real, types, count = self.near.look(near)
        gg = self.embed(rows[:, :, :1], switch, types, near.types, type_table)
        for layer in self.attention:
            gg = layer(gg, rows[:, :, 1:], switch, real)
        moment = (xp.matrix_transpose(gg) @ (rows * count[:, :, None])) / self.near.n_slots  # (N, ng, 4)
        d = moment @ xp.matrix_transpose(moment[:, : self.axis, :])
        return xp.reshape(d, (shape(d)[0], -1))

    def embed(self, radial: Array, switch: Array, types: Array, center: Array, type_table: Array) -> Array:
        """gg (N, n, ng) from the radial component (N, n, 1) and the types of neighbor (N, n) and center (N,)."""
        near, center = self.near, center[:, None]
        if near.strip is None:
            tables = [(type_table, types)] if self.one_side else [(type_table, types), (type_table, center)]
            return joint(near.embedding, radial, tables)
        gs = near.radial(radial)
        pair = types if self.one_side else center * (near.n_types + 1) + types
        gt = gather(near.pair_table(type_table, one_side=self.one_side), pair)
        return gs * (gt * switch[:, :, None] if near.smooth else gt) + gs
