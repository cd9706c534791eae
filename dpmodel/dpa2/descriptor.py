"""DPA-2: repinit (and three-body), then the repformer, on a graph (specification/descriptor.md 8-10)."""

from functools import partial
from typing import NamedTuple

from dpmodel.dpa2.neighborhood import Neighborhood, Parts
from dpmodel.dpa2.repformer import Repformer, RepformerLayer, Slots, moment
from dpmodel.dpa2.repinit import Repinit
from dpmodel.dpa2.three_body import ThreeBody
from dpmodel.dpa2.type_embedding import TypeEmbedding
from dpmodel.execution import Execution
from dpmodel.graph import Block, Graph
from dpmodel.module import module
from dpmodel.nn import Linear
from dpmodel.ops.activations import activation
from dpmodel.ops.arrays import gather
from dpmodel.xp import Array, cast, namespace, shape


class Description(NamedTuple):
    """The features of each center; dimensionless."""

    descriptor: Array  # (N, g1_dim [+ tebd_dim])
    rot_mat: Array  # (N, g2_dim, 3) rotates with the structure
    g2: Array  # (N, n, g2_dim)
    h2: Array  # (N, n, 3)
    switch: Array  # (N, n)


@module
class DPA2:
    type_embedding: TypeEmbedding
    repinit: Repinit
    three_body: ThreeBody | None
    shape_transform: Linear | None
    type_transform: Linear | None
    repformer: Repformer
    activation: str
    concat_types: bool
    truncate: bool

    def __call__(self, graph: Graph, vectors: Array, execution: Execution | None = None) -> Description:
        """Describe the centers of ``graph``, whose neighbors are ``vectors`` (N, n, 3) away (angstrom).

        Vectors are cast to the precision of the descriptor's arrays, the results keep it.
        """
        execution = execution or Execution()
        table = self.type_embedding()
        vectors = cast(vectors, table.dtype)
        parts = Parts(graph, vectors, execution.bins)
        g1 = self.first_description(graph, parts, table, execution)
        g1, rot_mat, g2, h2, switch = self.refine(graph, parts, g1, execution)
        execution.observe("g1", g1)
        described = Description(self.with_types(g1, graph), rot_mat, g2, h2, switch)
        for name, value in zip(Description._fields, described, strict=True):
            execution.observe(name, value)
        return described

    def with_types(self, g1: Array, graph: Graph) -> Array:
        """The last features of the centers, and after them the embedding of their types if the model wants it."""
        if not self.concat_types:
            return g1
        return namespace(g1).concat([g1, gather(self.type_embedding(), graph.types[: shape(g1)[0]])], axis=-1)

    def call(
        self,
        coord_ext: Array,
        atype_ext: Array,
        nlist: Array,
        mapping: Array | None = None,
        execution: Execution | None = None,
    ) -> Description:
        """deepmd-kit's interface: extended coordinates (nf, nall, 3), angstrom, their types (nf, nall), a list of
        neighbors (nf, nloc, nnei) padded with -1, and the local atom of each extended one (nf, nall).

        Fields come as (nf, nloc, ...), g2, h2 and switch with ``nsel`` slots as deepmd-kit gives them; empty slots hold
        nothing of meaning in g2 and h2.  A virtual center is described as deepmd-kit does.
        """
        from dpmodel.dpa2.lower import graph_of_lists

        parts = {name: block.near for name, block in self.first_blocks.items()} | {"repformer": self.repformer}
        blocks = {name: Block(part.cutoff, part.n_slots) for name, part in parts.items()}
        n_types = self.type_embedding.n_types
        graph, vectors = graph_of_lists(
            coord_ext, atype_ext, nlist, mapping, blocks, n_types=n_types, truncate=self.truncate
        )
        described = self(graph, vectors, execution)
        xp, frames = namespace(described.descriptor), shape(nlist)[:2]
        return Description(*(xp.reshape(x, (*frames, *shape(x)[1:])) for x in described))

    @property
    def first_blocks(self) -> dict[str, Repinit | ThreeBody]:
        """The blocks before the repformer, by their names in the graph."""
        return {"repinit": self.repinit} | ({} if self.three_body is None else {"three_body": self.three_body})

    def first_description(self, graph: Graph, parts: Parts, table: Array, execution: Execution) -> Array:
        """g1 before the repformer, (N, g1_dim): repinit and three-body, brought to its width."""
        seen = []
        for name, block in self.first_blocks.items():
            look = partial(_apply_block, block, table)
            seen.append(parts.join([execution.in_groups(look, near)[0] for near in parts.near(name)]))
            execution.observe(name, seen[-1])
        g = namespace(seen[0]).concat(seen, axis=-1)
        if self.shape_transform is not None:
            g = self.shape_transform(g)
        if self.type_transform is not None:
            g = g + self.type_transform(gather(table, graph.types[: shape(g)[0]]))
        return activation(self.activation)(g)

    def refine(self, graph: Graph, parts: Parts, g1: Array, execution: Execution) -> tuple[Array, ...]:
        """g1 after the layers, and (rot_mat, g2, h2, switch) as they leave them."""
        width, near = shape(graph.blocks["repformer"])[1], parts.near("repformer")
        states, switch, slots = [], [], []
        for own_g1, n in zip(parts.split(g1), near, strict=True):
            g2, h2, s, *weights = execution.in_groups(partial(_apply_start, self.repformer), n)
            states.append((own_g1, g2, h2))
            switch.append(s)
            slots.append(weights)

        def advance(layer: RepformerLayer, states: States) -> States:
            everyone = execution.exchange(parts.join([g1 for g1, _, _ in states]), shape(graph.types)[0])
            look = partial(_apply_layer, layer)
            rows = [[*state, n.neighbors, *s] for state, n, s in zip(states, near, slots, strict=True)]
            return tuple([execution.in_groups(look, row, everyone, prepare=_with_neighbors) for row in rows])

        moving = tuple(states)
        if execution.observed:
            for i, layer in enumerate(self.repformer.layers):
                for name, value in zip(("g1", "g2", "h2"), _whole(parts, moving, width), strict=True):
                    execution.observe(f"repformer.{i}.{name}", value)
                moving = advance(layer, moving)
        else:  # the last layer has less to do than the others
            moving = execution.repeat(advance, self.repformer.layers[:-1], moving)
            moving = execution.repeat(advance, self.repformer.layers[-1:], moving)
        g1, g2, h2 = _whole(parts, moving, width)
        rot_mat = parts.join([_rot_mat(g2, h2, s) for (_, g2, h2), s in zip(moving, slots, strict=True)])
        return g1, rot_mat, g2, h2, parts.join(switch, width)


States = tuple[tuple[Array, ...], ...]  # (g1, g2, h2) of each part, as layers change them


def _whole(parts: Parts, states: States, width: int) -> tuple[Array, Array, Array]:
    """(g1, g2, h2) of all centers."""
    g1, g2, h2 = [list(column) for column in zip(*states, strict=True)]
    return parts.join(g1), parts.join(g2, width), parts.join(h2, width)


def _rot_mat(g2: Array, h2: Array, slots: list[Array]) -> Array:
    return namespace(h2).matrix_transpose(moment(h2, g2, Slots(*slots)))


def _apply_block(block: Repinit | ThreeBody, table: Array, *rows: Array) -> tuple[Array, ...]:
    return (block(Neighborhood(*rows), table),)


def _apply_start(repformer: Repformer, *rows: Array) -> tuple[Array, ...]:
    g2, h2, switch, slots = repformer.start(Neighborhood(*rows))
    return g2, h2, switch, *slots


def _with_neighbors(everyone: Array, g1: Array, g2: Array, h2: Array, neighbors: Array, *slots: Array) -> list[Array]:
    """The rows of a layer: the g1 of the neighbors in the place of their indices."""
    return [g1, g2, h2, gather(everyone, neighbors), *slots]


def _apply_layer(
    layer: RepformerLayer, g1: Array, g2: Array, h2: Array, gg1: Array, *slots: Array
) -> tuple[Array, ...]:
    return layer(g1, g2, h2, gg1, Slots(*slots))
