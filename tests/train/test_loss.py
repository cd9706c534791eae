"""Losses against formulas written out atom by atom (specification/training.md 2), on frames of different size."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import Engine, backend
from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.structure import structures
from dpmodel.execution import Execution
from dpmodel.model.build import build
from dpmodel.model.model import Model
from dpmodel.model.predict import predict
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, arrays, state
from dpmodel.train.loss import Batch, Objective, loss
from dpmodel.train.settings.loss import EnergyLoss
from dpmodel.train.terms import TERMS, Labels
from dpmodel.xp import map_arrays

ENGINE = backend("numpy").engine()
BLOCK = {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 8, "neuron": [4, 8], "axis_neuron": 2, "tebd_dim": 2}
REFORM = {"rcut": 3.0, "rcut_smth": 0.5, "nsel": 6, "nlayers": 2, "g1_dim": 6, "g2_dim": 4, "axis_neuron": 2}
REFORM |= {"attn1_hidden": 4, "attn1_nhead": 1, "attn2_hidden": 4, "attn2_nhead": 1}
SETTINGS = ModelSettings.read(
    {
        "type_map": ["O", "H"],
        "descriptor": {"type": "dpa2", "repinit": BLOCK, "repformer": REFORM},
        "fitting_net": {"neuron": [6]},
    }
)
TYPES = [[0, 1, 1, -1], [1, 0, 1]]  # one virtual atom
SIZES = [3, 3]


def make_batch() -> tuple[Any, Batch]:
    random = np.random.default_rng(0)
    frames = [structures(random.uniform(0, 3.0, (len(t), 3)), t, type_map=("O", "H"))[0] for t in TYPES]
    graph, x = build_graph(frames, SETTINGS.selection), flat_positions(frames)
    n = len(x)
    values = {
        "energy": random.normal(size=2),
        "force": random.normal(size=(n, 3)),
        "virial": random.normal(size=(2, 3, 3)),
        "atom_ener": random.normal(size=n),
        "atom_pref": random.uniform(0, 2, n),
        "atom_ener_coeff": random.uniform(0, 2, n),
        "drdq": random.normal(size=(n, 3, 2)),
        "hessian": random.normal(size=(n, 3, 4, 3)),
    }
    labels = Labels(np.array(2.0), np.array(6.0), np.array(18.0), values)
    return build(SETTINGS, seed=3), Batch(graph, x, labels)


MODEL, BATCH = make_batch()
L = SimpleNamespace(**BATCH.labels.values)
NAMES = [term.name for term in TERMS["ener"]]
FOUND = predict(MODEL, BATCH.graph, BATCH.positions, ENGINE.grad_and_aux)
ATOMS = [[0, 1, 2], [4, 5, 6]]  # the real ones of each frame
REAL = [i for atoms in ATOMS for i in atoms]


def objective(settings: EnergyLoss) -> Objective:
    return Objective.of(settings, SETTINGS)


def only(term: str, **other: Any) -> EnergyLoss:
    every = {f"{when}_pref_{t}": float(t == term) for t in NAMES for when in ("start", "limit")}
    return EnergyLoss.read(every | {"numb_generalized_coord": 2} | other)


def huber(x: float, delta: float) -> float:
    return x * x / 2 if abs(x) <= delta else delta * (abs(x) - delta / 2)


def components() -> Iterator[tuple[int, float]]:
    """(atom, difference) of every force component of a real atom."""
    for i in REAL:
        for k in range(3):
            yield i, FOUND.forces[i, k] - L.force[i, k]


def energies(coefficients: bool = False) -> list[float]:
    c = L.atom_ener_coeff if coefficients else np.ones(7)
    return [sum(c[i] * FOUND.atom_energy[i] for i in ATOMS[f]) - L.energy[f] for f in range(2)]


def virials() -> list[list[float]]:
    return [list((FOUND.virial[f] - L.virial[f]).ravel()) for f in range(2)]


def norms() -> list[float]:
    return [float(np.sqrt(sum((FOUND.forces[i, k] - L.force[i, k]) ** 2 for k in range(3)))) for i in REAL]


def mean(values: Any) -> float:
    values = list(values)
    return sum(values) / len(values)


HUBER = {"use_huber": True, "huber_delta": [0.05, 0.3, 0.2]}
MAE = {"loss_func": "mae"}
ATOM = [FOUND.atom_energy[i] - L.atom_ener[i] for i in REAL]
RELATIVE = [d / (np.sqrt(sum(L.force[i] ** 2)) + 0.5) for i, d in components()]
GENERAL = [
    sum(L.drdq[i, k, q] * (FOUND.forces[i, k] - L.force[i, k]) for i in ATOMS[f] for k in range(3))
    for f in range(2)
    for q in range(2)
]
RMSE_E, RMSE_F = mean((d / 3) ** 2 for d in energies()) ** 0.5, mean(d * d for _, d in components()) ** 0.5

CASES = {
    "e": (only("e"), mean(d * d / 3 for d in energies()), "rmse_e", RMSE_E),
    "e intensive": (only("e", intensive_ener_virial=True), RMSE_E**2, "rmse_e", RMSE_E),
    "e coefficients": (
        only("e", enable_atom_ener_coeff=True),
        mean(d * d / 3 for d in energies(True)),
        "rmse_e",
        mean((d / 3) ** 2 for d in energies(True)) ** 0.5,
    ),
    "e huber": (only("e", **HUBER), mean(huber(d / 3, 0.05) for d in energies()), "rmse_e", RMSE_E),
    "e mae": (only("e", **MAE), mean(abs(d) / 3 for d in energies()), "mae_e", mean(abs(d) / 3 for d in energies())),
    "f": (only("f"), RMSE_F**2, "rmse_f", RMSE_F),
    "f relative": (
        only("f", relative_f=0.5),
        mean(d * d for d in RELATIVE),
        "rmse_f",
        mean(d * d for d in RELATIVE) ** 0.5,
    ),
    "f huber": (only("f", **HUBER), mean(huber(d, 0.3) for _, d in components()), "rmse_f", RMSE_F),
    "f huber norm": (only("f", f_use_norm=True, **HUBER), mean(huber(d, 0.3) for d in norms()), "rmse_f", RMSE_F),
    "f mae": (
        only("f", **MAE),
        mean(abs(d) for _, d in components()),
        "mae_f",
        mean(abs(d) for _, d in components()),
    ),
    "f mae norm": (only("f", f_use_norm=True, **MAE), mean(norms()), "mae_f", mean(norms())),
    "v": (
        only("v"),
        mean(mean(d * d for d in v) / 3 for v in virials()),
        "rmse_v",
        mean(mean(d * d for d in v) / 9 for v in virials()) ** 0.5,
    ),
    "v huber": (
        only("v", **HUBER),
        mean(huber(d / 3, 0.2) for v in virials() for d in v),
        "rmse_v",
        mean(mean(d * d for d in v) / 9 for v in virials()) ** 0.5,
    ),
    "v mae": (
        only("v", **MAE),
        mean(mean(abs(d) for d in v) / 3 for v in virials()),
        "mae_v",
        mean(mean(abs(d) for d in v) / 3 for v in virials()),
    ),
    "ae": (only("ae"), mean(d * d for d in ATOM), "rmse_ae", mean(d * d for d in ATOM) ** 0.5),
    "ae huber": (only("ae", **HUBER), mean(huber(d, 0.05) for d in ATOM), "rmse_ae", mean(d * d for d in ATOM) ** 0.5),
    "ae mae": (only("ae", **MAE), mean(abs(d) for d in ATOM), "mae_ae", mean(abs(d) for d in ATOM)),
    "pf": (
        only("pf"),
        mean(L.atom_pref[i] * d * d for i, d in components()),
        "rmse_pf",
        mean(L.atom_pref[i] * d * d for i, d in components()) ** 0.5,
    ),
    "pf mae": (
        only("pf", **MAE),
        mean(L.atom_pref[i] * abs(d) for i, d in components()),
        "mae_pf",
        mean(L.atom_pref[i] * abs(d) for i, d in components()),
    ),
    "gf": (only("gf"), mean(d * d for d in GENERAL), "rmse_gf", mean(d * d for d in GENERAL) ** 0.5),
}


@pytest.mark.parametrize("name", CASES)
def test_formulas(name: str) -> None:
    settings, expected, column, value = CASES[name]
    term = settings.active[0].name
    total, reports = loss(MODEL, BATCH, {term: np.array(2.5)}, objective(settings), ENGINE.grad_and_aux)
    np.testing.assert_allclose(total, 2.5 * expected, rtol=1e-12)
    columns = objective(settings).reported(float(total), {key: float(v) for key, v in reports.items()})
    np.testing.assert_allclose(columns[column], value, rtol=1e-12)
    np.testing.assert_allclose(columns["rmse"], np.sqrt(2.5 * expected), rtol=1e-12)


@pytest.mark.parametrize("kind", ["mse", "mae"])
def test_hessian_from_differences_of_forces(kind: str) -> None:
    step, found = 1e-4, []
    for f, atoms in enumerate(ATOMS):
        for i in atoms:
            for k in range(3):
                moved = []
                for sign in (1, -1):
                    x = BATCH.positions.copy()
                    x[i, k] += sign * step
                    moved.append(predict(MODEL, BATCH.graph, x, ENGINE.grad_and_aux).forces)
                column = -(moved[0] - moved[1]) / (2 * step)
                slot = i - 4 * f
                found += [column[j, c] - L.hessian[j, c, slot, k] for j in atoms for c in range(3)]
    expected = mean(d * d if kind == "mse" else abs(d) for d in found)
    total, reports = loss(MODEL, BATCH, {"h": np.array(1.0)}, objective(only("h", loss_func=kind)), ENGINE.grad_and_aux)
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    assert set(reports) == {"mae_h" if kind == "mae" else "rmse_h"}


def on(*terms: str) -> dict[str, float]:
    return {f"{when}_pref_{t}": float(t in terms) for t in NAMES for when in ("start", "limit")}


MOST = {**on("e", "f", "v", "ae", "pf", "gf"), "numb_generalized_coord": 2}
PART = on("e", "f", "v", "ae")
HESSIAN = [pytest.mark.needs("hessian_loss"), pytest.mark.slow]
KINDS = {
    "squares": {**MOST, "relative_f": 0.5, "enable_atom_ener_coeff": True},
    "absolute": {**MOST, **MAE},
    "lengths": {**PART, **MAE, "f_use_norm": True},
    "huber": {**PART, **HUBER},
    "huber of lengths": {**PART, **HUBER, "f_use_norm": True},
    "hessian": on("h"),
}


def slopes(engine: Engine, settings: EnergyLoss, model: Model) -> tuple[float, dict[str, np.ndarray]]:
    """The loss on ``engine`` and its derivatives by the parameters."""
    rebuild, held = Rebuilder(model), {path: engine.native(value) for path, value in state(model).items()}
    names = [path for path, _, about in arrays(model) if about["trainable"]]
    weights, execution = (
        {t: engine.native(np.array(1.0)) for t in NAMES},
        Execution(loop=engine.run(slope=True).loop),
    )

    def function(given: dict[str, Any], batch: Batch) -> Any:
        def of(*values: Any) -> Any:
            changed = rebuild(given | dict(zip(names, values, strict=True)))
            total, _ = loss(changed, batch, weights, objective(settings), engine.grad_and_aux, execution)
            return total, total

        return engine.grad_and_aux(of, *(given[name] for name in names))

    found, total = engine.compile(function)(held, map_arrays(engine.native, BATCH))
    return float(engine.numpy(total)), {k: engine.numpy(g) for k, g in zip(names, found, strict=True)}


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=HESSIAN if kind == "hessian" else ()) for kind in KINDS])
def test_derivatives_on_every_backend(engine: Engine, kind: str) -> None:
    """Against differences of the loss on NumPy, whose value is that of the formulas."""
    settings = EnergyLoss.read(KINDS[kind])
    weights, step, moved = {t: np.array(1.0) for t in NAMES}, 1e-6, []
    total, gradient = slopes(engine, settings, MODEL)
    random = np.random.default_rng(1)
    direction = {path: random.normal(size=g.shape) for path, g in gradient.items()}
    for sign in (1.0, 0.0, -1.0):
        values = {path: x + sign * step * direction.get(path, 0.0) for path, x in state(MODEL).items()}
        moved.append(float(loss(Rebuilder(MODEL)(values), BATCH, weights, objective(settings), ENGINE.grad_and_aux)[0]))
    np.testing.assert_allclose(total, moved[1], rtol=1e-12)
    along = sum(float((direction[path] * g).sum()) for path, g in gradient.items())
    np.testing.assert_allclose(along, (moved[0] - moved[2]) / (2 * step), rtol=1e-6)


def test_terms_add_up_with_their_prefactors() -> None:
    settings = EnergyLoss.read({f"{when}_pref_{t}": 1.0 for t in ("e", "f", "v") for when in ("start", "limit")})
    weights = {"e": np.array(0.1), "f": np.array(10.0), "v": np.array(3.0)}
    total, _ = loss(MODEL, BATCH, weights, objective(settings), ENGINE.grad_and_aux)
    expected = 0.1 * CASES["e"][1] + 10.0 * CASES["f"][1] + 3.0 * CASES["v"][1]
    np.testing.assert_allclose(total, expected, rtol=1e-12)


def test_shares_of_a_batch_add_up() -> None:
    """Two processes with a frame each, told the counts of both, have the loss of one process between them."""
    settings = EnergyLoss.read({f"{when}_pref_{t}": 1.0 for t in ("e", "f", "v", "ae") for when in ("start", "limit")})
    weights = {t: np.array(1.0) for t in NAMES}
    whole, _ = loss(MODEL, BATCH, weights, objective(settings), ENGINE.grad_and_aux)
    random, parts = np.random.default_rng(0), []
    for f, t in enumerate(TYPES):
        frame = structures(random.uniform(0, 3.0, (len(t), 3)), t, type_map=("O", "H"))
        atoms = slice(4 * f, 4 * f + len(t))
        one = slice(f, f + 1)
        values = {"energy": L.energy[one], "force": L.force[atoms], "virial": L.virial[one]}
        share = BATCH.labels._replace(values=values | {"atom_ener": L.atom_ener[atoms]})
        part = Batch(build_graph(frame, SETTINGS.selection), flat_positions(frame), share)
        parts.append(loss(MODEL, part, weights, objective(settings), ENGINE.grad_and_aux)[0])
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-12)


def test_missing_labels_count_nothing_and_print_nan() -> None:
    settings = EnergyLoss.read(
        {f"{when}_pref_{t}": 1.0 for t in NAMES for when in ("start", "limit")} | {"numb_generalized_coord": 1}
    )
    weights = {t: np.array(1.0) for t in NAMES}
    nothing = BATCH._replace(labels=Labels(*BATCH.labels[:3]))
    total, reports = loss(MODEL, nothing, weights, objective(settings), ENGINE.grad_and_aux)
    assert total == 0.0
    columns = objective(settings).reported(0.0, {key: float(v) for key, v in reports.items()})
    assert columns["rmse"] == 0.0
    assert all(np.isnan(columns[f"rmse_{t}"]) for t in NAMES)


def without_label(name: str) -> Labels:
    values = {key: value for key, value in BATCH.labels.values.items() if key != name}
    return BATCH.labels._replace(values=values)


def test_weights_of_forces_default_to_one_if_asked() -> None:
    bare = BATCH._replace(labels=without_label("atom_pref"))
    without, _ = loss(MODEL, bare, {"pf": np.array(1.0)}, objective(only("pf")), ENGINE.grad_and_aux)
    unweighted = objective(only("pf", use_default_pf=True))
    default, _ = loss(MODEL, bare, {"pf": np.array(1.0)}, unweighted, ENGINE.grad_and_aux)
    assert without == 0.0
    np.testing.assert_allclose(default, CASES["f"][1], rtol=1e-12)


def test_prefactors_follow_the_learning_rate() -> None:
    settings = EnergyLoss()
    assert objective(settings).prefactors(1e-3, 1e-3) == pytest.approx({"e": 0.02, "f": 1000.0})
    assert objective(settings).prefactors(0.0, 1e-3) == {"e": 1.0, "f": 1.0}
    half = objective(settings).prefactors(5e-4, 1e-3)
    assert half["e"] == pytest.approx(0.51)
    assert half["f"] == pytest.approx(500.5)
