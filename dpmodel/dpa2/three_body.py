"""The three-body block: pairs of neighbors seen from a center (specification/descriptor.md 7)."""

from dpmodel.dpa2.neighborhood import Neighborhood
from dpmodel.dpa2.repinit import EnvironmentEmbedding
from dpmodel.module import module
from dpmodel.nn import joint
from dpmodel.ops.arrays import gather
from dpmodel.xp import Array, namespace, shape


@module
class ThreeBody:
    """(1/nsel^2) sum_jk c_jk g_jk over ordered pairs, j = k included, with c_jk = em_j . em_k."""

    near: EnvironmentEmbedding

    def __call__(self, near: Neighborhood, type_table: Array) -> Array:
        """(N, three_body_neuron[-1])."""
        xp = namespace(near.vectors)
        rows, switch, _, types, count = self.near.look(near)
        angular = rows[:, :, 1:]
        c = angular @ xp.matrix_transpose(angular)  # (N, n, n)
        g = self.embed(c[:, :, :, None], switch, types, type_table)
        weight = c * count[:, :, None] * count[:, None, :]
        n_centers, n, _ = shape(c)
        out = xp.reshape(weight, (n_centers, 1, n * n)) @ xp.reshape(g, (n_centers, n * n, -1))
        return out[:, 0, :] / self.near.n_slots**2

    def embed(self, c: Array, switch: Array, types: Array, type_table: Array) -> Array:
        """g (N, n, n, width) of neighbors j (first axis of slots) and k (second)."""
        near, j, k = self.near, types[:, :, None], types[:, None, :]
        if near.strip is None:
            return joint(near.embedding, c, [(type_table, j), (type_table, k)])
        gs = near.radial(c)
        gt = gather(near.pair_table(type_table, one_side=False), j * (near.n_types + 1) + k)
        if near.smooth:
            gt = gt * (switch[:, :, None] * switch[:, None, :])[..., None]
        return gs * gt + gs
