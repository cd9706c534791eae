"""Before a run starts: what would stop it or make it worthless, and input files that go on with it."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from dpmodel.backend import backend
from dpmodel.cli.app import app
from dpmodel.data.systems import System
from dpmodel.edit.bias import with_fitted_bias
from dpmodel.errors import FileError, SettingError
from dpmodel.model.settings import ModelSettings
from dpmodel.module import state
from dpmodel.train.checkpoint import Checkpoint, read, write
from dpmodel.train.loop import Training
from dpmodel.train.prepare import StartFrom, prepare
from dpmodel.train.script import load_script, read_script
from dpmodel.train.start import draw, model_file
from small_water import MODEL, script, write_system

MODEL_SETTINGS = ModelSettings.read(MODEL, "model")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with training and validation data."""
    write_system(tmp_path / "train", 4)
    write_system(tmp_path / "valid", 2, seed=2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(**training: Any) -> dict[str, Any]:
    data = {"validation_data": {"systems": "valid", "batch_size": 1}}
    return script(Path("train"), training=data | training)


def ready(data: dict[str, Any], **origin: Any) -> Training:
    return prepare(read_script(data), backend("numpy").engine(), StartFrom(**origin))


def command(*options: str, data: dict[str, Any] | None = None) -> Result:
    if data is not None:
        Path("input.json").write_text(json.dumps(data))
    name = [] if options and options[0].endswith(".json") else ["input.json"]
    return CliRunner().invoke(app, ["train", *name, *options, "--backend", "numpy"])


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- places ---

PLACES = [
    {"save_dir": "file/new"},
    {"save_ckpt": "file/model"},
    {"disp_file": "nowhere/lcurve.out"},
    {"disp_file": "train"},
    {"tensorboard": True, "tensorboard_log_dir": "file"},
]


@pytest.mark.parametrize("training", PLACES, ids=lambda training: next(reversed(training.values())))
def test_places_where_nothing_can_be_written(folder: Path, training: dict[str, Any]) -> None:
    Path("file").write_text("")
    place = next(reversed(training.values()))
    with pytest.raises(FileError, match=rf"^{place.removesuffix('/model')}: "):
        ready(given(**training))


@pytest.mark.parametrize("training", [{"save_dir": "/proc/x"}, {"tensorboard": True, "tensorboard_log_dir": "/proc/x"}])
def test_folders_that_cannot_be_made(folder: Path, training: dict[str, Any]) -> None:
    """The superuser may write anywhere, but the system has its own mind: found when the run starts."""
    with pytest.raises(FileError, match=r"^/proc/x: "):
        ready(given(**training)).run()


def test_an_output_that_cannot_be_written(folder: Path) -> None:
    for options in (["-o", "no/out.json"], ["-o", "no/out.json", "--check"]):
        result = command(*options, data=given())
        assert isinstance(result.exception, FileError)
        assert str(result.exception).startswith("no/out.json: cannot be written")


def test_a_check_makes_nothing(folder: Path) -> None:
    data = given(save_dir="new/deep", save_ckpt="ck/model", tensorboard=True, tensorboard_log_dir="log")
    before = names(folder)
    result = command("--check", data=data)
    assert result.exit_code == 0, result.output
    assert names(folder) == sorted([*before, "input.json"])


def test_checkpoints_in_two_folders(folder: Path) -> None:
    ready(given(save_dir="numbered", save_ckpt="ck/model.ckpt", enable_ema=True)).run()
    assert Path("ck/model.ckpt.pt").resolve() == folder / "numbered/model.ckpt-6.pt"
    assert Path("ck/model.ckpt_ema.pt").resolve() == folder / "numbered/model.ckpt_ema-6.pt"
    assert ready(given(save_ckpt="ck/model.ckpt"), restart=Path("ck/model.ckpt")).step == 6


# --- data ---


@pytest.mark.parametrize("place", ["valid", "train"])
def test_labels_that_are_no_numbers(folder: Path, place: str) -> None:
    path = folder / place / "set.000/force.npy"
    force = np.load(path)
    force[1, 4] = np.nan
    np.save(path, force)
    result = command("--check", data=given())
    assert isinstance(result.exception, FileError)
    assert f"{place}/set.000/force.npy: frame 1: [1, 1] is nan" in str(result.exception)


@pytest.mark.parametrize("place", ["valid", "train"])
def test_atoms_at_the_same_place(folder: Path, place: str) -> None:
    path = folder / place / "set.000/coord.npy"
    x = np.load(path)
    x[1, 3:6] = x[1, 0:3] + [7.0, 0.0, -7.0]  # the box is 7 angstrom wide
    np.save(path, x)
    result = command("--check", data=given())
    assert isinstance(result.exception, FileError)
    assert f"{place}/set.000/coord.npy: frame 1: two atoms, or their periodic images" in str(result.exception)


def test_another_number_of_generalized_coordinates(folder: Path) -> None:
    np.save(folder / "train/set.000/drdq.npy", np.ones((4, 6 * 3 * 2)))
    loss = {"start_pref_gf": 1.0, "limit_pref_gf": 1.0}
    ready(script(folder / "train", loss={**loss, "numb_generalized_coord": 2}))
    with pytest.raises(SettingError, match=r"loss\.numb_generalized_coord is 3, but .*train has 2"):
        ready(script(folder / "train", loss={**loss, "numb_generalized_coord": 3}))


def test_no_label_of_the_loss(folder: Path) -> None:
    for name in ("energy", "force", "virial"):
        (folder / f"train/set.000/{name}.npy").unlink()
    with pytest.raises(SettingError, match=r"training.training_data: no system has .* e \(energy\), f \(force\), v"):
        ready(given())


def test_a_term_without_labels(folder: Path) -> None:
    (folder / "train/set.000/virial.npy").unlink()
    with pytest.warns(UserWarning, match=r"training_data: no system has the labels of these terms.*: v \(virial\)$"):
        ready(given())
    write_system(folder / "more", 1, seed=5)
    ready(given(training_data={"systems": ["train", "more"], "batch_size": 1}))  # one system has them: no warning


def test_weighted_forces_without_weights(folder: Path) -> None:
    data = given()
    data["loss"] = {"start_pref_pf": 1, "limit_pref_pf": 1}
    with pytest.warns(UserWarning, match=r"pf \(atom_pref, force\)"):
        ready(data)
    data["loss"] |= {"use_default_pf": True}
    ready(data)


# --- out.json ---


def test_the_output_goes_on_with_a_finetuned_run(folder: Path) -> None:
    """Its model is that of the pretrained file, with numbers instead of "auto"."""
    data = given()
    d = data["model"]["descriptor"]
    wide = d["repinit"] | {"nsel": "auto", "rcut": 6.5, "use_three_body": False}
    auto = {"repinit": wide, "repformer": d["repformer"] | {"nsel": "auto"}}
    data["model"] = MODEL | {"descriptor": d | auto}
    assert command(data=data).exit_code == 0
    nsel = json.loads(Path("out.json").read_text())["model"]["descriptor"]["repinit"]["nsel"]
    assert nsel == read("model.ckpt.pt").models["Default"].settings.descriptor.repinit.nsel
    Path("model.ckpt-6.pt").rename("pretrained.pt")

    tuned = given(numb_steps=3)
    tuned["model"] = MODEL | {"fitting_net": {"neuron": [7]}}
    result = command("--finetune", "pretrained.pt", "--use-pretrain-script", data=tuned)
    assert result.exit_code == 0, result.output
    out = json.loads(Path("out.json").read_text())
    assert out["model"]["fitting_net"]["neuron"] == [6]
    assert out["model"]["descriptor"]["repinit"]["nsel"] == nsel
    out["training"]["numb_steps"] = 5
    Path("longer.json").write_text(json.dumps(out))
    result = command("longer.json", "--restart", "model.ckpt")
    assert result.exit_code == 0, result.output
    assert read("model.ckpt.pt").step == 5


def test_the_output_of_tasks_that_share(folder: Path) -> None:
    """It trains the same tensors in both tasks, as its input did."""
    branch = {"type_map": "t", "descriptor": "d", "fitting_net": {"neuron": [6]}}
    data = given()
    task = {name: data["training"].pop(name) for name in ("training_data", "validation_data")}
    data["training"]["data_dict"] = {"one": task, "two": task}
    data["loss_dict"] = {"one": data.pop("loss"), "two": {}}
    data["model"] = {
        "model_dict": {"one": branch, "two": branch | {"descriptor": "d:1"}},
        "shared_dict": {"t": MODEL["type_map"], "d": MODEL["descriptor"]},
    }
    assert command(data=data).exit_code == 0
    made, again = read_script(data), load_script("out.json")
    assert again.links == made.links
    assert again.tasks == made.tasks
    first = {name: state(file.model) for name, file in read("model.ckpt.pt").models.items()}
    Path("out.json").rename("in.json")
    assert command("in.json").exit_code == 0
    second = {name: state(file.model) for name, file in read("model.ckpt.pt").models.items()}
    for name in first:
        assert all(np.array_equal(first[name][path], second[name][path]) for path in first[name])


@pytest.mark.parametrize("origin", ["init_model", "finetune"])
@pytest.mark.parametrize("descriptor", [None, {}, {"type": "dpa2", "trainable": False, "_comment": "as in the file"}])
def test_sections_left_to_the_pretrained_model(folder: Path, origin: str, descriptor: dict[str, Any] | None) -> None:
    """Inputs for --use-pretrain-script need not repeat what the file says."""
    ready(given(numb_steps=1)).run()
    sparse = given(numb_steps=1)
    sparse["model"] = {"type_map": ["O", "H"], **({} if descriptor is None else {"descriptor": descriptor})}
    option = f"--{origin.replace('_', '-')}"
    result = command(option, "model.ckpt.pt", "--use-pretrain-script", data=sparse)
    assert result.exit_code == 0, result.output
    settings = load_script("out.json").tasks["Default"].model
    wanted = read_script(given()).tasks["Default"].model
    assert settings.descriptor.model_dump() | {"trainable": True} == wanted.descriptor.model_dump()
    assert settings.descriptor.trainable == (not descriptor)
    assert settings.fitting_net == wanted.fitting_net
    with pytest.raises(SettingError, match=r"model.descriptor(.repinit)? is required"):
        read_script(sparse)


def test_init_model_with_its_own_sections(folder: Path) -> None:
    run = ready(given())
    run.run()
    other = given()
    other["model"] = MODEL | {"fitting_net": {"neuron": [7, 7]}}
    with pytest.raises(FileError, match="has shape"):
        ready(other, init_model=Path("model.ckpt"))
    again = ready(other, init_model=Path("model.ckpt"), use_pretrain_script=True)
    assert again.step == 0
    assert again.script.tasks["Default"].model.fitting_net.neuron == (6,)
    a, b = (state(one.models()["Default"].model) for one in (run, again))
    assert all(np.array_equal(a[path], b[path]) for path in a)
    with pytest.raises(SettingError, match="use_pretrain_script goes with finetune or init_model"):
        StartFrom(use_pretrain_script=True)


# --- restart ---


def test_a_run_that_is_done_stays_as_it_is(folder: Path) -> None:
    assert command(data=given()).exit_code == 0
    before = {path: path.read_bytes() for path in folder.glob("*.*t")}
    assert len(before) == 4  # the curve, two checkpoints and the link
    for steps in (6, 4):
        result = command("--restart", "model.ckpt", data=given(numb_steps=steps, change_bias_after_training=True))
        assert result.exit_code == 0, result.output
        assert f"model.ckpt.pt is at step 6 of {steps}: nothing is left to do" in result.output
        assert {path: path.read_bytes() for path in folder.glob("*.*t")} == before


@pytest.mark.parametrize("place", ["optimizer", "ema"])
@pytest.mark.parametrize("value", [np.zeros(3), "text", None])
def test_a_state_that_does_not_fit(folder: Path, place: str, value: Any) -> None:
    run = ready(given(enable_ema=True))
    kept = run.checkpoint()
    name = next(iter(kept.ema))
    getattr(kept, place)[name] = value
    write("bad.pt", kept)
    with pytest.raises(FileError, match=rf"^bad.pt: {name}: expected an array of shape \(.*\), found "):
        ready(given(enable_ema=True), restart=Path("bad.pt"))


def test_parameters_that_start_to_learn(folder: Path) -> None:
    """A part that was frozen has no state of Adam yet; the others go on."""
    data = given(numb_steps=2)
    data["model"] = MODEL | {"descriptor": MODEL["descriptor"] | {"trainable": False}}  # type: ignore[operator]
    ready(data).run()
    steps = {
        name: int(value)
        for name, value in ready(given(), restart=Path("model.ckpt")).learner.optimizer.state().items()
        if name.endswith(":step")
    }
    assert {count for name, count in steps.items() if "/descriptor." in name} == {0}
    assert {count for name, count in steps.items() if "/fitting." in name} == {2}


def test_lines_where_there_is_no_terminal(folder: Path) -> None:
    result = command(data=given())
    lines = [line for line in result.output.splitlines() if line.startswith("step ")]
    assert [line.split(":")[0] for line in lines] == ["step 1", "step 2", "step 4", "step 6"]
    assert all(word in lines[0] for word in ("rmse_e ", "rmse_f ", "rmse_v ", "lr 1.0e-02", " s/step, ", " left"))
    assert lines[-1].endswith(" 0:00:00 left")


@pytest.mark.filterwarnings("ignore:training.training_data. no system has the labels")
def test_errors_of_labels_that_there_are_not_are_not_shown(folder: Path) -> None:
    (folder / "train/set.000/virial.npy").unlink()
    result = command("--skip-neighbor-stat", data=script(Path("train")))
    (line,) = [line for line in result.output.splitlines() if line.startswith("step 2: ")]
    assert ("rmse_e" in line, "rmse_v" in line, "nan" in line) == (True, False, False)


def rewrite(folder: Path, change: str) -> None:
    """Change the training data."""
    force = folder / "train/set.000/force.npy"
    if change == "more":
        write_system(folder / "long", 5)
        shutil.rmtree(folder / "train")
        (folder / "long").rename(folder / "train")
    elif change == "numbers":
        np.save(force, 1.01 * np.load(force))
    elif change == "new":
        write_system(folder / "train/below", 3)


CHANGES = {
    "more": "train has 5 frames, it had 4",
    "numbers": "the numbers in train are others",
    "new": "2 systems, there were 1, train/below is new",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_goes_on_with_other_data(folder: Path, change: str) -> None:
    """The user hears what has changed, and what to do if that was not meant."""
    ready(given(numb_steps=3)).run()
    rewrite(folder, change)
    with pytest.warns(UserWarning, match=r"model.ckpt.pt was trained on other data") as told:
        ready(given(), restart=Path("model.ckpt"))
    (text,) = [str(warning.message) for warning in told]
    assert f"({CHANGES[change]})" in text
    assert "--init-model in the place of --restart" in text


def test_data_may_move(folder: Path) -> None:
    """Nor does it matter which labels the loss reads."""
    ready(given(numb_steps=3)).run()
    (folder / "train").rename(folder / "elsewhere")
    data = script(folder / "elsewhere", loss={"start_pref_f": 0, "limit_pref_f": 0})
    assert ready(data, restart=Path("model.ckpt")).step == 3


def test_a_list_of_data_that_is_damaged(folder: Path) -> None:
    run = ready(given())
    write("bad.pt", replace(run.checkpoint(), data={"Default": {"path": ["a"], "frames": [1, 2]}}))
    with pytest.raises(FileError, match=r"^bad.pt: cannot be read as a checkpoint: the summary of the training data"):
        ready(given(), restart=Path("bad.pt"))


# --- what is left in the end ---


@pytest.mark.parametrize(
    ("shift", "refit", "shown"), [(0.5, False, "off by +0.5 eV per atom"), (0.5, True, ""), (0.0, False, "")]
)
def test_a_constant_in_the_energies(folder: Path, shift: float, refit: bool, shown: str) -> None:
    """Too few and too short steps to get rid of it; the least squares in the end do."""
    run = ready(given(numb_steps=1))
    file = with_fitted_bias(run.models()["Default"], System("train"), backend("numpy").engine())
    moved = replace(file, model=replace(file.model, out_bias=file.model.out_bias + shift))
    write("shifted.pt", Checkpoint({"Default": moved}))
    data = given(change_bias_after_training=refit) | {"learning_rate": {"start_lr": 1e-9, "stop_lr": 1e-10}}
    result = command("--init-model", "shifted.pt", data=data)
    assert result.exit_code == 0, result.output
    assert shown in result.output
    assert ("eV per atom" in result.output) == ("change_bias_after_training" in result.output) == bool(shown)


# --- units ---


@pytest.mark.parametrize(
    ("name", "factor", "message"),
    [
        ("energy", 23.0605, "train: energies change by 2[23].* times the work .*: energies in kcal/mol"),
        ("energy", 0.0367493, "train: energies change by 0.03.* times the work .*: energies in hartree"),
        ("coord", 10.0, "no atom of the training data has a neighbor within 4 Å: coordinates in bohr or nm"),
    ],
)
def test_units_that_cannot_be(folder: Path, name: str, factor: float, message: str) -> None:
    """The user hears of them before anything is learned; steps of these frames are short."""
    write_system(folder / "long", 40)
    for path in (folder / "long").rglob("*.npy"):
        frames = np.load(path)
        (folder / "train" / path.relative_to(folder / "long")).unlink()
        if path.stem in (name, "box" if name == "coord" else name):
            frames = frames * factor
        np.save(folder / "train" / path.relative_to(folder / "long"), frames)
    write("other.pt", Checkpoint({"Default": model_file(draw(MODEL_SETTINGS, 1), MODEL_SETTINGS, None)}))
    for origin in ({}, {"count_neighbors": False}, {"init_model": Path("other.pt")}):
        with pytest.warns(UserWarning, match="energies|neighbor") as told:
            ready(given(), **origin)
        assert any(re.search(message, str(warning.message)) for warning in told)
