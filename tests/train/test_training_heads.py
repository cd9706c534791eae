"""Whole runs of other heads: alone, beside an energy head, from a pretrained model, interrupted."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dpmodel.backend import backend
from dpmodel.cli.app import app
from dpmodel.edit.bias import with_fitted_bias
from dpmodel.errors import SettingError
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import read_model
from dpmodel.module import state
from dpmodel.potential import Potential
from dpmodel.train.curve import read_curve
from dpmodel.train.loop import Training
from dpmodel.train.prepare import StartFrom, prepare
from dpmodel.train.script import read_script
from small_water import DESCRIPTOR, MODEL, script, write_system

NUMPY = backend("numpy").engine()
CHARGES = np.array([-0.8, 0.4, 0.4, -0.8, 0.4, 0.4])
HEADS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dipole": ({"type": "dipole"}, {"type": "tensor", "pref": 1.0, "pref_atomic": 1.0}),
    "polar": ({"type": "polar"}, {"type": "tensor", "pref": 1.0, "pref_atomic": 0.0}),
    "dos": ({"type": "dos", "numb_dos": 3}, {"type": "dos", "start_pref_dos": 1.0, "limit_pref_dos": 1.0}),
    "property": ({"type": "property", "property_name": "gap", "intensive": True}, {"type": "property"}),
    "root": ({"type": "property", "property_name": "gap"}, {"type": "property", "loss_func": "rmse"}),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Molecules with a dipole of charges, and tensors, densities and gaps made of positions."""
    for name, seed, n in (("data", 0, 6), ("valid", 1, 3)):
        home = write_system(tmp_path / name, n, seed=seed) / "set.000"
        x = np.load(home / "coord.npy").reshape(n, 6, 3)
        atomic = CHARGES[:, None] * (x - x.mean(axis=1, keepdims=True))
        bond = x[:, 1] - x[:, 0]
        np.save(home / "atomic_dipole.npy", atomic.reshape(n, -1))
        np.save(home / "dipole.npy", atomic.sum(axis=1))
        np.save(home / "polarizability.npy", (2 * np.eye(3) + bond[:, :, None] * bond[:, None, :]).reshape(n, 9))
        distances = np.linalg.norm(x[:, :, None] - x[:, None, :], axis=-1)
        dos = np.exp(-((distances[..., None] - [0.9, 1.1, 3.0]) ** 2 / 0.05)).sum(axis=2)  # near distances
        np.save(home / "atom_dos.npy", dos.reshape(n, -1))
        np.save(home / "dos.npy", dos.sum(axis=1))
        np.save(home / "gap.npy", np.linalg.norm(bond, axis=1, keepdims=True))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(case: str, **training: Any) -> dict[str, Any]:
    fitting, loss = HEADS[case]
    data = script(Path("data"))
    data |= {"loss": loss, "model": MODEL | {"fitting_net": {"neuron": [6], **fitting}}}
    return data | {"training": data["training"] | {"validation_data": {"systems": "valid", "batch_size": 3}} | training}


def ready(data: dict[str, Any], name: str = "numpy", **origin: Any) -> Training:
    return prepare(read_script(data), backend(name).engine(), StartFrom(**origin))


def arrays(run: Training, task: str = "Default") -> dict[str, np.ndarray]:
    return state(run.models()[task].model)


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray], part: str = "") -> bool:
    return all(np.array_equal(a[key], b[key]) for key in a if key.startswith(part))


@pytest.mark.parametrize("case", HEADS)
def test_it_learns(case: str) -> None:
    ready(given(case, numb_steps=40, disp_freq=40)).run()
    curve = read_curve("lcurve.out")
    errors = [values for name, values in curve.items() if name.endswith("_val")]
    assert errors
    assert all(values[-1] < values[0] for values in errors)


@pytest.mark.parametrize("case", ["dipole", "root"])
@pytest.mark.parametrize("name", ["torch", "jax", "paddle"])
def test_the_same_on_every_backend(case: str, name: str) -> None:
    runs = [ready(given(case, numb_steps=3), name) for name in ("numpy", name)]
    for run in runs:
        run.run()
    a, b = map(arrays, runs)
    for key in a:
        np.testing.assert_allclose(b[key], a[key], rtol=1e-7, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("case", ["polar", "root"])
def test_restart_is_exact(case: str) -> None:
    """Also while gradients add up: there are checkpoints between the steps that move the parameters."""
    data = given(case, acc_freq=2, save_freq=3)
    whole = ready(data)
    whole.run()
    again = ready(data, restart=Path("model.ckpt-3.pt"))
    again.run()
    assert again.step == whole.step == 6
    assert same(arrays(again), arrays(whole))
    assert not same(arrays(ready(data, restart=Path("model.ckpt-3.pt"))), arrays(whole))


def test_gradients_add_up() -> None:
    """Two batches of which the parameters do not see the first, against one of both: Adam sees only their sum."""
    rate = {"start_lr": 0.01, "stop_lr": 0.01}
    two, one = given("dipole", acc_freq=2, numb_steps=2), given("dipole", numb_steps=1)
    two["learning_rate"] = one["learning_rate"] = rate
    two["training"]["training_data"] |= {"batch_size": 3}
    one["training"]["training_data"] |= {"batch_size": 6}
    runs = [ready(data) for data in (two, one)]
    assert same(arrays(runs[0]), arrays(runs[1]))
    for run in runs:
        run.run()
    sums, means = (run.learner.optimizer.state() for run in runs)
    for key in [key for key in sums if key.endswith(":first")]:  # a tenth of the gradient
        np.testing.assert_allclose(sums[key], 2.0 * means[key], rtol=1e-8, atol=1e-12, err_msg=key)
    assert {int(sums[key]) for key in sums if key.endswith(":step")} == {1}


def several(case: str, **training: Any) -> dict[str, Any]:
    """An energy head and another one over one descriptor."""
    data = script(Path("data"))
    fitting, loss = HEADS[case]
    branch = {"type_map": "types", "descriptor": "common"}
    heads = {"water": {"neuron": [6]}, "other": {"neuron": [5], **fitting}}
    own = {"training_data": {"systems": "data", "batch_size": 2}, "validation_data": {"systems": "valid"}}
    return data | {
        "model": {
            "shared_dict": {"types": ["O", "H"], "common": DESCRIPTOR},
            "model_dict": {name: branch | {"fitting_net": head} for name, head in heads.items()},
        },
        "loss": {},
        "loss_dict": {"water": data["loss"], "other": loss},
        "training": {"data_dict": dict.fromkeys(heads, own), "numb_steps": 6, "disp_freq": 6, "seed": 1} | training,
    }


def test_the_command_for_several_heads(folder: Path) -> None:
    """A table for each head, systems without its labels left out; each has the numbers of the head alone."""
    write_system(folder / "bare", 2, seed=5)
    ready(without_loss(several("dipole", numb_steps=2))).run()
    arguments = ["test", "model.ckpt.pt", "-s", "bare", "-s", "valid"]
    outcome = CliRunner().invoke(app, [*arguments, "--head", "all", "--json", "--detail", "detail"])
    assert outcome.exit_code == 0, outcome.output
    heads = json.loads(outcome.stdout)["heads"]
    assert {name: [one["system"] for one in head["systems"]] for name, head in heads.items()} == {
        "water": ["bare", "valid"],
        "other": ["valid"],
    }
    assert sorted(path.name for path in Path("detail/other").iterdir()) == ["001_valid.npz"]
    alone = CliRunner().invoke(app, ["test", "model.ckpt.pt", "-s", "valid", "--head", "other", "--json"])
    assert json.loads(alone.stdout) == heads["other"]
    shown = CliRunner().invoke(app, [*arguments, "--head", "water", "--head", "OTHER"], env={"COLUMNS": "120"})
    assert [line for line in shown.stdout.splitlines() if line in ("water", "OTHER")] == ["water", "OTHER"]
    assert "atom_dipole" in shown.stdout
    nothing = CliRunner().invoke(app, ["test", "model.ckpt.pt", "-s", "bare", "--head", "all"])
    assert "bare: expected atom_dipole or dipole to compare with, found none" in str(nothing.exception)


def without_loss(data: dict[str, Any]) -> dict[str, Any]:
    return {name: section for name, section in data.items() if name != "loss"}


@pytest.mark.parametrize("case", ["property", "dipole"])
def test_beside_an_energy_head(case: str) -> None:
    run = ready(without_loss(several(case)))
    run.run()
    assert same(arrays(run, "water"), arrays(run, "other"), "descriptor.")
    names = read_curve("lcurve.out").keys()
    assert {"rmse_e_val_water", "rmse_f_trn_water"} <= names
    assert {"property": "mae_val_other", "dipole": "rmse_global_dipole_val_other"}[case] in names


class Killed(Exception):
    """Instead of a signal that nothing can catch."""


def test_the_best_of_several_tasks_after_an_interruption(folder: Path) -> None:
    """What is best says the dipole of one task; a run that was killed keeps the files of one that was not."""
    validating = {"full_validation": True, "full_val_start": 0, "validation_freq": 1, "max_best_ckpt": 2}
    data = without_loss(several("dipole", numb_steps=8, save_freq=3))
    data |= {"validating": validating | {"validation_metric": "other/dipole:MAE"}, "learning_rate": {"start_lr": 0.05}}
    assert ready(data).run()
    header, *lines = [line.split() for line in Path("val.log").read_text().splitlines()]
    column = [word.partition("(")[0] for word in header[1:]].index("dipole_MAE_other")
    errors = {int(line[0]): float(line[column]) for line in lines if line[0] != "#"}
    first, second = sorted(errors, key=errors.__getitem__)[:2]
    best = {path.name: path.read_bytes() for path in folder.glob("best.ckpt-*")}
    assert best.keys() == {f"best.ckpt-{first}.t-1.pt", f"best.ckpt-{second}.t-2.pt"}
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()

    def kill(step: int, *_: object) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        ready(data).run(kill)
    assert ready(data, restart=Path("model.ckpt")).run()
    assert {path.name: path.read_bytes() for path in folder.glob("best.ckpt-*")} == best


@pytest.mark.parametrize("frozen", [True, False])
def test_a_new_head_on_a_descriptor_of_several_tasks(frozen: bool) -> None:
    """Fine-tuning from a multi-task file to a property: its bias and deviation are those of the data."""
    pretrained = ready(without_loss(several("dipole")))
    pretrained.run()
    data = given("property", save_ckpt="tuned", numb_steps=40, disp_freq=40)
    data["learning_rate"] = {"start_lr": 0.002}
    data["model"] = data["model"] | {"descriptor": DESCRIPTOR | {"trainable": not frozen}}
    run = ready(data, finetune=Path("model.ckpt"), branch="RANDOM")
    assert same(arrays(run), arrays(pretrained, "water"), "descriptor.")
    labels = np.load("data/set.000/gap.npy")
    model = run.models()["Default"].model
    np.testing.assert_allclose(model.out_std, labels.std(), rtol=1e-9)
    np.testing.assert_allclose((model.out_bias[:, 0] * [1 / 3, 2 / 3]).sum(), labels.mean(), rtol=1e-9)
    run.run()
    assert same(arrays(run), arrays(pretrained, "water"), "descriptor.") is frozen
    values = read_curve("lcurve.out")["mae_val"]
    assert values[-1] < values[0]


@pytest.mark.parametrize("case", ["polar", "dos", "property"])
def test_a_head_goes_on_with_other_data(case: str) -> None:
    """A head that is copied keeps its scale; its bias makes up for the mean of the new labels."""
    ready(given(case, numb_steps=4)).run()
    name = {"polar": "polarizability", "dos": "dos", "property": "gap"}[case]
    for label in (name, f"atom_{name}"):
        path = Path(f"data/set.000/{label}.npy")
        if path.exists():
            shift = np.eye(3).ravel() if case == "polar" else 1.0 / 6.0 if label.startswith("atom_") else 1.0
            np.save(path, np.load(path) + 5.0 * shift)
    run = ready(given(case, save_ckpt="tuned"), finetune=Path("model.ckpt"))
    file = run.models()["Default"]
    assert _mean_error(file, name, trace=case == "polar") < 1e-9


def _mean_error(file: ModelFile, name: str, *, trace: bool) -> float:
    x = np.load("data/set.000/coord.npy").reshape(-1, 6, 3)
    found = Potential(file, NUMPY).evaluate(x, [0, 1, 1, 0, 1, 1], 7.0 * np.eye(3)).outputs[name]
    missing = np.load(f"data/set.000/{name}.npy").reshape(found.shape) - found
    if trace:
        missing = np.trace(missing, axis1=-2, axis2=-1)
    return float(np.abs(missing.mean(axis=0)).max())


def test_a_loss_for_another_head(folder: Path) -> None:
    data = given("dos")
    with pytest.raises(SettingError, match=r"loss.type should be 'dos', which is for dos models, got 'tensor'"):
        ready(data | {"loss": HEADS["polar"][1]})
    data["model"] = data["model"] | {"fitting_net": {"type": "dos", "numb_dos": 4}}
    with pytest.raises(SettingError, match=r"model.fitting_net.numb_dos is 4, but .*data has 3 \(.*dos.npy\)"):
        ready(data)
    with pytest.raises(SettingError, match=r"loss.pref is required.*\n.*loss.pref_atomic is required"):
        ready(given("dipole") | {"loss": {"type": "tensor"}})


def test_labels_without_spread(folder: Path) -> None:
    np.save("data/set.000/gap.npy", np.full((6, 1), 2.5))
    with pytest.warns(UserWarning, match="all frames have the same gap"):
        run = ready(given("property"))
    assert (run.models()["Default"].model.out_std == 1.0).all()


def test_frames_of_several_systems_in_one_batch(folder: Path) -> None:
    """Every draw is of a system by itself; those of different size stand in one batch."""
    write_system(folder / "data" / "more", 4, seed=3)
    data = given("property")
    data["model"], data["loss"] = MODEL, {}
    data["training"]["training_data"] |= {"batch_size": "mixed:5"}
    run = ready(data)
    batches = run.data["Default"].train
    sizes = [len(batches.frames(n)) for n in range(4)]
    assert sizes == [5] * 4
    one = [frame.structure.positions[0, 0] for frame in batches.frames(0)]
    assert len(set(one)) > 1
    run.run()


def test_frames_come_as_often_as_they_say(folder: Path) -> None:
    np.save("data/set.000/numb_copy.npy", np.array([3, 1, 0, 1, 1, 1]))
    run = ready(given("property"))
    source = run.data["Default"].train.sources[0]
    assert source.frames.tolist() == [0, 0, 0, 1, 3, 4, 5]
    run.run()


def test_change_bias_of_a_dipole_is_nothing() -> None:
    run = ready(given("dipole", numb_steps=0))
    run.run()
    file = run.models()["Default"]
    frames = run.data["Default"].train.first(10)
    assert not with_fitted_bias(file, frames, NUMPY).model.out_bias.any()


@pytest.mark.parametrize("case", ["polar", "dos", "property"])
def test_change_bias_by_the_command(case: str) -> None:
    """A file whose mean is that of the labels, checked before it is there."""
    ready(given(case, numb_steps=2)).run()
    result = CliRunner().invoke(app, ["change-bias", "model.ckpt.pt", "changed.dp", "-s", "data"])
    assert result.exit_code == 0, result.output
    name = {"polar": "polarizability", "dos": "dos", "property": "gap"}[case]
    assert _mean_error(read_model("changed.dp"), name, trace=case == "polar") < 1e-9
