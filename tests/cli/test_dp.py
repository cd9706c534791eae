"""``dpmodel-dp``: the command lines that dpgen and dpgen2 write for deepmd-kit's ``dp``, run by dpmodel."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmodel
from dpmodel.cli.dp import main
from dpmodel.train.curve import read_curve
from small_water import script, write_system

pytest.importorskip("torch")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder as dpgen2 prepares it: input.json and data."""
    monkeypatch.chdir(tmp_path)
    systems = write_system(tmp_path / "data", 4)
    data: dict[str, Any] = script(systems)
    data["training"] |= {"numb_steps": 4, "save_freq": 2, "disp_freq": 1}
    (tmp_path / "input.json").write_text(json.dumps(data))
    return tmp_path


def dp(line: str) -> int:
    try:
        main(shlex.split(line)[1:])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def forces(path: str, **options: Any) -> np.ndarray:
    x = np.load("data/set.000/coord.npy")[0].reshape(-1, 3)
    found = dpmodel.load(path, **options).evaluate(x, [0, 1, 1, 0, 1, 1], 7.0 * np.eye(3)).forces
    assert found is not None
    return found


def test_a_round_of_dpgen2(folder: Path) -> None:
    """Train; freeze in the folder of LAMMPS; the next round starts from the model; a stopped one goes on.

    A frozen model is a program, which runs only if it is trusted, and the model itself.
    """
    assert dp("dp --pt train input.json") == 0
    assert Path("lcurve.out").is_file()
    assert Path("model.ckpt-4.pt").is_file()
    assert dp("dp --pt freeze -c model.ckpt.pt -o model.000.pth") == 0
    np.testing.assert_array_equal(forces("model.000.pth"), forces("model.ckpt.pt"))
    np.testing.assert_allclose(forces("model.000.pth", trusted=True), forces("model.ckpt.pt"), rtol=1e-9, atol=1e-12)
    assert dp("dp --pt train --init-model model.ckpt.pt input.json") == 0
    assert dp("dp --pt train --init-frz-model model.000.pth input.json --skip-neighbor-stat") == 0
    options = "--use-pretrain-script --model-branch Default --force-load"
    assert dp(f"dp --pt train input.json --finetune model.ckpt-4.pt --skip-neighbor-stat {options}") == 0
    longer = json.loads(Path("input.json").read_text())
    longer["training"]["numb_steps"] = 6
    Path("input.json").write_text(json.dumps(longer))
    assert dp("dp --pt train --restart model.ckpt-4.pt input.json") == 0
    assert list(read_curve("lcurve.out")["step"])[-1] == 6
    assert not list(folder.glob(".*"))


def test_a_round_of_dpgen(capsys: pytest.CaptureFixture[str]) -> None:
    """Freeze by default names, test and deviation of several models, the model frozen again in its place."""
    for seed in (0, 1):
        data = json.loads(Path("input.json").read_text())
        data["training"]["seed"] = data["model"]["descriptor"]["seed"] = seed
        data["model"]["descriptor"]["repinit"]["tebd_input_mode"] = "strip"
        data["training"]["training_data"]["auto_prob"] = "prob_sys_size; 0:1:1.0"
        Path("input.json").write_text(json.dumps(data))
        assert dp("dp --pt train input.json --skip-neighbor-stat") == 0
        assert dp("dp --pt freeze") == 0
        assert dp(f"dp --pt convert-backend frozen_model.pth graph.00{seed}.dp") == 0
    assert dp("dp --pt compress -i frozen_model.pth -o compressed.dp -t input.json") == 0
    np.testing.assert_allclose(forces("compressed.dp"), forces("graph.001.dp"), rtol=1e-5, atol=1e-7)
    capsys.readouterr()
    assert dp("dp --pt test -m graph.000.dp --train-data input.json -n 2") == 0
    assert "data" in capsys.readouterr().out
    assert dp("dp --pt model-devi -m graph.000.dp frozen_model.pth -s data -o model_devi.out -f 10") == 0
    lines = np.loadtxt("model_devi.out")
    assert lines[:, 0].tolist() == [0, 10, 20, 30]
    assert (lines[:, 4] > 0).all()


def test_what_cannot_be_frozen(capsys: pytest.CaptureFixture[str]) -> None:
    assert dp("dp --pt freeze -c nothing -o a.pth") == 2
    assert "nothing.pt: there is no such file" in capsys.readouterr().err
    assert not Path("a.pth").exists()
    assert dp("dp --pt-expt freeze -o a.pt2 --lower-kind graph") == 2
    assert "a.pt2: expected a name that ends in .pth, .dp" in capsys.readouterr().err
    assert dp("dp --tf train input.json") == 2
