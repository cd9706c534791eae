"""Linear layers, networks of them, and layer normalization (specification/model.md 1)."""

from collections.abc import Sequence
from itertools import pairwise

from dpmodel.initializers import Initializer
from dpmodel.module import module, param
from dpmodel.ops.activations import activation
from dpmodel.ops.arrays import gather
from dpmodel.xp import Array, namespace, shape

BEND = 0.3  # deviation of biases at the start: of 0, 0.3 and 1 the best for energies, dipoles and polarizabilities


@module
class Linear:
    """y = φ(x W + b) * idt, then plus x (or [x, x]) where ``resnet`` and the widths agree."""

    weight: Array = param("n_in n_out")
    bias: Array | None = param("n_out")
    idt: Array | None = param("n_out")
    n_in: int
    n_out: int
    activation: str = "none"
    resnet: bool = False

    @classmethod
    def make(
        cls,
        draw: Initializer,
        n_in: int,
        n_out: int,
        *,
        bias: bool = True,
        time_step: bool = False,
        activation: str = "none",
        resnet: bool = False,
        gain: float = 1.0,
    ) -> "Linear":
        """Draw a layer: orthogonal weights of variance 2/(n_in+n_out), times ``gain``, time steps near 0.1.

        Biases are 0 but for small ones below an activation, without which tanh would be odd and nearly straight, and
        all channels nearly the same function.
        A time step is kept only where the shortcut exists, as deepmd-kit does.
        """
        stepped = time_step and n_out in (n_in, 2 * n_in)
        return cls(
            weight=draw("weight").orthogonal((n_in, n_out), gain * (2.0 / (n_in + n_out)) ** 0.5),
            bias=draw("bias").normal((n_out,), BEND if activation != "none" else 0.0) if bias else None,
            idt=draw("idt").normal((n_out,), 0.001, mean=0.1) if stepped else None,
            n_in=n_in,
            n_out=n_out,
            activation=activation,
            resnet=resnet,
        )

    @property
    def has_shortcut(self) -> bool:
        return self.resnet and self.n_out in (self.n_in, 2 * self.n_in)

    def __call__(self, x: Array) -> Array:
        """(..., n_in) to (..., n_out)."""
        xp = namespace(x)
        # one product of two matrices: array libraries loop over anything with more axes
        y = xp.reshape(xp.reshape(x, (-1, self.n_in)) @ self.weight, (*shape(x)[:-1], self.n_out))
        return self.finish(y, x if self.has_shortcut else None)

    def finish(self, y: Array, x: Array | None) -> Array:
        """Everything that follows the product ``y = x W``; ``x`` is None where there is no shortcut."""
        if self.bias is not None:
            y = y + self.bias
        y = activation(self.activation)(y)
        if self.idt is not None:
            y = y * self.idt
        if x is None:
            return y
        return y + (x if self.n_in == self.n_out else namespace(x).concat([x, x], axis=-1))


@module
class MLP:
    """Layers one after another."""

    layers: tuple[Linear, ...]

    @classmethod
    def embedding(cls, draw: Initializer, widths: Sequence[int], *, activation: str, time_step: bool) -> "MLP":
        """The embedding net of specification/model.md 1.2: every layer with bias, activation and shortcut."""
        pairs = list(pairwise(widths))
        return cls(
            layers=tuple(
                Linear.make(draw(f"layers.{i}"), a, b, time_step=time_step, activation=activation, resnet=True)
                for i, (a, b) in enumerate(pairs)
            )
        )

    @classmethod
    def fitting(
        cls,
        draw: Initializer,
        widths: Sequence[int],
        n_out: int,
        *,
        activation: str,
        time_step: bool,
        gain: float = 1.0,
    ) -> "MLP":
        """The fitting net of specification/model.md 1.3: an embedding net and one plain output layer of ``gain``."""
        hidden = cls.embedding(draw, widths, activation=activation, time_step=time_step).layers
        return cls(layers=(*hidden, Linear.make(draw(f"layers.{len(hidden)}"), widths[-1], n_out, gain=gain)))

    def __call__(self, x: Array) -> Array:
        for layer in self.layers:
            x = layer(x)
        return x

    def hidden(self, x: Array) -> Array:
        """The input of the last layer."""
        return MLP(layers=self.layers[:-1])(x)


def joint(net: MLP, x: Array, tables: Sequence[tuple[Array, Array]]) -> Array:
    """``net([x, f_1, f_2, ...])`` with ``x`` (..., 1) and ``f_p = gather(table_p, index_p)``.

    The rows of the tables (one a type) meet the first layer's weights before they are gathered, not once a pair;
    indices only have to be broadcastable to the shape of ``x``.
    """
    first = net.layers[0]
    y = x * first.weight[:1, :]
    start = 1
    for table, index in tables:
        width = shape(table)[1]
        y = y + gather(table @ first.weight[start : start + width, :], index)
        start += width
    x = first.finish(y, _concat(x, tables) if first.has_shortcut else None)
    return MLP(layers=net.layers[1:])(x)


def _concat(x: Array, tables: Sequence[tuple[Array, Array]]) -> Array:
    xp = namespace(x)
    parts = [gather(table, index) for table, index in tables]
    return xp.concat([x, *(xp.broadcast_to(f, (*shape(x)[:-1], shape(f)[-1])) for f in parts)], axis=-1)


@module
class LayerNorm:
    """(x - mean) / sqrt(var + eps) * w + b over the last axis, with the biased variance."""

    weight: Array = param("n")
    bias: Array = param("n")
    n: int
    eps: float

    @classmethod
    def make(cls, draw: Initializer, n: int, eps: float) -> "LayerNorm":
        return cls(weight=draw("weight").full((n,), 1.0), bias=draw("bias").full((n,), 0.0), n=n, eps=eps)

    def __call__(self, x: Array) -> Array:
        xp = namespace(x)
        x = x - xp.mean(x, axis=-1, keepdims=True)
        var = xp.mean(x * x, axis=-1, keepdims=True)
        return x / xp.sqrt(var + self.eps) * self.weight + self.bias
