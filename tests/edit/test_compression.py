"""Tables stand for networks: deepmd-kit's own table, the networks themselves, and smoothness at the knots."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmodel
from dpmodel.data.samples import example
from dpmodel.edit.compression import compress
from dpmodel.initializers import Initializer
from dpmodel.io.model import read_model
from dpmodel.nn import MLP
from dpmodel.nn.tabulate import DERIVATIVES, network_jet, table

TRAINED = Path(__file__).parents[1] / "reference" / "trained"


@pytest.fixture(scope="module")
def strip():
    return read_model(TRAINED / "strip.dp")


@pytest.fixture(scope="module")
def tabulated(strip):
    return compress(strip, min_pair_distance=strip.min_pair_distance)


def test_table_is_that_of_deepmd_kit(tabulated):
    """Compared as they are used, times h^k: the higher ones amplify rounding by as much before."""
    mine = tabulated.model.descriptor.repinit.near
    theirs: Any = read_model(TRAINED / "strip_c.pth").model.descriptor.repinit.near
    for name in ("lower", "upper", "top", "fine", "coarse", "n_rows"):
        assert getattr(mine.table, name) == getattr(theirs.table, name)
    h = np.where(np.arange(mine.table.n_rows) < mine.table.n_fine, mine.table.fine, mine.table.coarse)[:, None]
    for k in range(6):
        mine_k, theirs_k = (t.coefficients[:, k] * h**k for t in (mine.table, theirs.table))
        np.testing.assert_allclose(mine_k, theirs_k, atol=1e-13, rtol=0)
    np.testing.assert_allclose(mine.type_table.rows, theirs.type_table.rows, rtol=1e-13)


def test_compressed_and_plain_model_agree(strip, tabulated):
    """The three-body block is tabulated too."""
    assert tabulated.model.descriptor.three_body.near.table is not None
    engine = dpmodel.load(TRAINED / "strip.dp").engine
    s = example(strip.settings.type_map)
    plain, tables = (
        dpmodel.Potential(file, engine).evaluate(s.positions, s.types, s.cell) for file in (strip, tabulated)
    )
    np.testing.assert_allclose(tables.energy, plain.energy, atol=1e-10 * len(s.types), rtol=0)
    np.testing.assert_allclose(tables.forces, plain.forces, atol=1e-8, rtol=0)


@pytest.mark.parametrize("name", ["copy.dp", "copy.yaml"])
def test_compressed_models_travel(tabulated, tmp_path, name):
    from dpmodel.io.model import write_model
    from dpmodel.module import state

    write_model(tmp_path / name, tabulated)
    back: Any = read_model(tmp_path / name)
    for path, value in state(tabulated.model).items():
        np.testing.assert_array_equal(state(back.model)[path], value, err_msg=path)
    assert back.model.descriptor.three_body.near.table.fine == 0.01


@pytest.mark.parametrize("activation", sorted(DERIVATIVES))
@pytest.mark.parametrize("time_step", [False, True])
def test_derivatives_of_networks(activation, time_step):
    """Central differences of the network itself."""
    net = MLP.embedding(Initializer(3), (1, 2, 4, 4), activation=activation, time_step=time_step)
    x, h = np.linspace(-2.0, 3.0, 23) + 0.0123, 1e-4
    value, slope, bend = network_jet(net, x)
    up, mid, down = (net(y[:, None]) for y in (x + h, x, x - h))
    np.testing.assert_array_equal(value, mid)
    np.testing.assert_allclose(slope, (up - down) / (2 * h), atol=1e-6)
    np.testing.assert_allclose(bend, (up - 2 * mid + down) / h**2, atol=1e-5)


def test_smooth_everywhere():
    """Value, slope and curvature have no jump at knots, between the two spacings, or where the table ends."""
    net = MLP.embedding(Initializer(1), (1, 4, 8), activation="tanh", time_step=False)
    t = table(net, -1, 2, 0.1, 2.0)
    knots = np.concatenate([np.arange(-10, 20) / 10.0, [2.0, 3.0]])
    eps = 1e-6
    before, after = t((knots - eps)[:, None]), t((knots + eps)[:, None])
    np.testing.assert_allclose(before, after, atol=1e-4)
    h = 1e-4
    slopes = [(t((knots + s * h)[:, None]) - t((knots + (s - 1) * h)[:, None])) / h for s in (0, 1)]
    np.testing.assert_allclose(slopes[0], slopes[1], atol=1e-2)
    inner = knots[1:-2]
    bends = [
        (t((inner + (s + 1) * h)[:, None]) - 2 * t((inner + s * h)[:, None]) + t((inner + (s - 1) * h)[:, None])) / h**2
        for s in (-2, 2)
    ]
    np.testing.assert_allclose(bends[0], bends[1], atol=0.05)
    x = np.linspace(-0.9, 1.9, 301)[:, None]
    np.testing.assert_allclose(t(x), net(x), atol=1e-7)
    far = np.array([[-3.0], [-2.0], [-1.0], [4.0], [5.0], [6.0]])
    ends = t(far)
    np.testing.assert_allclose(ends[0] - ends[1], ends[1] - ends[2], atol=1e-12)  # straight lines
    np.testing.assert_allclose(ends[3] - ends[4], ends[4] - ends[5], atol=1e-12)


def test_below_the_shortest_distance(tabulated):
    """Beyond the table the energy is finite, and as smooth as a straight line."""
    engine = dpmodel.load(TRAINED / "strip.dp").engine
    potential = dpmodel.Potential(tabulated, engine)
    pairs = [[[0, 0, 0], [r, 0, 0]] for r in np.linspace(0.3, 1.0, 141)]
    energies = potential.evaluate(pairs, [0, 1], forces=False).energy
    assert np.isfinite(energies).all()
    steps = np.abs(np.diff(energies))
    assert (steps[1:] < 3.0 * steps[:-1] + 1e-3).all()  # no step stands out from its neighbors


def test_obstacles_are_all_named(strip):
    settings = strip.settings.model_dump()
    settings["descriptor"]["repinit"] |= {"tebd_input_mode": "concat", "resnet_dt": True}
    from dpmodel.model.build import build
    from dpmodel.model.settings import ModelSettings

    changed = ModelSettings.read(settings)
    bad = replace(strip, settings=changed, model=build(changed))
    with pytest.raises(dpmodel.DpmodelError, match=r"tebd_input_mode is 'concat'.*resnet_dt is true.*above zero"):
        compress(bad, min_pair_distance=0.0)


def test_only_types_with_attention(strip):
    """With attention in repinit the radial network stays a network."""
    settings = strip.settings.model_dump()
    settings["descriptor"]["repinit"] |= {"attn_layer": 1, "attn": 4}
    from dpmodel.model.build import build
    from dpmodel.model.settings import ModelSettings

    changed = ModelSettings.read(settings)
    plain = replace(strip, settings=changed, model=build(changed, seed=2))
    done = compress(plain, min_pair_distance=0.9)
    near = done.model.descriptor.repinit.near
    assert near.table is None
    assert near.type_table is not None
    engine = dpmodel.load(TRAINED / "strip.dp").engine
    s = example(strip.settings.type_map)
    a, b = (dpmodel.Potential(f, engine).evaluate(s.positions, s.types, s.cell, forces=False) for f in (plain, done))
    np.testing.assert_allclose(a.energy, b.energy, rtol=1e-12)
