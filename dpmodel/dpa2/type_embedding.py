"""The type embedding: what a model knows of a chemical element (specification/descriptor.md 4)."""

from dpmodel.initializers import Initializer
from dpmodel.module import buffer, module
from dpmodel.nn import Linear
from dpmodel.ops.arrays import append_row
from dpmodel.xp import Array, like, namespace


@module
class TypeEmbedding:
    """One linear layer on the identity, or on the electronic configuration of each element."""

    features: Array | None = buffer("n_types n_in")  # electronic configurations; None: the identity
    layer: Linear
    n_types: int

    @classmethod
    def make(cls, draw: Initializer, n_types: int, dim: int, *, features: Array | None, bias: bool) -> "TypeEmbedding":
        n_in = n_types if features is None else features.shape[1]
        gain = ((n_in + dim) / 2) ** 0.5 if features is None else 1.0  # elements differ by numbers of about 1
        layer = Linear.make(draw("layer"), n_in, dim, bias=bias, resnet=True, gain=gain)
        return cls(features=features, layer=layer, n_types=n_types)

    @property
    def n_in(self) -> int:
        return self.layer.n_in

    def __call__(self) -> Array:
        """The table (n_types + 1, dim): a row a type, then a row of zeros for virtual atoms."""
        w = self.layer.weight
        rows = namespace(w).eye(self.n_types, **like(w)) if self.features is None else self.features
        return append_row(self.layer(rows), 0.0)
