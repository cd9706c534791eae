"""Whole runs: learning, files, exact continuation, and what happens when something goes wrong."""

import json
import multiprocessing
import os
import random
import resource
import signal
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import dpmodel
from dpmodel.backend import backend
from dpmodel.cli.app import app
from dpmodel.data.systems import System
from dpmodel.errors import FileError, SettingError, TrainingError
from dpmodel.module import state
from dpmodel.train.checkpoint import latest, read
from dpmodel.train.curve import read_curve
from dpmodel.train.loop import Training, number_of_steps
from dpmodel.train.prepare import StartFrom, prepare
from dpmodel.train.script import read_script
from dpmodel.train.start import task_shares
from small_water import MODEL, learn, script, write_system


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with training and validation data."""
    write_system(tmp_path / "train/a", 6)
    write_system(tmp_path / "train/b", 4, seed=1)
    write_system(tmp_path / "valid", 3, seed=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(**training: Any) -> dict[str, Any]:
    """Six steps, a row every two and a checkpoint every three."""
    data = {"validation_data": {"systems": "valid", "batch_size": 2, "numb_btch": 2}}
    return script(Path("train"), training=data | training)


def ready(data: dict[str, Any], name: str = "numpy", **origin: Any) -> Training:
    return prepare(read_script(data), backend(name).engine(), StartFrom(**origin))


def final(run: Training) -> dict[str, np.ndarray]:
    return run.learner.optimizer.state()


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def test_it_learns(folder: Path) -> None:
    data = given(numb_steps=80, disp_freq=20, save_freq=80)
    data["learning_rate"] = {"start_lr": 0.03, "stop_lr": 1e-3, "decay_steps": 10}
    run = ready(data)
    assert run.run()
    curve = read_curve("lcurve.out")
    assert curve["step"] == [1, 20, 40, 60, 80]
    assert curve["rmse_f_val"][-1] < 0.6 * curve["rmse_f_val"][0]
    assert curve["rmse_e_trn"][-1] < 0.05


def test_files_of_a_run(folder: Path) -> None:
    run = ready(given())
    seen: list[tuple[int, str, float]] = []
    run.run(lambda step, task, columns, rate: seen.append((step, task, rate)))
    assert [step for step, _, _ in seen] == [1, 2, 3, 4, 5, 6]
    lines = Path("lcurve.out").read_text().splitlines()
    names = "rmse rmse_e rmse_f rmse_v"
    assert lines[0].split() == ["#", "step", *(f"{n}_{k}" for n in names.split() for k in ("val", "trn")), "lr"]
    assert lines[0].startswith("# step       rmse_val    rmse_trn    rmse_e_val  rmse_e_trn ")  # deepmd-kit's columns
    assert [line.split()[0] for line in lines[2:]] == ["1", "2", "4", "6"]
    assert all(len(line) == len(lines[2]) for line in lines[2:])
    assert sorted(path.name for path in folder.glob("*.pt")) == ["model.ckpt-3.pt", "model.ckpt-6.pt", "model.ckpt.pt"]
    assert Path("checkpoint").read_text() == "model.ckpt-6.pt\n"
    assert Path("model.ckpt.pt").resolve() == folder / "model.ckpt-6.pt"


def test_the_checkpoint_is_a_model(folder: Path) -> None:
    run = ready(given())
    run.run()
    frame = System("valid").frame(0)
    s = frame.structure
    a = dpmodel.load("model.ckpt.pt").evaluate(s.positions, s.types, s.cell)
    now = run.models()["Default"]
    kept = read("model.ckpt.pt").models["Default"]
    assert same(state(now.model), state(kept.model))
    assert a.energy is not None
    assert abs(float(a.energy[0]) - float(frame.labels["energy"])) < 5


def test_columns_are_those_of_the_batch_and_of_the_validation_data(folder: Path) -> None:
    run = ready(given(numb_steps=1))
    start = run.learner.models()["Default"]
    rows: list[Any] = []
    run.run(lambda step, task, columns, rate: rows.append(columns))
    frames = run.data["Default"].train.frames(0)

    def errors(model: Any, frames: list[Any]) -> tuple[float, float]:
        from dpmodel.potential import Potential

        p = Potential(model, backend("numpy").engine())
        found = p.evaluate_many([f.structure for f in frames])
        e = [(float(r.energy[0]) - float(f.labels["energy"])) / 6 for r, f in zip(found, frames, strict=True)]
        d = [r.forces[0] - f.labels["force"] for r, f in zip(found, frames, strict=True)]
        return float(np.sqrt(np.mean(np.square(e)))), float(np.sqrt(np.mean(np.square(d))))

    np.testing.assert_allclose((rows[0]["rmse_e"], rows[0]["rmse_f"]), errors(start, frames), rtol=1e-10)
    valid = run.data["Default"].valid
    assert valid is not None
    batches = [valid.frames(n) for n in (2, 3)]
    assert sorted(map(len, batches)) == [1, 2]  # averaged with the number of atoms as weight
    after = np.array([errors(run.models()["Default"], frames) for frames in batches])
    expected = np.average(after, axis=0, weights=[len(frames) for frames in batches])
    curve = read_curve("lcurve.out")
    np.testing.assert_allclose((curve["rmse_e_val"][0], curve["rmse_f_val"][0]), expected, rtol=6e-3)


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_restart_is_exact(folder: Path, name: str) -> None:
    settings = given(enable_ema=True, ema_decay=0.9, gradient_max_norm=1.0)
    whole = ready(settings, name)
    whole.run()
    again = ready(settings, name, restart=Path("model.ckpt-3.pt"))
    assert again.step == 3
    again.run()
    assert same(final(whole), final(again))
    assert whole._average is not None
    assert again._average is not None
    assert same(whole._average.state(), again._average.state())
    assert [line[:6] for line in Path("lcurve.out").read_text().splitlines()].count("# step") == 2
    assert read_curve("lcurve.out")["step"] == [1, 2, 4, 6]


@pytest.mark.parametrize("name", ["torch", pytest.param("jax", marks=pytest.mark.slow), "paddle"])
def test_a_run_goes_on_in_another_precision(folder: Path, name: str) -> None:
    settings = given(enable_ema=True)
    ready(settings).run()
    precise = final(ready(settings, restart=Path("model.ckpt-3.pt")))
    for section in ("descriptor", "fitting_net"):
        settings["model"] = settings["model"] | {section: settings["model"][section] | {"precision": "float32"}}
    rough = ready(settings, name, restart=Path("model.ckpt-3.pt"))
    assert rough._average is not None
    parameters = rough.learner.optimizer.parameters
    assert {rough.engine.numpy(value).dtype for value in parameters.values()} == {np.dtype(np.float32)}
    for kept in (final(rough), rough._average.state()):
        assert all(kept[key].dtype == np.float32 for key in parameters)
    for key, value in final(rough).items():
        np.testing.assert_allclose(value, precise[key], rtol=1e-7, atol=1e-12, err_msg=key)
    assert rough.run()


def test_runs_repeat_themselves(folder: Path) -> None:
    one, two = ready(given()), ready(given())
    one.run()
    two.run()
    assert same(final(one), final(two))
    other = ready(given(seed=2))
    other.run()
    assert not same(final(one), final(other))


def test_a_checkpoint_goes_on_elsewhere(folder: Path) -> None:
    whole = ready(given())
    whole.run()
    other = ready(given(), "torch", restart=Path("model.ckpt-3.pt"))
    other.run()
    a, b = final(whole), final(other)
    for key in a:
        np.testing.assert_allclose(b[key], a[key], atol=1e-9, rtol=1e-12, err_msg=key)


def test_init_model_starts_a_new_run(folder: Path) -> None:
    first = ready(given())
    first.run()
    second = ready(given(seed=7), init_model=Path("model.ckpt"))
    assert second.step == 0
    assert same(state(first.models()["Default"].model), state(second.models()["Default"].model))
    assert not any(value.any() for key, value in final(second).items() if key.endswith(":first"))


def test_automatic_selection_survives_a_restart(folder: Path) -> None:
    data = given()
    d = data["model"]["descriptor"]
    wide = {"nsel": "auto", "rcut": 6.5, "use_three_body": False}
    auto = d | {"repinit": d["repinit"] | wide, "repformer": d["repformer"] | {"nsel": "auto"}}
    data["model"] = data["model"] | {"descriptor": auto}
    run = ready(data)
    run.run()
    nsel = run.script.tasks["Default"].model.descriptor.repinit.nsel
    assert isinstance(nsel, int)
    again = ready(data, restart=Path("model.ckpt-3.pt"))
    assert again.script.tasks["Default"].model.descriptor.repinit.nsel == nsel


def test_a_model_that_does_not_fit(folder: Path) -> None:
    ready(given()).run()
    data = given()
    data["model"] = MODEL | {"fitting_net": {"neuron": [7]}}
    with pytest.raises(FileError, match=r"model.ckpt-6.pt: fitting.network.* has shape .* wants"):
        ready(data, restart=Path("model.ckpt-6.pt"))
    with pytest.raises(FileError, match="there is no such checkpoint"):
        ready(given(), restart=Path("nothing"))
    with pytest.raises(SettingError, match="only one of them"):
        ready(given(), restart=Path("a"), init_model=Path("b"))


def test_few_checkpoints_are_kept(folder: Path) -> None:
    ready(given(save_freq=1, max_ckpt_keep=2, save_dir="kept")).run()
    assert sorted(path.name for path in Path("kept").iterdir()) == ["model.ckpt-5.pt", "model.ckpt-6.pt"]
    assert latest("model.ckpt").resolve() == folder / "kept/model.ckpt-6.pt"


def test_an_untrained_model(folder: Path) -> None:
    run = ready(given(numb_steps=0))
    assert run.run()
    assert "model.ckpt-0.pt" in os.listdir()


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_no_numbers_stop_before_the_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    run = ready(given())
    gradients = run.learner._gradients["Default"]

    def spoiled(*arguments: Any) -> Any:
        found, total, reports = gradients(*arguments)
        if run.step == 4 and what == "gradient":
            found = {key: value * np.nan for key, value in found.items()}
        return found, total * np.nan if run.step == 4 and what == "loss" else total, reports

    monkeypatch.setitem(run.learner._gradients, "Default", spoiled)
    with pytest.raises(TrainingError, match=f"step 5: the loss is .*{'nan' if what == 'loss' else 'gradient nan'}"):
        run.run()
    assert latest("model.ckpt").resolve() == folder / "model.ckpt-3.pt"
    assert read("model.ckpt.pt").step == 3


def test_absurd_parameters_are_not_kept(folder: Path) -> None:
    ready(given(numb_steps=1, save_freq=1)).run()
    data = given(save_freq=1)
    data["learning_rate"] = {"start_lr": 1e300}
    with pytest.raises(TrainingError, match="step 2: the norm of the parameters is inf"):
        ready(data, "torch", restart=Path("model.ckpt")).run()  # NumPy would warn of the overflow, too
    assert latest("model.ckpt").resolve() == folder / "model.ckpt-1.pt"


def test_one_task_of_several_keeps_its_name(folder: Path) -> None:
    data = several(numb_steps=1)
    for section in (data["model"]["model_dict"], data["loss_dict"], data["training"]["data_dict"]):
        del section["two"]
    ready(data).run()
    assert "rmse_e_trn_one" in read_curve("lcurve.out")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(folder: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    run = ready(given())
    assert not run.run(lambda step, *_: os.kill(os.getpid(), number) if step == 2 else None)
    assert signal.getsignal(number) == before
    again = ready(given(), restart=Path("model.ckpt"))
    assert again.step == 2
    assert again.run()
    whole = ready(given())
    whole.run()
    assert same(final(whole), final(again))


def test_a_full_disk_keeps_the_last_checkpoint(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = ready(given())
    real = os.fsync

    def full(descriptor: int) -> None:
        if run.step > 3:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        run.run()
    monkeypatch.setattr(os, "fsync", real)
    assert read(latest("model.ckpt")).step == 3
    assert not list(folder.glob(".*tmp"))


def test_a_file_that_does_not_fit_on_the_disk(folder: Path) -> None:
    """Checkpoints can no longer be written whole: the part of one vanishes, and the last whole one goes on."""
    run = ready(given(save_freq=1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def shrink(step: int, *_: Any) -> None:
        if step == 4:
            size = Path("model.ckpt-3.pt").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))  # Python ignores the signal

    try:
        with pytest.raises(FileError, match=r"model.ckpt-4.pt: cannot be written: File too large"):
            run.run(shrink)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(path.name for path in folder.glob("*.pt")) == [
        *(f"model.ckpt-{step}.pt" for step in (1, 2, 3)),
        "model.ckpt.pt",
    ]
    assert not list(folder.glob(".*"))
    again = ready(given(), restart=Path("model.ckpt"))
    assert again.step == 3
    again.run()
    whole = ready(given())
    whole.run()
    assert same(final(whole), final(again))


def test_tensorboard_sees_every_column(folder: Path) -> None:
    """What was written is read with TensorBoard's own reader; one value every two steps."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    rows: list[dict[str, float]] = []
    run = ready(given(tensorboard=True, tensorboard_log_dir="log", tensorboard_freq=2))
    run.run(lambda step, task, columns, rate: rows.append({**columns, "lr": rate}))
    (file,) = folder.glob("log/events.*")
    found: dict[str, dict[int, float]] = {}
    for event in EventFileLoader(str(file)).Load():
        for value in event.summary.value:
            found.setdefault(value.tag, {})[event.step] = value.tensor.float_val[0]
    assert found.keys() == rows[0].keys()
    for name, values in found.items():
        assert values == {step: pytest.approx(rows[step - 1][name], rel=1e-6) for step in (2, 4, 6)}


def test_passes_over_the_data(folder: Path) -> None:
    data = given()
    del data["training"]["numb_steps"]
    data["training"]["numb_epoch"] = 1.5
    run = ready(data)
    assert run.n_steps == number_of_steps(run.script, run.data) == 8  # 3 + 2 batches, seen in 5


def several(**training: Any) -> dict[str, Any]:
    data = given()
    branch = {"type_map": "t", "descriptor": "d", "fitting_net": {"neuron": [6], "dim_case_embd": 2}}
    a = {"training_data": {"systems": "train/a"}, "validation_data": {"systems": "valid"}}
    return {
        "model": {
            "model_dict": {"one": branch, "two": branch},
            "shared_dict": {"t": MODEL["type_map"], "d": MODEL["descriptor"]},
        },
        "learning_rate": data["learning_rate"],
        "loss_dict": {"one": {}, "two": {"loss_func": "mae"}},
        "training": {
            "data_dict": {"one": a, "two": {"training_data": {"systems": "train"}}},
            "numb_steps": 6,
            "seed": 1,
        }
        | {"disp_freq": 2, "save_freq": 3}
        | training,
    }


def test_several_tasks(folder: Path) -> None:
    run = ready(several())
    run.run()
    names = Path("lcurve.out").read_text().splitlines()[0].split()[2:-1]
    assert names[:2] == ["rmse_val_one", "rmse_trn_one"]
    assert names[-3:] == ["mae_e_trn_two", "mae_f_trn_two", "rmse_trn_two"]
    curve = read_curve("lcurve.out")
    assert np.isfinite([curve[name] for name in names]).all()
    models = run.models()
    one, two = (state(models[name].model) for name in ("one", "two"))
    for path in one:
        if path.startswith("descriptor."):
            np.testing.assert_array_equal(one[path], two[path])
    np.testing.assert_array_equal([one["fitting.case"], two["fitting.case"]], np.eye(2))
    again = ready(several(), restart=Path("model.ckpt-3.pt"))
    again.run()
    assert same(final(run), final(again))
    head = dpmodel.load("model.ckpt.pt", head="two")
    assert head.type_map == ("O", "H")


def test_statistics_of_tasks_that_share(folder: Path) -> None:
    """Those of all their frames together."""
    together = ready(several(numb_steps=0)).models()["one"].model.descriptor.repinit.near.stddev
    alone = several(numb_steps=0)
    alone["model"]["model_dict"]["two"] = alone["model"]["model_dict"]["two"] | {"descriptor": MODEL["descriptor"]}
    parts = ready(alone).models()
    a, b = (parts[name].model.descriptor.repinit.near.stddev for name in ("one", "two"))
    assert (together > np.minimum(a, b)).all()
    assert (together < np.maximum(a, b)).all()


def test_shares_of_tasks(folder: Path) -> None:
    for training, expected in (
        ({}, {"one": 1.0, "two": 2.0}),
        ({"model_prob": {"one": 3, "two": 1}}, {"one": 3.0, "two": 1.0}),
    ):
        run = ready(several(**training))
        assert task_shares(run.script, run.data) == expected
    data = several()
    del data["training"]["numb_steps"]
    data["training"]["num_epoch_dict"] = {"one": 2.0, "two": 0.5}
    run = ready(data)
    epochs = {name: d.train.epoch for name, d in run.data.items()}
    assert task_shares(run.script, run.data) == {"one": 2.0 * epochs["one"], "two": 0.5 * epochs["two"]}
    assert run.n_steps == np.ceil(2.0 * epochs["one"] + 0.5 * epochs["two"])


def test_the_command(folder: Path) -> None:
    Path("input.json").write_text(json.dumps(given()))
    result = CliRunner().invoke(app, ["train", "input.json", "--backend", "numpy"])
    assert result.exit_code == 0, result.output
    assert read_script(json.loads(Path("out.json").read_text())).settings == read_script(given()).settings
    assert read_curve("lcurve.out")["step"] == [1, 2, 4, 6]


def test_old_rows_and_broken_curves(tmp_path: Path) -> None:
    path = tmp_path / "curve"
    path.write_text("# step rmse lr\n# remark\n 1 2.0 0.1\n 2 3.0 0.1\n# step rmse lr\n 2 4.0 0.1\n")
    assert read_curve(str(path)) == {"step": [1, 2], "rmse": [2.0, 4.0], "lr": [0.1, 0.1]}
    path.write_text("# step rmse lr\n 1 2.0\n")
    with pytest.raises(FileError, match="line 2: expected 3 numbers, found 2"):
        read_curve(str(path))


@pytest.mark.slow
def test_killed_at_any_moment(folder: Path) -> None:
    """kill -9, fifty times: whatever was written last can be gone on from, and ends where an undisturbed run does."""
    settings, chance = given(numb_steps=10_000, save_freq=1, disp_freq=100), random.Random(0)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["small_water"])
    steps: list[int] = [0]
    for _ in range(50):
        process = context.Process(target=learn, args=(settings, Path("model.ckpt") if steps[-1] else None))
        process.start()
        deadline = time.monotonic() + 60
        while process.is_alive() and time.monotonic() < deadline and reached() <= steps[-1]:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.1))
        assert process.is_alive()
        process.kill()
        process.join()
        steps.append(reached())
    assert all(after > before for before, after in pairwise(steps))
    end = steps[-1] + 2
    short = given(numb_steps=10_000, save_freq=10_000)
    interrupted = ready(short, restart=Path("model.ckpt"))
    undisturbed = ready(short)
    for run in (interrupted, undisturbed):
        run.n_steps = end
        run.run()
    assert same(final(interrupted), final(undisturbed))


def reached() -> int:
    """The step of the last checkpoint, which is a whole one at any time."""
    return read(latest("model.ckpt")).step if Path("model.ckpt.pt").exists() else 0
