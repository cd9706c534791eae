"""Dipoles, polarizabilities, densities of states and properties beside deepmd-kit's training (make_training.py)."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dpmodel.backend import Engine, backend
from dpmodel.cli.app import app
from dpmodel.data.systems import Frame, System
from dpmodel.execution import Execution
from dpmodel.module import Rebuilder, arrays, state
from dpmodel.potential import Potential, load
from dpmodel.statistics.environment import statistics
from dpmodel.train.collate import collate
from dpmodel.train.curve import read_curve
from dpmodel.train.learner import Learner
from dpmodel.train.loss import Batch, loss
from dpmodel.train.script import Script, read_script
from dpmodel.xp import map_arrays

REFERENCE = Path(__file__).parent.parent / "reference"
CASES = sorted(path.name.removeprefix("training_") for path in REFERENCE.glob("training_*"))
NUMPY = backend("numpy").engine()
RATE = 4.7e-5  # of step 20


def folder(case: str) -> Path:
    return REFERENCE / f"training_{case}"


@cache
def script(case: str) -> Script:
    return read_script(json.loads((folder(case) / "input.json").read_text()))


@cache
def trained(case: str) -> Potential:
    return load(folder(case) / "model.pt")


def frames(case: str, *names: str) -> list[Frame]:
    task = script(case).tasks["Default"]
    return [frame for name in names for frame in System(folder(case) / name, task.model, task.objective.labels)]


def batch_of(case: str, *names: str) -> Batch:
    return collate(frames(case, *names), trained(case).settings.selection)


def last_row(case: str) -> dict[str, float]:
    """Validation columns of step 20, which belong to the checkpoint."""
    curve = read_curve(str(folder(case) / "lcurve.out"))
    assert curve["step"][-1] == 20
    return {name.removesuffix("_val"): values[-1] for name, values in curve.items() if name.endswith("_val")}


def same_digits(ours: float, theirs: float) -> bool:
    return f"{ours:.2e}" == f"{theirs:.2e}"


@pytest.mark.parametrize("case", CASES)
def test_columns_of_the_learning_curve(engine: Engine, case: str) -> None:
    learner = Learner(script(case), {"Default": trained(case).file}, engine)
    columns = learner.evaluate("Default", batch_of(case, "valid"), RATE)
    theirs = last_row(case)
    assert columns.keys() == theirs.keys()
    assert all(same_digits(columns[name], theirs[name]) for name in theirs), (columns, theirs)


NAMES = {"rmse_global_dipole": "rmse_dipole", "rmse_local_dipole": "rmse_atom_dipole"}
NAMES |= {"rmse_global_polar": "rmse_polarizability", "rmse_local_polar": "rmse_atom_polarizability"}
NAMES |= {"rmse_global_dos": "rmse_dos", "rmse_local_dos": "rmse_atom_dos"}
NAMES |= {"rmse_global_cdf": "rmse_cdf", "rmse_local_cdf": "rmse_atom_cdf"}


@pytest.mark.parametrize("case", CASES)
def test_the_command_gives_the_same_numbers(case: str, tmp_path: Path) -> None:
    detail, picture = tmp_path / "detail", tmp_path / "parity.svg"
    arguments = ["test", str(folder(case) / "model.pt"), "-s", str(folder(case) / "valid"), "--detail", str(detail)]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["total"]
    prefix = trained(case).settings.fitting_net.output
    weighted = {"rmse_local_dipole"} if case == "dipole" else set()  # the loss weighs atoms, the command does not
    for name, value in last_row(case).items():
        if name not in weighted:
            assert same_digits(found[NAMES.get(name, f"{name}_{prefix}")], value), name
    drawn = CliRunner().invoke(app, ["plot", *map(str, detail.iterdir()), "-o", str(picture)])
    assert drawn.exit_code == 0, drawn.output
    assert picture.read_text().count('<g id="axes_') == len({name for name in found if name.startswith("rmse_")}) - (
        2 if case == "dos" else 0
    )


@pytest.mark.parametrize("case", CASES)
def test_output_statistics(case: str) -> None:
    """deepmd-kit's checkpoint holds those that it started from: of a dipole it computes, but does not use them."""
    found = statistics(frames(case, "train_a", "train_b"), trained(case).settings)
    model = trained(case).file.model
    if case == "dipole":
        assert not found.bias.any()
        return
    np.testing.assert_allclose(found.bias, model.out_bias, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.deviation, model.out_std, rtol=1e-9, atol=1e-12)


def mean(values: Any) -> float:
    return float(np.mean(np.concatenate([np.ravel(value) for value in values])))


def expected_loss(case: str, weights: dict[str, float], given: list[Frame]) -> float:
    """The loss written out frame by frame from the model's predictions."""
    name = trained(case).settings.fitting_net.output
    pairs = [
        (f, p.outputs) for f, p in zip(given, trained(case).evaluate_many([f.structure for f in given]), strict=True)
    ]
    total = [p[name][0] - f.labels[name] for f, p in pairs]
    if case.startswith("property"):
        sizes = [1 if case == "property" else len(f.structure.types) for f, _ in pairs]
        d = np.array([t / n for t, n in zip(total, sizes, strict=True)]) / trained(case).file.model.out_std[0]
        if case == "property_sum":
            return float(np.sqrt(np.mean(d**2)))
        return float(sum(x * x / 1.6 if x < 0.8 else x - 0.4 for x in np.abs(d).ravel()))
    atoms = [p[f"atom_{name}"][0] - f.labels[f"atom_{name}"] for f, p in pairs if f"atom_{name}" in f.labels]
    if case == "dipole":
        atoms = [a * f.labels["atom_weight"][:, None] for a, (f, _) in zip(atoms, pairs, strict=True)]
    terms = {"": total, "_atomic": atoms, "dos": total, "ados": atoms}
    terms |= {"cdf": [np.cumsum(t) for t in total], "acdf": [np.cumsum(a, axis=1) for a in atoms]}
    return sum(weight * mean(np.square(x) for x in terms[term]) for term, weight in weights.items())


def trained_names(case: str) -> list[str]:
    return [path for path, _, about in arrays(trained(case).file.model) if about["trainable"]]


def learned(engine: Engine, case: str) -> tuple[float, dict[str, np.ndarray]]:
    """The loss of frames of different size in one batch, and its derivatives by all parameters."""
    objective, model = script(case).tasks["Default"].objective, trained(case).file.model
    rebuild, held = Rebuilder(model), {path: engine.native(value) for path, value in state(model).items()}
    names, execution = trained_names(case), Execution(loop=engine.run(slope=True).loop)

    def function(held: dict[str, Any], batch: Batch, weights: dict[str, Any]) -> Any:
        def of(*values: Any) -> Any:
            changed = rebuild(held | dict(zip(names, values, strict=True)))
            total, _ = loss(changed, batch, weights, objective, engine.grad_and_aux, execution)
            return total, total

        return engine.grad_and_aux(of, *(held[name] for name in names))

    weights = {name: engine.native(np.array(value)) for name, value in objective.prefactors(RATE, 5e-3).items()}
    batch = map_arrays(engine.native, batch_of(case, "train_a", "valid"))
    slopes, total = engine.compile(function)(held, batch, weights)
    return float(engine.numpy(total)), dict(zip(names, map(engine.numpy, slopes), strict=True))


@cache
def learned_in_numpy(case: str) -> tuple[float, dict[str, np.ndarray]]:
    return learned(NUMPY, case)


@pytest.mark.parametrize("case", CASES)
def test_losses_and_their_derivatives(engine: Engine, case: str) -> None:
    """The loss against its formula, derivatives by every parameter against NumPy's."""
    objective = script(case).tasks["Default"].objective
    value, slopes = learned(engine, case)
    expected = expected_loss(case, objective.prefactors(RATE, 5e-3), frames(case, "train_a", "valid"))
    np.testing.assert_allclose(value**0.5 if objective.root else value, expected, rtol=1e-9)
    size = max(np.abs(slope).max() for slope in learned_in_numpy(case)[1].values())
    for name, slope in learned_in_numpy(case)[1].items():
        np.testing.assert_allclose(slopes[name], slope, rtol=1e-9, atol=1e-9 * size, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_derivatives_are_the_slopes_of_the_loss(case: str) -> None:
    """Along directions in the space of all parameters."""
    objective, model = script(case).tasks["Default"].objective, trained(case).file.model
    batch, slopes, random = batch_of(case, "train_a", "valid"), learned_in_numpy(case)[1], np.random.default_rng(0)
    weights, step = {name: np.array(x) for name, x in objective.prefactors(RATE, 5e-3).items()}, 1e-5
    for _ in range(4):
        direction = {name: random.normal(size=slope.shape) for name, slope in slopes.items()}
        moved = [
            {path: x + sign * step * direction.get(path, 0.0) for path, x in state(model).items()}
            for sign in (1.0, -1.0)
        ]
        losses = [
            float(loss(Rebuilder(model)(values), batch, weights, objective, NUMPY.grad_and_aux)[0]) for values in moved
        ]
        along = sum(float((direction[name] * slope).sum()) for name, slope in slopes.items())
        np.testing.assert_allclose(along, (losses[0] - losses[1]) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("size", [2, 4, 9])
@pytest.mark.parametrize("case", CASES)
def test_shares_of_processes_add_up(case: str, size: int) -> None:
    """Processes with a part of the frames each, or none, have the loss and the errors of one between them."""
    given, objective = frames(case, "train_a", "valid"), script(case).tasks["Default"].objective
    chosen, model = trained(case).settings.selection, trained(case).file.model
    weights = {name: np.array(value) for name, value in objective.prefactors(RATE, 5e-3).items()}

    def of(batch: Batch) -> tuple[Any, dict[str, Any]]:
        return loss(model, batch, weights, objective, NUMPY.grad_and_aux)

    whole, errors = of(collate(given, chosen))
    parts = [of(collate(given, chosen, part=slice(rank, None, size))) for rank in range(size)]
    np.testing.assert_allclose(sum(total for total, _ in parts), whole, rtol=1e-12)
    for name, value in errors.items():
        np.testing.assert_allclose(sum(part[name] for _, part in parts), value, rtol=1e-12, err_msg=name)
