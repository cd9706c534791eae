"""Elementary networks (specification/model.md 1), number by number."""

from math import sqrt, tanh

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpmodel.initializers import Initializer
from dpmodel.nn import MLP, LayerNorm, Linear, joint
from random_models import examples

RNG = np.random.default_rng(0)
DRAW = Initializer(1)


def by_hand(layer: Linear, x: np.ndarray) -> list[float]:
    """One row through a layer with tanh, in words of the specification: activation, time step, shortcut."""
    found = []
    for j in range(layer.n_out):
        y = tanh(
            sum(x[i] * layer.weight[i, j] for i in range(layer.n_in)) + (layer.bias[j] if layer.bias is not None else 0)
        )
        y *= layer.idt[j] if layer.idt is not None else 1.0
        if layer.resnet and layer.n_out in (layer.n_in, 2 * layer.n_in):
            y += x[j % layer.n_in]  # [x, x], not interleaved
        found.append(y)
    return found


@pytest.mark.parametrize(("n_in", "n_out"), [(3, 3), (3, 6), (3, 4), (3, 9), (4, 2), (1, 1), (1, 2), (1, 25)])
@pytest.mark.parametrize("resnet", [True, False])
@pytest.mark.parametrize("time_step", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_layer(n_in: int, n_out: int, resnet: bool, time_step: bool, bias: bool) -> None:
    options = {"bias": bias, "time_step": time_step, "resnet": resnet}
    layer = Linear.make(DRAW, n_in, n_out, activation="tanh", **options)
    x = RNG.standard_normal((2, 5, n_in))
    found = layer(x)
    assert found.shape == (2, 5, n_out)
    np.testing.assert_allclose(found[1, 3], by_hand(layer, x[1, 3]), rtol=1e-14)
    # a time step without a shortcut is dropped
    assert (layer.idt is not None) == (time_step and n_out in (n_in, 2 * n_in))


def test_embedding_net() -> None:
    net = MLP.embedding(DRAW, (2, 4, 4, 3), activation="tanh", time_step=True)
    assert [layer.has_shortcut for layer in net.layers] == [True, True, False]
    assert [layer.idt is not None for layer in net.layers] == [True, True, False]
    assert {layer.activation for layer in net.layers} == {"tanh"}
    x = RNG.standard_normal(2)
    expected: list[float] = list(x)
    for layer in net.layers:
        expected = by_hand(layer, np.array(expected))
    np.testing.assert_allclose(net(x[None, :])[0], expected, rtol=1e-13)


def test_fitting_net_ends_in_a_plain_layer() -> None:
    net = MLP.fitting(DRAW, (5, 4, 4), 4, activation="tanh", time_step=True)
    last = net.layers[-1]
    assert (last.n_in, last.n_out, last.activation, last.resnet, last.idt) == (4, 4, "none", False, None)
    x = RNG.standard_normal((3, 5))
    hidden = MLP(layers=net.layers[:-1])(x)
    np.testing.assert_allclose(net(x), hidden @ last.weight + last.bias, rtol=1e-14)


@examples(30)
@given(
    widths=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    tables=st.lists(st.integers(1, 3), max_size=2),
    time_step=st.booleans(),
)
def test_joint_network_is_that_of_the_concatenation(widths: list[int], tables: list[int], time_step: bool) -> None:
    """Rows of tables meet the weights before they are gathered; the shortcut of the first layer still sees them."""
    n_in = 1 + sum(tables)
    net = MLP.embedding(Initializer(3), (n_in, *widths), activation="tanh", time_step=time_step)
    x, each = RNG.standard_normal((4, 6, 1)), []
    for k, width in enumerate(tables):
        index = RNG.integers(0, 3, (4, 6) if k else (4, 1))
        each.append((RNG.standard_normal((3, width)), index))
    features = [np.broadcast_to(table[index], (4, 6, table.shape[1])) for table, index in each]
    np.testing.assert_allclose(
        joint(net, x, each), net(np.concatenate([x, *features], axis=-1)), rtol=1e-12, atol=1e-14
    )


def test_layer_norm() -> None:
    norm = LayerNorm(weight=np.array([2.0, 1.0, -1.0]), bias=np.array([0.0, 0.5, 1.0]), n=3, eps=0.01)
    x = np.array([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
    s = sqrt((4 + 1 + 9) / 3 + 0.01)  # the biased variance
    expected = [[-2 / s * 2, -1 / s + 0.5, 3 / s * -1 + 1], [0.0, 0.5, 1.0]]
    np.testing.assert_allclose(norm(x), expected, rtol=1e-15)


@pytest.mark.parametrize(("n_in", "n_out"), [(300, 300), (40, 7), (7, 40), (1, 16), (16, 1)])
def test_initial_values(n_in: int, n_out: int) -> None:
    """Weights at right angles, of Glorot's variance; no biases; time steps N(0.1, 0.001^2)."""
    layer = Linear.make(Initializer(5), n_in, n_out, time_step=True, gain=3.0)
    w = layer.weight if n_in <= n_out else layer.weight.T
    square = 9 * 2 / (n_in + n_out) * max(n_in, n_out)
    np.testing.assert_allclose(w @ w.T, square * np.eye(len(w)), rtol=1e-12, atol=1e-12)
    assert abs(w.mean()) < 5 * w.std() / sqrt(w.size)
    assert not np.any(layer.bias)
    if layer.idt is not None:
        assert abs(layer.idt.mean() - 0.1) < 5 * 0.001 / sqrt(n_out)
        assert abs(layer.idt.std() - 0.001) < 5 * 0.001 / sqrt(n_out)
    norm = LayerNorm.make(Initializer(5), 4, 1e-5)
    assert norm.weight.tolist() == [1.0] * 4
    assert norm.bias.tolist() == [0.0] * 4
