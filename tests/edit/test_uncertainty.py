"""A model that knows its uncertainty: against dense algebra on its features, cut off and resumed, in every file."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms

from command_line import Command
from dpmodel import load
from dpmodel.backend import Engine
from dpmodel.cli.diff import diff
from dpmodel.data.samples import mixture
from dpmodel.data.structure import Structure
from dpmodel.data.systems import Frame, System
from dpmodel.edit.bias import change_bias
from dpmodel.edit.type_map import change_type_map
from dpmodel.edit.uncertainty import CHUNK, calibrate
from dpmodel.engines.ase import DPCalculator
from dpmodel.errors import FileError, InputError
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.metadata import RIGIDITY
from dpmodel.io.model import read_model, write_model
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential
from dpmodel.statistics.rigidity import Rigidity
from dpmodel.train.finetune import adapted
from engines import engine_of
from random_models import random_model
from small_water import MODEL, write_system
from trees import TRAINED

pytestmark = pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def model(**changes: object) -> ModelFile:
    return random_model(ModelSettings.read(MODEL | changes))


def frames(n: int, seed: int = 0) -> list[Frame]:
    """Mixtures of several sizes, some atoms virtual, with random energies."""
    random = np.random.default_rng(seed)
    every = []
    for i in range(n):
        s = mixture(2, seed=seed + i)
        types = random.choice([-1, 0, 1], len(s.types))
        energy = np.asarray(random.normal(-100.0, 3.0))
        every.append(Frame(Structure(s.positions, types, s.cell, s.pbc), {"energy": energy}))
    return every


def test_rigidity_is_that_of_the_summed_features(engine: Engine) -> None:
    file = model(atom_exclude_types=[1])
    training, validation = frames(4), frames(6, seed=100)
    result = calibrate(file, engine, training, validation)
    plain = Potential(file, engine_of("numpy"))

    def per_atom(frame: Frame) -> np.ndarray:
        s = frame.structure
        layer = plain.features(s.positions, s.types, s.cell, pbc=s.pbc)[0]
        return layer[s.types == 0].sum(axis=0) / np.sum(s.types >= 0)

    f = np.stack([per_atom(frame) for frame in training])
    covariance = np.einsum("ka,kb->ab", f, f)
    np.testing.assert_allclose(result.rigidity.covariance, covariance, rtol=0, atol=1e-11 * np.abs(covariance).max())
    g = np.stack([per_atom(frame) for frame in validation])
    s, alpha = result.rigidity.regularizer, result.rigidity.alpha
    inverse = np.linalg.inv(covariance + s * np.eye(len(covariance)))
    expected = alpha * np.sqrt(np.einsum("ka,ab,kb->k", g, inverse, g))
    np.testing.assert_allclose(result.check.deviations, expected, rtol=1e-6)
    energies = [p.energy[0] for p in plain.evaluate_many([frame.structure for frame in validation], forces=False)]
    errors = [e - frame.labels["energy"] for e, frame in zip(energies, validation, strict=True)]
    sizes = [np.sum(frame.structure.types >= 0) for frame in validation]
    np.testing.assert_allclose(result.check.residuals, np.divide(errors, sizes), rtol=1e-9)


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    file, engine, keep = model(), engine_of("numpy"), tmp_path / "part.npz"
    training, validation = frames(2 * CHUNK + 3), frames(3, seed=1000)
    whole = calibrate(file, engine, training, validation).rigidity
    visited: list[int] = []

    def interrupted(most: int) -> Iterator[Frame]:
        for i, frame in enumerate(training):
            if i == most:
                raise KeyboardInterrupt
            yield frame

    with pytest.raises(KeyboardInterrupt):
        calibrate(file, engine, interrupted(CHUNK + 7), validation, keep=keep, mark="a")
    assert keep.exists()
    resumed = calibrate(file, engine, training, validation, keep=keep, mark="a", watch=visited.append).rigidity
    assert visited[0] == 2 * CHUNK
    np.testing.assert_array_equal(resumed.covariance, whole.covariance)
    assert (resumed.alpha, resumed.regularizer) == (whole.alpha, whole.regularizer)
    assert not keep.exists()


def test_what_another_run_left_is_not_used(tmp_path: Path) -> None:
    file, engine, keep = model(), engine_of("numpy"), tmp_path / "part.npz"
    np.savez(keep, mark="other", covariance=np.eye(3), features=np.zeros((0, 3)), residuals=np.zeros(0), done=99)
    with_it = calibrate(file, engine, frames(3), frames(3, seed=9), keep=keep, mark="mine").rigidity
    without = calibrate(file, engine, frames(3), frames(3, seed=9)).rigidity
    np.testing.assert_array_equal(with_it.covariance, without.covariance)
    keep.write_bytes(b"no archive")
    with pytest.raises(FileError, match=r"part\.npz: expected what an earlier calibration left; remove it"):
        calibrate(file, engine, frames(3), frames(3, seed=9), keep=keep, mark="mine")


@pytest.mark.parametrize("suffix", [".dp", ".yaml", ".dp.json", ".pt"])
def test_files_keep_it(suffix: str, tmp_path: Path) -> None:
    changed = calibrate(model(), engine_of("numpy"), frames(3), frames(4, seed=9))
    paths = [difference.path for difference in diff(model(), changed.file).arrays]
    assert sorted(paths) == [f"{RIGIDITY}.{name}" for name in ("@variables.covariance", "alpha", "regularizer")]
    assert diff(changed.file, changed.file).equal
    path = tmp_path / f"known{suffix}"
    write_model(path, changed.file)
    again = Rigidity.of_entry(read_model(path).extras[RIGIDITY], len(changed.rigidity.covariance), suffix)
    np.testing.assert_array_equal(again.covariance, changed.rigidity.covariance)
    assert (again.alpha, again.regularizer) == (changed.rigidity.alpha, changed.rigidity.regularizer)


def test_command(command: Command, tmp_path: Path) -> None:
    write_system(tmp_path / "train", 5, seed=1)
    write_system(tmp_path / "valid", 5, seed=2)
    write_model(tmp_path / "m.dp", model())
    paths = (tmp_path / "m.dp", tmp_path / "known.dp", "--system", tmp_path / "train", "--valid", tmp_path / "valid")
    result = command("calibrate", *paths)
    assert result.code == 0, result
    assert "miscalibration area" in result.err
    assert RIGIDITY in load(tmp_path / "known.dp").file.extras
    assert "exists already" in command.refuses("calibrate", *paths)


def test_other_heads_have_no_energy() -> None:
    file = model(fitting_net={"type": "dipole", "neuron": [4]})
    with pytest.raises(InputError, match="expected an energy model, got a dipole model"):
        calibrate(file, engine_of("numpy"), frames(2), frames(2))
    with pytest.raises(InputError, match="a dipole model has no forces, energies or virials"):
        Potential(file, engine_of("numpy")).evaluate(np.zeros((1, 3)), [0], uncertainty=True)


def with_parameters(frame: Frame) -> Frame:
    s, random = frame.structure, np.random.default_rng(len(frame.structure.types))
    return Frame(replace(s, fparam=random.normal(size=2), aparam=random.normal(size=(len(s.types), 1))), frame.labels)


FITTINGS: dict[str, dict[str, Any]] = {
    "parameters": {"numb_fparam": 2, "numb_aparam": 1},
    "case": {"dim_case_embd": 3},
    "vacuum": {"atom_ener": [-3.0, -1.0]},
    "float32": {"precision": "float32"},
}


@pytest.mark.parametrize("kind", [*FITTINGS, "compressed", "pairs"])
def test_every_kind_of_model(kind: str, tmp_path: Path) -> None:
    """Calibrated, written, read: sigma^2 = alpha^2 f^T (C + s)^-1 f, with C from the features of frames one by one."""
    changes: dict[str, Any] = {"fitting_net": {"neuron": [6], **FITTINGS.get(kind, {})}}
    file = model(**changes, **({"pair_exclude_types": [[0, 1]]} if kind == "pairs" else {}))
    if kind == "compressed":
        file = read_model(TRAINED / "strip_c.pth")
    every = [with_parameters(f) if kind == "parameters" else f for f in frames(9)]
    write_model(tmp_path / "m.dp", calibrate(file, engine_of("numpy"), every[:3], every[3:6]).file)
    p = load(tmp_path / "m.dp", "torch")
    known = p.evaluator.rigidity

    def features(s: Structure) -> np.ndarray:
        rest = {"pbc": s.pbc, "fparam": s.fparam, "aparam": s.aparam}
        return p.features(s.positions, s.types, s.cell, **rest)[0]

    sums = [features(f.structure).sum(axis=0) / np.sum(f.structure.types >= 0) for f in every]
    covariance = np.sum([np.outer(f, f) for f in sums[:3]], axis=0)
    tolerance = 1e-5 if kind == "float32" else 1e-9
    np.testing.assert_allclose(known.covariance, covariance, rtol=0, atol=tolerance * np.abs(covariance).max())
    inverse = np.linalg.inv(known.covariance + known.regularizer * np.eye(len(covariance)))
    for frame in every[6:]:
        f, result = features(frame.structure), p.evaluate_many([frame.structure], uncertainty=True)[0]
        each = known.alpha * np.sqrt(np.einsum("ia,ab,ib->i", f, inverse, f))
        total = known.alpha * np.sqrt(f.sum(axis=0) @ inverse @ f.sum(axis=0))
        np.testing.assert_allclose(result.atom_uncertainty[0], each, rtol=1e-4 if kind == "float32" else 1e-6)
        np.testing.assert_allclose(result.energy_uncertainty, total, rtol=1e-4 if kind == "float32" else 1e-6)


def test_isolated_atoms_add_up() -> None:
    """Two equal atoms that do not feel each other are as uncertain as twice one; so it is for frames together."""
    p = Potential(calibrate(model(), engine_of("numpy"), frames(3), frames(4, seed=9)).file, engine_of("numpy"))
    one = p.evaluate(np.zeros((1, 3)), [0], uncertainty=True)
    two = p.evaluate([[[0.0, 0, 0], [50.0, 0, 0]]] * 3, [0, 0], uncertainty=True)
    assert two.atom_uncertainty.shape == (3, 2)
    np.testing.assert_allclose(two.energy_uncertainty, 2 * one.energy_uncertainty[0], rtol=1e-12)
    np.testing.assert_allclose(two.atom_uncertainty, one.atom_uncertainty[0, 0], rtol=1e-12)


def test_what_changes_the_energies_drops_it() -> None:
    known = calibrate(model(), engine_of("numpy"), frames(3), frames(4, seed=9)).file
    goes = pytest.warns(UserWarning, match="the uncertainty in the file is that of the model before: it is left out")
    with goes:
        assert RIGIDITY not in change_bias(known, engine_of("numpy"), energies={"O": -1.0}).extras
    with goes:
        larger = change_type_map(known, ["O", "H", "C"])
    assert RIGIDITY not in larger.extras
    with goes:
        assert RIGIDITY not in adapted(model(), known, True, "m.dp").extras
    frame = frames(1, seed=50)[0].structure
    turned = Potential(change_type_map(known, ["H", "O"]), engine_of("numpy"))
    other = replace(frame, types=np.where(frame.types < 0, -1, 1 - frame.types))
    again = turned.evaluate_many([other], uncertainty=True)[0]
    right = Potential(known, engine_of("numpy")).evaluate_many([frame], uncertainty=True)[0]
    np.testing.assert_allclose(again.atom_uncertainty, right.atom_uncertainty, rtol=1e-10)


def test_the_head_of_several(command: Command, tmp_path: Path) -> None:
    """One of a multi-task file is calibrated and written alone; none is one line that names them."""
    for name, seed in (("train", 1), ("valid", 2)):
        write_system(tmp_path / name, 4, seed=seed)
    both = TRAINED / "mt.ckpt-20.pt"
    paths = (both, tmp_path / "b.dp", "--system", tmp_path / "train", "--valid", tmp_path / "valid")
    assert "'A', 'B'" in command.refuses("calibrate", *paths)
    result = command("calibrate", *paths, "--head", "B")
    assert result.code == 0, result
    assert load(tmp_path / "b.dp").evaluate(np.zeros((1, 3)), [0], uncertainty=True).energy_uncertainty[0] > 0


def test_a_killed_command_goes_on(tmp_path: Path) -> None:
    """Killed in the middle and run again, it writes what a run in one piece writes."""
    write_system(tmp_path / "train", 2 * CHUNK + 40, seed=1)
    write_system(tmp_path / "valid", 5, seed=2)
    write_model(tmp_path / "m.dp", model())

    def start(output: str) -> subprocess.Popen[bytes]:
        paths = ("m.dp", output, "--system", "train", "--valid", "valid")
        return subprocess.Popen([sys.executable, "-m", "dpmodel", "calibrate", *paths], cwd=tmp_path)

    part = tmp_path / "killed.dp.part.npz"
    with start("killed.dp") as process:
        while not part.exists() and process.poll() is None:
            time.sleep(0.01)
        process.kill()
    assert not (tmp_path / "killed.dp").exists()
    with np.load(part) as saved:
        assert 0 < saved["done"] < 2 * CHUNK + 45
    for name in ("killed.dp", "whole.dp"):
        assert start(name).wait() == 0
    assert not part.exists()
    entries = [read_model(tmp_path / name).extras[RIGIDITY] for name in ("killed.dp", "whole.dp")]
    killed, whole = (Rigidity.of_entry(entry, 6, RIGIDITY) for entry in entries)
    np.testing.assert_array_equal(killed.covariance, whole.covariance)
    assert (killed.alpha, killed.regularizer) == (whole.alpha, whole.regularizer)


def test_predictions_come_with_it(engine: Engine) -> None:
    """Of frames of different sizes at once, the same on every backend, and per atom as far as an atom goes."""
    changed = calibrate(model(atom_exclude_types=[1]), engine_of("numpy"), frames(3), frames(4, seed=9))
    potential, plain = Potential(changed.file, engine), Potential(changed.file, engine_of("numpy"))
    for frame in frames(3, seed=50):
        s = frame.structure
        p = potential.evaluate_many([s], forces=False, uncertainty=True)[0]
        f = plain.features(s.positions, s.types, s.cell, pbc=s.pbc)[0] * (s.types == 0)[:, None]
        np.testing.assert_allclose(p.atom_uncertainty[0], changed.rigidity.deviation(f), rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(p.energy_uncertainty[0], changed.rigidity.deviation(f.sum(axis=0)), rtol=1e-9)
        assert p.energy_uncertainty[0] <= p.atom_uncertainty[0].sum() * (1 + 1e-9)


def test_a_model_that_was_not_calibrated_says_so() -> None:
    potential = Potential(model(), engine_of("numpy"))
    with pytest.raises(InputError, match="does not know its uncertainty: let 'dpmodel calibrate'"):
        potential.evaluate(np.zeros((1, 3)), [0], uncertainty=True)


def test_every_door(command: Command, tmp_path: Path) -> None:
    """ASE, ``dpmodel eval`` and ``dpmodel test`` give what Python gives."""
    write_system(tmp_path / "valid", 5, seed=2)
    file = calibrate(model(), engine_of("numpy"), frames(3), frames(4, seed=9)).file
    write_model(tmp_path / "known.dp", file)
    potential = load(tmp_path / "known.dp")
    system = System(str(tmp_path / "valid"), potential.settings, {"energy"})
    known = [system.frame(i) for i in range(system.n_frames)]
    s = known[0].structure
    atoms = Atoms([potential.type_map[t] for t in s.types], s.positions, cell=s.cell, pbc=s.pbc)
    right = potential.evaluate_many([atoms], uncertainty=True)[0]
    calculator = DPCalculator(potential)
    assert calculator.get_property("energy_uncertainty", atoms) == pytest.approx(right.energy_uncertainty[0], rel=1e-9)
    np.testing.assert_allclose(calculator.get_property("atom_uncertainty", atoms), right.atom_uncertainty[0], rtol=1e-9)
    ase.io.write(tmp_path / "in.xyz", atoms, format="extxyz")
    out = command("eval", tmp_path / "known.dp", tmp_path / "in.xyz", "--uncertainty", "-o", tmp_path / "out.xyz")
    assert out.code == 0, out
    written = ase.io.read(tmp_path / "out.xyz")
    assert written.info["energy_uncertainty"] == pytest.approx(right.energy_uncertainty[0], rel=1e-6)  # type: ignore[union-attr]
    test = command("test", tmp_path / "known.dp", "-s", tmp_path / "valid", "--uncertainty", "--json")
    assert test.code == 0, test
    found = json.loads(test.out)["uncertainty"]
    every = potential.evaluate_many([frame.structure for frame in known], forces=False, uncertainty=True)
    sizes = np.array([len(frame.structure.types) for frame in known])
    expected = np.array([p.energy_uncertainty[0] for p in every]) / sizes
    errors = np.array([p.energy[0] - f.labels["energy"] for p, f in zip(every, known, strict=True)]) / sizes
    assert found["expected"] == pytest.approx(np.sqrt(np.mean(expected**2)), rel=1e-9)
    assert found["within_95"] == np.mean(np.abs(errors) <= 1.959963985 * expected)
    drawn = command("test", tmp_path / "known.dp", "-s", tmp_path / "valid", "--uncertainty", "-d", tmp_path / "d")
    assert "miscalibration area" in drawn.err
    assert (tmp_path / "d" / "calibration.png").stat().st_size > 1000
