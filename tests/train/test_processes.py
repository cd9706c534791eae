"""Several processes learn what one process learns from batches of as many frames."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import backend
from dpmodel.train.checkpoint import read
from dpmodel.train.curve import read_curve
from dpmodel.train.prepare import prepare
from dpmodel.train.script import read_script
from small_water import script, write_system

TRAIN = ["train", "input.json"]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def launch(name: str, count: int, *options: str) -> list[subprocess.Popen[str]]:
    """``count`` processes of ``dpmodel train``, as users of each library start them."""
    command, port = [*TRAIN, "--backend", name, *options], free_port()
    if name == "torch":
        where = ["--nnodes", "1", "--nproc-per-node", str(count), "--master-port", str(port)]
        return [_start([sys.executable, "-m", "torch.distributed.run", *where, "-m", "dpmodel", *command])]
    if name == "paddle":
        program = str(Path(sys.executable).with_name("dpmodel"))
        launcher = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(count)]
        return [_start([sys.executable, *launcher, program, *command])]
    common = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": str(count)}
    runs = range(count)
    return [_start([sys.executable, "-m", "dpmodel", *command], **common, JAX_PROCESS_ID=str(k)) for k in runs]


def _start(command: list[str], **variables: str) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def ended(runs: list[subprocess.Popen[str]]) -> str:
    """What they said; all have to end well."""
    said = [run.communicate(timeout=300)[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * len(runs), "\n".join(said)
    return "\n".join(said)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_system(tmp_path / "train/a", 7)
    write_system(tmp_path / "train/b", 5, seed=1)
    write_system(tmp_path / "valid", 3, seed=2)
    return tmp_path


def given(batch_size: Any, **training: Any) -> dict[str, Any]:
    data = {"training_data": {"systems": "train", "batch_size": batch_size}, "save_freq": 4}
    valid = {"validation_data": {"systems": "valid", "batch_size": 2}, "gradient_max_norm": 0.5}
    return script(Path("train"), training=data | valid | {"numb_steps": 8} | training)


def alone(settings: dict[str, Any]) -> dict[str, np.ndarray]:
    run = prepare(read_script(settings), backend("numpy").engine())
    assert run.run()
    return run.learner.optimizer.state()


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_allclose(a[key], b[key], rtol=1e-9, atol=1e-8, err_msg=key)  # Adam enlarges rounding


@pytest.mark.parametrize("name", ["torch", "jax", "paddle"])
@pytest.mark.slow
def test_two_processes_equal_one(folder: Path, name: str) -> None:
    """Batches of 2 x 2 frames from systems of 7 and 5: the last ones leave the second process one frame or none."""
    expected = alone(given(4, disp_file="alone.out", save_ckpt="alone"))
    Path("input.json").write_text(json.dumps(given(2)))
    said = ended(launch(name, 2))
    assert "2 processes" in said
    same(read("model.ckpt.pt").optimizer, expected)
    ours, theirs = read_curve("lcurve.out"), read_curve("alone.out")
    assert ours.keys() == theirs.keys()
    assert ours["step"] == [1, 2, 4, 6, 8]  # one process writes
    for column in ours:
        np.testing.assert_allclose(ours[column], theirs[column], rtol=0.011, err_msg=column)  # of three digits


@pytest.mark.slow
def test_restart_by_another_number_of_processes(folder: Path) -> None:
    expected = alone(given(4, disp_file="alone.out", save_ckpt="alone"))
    Path("input.json").write_text(json.dumps(given(2)))
    ended(launch("torch", 2, "--restart", "alone-4.pt"))
    same(read("model.ckpt.pt").optimizer, expected)


@pytest.mark.slow
def test_a_request_to_stop_reaches_all(folder: Path) -> None:
    """SIGTERM to one process of two: both leave after the same step, and a checkpoint is there."""
    Path("input.json").write_text(json.dumps(given(2, numb_steps=100_000, save_freq=100_000)))
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    command = [sys.executable, "-m", "dpmodel", *TRAIN]
    runs = [_start(command, **common, RANK=str(k), LOCAL_RANK=str(k)) for k in range(2)]
    deadline = time.monotonic() + 240
    while not Path("lcurve.out").exists() or len(Path("lcurve.out").read_text().splitlines()) < 4:
        assert all(run.poll() is None for run in runs), [run.communicate()[0] for run in runs]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    runs[1].send_signal(signal.SIGTERM)
    said = [run.communicate(timeout=120)[0] for run in runs]
    assert [run.returncode for run in runs] == [130, 130], said
    assert read("model.ckpt.pt").step >= 2
