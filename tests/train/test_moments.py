"""Going on from a checkpoint of deepmd-kit: what its Adam remembers arrives under our names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpmodel.backend import AdamRule, backend
from dpmodel.io import deepmd
from dpmodel.io.model import read_model
from dpmodel.model.build import build
from dpmodel.module import arrays
from dpmodel.train.checkpoint import read
from dpmodel.train.prepare import StartFrom, prepare
from dpmodel.train.script import read_script
from small_water import script, write_system

TRAINED = Path(__file__).parents[1] / "reference" / "trained"
SINGLE, SEVERAL = TRAINED / "model.ckpt-300.pt", TRAINED / "mt.ckpt-20.pt"
STATISTICS = ("mean", "stddev", "out_bias", "out_std", "bias_atom_e", "min_nbor_dist", "type_embd_data")


def parameters(saved: Any, count: int) -> list[torch.nn.Parameter]:
    """The ``count`` parameters of a checkpoint in the order of the model, those that tasks share once."""
    found: dict[Any, torch.nn.Parameter] = {}
    for name, tensor in saved["model"].items():
        if name == "_extra_state" or "._networks." in name or name.split(".")[-1] in STATISTICS:
            continue
        if not (name.startswith("model.B.") and ".compress_" in name):  # those of B are the ones of A
            found.setdefault(tensor.data_ptr() or name, torch.nn.Parameter(tensor))
    assert len(found) == count
    return list(found.values())


def slope(x: Any) -> Any:
    """A gradient that is known where the value is."""
    return (torch if isinstance(x, torch.Tensor) else np).sin(1e3 * x)


def trainable(file: Path, head: str) -> dict[str, np.ndarray]:
    model = read_model(file, head).model
    return {f"{head}/{path}": value for path, value, about in arrays(model) if about["trainable"]}


def step(adam: torch.optim.Adam, moved: list[torch.nn.Parameter]) -> None:
    for parameter in moved:
        parameter.grad = slope(parameter.detach())
    adam.step()


def test_one_more_step_is_that_of_torch(tmp_path: Path) -> None:
    """From the state in the file: torch.optim.Adam on its tensors, and ours on the arrays of the model."""
    kept, saved = read(SINGLE), torch.load(SINGLE, weights_only=True)
    assert kept.step == 300
    held = parameters(saved, 60)
    adam = torch.optim.Adam(held)
    adam.load_state_dict(saved["optimizer"])
    adam.param_groups[0]["lr"] = 1e-3
    step(adam, [parameter for parameter in held if parameter.numel()])
    torch.save(saved, tmp_path / "after.pt")

    start, expected = trainable(SINGLE, "Default"), trainable(tmp_path / "after.pt", "Default")
    ours = backend("numpy").engine().optimizer(start, AdamRule(0.9, 0.999, 0.0, decoupled=False))
    ours.load(kept.optimizer)
    ours.step({name: slope(value) for name, value in start.items()}, 1e-3)
    assert ours.state()["Default/fitting.network.layers.0.weight:step"] == 301
    for name, value in expected.items():
        assert not np.array_equal(value, start[name])
        np.testing.assert_allclose(ours.parameters[name], value, rtol=1e-13, atol=1e-16, err_msg=name)


def test_tasks_that_share(tmp_path: Path) -> None:
    """Shared tensors have one state, found under both tasks; what was not trained has zeros."""
    saved = torch.load(SEVERAL, weights_only=True)
    before = {head: trainable(SEVERAL, head) for head in "AB"}
    held = parameters(saved, 67)
    adam = torch.optim.Adam(held)
    step(adam, [parameter for parameter in held[:60] if parameter.numel()])  # all but the head of B
    torch.save(saved | {"optimizer": adam.state_dict()}, tmp_path / "two.pt")
    found = read(tmp_path / "two.pt").optimizer
    for head in "AB":
        for name, value in before[head].items():
            moved = 0.0 if name.startswith("B/fitting.") else 1.0
            assert found[f"{name}:step"] == moved
            np.testing.assert_allclose(found[f"{name}:first"], moved * 0.1 * slope(value), rtol=1e-12, err_msg=name)
            np.testing.assert_allclose(found[f"{name}:second"], moved * 1e-3 * slope(value) ** 2, rtol=1e-12)


def spoil(optimizer: Any) -> list[Any]:
    state, groups = optimizer["state"], optimizer["param_groups"]
    return [
        None,
        {"state": {}, "param_groups": groups},
        {"state": state | {60: state[0]}, "param_groups": groups},
        {"state": state | {0: state[1]}, "param_groups": groups},
        {"state": state | {0: {"momentum_buffer": state[0]["exp_avg"]}}, "param_groups": groups},
        {"state": state | {0: 3}, "param_groups": groups},
        [state],
    ]


@pytest.mark.parametrize("number", range(7))
def test_a_state_that_does_not_fit_is_none(tmp_path: Path, number: int) -> None:
    saved = torch.load(SINGLE, weights_only=True)
    torch.save(saved | {"optimizer": spoil(saved["optimizer"])[number]}, tmp_path / "a.pt")
    assert read(tmp_path / "a.pt").optimizer == {}


def test_restart(tmp_path: Path) -> None:
    """What is said where the optimizer goes on, and where it does not."""
    write_system(tmp_path / "data", 2)
    data = script(tmp_path / "data", training={"numb_steps": 400})
    data["model"] = read_model(SINGLE).settings.model_dump()
    told: list[str] = []
    run = prepare(read_script(data), backend("numpy").engine(), StartFrom(restart=SINGLE), told.append)
    state = run.learner.optimizer.state()
    assert run.step == 300
    assert state["Default/descriptor.repformer.g2_embedding.weight:step"] == 300
    assert not any("anew" in line for line in told)
    prepare(read_script(data), backend("numpy").engine(), StartFrom(restart=TRAINED / "single.dp"), told.append)
    assert any("single.dp has no state of Adam for this run: the optimizer starts anew at step 0" in x for x in told)


@pytest.mark.parametrize(("file", "models"), [(SINGLE, 1), (SEVERAL, 2), (TRAINED / "single.dp", 1)])
def test_every_model_is_built_once(monkeypatch: pytest.MonkeyPatch, file: Path, models: int) -> None:
    """With the state of Adam too; so is the one model that is asked for alone."""
    builds: list[Any] = []

    def counted(*args: Any, **more: Any) -> Any:
        builds.append(args)
        return build(*args, **more)

    monkeypatch.setattr(deepmd, "build", counted)
    read(file)
    assert len(builds) == models
    read_model(file, "A" if file is SEVERAL else None)
    assert len(builds) == models + 1
