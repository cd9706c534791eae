"""The descriptor in pieces, for programs that treat groups of atoms and exchange features between layers themselves.

Every piece treats a center by itself, and hands a state to the next: (g1, g2, h2, switch, *slots).
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from dpmodel.dpa2.descriptor import DPA2, Description
from dpmodel.dpa2.neighborhood import PAIRS, Parts, neighborhood
from dpmodel.dpa2.repformer import RepformerLayer, Slots, moment
from dpmodel.execution import Execution
from dpmodel.graph import Graph
from dpmodel.xp import Array, cast, namespace

T = TypeVar("T")

NAMES = ("repinit", "three_body", PAIRS)  # of the blocks; the last is that of the pair features
LAYERS = "repformer.layers"  # where they are in a descriptor


def in_order(blocks: Mapping[str, T]) -> tuple[T, ...]:
    """The entry of ``blocks`` for each of ``NAMES``; a model without one of them does not mind another's."""
    return tuple(blocks.get(name, blocks[PAIRS]) for name in NAMES)


def named(values: Sequence[T]) -> dict[str, T]:
    """The other way round."""
    return dict(zip(NAMES, values, strict=True))


def start(descriptor: DPA2, graph: Graph, vectors: Array) -> tuple[Array, ...]:
    """The state before the first layer, from edge vectors (N, n, 3) in angstrom."""
    table = descriptor.type_embedding()
    vectors = cast(vectors, table.dtype)
    g1 = descriptor.first_description(graph, Parts(graph, vectors, ()), table, Execution())
    g2, h2, switch, slots = descriptor.repformer.start(neighborhood(graph, vectors, graph.blocks[PAIRS]))
    return g1, g2, h2, switch, *slots


def apply(layer: RepformerLayer, gg1: Array, state: Sequence[Array]) -> tuple[Array, ...]:
    """The state after a layer, with the neighbors' features ``gg1`` (N, n, g1_dim)."""
    g1, g2, h2, switch, *slots = state
    return *layer(g1, g2, h2, gg1, Slots(*slots)), switch, *slots


def end(descriptor: DPA2, graph: Graph, state: Sequence[Array]) -> Description:
    """The description from the last state; of ``graph`` the types are enough."""
    g1, g2, h2, switch, *slots = state
    rot_mat = namespace(g1).matrix_transpose(moment(h2, g2, Slots(*slots)))
    return Description(descriptor.with_types(g1, graph), rot_mat, g2, h2, switch)
