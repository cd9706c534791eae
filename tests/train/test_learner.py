"""One step of learning: derivatives against differences, the same numbers on every backend, exact continuation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import AdamRule, backend
from dpmodel.errors import SettingError, TrainingError
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import read_model
from dpmodel.model.build import build
from dpmodel.module import state
from dpmodel.train.batches import open_batches
from dpmodel.train.collate import collate
from dpmodel.train.learner import Learner, limited, norm
from dpmodel.train.loss import Batch
from dpmodel.train.prepare import StartFrom, prepare
from dpmodel.train.script import read_script
from small_water import MODEL, script, write_system

BACKENDS = ["torch", "jax", "paddle"]


def learner(
    root: Path, name: str = "numpy", compile: bool | None = False, **sections: Any
) -> tuple[Learner, list[Batch]]:
    if not (root / "a").exists():
        write_system(root / "a", 6)
    made = read_script(script(root, **sections))
    task, engine = made.tasks["Default"], backend(name).engine(compile=compile)
    batches = open_batches(task.data.training_data, task.model, 1, "training")
    chosen = task.model.selection
    given = [collate(batches.frames(n), chosen, rounded=engine.rounds_shapes) for n in range(3)]
    return Learner(made, {"Default": ModelFile(task.model, build(task.model, 1))}, engine), given


def test_gradients_against_differences(tmp_path: Path) -> None:
    one, batches = learner(tmp_path)
    arguments = one._arguments("Default", batches[0], 0.01)
    gradients, total, _ = one._gradients["Default"](*arguments)
    trained = arguments[0]
    random, step = np.random.default_rng(0), 4e-6
    for name in trained:
        direction = random.normal(size=trained[name].shape)
        moved = [
            one._losses["Default"](trained | {name: trained[name] + s * direction}, *arguments[1:])[0]
            for s in (step, -step)
        ]
        slope = (moved[0] - moved[1]) / (2 * step)
        np.testing.assert_allclose(
            (gradients[name] * direction).sum(), slope, rtol=2e-6, atol=1e-8 * total, err_msg=name
        )


OPTIMIZERS = [
    {"type": "Adam"},
    {"type": "Adam", "weight_decay": 0.1, "adam_beta1": 0.8},
    {"type": "AdamW", "weight_decay": 0.1, "adam_beta2": 0.95},
]


@pytest.mark.parametrize("name", BACKENDS)
def test_the_same_steps_on_every_backend(tmp_path: Path, name: str) -> None:
    training = {"training_data": {"systems": str(tmp_path), "batch_size": 2}, "gradient_max_norm": 0.5}
    reference, plain = learner(tmp_path, training=training)
    other, given = learner(tmp_path, name, None, training=training)
    for n, (a, b) in enumerate(zip(plain, given, strict=True)):
        columns, theirs = reference.step("Default", a, 0.01), other.step("Default", b, 0.01)
        assert columns.keys() == theirs.keys() == {"rmse", "rmse_e", "rmse_f", "rmse_v"}
        for key in columns:
            np.testing.assert_allclose(theirs[key], columns[key], rtol=1e-9, err_msg=f"step {n}: {key}")
    _same(reference.optimizer.state(), other.optimizer.state(), 1e-9)


def _same(a: dict[str, np.ndarray], b: dict[str, np.ndarray], tolerance: float) -> None:
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_allclose(b[key], a[key], rtol=1e-11, atol=tolerance, err_msg=key)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize("rule", OPTIMIZERS, ids=["adam", "adam with decay", "adamw"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_optimizers(name: str, rule: dict[str, Any], dtype: str) -> None:
    """Against Adam as published; a parameter without a gradient stays and counts no step."""
    random = np.random.default_rng(0)
    start = {"a": random.normal(size=(3, 2)).astype(dtype), "b": random.normal(size=4).astype(dtype)}
    betas = rule.get("adam_beta1", 0.9), rule.get("adam_beta2", 0.999)
    made = AdamRule(*betas, rule.get("weight_decay", 0.0), decoupled=rule["type"] == "AdamW")
    engines = [backend("numpy").engine(), backend(name).engine()]
    plain, other = (engine.optimizer(start, made) for engine in engines)
    for n in range(4):
        gradients = {key: random.normal(size=value.shape).astype(dtype) for key, value in start.items()}
        if n % 2:
            del gradients["b"]
        for optimizer, engine in ((plain, engines[0]), (other, engines[1])):
            optimizer.step({key: engine.native(g) for key, g in gradients.items()}, 0.01 / (n + 1))
    found = other.state()
    _same(plain.state(), found, 1e-12 if dtype == "float64" else 1e-6)
    assert found["b:step"] == 2
    assert found["a"].dtype == dtype


@pytest.mark.parametrize("name", ["numpy", *BACKENDS])
def test_going_on_is_exact(tmp_path: Path, name: str) -> None:
    straight, batches = learner(tmp_path, name)
    for batch in batches:
        straight.step("Default", batch, 0.01)
    first, _ = learner(tmp_path, name)
    first.step("Default", batches[0], 0.01)
    kept = {key: value.copy() for key, value in first.optimizer.state().items()}
    second, _ = learner(tmp_path, name)
    second.optimizer.load(kept)
    for batch in batches[1:]:
        second.step("Default", batch, 0.01)
    a, b = straight.optimizer.state(), second.optimizer.state()
    assert all(np.array_equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", BACKENDS)
def test_a_state_moves_between_backends(tmp_path: Path, name: str) -> None:
    one, batches = learner(tmp_path)
    one.step("Default", batches[0], 0.01)
    other, given = learner(tmp_path, name)
    other.optimizer.load(one.optimizer.state())
    other.step("Default", given[1], 0.01)
    one.step("Default", batches[1], 0.01)
    _same(one.optimizer.state(), other.optimizer.state(), 1e-9)


def test_limit_of_the_gradient() -> None:
    gradients = {"a": np.array([3.0, 0.0]), "b": np.array([[4.0]])}
    size = norm(gradients)
    assert size == 5.0
    scaled = limited(gradients, size, np.array(1.0))
    np.testing.assert_allclose(scaled["a"], [3.0 / (5.0 + 1e-6), 0.0], rtol=1e-14)
    np.testing.assert_allclose(limited(gradients, size, np.array(10.0))["b"], [[4.0]], rtol=0)


@pytest.mark.parametrize("name", ["numpy", *BACKENDS])
def test_norm_of_large_numbers(tmp_path: Path, name: str) -> None:
    """Squares that float32 does not hold are no reason to stop; those that float64 does not hold are."""
    one, _ = learner(tmp_path, name)
    for value, expected in (
        (np.full(4, 1e30, "float32"), 2e30),
        (np.array([1e200]), np.inf),
        (np.array(np.nan), np.nan),
    ):
        np.testing.assert_allclose(one.norm({"a": one.engine.native(value)}), expected, rtol=1e-7)


@pytest.mark.parametrize("name", ["numpy", *BACKENDS])
@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
@pytest.mark.parametrize("most", [None, 0.5])
def test_a_gradient_that_is_not_finite_moves_nothing(tmp_path: Path, name: str, bad: float, most: float | None) -> None:
    one, batches = learner(tmp_path, name, training={"gradient_max_norm": most})
    before, gradients = one.optimizer.state(), one._gradients["Default"]

    def spoiled(*arguments: Any) -> Any:
        found, total, reports = gradients(*arguments)
        first = next(iter(found))
        return found | {first: one.engine.native(np.full(found[first].shape, bad))}, total, reports

    one._gradients["Default"] = spoiled
    with pytest.raises(TrainingError, match="the norm of its gradient"):
        one.step("Default", batches[0], 0.01)
    after = one.optimizer.state()
    assert all(np.array_equal(before[key], after[key]) for key in before)


def test_frozen_parts_stay(tmp_path: Path) -> None:
    frozen = MODEL | {"descriptor": MODEL["descriptor"] | {"trainable": False}}  # type: ignore[operator]
    frozen |= {"fitting_net": {"neuron": [6], "trainable": [False, True]}}
    one, batches = learner(tmp_path, model=frozen)
    before = state(one.files["Default"].model)
    one.step("Default", batches[0], 0.01)
    after = state(one.models()["Default"].model)
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert moved
    assert all(path.startswith("fitting.network.layers.1.") for path in moved)


def test_all_parts_frozen(tmp_path: Path) -> None:
    frozen = MODEL | {"descriptor": MODEL["descriptor"] | {"trainable": False}}  # type: ignore[operator]
    with pytest.raises(SettingError, match=r"^model: nothing would be learned"):
        learner(tmp_path, model=frozen | {"fitting_net": {"neuron": [6], "trainable": False}})


def test_a_hessian_where_it_cannot_be_learned_from(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"loss\.start_pref_h: paddle cannot learn from a Hessian: .*; take torch"):
        learner(tmp_path, "paddle", loss={"start_pref_h": 1.0, "limit_pref_h": 1.0})


@pytest.mark.parametrize("level", [0, 1])
def test_tasks_share_what_they_say(tmp_path: Path, level: int) -> None:
    write_system(tmp_path / "a", 4)
    branch = {"type_map": "t", "descriptor": "d", "fitting_net": {"neuron": [6]}}
    shared = {"t": MODEL["type_map"], "d": MODEL["descriptor"]}
    data = script(tmp_path)
    data |= {
        "model": {"model_dict": {"A": branch, "B": branch | {"descriptor": f"d:{level}"}}, "shared_dict": shared},
        "loss_dict": {"A": data["loss"], "B": {}},
        "training": {"data_dict": {"A": {"training_data": {"systems": str(tmp_path)}}}, "numb_steps": 1},
    }
    data["training"]["data_dict"]["B"] = data["training"]["data_dict"]["A"]
    del data["loss"]
    made = read_script(data)
    models = {name: ModelFile(task.model, build(task.model, k)) for k, (name, task) in enumerate(made.tasks.items())}
    one = Learner(made, models, backend("numpy").engine())
    task = made.tasks["A"]
    frames = open_batches(task.data.training_data, task.model, 1, "training").frames(0)
    before = {name: state(file.model) for name, file in one.models().items()}
    one.step("B", collate(frames, task.model.selection), 0.01)
    after = {name: state(file.model) for name, file in one.models().items()}
    moved = {name: {p for p in before[name] if not np.array_equal(before[name][p], after[name][p])} for name in "AB"}
    assert any(path.startswith("fitting.") for path in moved["B"])
    assert any(path.startswith("descriptor.repformer.") for path in moved["B"])
    shares = "descriptor." if level == 0 else "descriptor.type_embedding."
    assert moved["A"] == {path for path in moved["B"] if path.startswith(shares)}
    for path in moved["A"]:
        np.testing.assert_array_equal(after["A"][path], after["B"][path])


def test_the_tensors_are_those_of_the_lowest_level(tmp_path: Path) -> None:
    """A task listed later may be the one that the others take their tensors from."""
    branch = {"type_map": MODEL["type_map"], "fitting_net": {"neuron": [6]}}
    data = script(tmp_path) | {
        "model": {
            "model_dict": {"A": branch | {"descriptor": "d:1"}, "B": branch | {"descriptor": "d"}},
            "shared_dict": {"d": MODEL["descriptor"]},
        },
        "loss_dict": {"A": {}, "B": {}},
        "training": {"data_dict": {name: {"training_data": {"systems": "x"}} for name in "AB"}, "numb_steps": 1},
    }
    del data["loss"]
    made = read_script(data)
    models = {name: ModelFile(task.model, build(task.model, k)) for k, (name, task) in enumerate(made.tasks.items())}
    found = Learner(made, models, backend("numpy").engine()).models()
    given, a, b = state(models["B"].model), state(found["A"].model), state(found["B"].model)
    shared = [path for path in given if path.startswith("descriptor.type_embedding.")]
    assert shared
    assert all(np.array_equal(a[path], given[path]) for path in shared)
    assert all(np.array_equal(b[path], given[path]) for path in given)


ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_step_from_a_trained_model() -> None:
    """Of a file that deepmd-kit trained, on a frame of water: gradient and Adam give the same parameters everywhere."""
    pretrained = ROOT / "tests" / "reference" / "trained" / "single.dp"
    data = script(ROOT / "examples" / "water" / "data" / "train_16")
    data["model"] = read_model(pretrained).settings.model_dump()
    data["training"] |= {"training_data": {"systems": data["training"]["training_data"]["systems"], "batch_size": 1}}

    def stepped(name: str) -> dict[str, np.ndarray]:
        run = prepare(read_script(data), backend(name).engine(), StartFrom(init_model=pretrained))
        run.learner.step("Default", run._collated("Default", run.data["Default"].train.frames(0)), 1e-3)
        return run.learner.optimizer.state()

    expected = stepped("numpy")
    weight = "fitting.network.layers.0.weight"
    moved = np.abs(expected[f"Default/{weight}"] - state(read_model(pretrained).model)[weight])
    np.testing.assert_allclose(moved, 1e-3, rtol=1e-3)  # Adam's first step
    for name in BACKENDS:
        _same(stepped(name), expected, 1e-9)
