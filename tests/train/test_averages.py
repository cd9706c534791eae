"""Averages: of parameters over the steps, of columns over batches."""

from pathlib import Path

import numpy as np
import pytest

from dpmodel.backend import backend
from dpmodel.module import state
from dpmodel.train.checkpoint import read
from dpmodel.train.curve import read_curve
from dpmodel.train.loop import Average, Training
from dpmodel.train.prepare import prepare
from dpmodel.train.script import read_script
from small_water import script, write_system


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with data: one system has no virials."""
    write_system(tmp_path / "train", 4)
    write_system(tmp_path / "valid/a", 2, seed=1)
    write_system(tmp_path / "valid/b", 2, seed=2, labels="energy force")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ready(name: str = "numpy", **training: object) -> Training:
    return prepare(read_script(script(Path("train"), training=training)), backend(name).engine())


def test_averages(folder: Path) -> None:
    run = ready(enable_ema=True, ema_decay=0.5, save_freq=1, max_ckpt_keep=9)
    start = {key: run.engine.numpy(value).copy() for key, value in run.learner.optimizer.parameters.items()}
    run.run()
    expected = start
    for step in range(1, 7):
        now = read(f"model.ckpt-{step}.pt").optimizer
        expected = {key: 0.5 * expected[key] + 0.5 * now[key] for key in expected}
    averaged = state(read("model.ckpt_ema-6.pt").models["Default"].model)
    for key, value in expected.items():
        np.testing.assert_allclose(averaged[key.partition("/")[2]], value, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["torch", "jax", "paddle"])
def test_averages_on_every_backend(folder: Path, name: str) -> None:
    """They start as the parameters, to the last bit, and then go the same way."""
    plain, other = ready(), ready(name)
    a, b = (Average(run.learner, 0.75, {}) for run in (plain, other))
    start = plain.learner.optimizer.state()
    assert all(np.array_equal(value, start[key]) for key, value in b.state().items())
    for n in range(3):
        for run, average in ((plain, a), (other, b)):
            engine, parameters = run.engine, run.learner.optimizer.parameters
            slopes = {key: np.cos(n + engine.numpy(value)) for key, value in parameters.items()}
            run.learner.optimizer.step({key: engine.native(value) for key, value in slopes.items()}, 0.1)
            average.add()
    found = b.state()
    assert b.state().keys() == a.state().keys()
    for key, value in a.state().items():
        np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-14, err_msg=key)
        assert not np.array_equal(value, start[key])


DATA = {"systems": "valid", "batch_size": 1}  # batches of one system have no virials


def test_validation_batches_without_a_label_do_not_count(folder: Path) -> None:
    run = ready(validation_data=DATA | {"numb_btch": 30}, numb_steps=1)
    run.run()
    batches = run.data["Default"].valid
    assert batches is not None
    each = [run.learner.evaluate("Default", run._collated("Default", batches.frames(n)), 0.01) for n in range(30, 60)]
    virials = np.array([columns["rmse_v"] for columns in each])
    assert 0 < np.isnan(virials).sum() < len(virials)
    curve = read_curve("lcurve.out")
    assert curve["rmse_v_val"][0] == pytest.approx(np.nanmean(virials), rel=5e-3)  # of three digits
    assert curve["rmse_f_val"][0] == pytest.approx(np.mean([columns["rmse_f"] for columns in each]), rel=5e-3)


def test_steps_without_a_label_do_not_count(folder: Path) -> None:
    run = ready(training_data=DATA, disp_avg=True, disp_freq=30, numb_steps=30)
    rows: list[dict[str, float]] = []
    run.run(lambda step, task, columns, rate: rows.append(dict(columns)))
    virials = np.array([columns["rmse_v"] for columns in rows[1:]])
    assert 0 < np.isnan(virials).sum() < len(virials)
    curve = read_curve("lcurve.out")
    assert curve["rmse_v_trn"][-1] == pytest.approx(np.nanmean(virials), rel=5e-3)
    assert curve["rmse_f_trn"][-1] == pytest.approx(np.mean([columns["rmse_f"] for columns in rows[1:]]), rel=5e-3)


def test_nothing_is_gathered_for_no_curve(folder: Path) -> None:
    run = ready(disp_training=False, disp_avg=True)
    run.run()
    assert run._sums == {}
    assert not Path("lcurve.out").exists()
