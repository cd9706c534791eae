"""Fine-tuning: what is taken from a pretrained model and what is made anew."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import backend
from dpmodel.data.systems import System
from dpmodel.edit.bias import with_fitted_bias
from dpmodel.errors import FileError, SettingError
from dpmodel.io.deepmd import ModelFile
from dpmodel.module import state
from dpmodel.potential import Potential
from dpmodel.train.checkpoint import Checkpoint, write
from dpmodel.train.loop import Training
from dpmodel.train.prepare import StartFrom, prepare
from dpmodel.train.script import read_script
from small_water import BLOCK, DESCRIPTOR, MODEL, THREE, script, write_system

ENGINE = backend("numpy").engine()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with data, and a pretrained model of one task and one of two."""
    write_system(tmp_path / "data", 4)
    monkeypatch.chdir(tmp_path)
    one = prepare(read_script(script(Path("data"))), ENGINE).models()["Default"]
    two = prepare(read_script(script(Path("data"), training={"seed": 9})), ENGINE).models()["Default"]
    two.extras["model_def_script"]["model_branch_alias"] = ["second"]
    write("one.pt", Checkpoint({"Default": one}))
    write("two.pt", Checkpoint({"A": one, "B": two}))
    return tmp_path


def ready(file: str, model: dict[str, Any] | None = None, **origin: Any) -> Training:
    data = script(Path("data"), training={"seed": 5}, model=model or {})
    return prepare(read_script(data), ENGINE, StartFrom(finetune=Path(file), **origin))


def parameters(run: Training) -> dict[str, np.ndarray]:
    return state(run.models()["Default"].model)


def pretrained(name: str) -> dict[str, np.ndarray]:
    data = script(Path("data"), training={"seed": {"A": 1, "B": 9}[name]})
    return state(prepare(read_script(data), ENGINE).models()["Default"].model)


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> set[str]:
    return {path for path in a if np.array_equal(a[path], b[path])}


SOURCES = [
    ("one.pt", {}, "A", True),
    ("one.pt", {"branch": "RANDOM"}, "A", False),
    ("two.pt", {}, "A", False),
    ("two.pt", {"branch": "A"}, "A", True),
    ("two.pt", {"branch": "B"}, "B", True),
    ("two.pt", {"branch": "second"}, "B", True),
    ("two.pt", {"branch": "RANDOM"}, "A", False),
]


@pytest.mark.parametrize(("file", "origin", "source", "head"), SOURCES)
def test_what_comes_from_where(folder: Path, file: str, origin: dict[str, Any], source: str, head: bool) -> None:
    silent = (file, origin) != ("two.pt", {})
    with (
        nullcontext()
        if silent
        else pytest.warns(UserWarning, match=r"two.pt has the heads A, B: none .*--model-branch")
    ):
        found, given = parameters(ready(file, **origin)), pretrained(source)
    same = equal(found, given)
    assert {path for path in found if path.startswith("descriptor.")} <= same
    heads = {path for path in found if path.startswith("fitting.network.") and np.any(found[path])}
    assert heads <= same if head else not heads & same


@pytest.mark.parametrize(("file", "branch"), [("one.pt", "A"), ("two.pt", "C")])
def test_no_such_branch(folder: Path, file: str, branch: str) -> None:
    with pytest.raises(FileError, match=f"expected a branch '{branch}', found"):
        ready(file, branch=branch)


def test_options_that_do_not_go_together() -> None:
    with pytest.raises(SettingError, match="restart and finetune say different things"):
        StartFrom(restart=Path("a"), finetune=Path("b"))
    with pytest.raises(SettingError, match="model_branch goes with finetune"):
        StartFrom(branch="A")


def mean_error(file: ModelFile) -> float:
    frames = list(System("data"))
    found = Potential(file, ENGINE).evaluate_many([frame.structure for frame in frames])
    return float(np.mean([p.energy[0] - f.labels["energy"] for p, f in zip(found, frames, strict=True)]))


def test_the_bias_is_fitted_to_the_data(folder: Path) -> None:
    """All frames have the same composition: least squares leave no mean error."""
    run = ready("one.pt")
    assert abs(mean_error(run.models()["Default"])) < 1e-10
    file = run.models()["Default"]
    again = with_fitted_bias(file, System("data"), ENGINE)
    np.testing.assert_allclose(again.model.out_bias, file.model.out_bias, atol=1e-10)


def test_bias_after_training(folder: Path) -> None:
    from dpmodel.train.checkpoint import read

    data = script(Path("data"), training={"change_bias_after_training": True})
    run = prepare(read_script(data), ENGINE)
    run.run()
    assert abs(mean_error(read("model.ckpt.pt").models["Default"])) < 1e-10


def test_types_in_another_order_change_nothing(folder: Path) -> None:
    """The same structures, with types called by other numbers."""
    plain, turned = (ready("one.pt", {"type_map": names}) for names in (["O", "H"], ["H", "O"]))
    a, b = plain.models()["Default"], turned.models()["Default"]
    assert b.settings.type_map == ("H", "O")
    for file, system in ((a, System("data", a.settings)), (b, System("data", b.settings))):
        s = system.frame(0).structure
        found = Potential(file, ENGINE).evaluate(s.positions, s.types, s.cell)
        assert found.energy is not None
        assert found.forces is not None
        if file is a:
            energy, forces = found.energy, found.forces
    np.testing.assert_allclose(found.energy, energy, rtol=1e-12)
    np.testing.assert_allclose(found.forces, forces, atol=1e-11)


def test_new_types_leave_the_old_ones_alone(folder: Path) -> None:
    plain = ready("one.pt")
    with pytest.warns(UserWarning, match="one.pt does not know C, only O, H"):
        larger = ready("one.pt", {"type_map": ["C", "O", "H"]})
    a, b = plain.models()["Default"], larger.models()["Default"]
    frames = [System("data", file.settings).frame(1).structure for file in (a, b)]
    one, two = (
        Potential(file, ENGINE).evaluate(s.positions, s.types, s.cell) for file, s in zip((a, b), frames, strict=True)
    )
    assert one.energy is not None
    assert two.energy is not None
    np.testing.assert_allclose(one.energy, two.energy, rtol=1e-12)
    np.testing.assert_allclose(b.model.out_bias[0], 0.0, atol=1e-12)
    weights = b.model.descriptor.type_embedding()
    np.testing.assert_allclose(weights[1:3], a.model.descriptor.type_embedding()[:2], rtol=1e-12)


def test_sections_of_the_pretrained_model(folder: Path) -> None:
    other = {"fitting_net": {"neuron": [5], "trainable": False}}
    with pytest.raises(FileError, match=r"fitting.network"):
        ready("one.pt", other)
    run = ready("one.pt", other, use_pretrain_script=True)
    settings = run.script.tasks["Default"].model
    assert settings.fitting_net.neuron == tuple(MODEL["fitting_net"]["neuron"])  # type: ignore[index]
    assert settings.fitting_net.trainable is False


def test_several_tasks(folder: Path) -> None:
    branch = {"type_map": "t", "descriptor": "d", "fitting_net": MODEL["fitting_net"]}
    branches = {"A": branch, "new": branch, "B": branch | {"finetune_head": "A"}}
    data = script(Path("data"))
    task = {"training_data": {"systems": "data"}}
    data |= {
        "model": {"model_dict": branches, "shared_dict": {"t": MODEL["type_map"], "d": MODEL["descriptor"]}},
        "training": {"data_dict": dict.fromkeys(branches, task), "numb_steps": 1},
    }
    del data["loss"]
    run = prepare(read_script(data), ENGINE, StartFrom(finetune=Path("two.pt")))
    given = pretrained("A")
    found = {name: state(file.model) for name, file in run.models().items()}
    heads = {path for path in given if path.startswith("fitting.network.") and np.any(given[path])}
    assert all(np.array_equal(found["A"][path], given[path]) for path in given)  # it goes on, bias and all
    assert heads <= equal(found["B"], given)
    assert not heads & equal(found["new"], given)
    assert {path for path in given if path.startswith("descriptor.")} <= equal(found["new"], given)
    with pytest.raises(SettingError, match="model-branch is for single-task"):
        prepare(read_script(data), ENGINE, StartFrom(finetune=Path("two.pt"), branch="A"))


OTHER = {**DESCRIPTOR, "repinit": {**BLOCK, **THREE, "rcut": 4.5}, "trainable": False, "seed": 4}
ORIGINS = [StartFrom(finetune=Path("one.pt")), StartFrom(init_model=Path("one.pt")), StartFrom(restart=Path("one.pt"))]


@pytest.mark.parametrize("origin", ORIGINS, ids=["finetune", "init_model", "restart"])
def test_settings_that_are_not_those_of_the_file(folder: Path, origin: StartFrom) -> None:
    data = read_script(script(Path("data"), model={"descriptor": OTHER}))
    told = r"one\.pt has other settings .*: model\.descriptor\.repinit\.rcut is 4\.5, there 4\.0$"
    with pytest.warns(UserWarning, match=told):
        run = prepare(data, ENGINE, origin)
    assert run.script.tasks["Default"].model.descriptor.repinit.rcut == 4.5


def test_a_new_head_may_have_any_settings(folder: Path) -> None:
    ready("one.pt", {"fitting_net": {"neuron": [7], "activation_function": "gelu"}}, branch="RANDOM")


@pytest.mark.parametrize("option", ["finetune", "init_model", "restart"])
def test_compressed_models_do_not_learn(folder: Path, option: str) -> None:
    """Said of all three options in the same words, before anything is compared with the input."""
    origin: dict[str, Any] = {option: Path(__file__).parents[1] / "reference" / "trained" / "strip_c.pth"}
    with pytest.raises(FileError, match=r"strip_c.pth: expected a model that can be trained, found a compressed one"):
        prepare(read_script(script(Path("data"))), ENGINE, StartFrom(**origin))
