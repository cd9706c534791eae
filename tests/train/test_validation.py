"""Full validation, the best checkpoints and early stopping, with interruptions and without."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dpmodel.backend import backend
from dpmodel.cli.app import app
from dpmodel.errors import SettingError
from dpmodel.train.checkpoint import read
from dpmodel.train.loop import Training
from dpmodel.train.prepare import StartFrom, prepare
from dpmodel.train.script import read_script
from small_water import script, write_system


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_system(tmp_path / "data", 6)
    write_system(tmp_path / "valid", 4, seed=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given(steps: int = 8, validating: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    """Learning so fast that errors go up and down."""
    often = {"full_validation": True, "full_val_start": 0, "validation_freq": 1, "max_best_ckpt": 2}
    data = script(Path("data"), validating=often | (validating or {}), learning_rate={"start_lr": 0.05})
    valid = {"validation_data": {"systems": "valid"}}
    return data | {"training": data["training"] | valid | {"numb_steps": steps, "save_freq": 3} | training}


def ready(data: dict[str, Any], restart: Path | None = None) -> Training:
    return prepare(read_script(data), backend("numpy").engine(), StartFrom(restart))


def logged() -> dict[int, float]:
    """The first error of every line of val.log, by step; later lines count."""
    lines = [line.split() for line in Path("val.log").read_text().splitlines() if not line.startswith("#")]
    return {int(line[0]): float(line[1]) for line in lines}


def best_files(prefix: str = "best.ckpt") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(Path.cwd().glob(f"{prefix}-*"))}


def errors_of(model: str) -> dict[str, float]:
    result = CliRunner().invoke(app, ["test", model, "-s", "valid", "--json"])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout)["total"])


def test_the_best_are_kept_and_ranked() -> None:
    run = ready(given())
    assert run.run()
    errors = logged()
    assert sorted(errors) == list(range(1, 9))
    first, second = sorted(errors, key=errors.__getitem__)[:2]
    assert list(best_files()) == sorted([f"best.ckpt-{first}.t-1.pt", f"best.ckpt-{second}.t-2.pt"])
    found = errors_of(f"best.ckpt-{first}.t-1.pt")
    np.testing.assert_allclose(1000 * found["mae_energy"], errors[first], rtol=1e-4)


def test_the_log_has_the_errors_of_the_command() -> None:
    """Energies, forces and stresses in deepmd-kit's columns and units."""
    ready(given(3)).run()
    header, *lines = Path("val.log").read_text().splitlines()
    names = "E_MAE(meV/atom) E_RMSE(meV/atom) F_MAE(meV/Å) F_RMSE(meV/Å) S_MAE(meV/Å³) S_RMSE(meV/Å³)"
    assert header.split()[2:] == names.split()
    values = [float(word) for word in [line for line in lines if not line.startswith("#")][-1].split()[1:]]
    found = errors_of("model.ckpt-3.pt")
    expected = [found[f"{x}_{q}"] for q in ("energy", "force") for x in ("mae", "rmse")]
    expected += [found[f"{x}_virial"] * 6 / 343.0 for x in ("mae", "rmse")]  # of 6 atoms to 7^3 cubic angstrom
    np.testing.assert_allclose(values, 1000 * np.array(expected), rtol=1e-4)


@pytest.mark.parametrize("stop", [4, 5, 7])
def test_an_interrupted_run_keeps_the_same_files(folder: Path, monkeypatch: pytest.MonkeyPatch, stop: int) -> None:
    """Killed without a checkpoint after the last one that the input asks for, when better ones were there already."""
    ema = {"enable_ema": True, "ema_decay": 0.5}
    whole = given(9, {"ema_full_validation": True}, **ema)
    ready(whole).run()
    expected, errors, averaged = best_files(), logged(), best_files("best_ema.ckpt")
    assert len(averaged) == 2
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()

    class Killed(Exception):
        pass

    def kill(step: int, *_: object) -> None:
        if step == stop + 1:
            raise Killed

    with pytest.raises(Killed):
        ready(whole).run(kill)
    assert read("model.ckpt.pt").step == stop // 3 * 3
    assert ready(whole, Path("model.ckpt")).run()
    assert best_files() == expected
    assert best_files("best_ema.ckpt") == averaged
    assert logged() == errors


def test_patience() -> None:
    """It stops when so many validations in a row were no better, and a restart has nothing left to do."""
    run = ready(given(40, {"patience": 3}))
    assert run.run()
    errors = logged()
    best = min(errors, key=errors.__getitem__)
    assert run.step == best + 3 < 40
    again = ready(given(40, {"patience": 3}), Path("model.ckpt"))
    assert again.finished
    assert again.run()
    assert logged() == errors
    assert ready(given(40, {"patience": 30}), Path("model.ckpt")).finished is False


@pytest.mark.parametrize(("start", "steps"), [(0, [2, 4, 6, 8]), (0.5, [4, 6, 8]), (3, [3, 5, 7]), (1, [])])
def test_when(start: float, steps: list[int]) -> None:
    run = ready(given(8, {"full_val_start": start, "validation_freq": 2}))
    assert [step for step in range(1, 9) if any(v.due(step) for v in run.validations)] == steps


@pytest.mark.parametrize("metric", ["e:rmse", "F:MAE", "S:MAE", "V:RMSE"])
def test_metrics(metric: str) -> None:
    ready(given(2, {"validation_metric": metric, "max_best_ckpt": 9})).run()
    names = [word.partition("(")[0] for word in Path("val.log").read_text().splitlines()[0].split()[2:]]
    assert metric.upper().replace(":", "_") in names
    assert len(best_files()) == 2


@pytest.mark.parametrize("metric", ["E", "X:MAE", "E:MAX", "dipole:MAE"])
def test_unknown_metrics(metric: str) -> None:
    with pytest.raises(SettingError, match=r"validating.validation_metric should be one of E:MAE, E:RMSE, F:MAE"):
        ready(given(2, {"validation_metric": metric}))


def test_what_is_not_learned_is_no_metric() -> None:
    data = given(2, {"validation_metric": "V:MAE"})
    data["loss"] = {}
    with pytest.raises(SettingError, match=r"one of E:MAE, E:RMSE, F:MAE, F:RMSE \(what the loss learns"):
        ready(data)
