"""Fitting nets: from the description of an atom to its share of a property (specification/model.md 2.3, 5)."""

from dpmodel.dpa2.descriptor import Description
from dpmodel.graph import Graph
from dpmodel.model.heads import HEADS, of_type
from dpmodel.module import buffer, module
from dpmodel.nn import MLP
from dpmodel.ops.arrays import gather
from dpmodel.xp import Array, cast, namespace, shape


@module
class Fitting:
    """One network for all types; ``kind`` names the row of the table of heads that shapes its output."""

    network: MLP
    bias: Array = buffer("n_types n_net")  # deepmd-kit's bias_atom_e; zero in every model trained with PyTorch
    fparam_avg: Array | None = buffer("n_fparam")
    fparam_inv_std: Array | None = buffer("n_fparam")
    aparam_avg: Array | None = buffer("n_aparam")
    aparam_inv_std: Array | None = buffer("n_aparam")
    case: Array | None = buffer("n_case")  # which task of several this head belongs to, one-hot
    scale: Array | None = buffer("n_types 1")  # polarizability only
    constant: Array | None = buffer("n_types")  # polarizability only: shift of the diagonal
    kind: str
    n_types: int
    n_net: int
    n_fparam: int
    n_aparam: int
    n_case: int
    sees_aparam: bool  # whether atomic parameters enter the network; deepmd-kit may keep them for a mask
    minus_vacuum: bool  # subtract the network's value for an atom without surroundings
    fit_diag: bool  # polarizability only
    shift_diag: bool  # polarizability only

    def __call__(self, description: Description, graph: Graph) -> Array:
        """(N, ...) output of each atom, before the bias of the atomic model: float64 from where the network ends."""
        last = self.network.layers[-1]
        y = last(self.features(description, graph))
        if self.minus_vacuum and last.bias is not None:
            y = y - last.bias
        types = graph.types[: shape(y)[0]]
        y = cast(y, "float64") + of_type(self.bias, types)
        return HEADS[self.kind].shape(self, y, cast(description.rot_mat, "float64"), types)

    def features(self, description: Description, graph: Graph) -> Array:
        """(N, n_hidden) the last hidden layer, in which the output is linear; less that of an atom in vacuum if the
        output is."""
        d = cast(description.descriptor, self.network.layers[0].weight.dtype)
        xp = namespace(d)
        extra = self.parameters(graph, d)
        f = self.network.hidden(xp.concat([d, *extra], axis=-1))
        if self.minus_vacuum:
            f = f - self.network.hidden(xp.concat([d * 0.0, *extra], axis=-1))
        return f

    def parameters(self, graph: Graph, d: Array) -> list[Array]:
        """Frame parameters, atomic parameters and the case embedding, as columns for every atom."""
        xp, n = namespace(d), shape(d)[0]
        columns = []
        if self.fparam_avg is not None:
            f = cast(graph.fparam, d.dtype)
            columns.append(gather((f - self.fparam_avg) * self.fparam_inv_std, graph.frame))
        if self.aparam_avg is not None and self.sees_aparam:
            columns.append((cast(graph.aparam, d.dtype) - self.aparam_avg) * self.aparam_inv_std)
        if self.case is not None:
            columns.append(xp.broadcast_to(self.case[None, :], (n, self.n_case)))
        return columns
