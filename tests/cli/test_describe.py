"""Descriptors and the last hidden layer, in which the energy is linear; the command writes what the library says."""

from pathlib import Path
from typing import Any

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import dpmodel
from command_line import Command
from dpmodel.backend import Engine
from dpmodel.data.samples import example
from dpmodel.evaluator import Evaluator
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import write_model
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential
from small_water import DESCRIPTOR, MODEL, write_system


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def file_of(**fitting: Any) -> ModelFile:
    repinit = DESCRIPTOR["repinit"] | {"nsel": 80, "three_body_sel": 40}
    descriptor = DESCRIPTOR | {"repinit": repinit, "repformer": DESCRIPTOR["repformer"] | {"nsel": 50}}
    settings = ModelSettings.read(MODEL | {"descriptor": descriptor, "fitting_net": {"neuron": [6, 5]} | fitting})
    return ModelFile(settings, build(settings, 1))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "model.dp", file_of())
    return tmp_path / "model.dp"


@pytest.mark.parametrize("fitting", [{}, {"atom_ener": [None, -3.0]}], ids=["", "vacuum"])
def test_the_energy_is_linear_in_the_features(engine: Engine, fitting: dict[str, Any]) -> None:
    """The reason to have them: weights and biases of the output layer give the atomic energies."""
    file, frame = file_of(**fitting), example(["O", "H"])
    (features,) = Evaluator(file, engine).describe([frame], strict=True, layer="features")
    last, bias = file.model.fitting.network.layers[-1], file.model.out_bias + file.model.fitting.bias
    energy = features @ last.weight[:, 0] + bias[frame.types, 0]
    if not fitting.get("atom_ener"):
        assert last.bias is not None
        energy = energy + last.bias[0]
    prediction = Potential(file, engine).evaluate(frame.positions, frame.types, frame.cell)
    np.testing.assert_allclose(energy[None], prediction.atom_energy, rtol=0, atol=1e-12)


def test_features_of_several_frames_and_virtual_atoms(model: Path) -> None:
    potential, frame = dpmodel.load(model), example(["O", "H"])
    moved = frame.positions + 0.1 * np.sin(np.arange(frame.positions.size)).reshape(-1, 3)
    both = potential.features([frame.positions, moved], frame.types, frame.cell)
    assert both.shape == (2, len(frame.types), 5)
    np.testing.assert_allclose(both[1], potential.features(moved, frame.types, frame.cell)[0], rtol=0, atol=1e-13)
    types = np.where(np.arange(len(frame.types)) == 3, -1, frame.types)
    assert not potential.features(frame.positions, types, frame.cell)[0, 3].any()


def rows_of(model: Path, atoms: Atoms, layer: str) -> np.ndarray:
    potential = dpmodel.load(model)
    types = [("O", "H").index(symbol) for symbol in atoms.symbols]
    call = potential.describe if layer == "descriptor" else potential.features
    return call(atoms.positions, types, atoms.cell.array if atoms.pbc.any() else None, pbc=atoms.pbc)[0]


@pytest.mark.parametrize("layer", ["descriptor", "features"])
def test_one_row_an_atom(command: Command, tmp_path: Path, model: Path, layer: str) -> None:
    """Of structures of different sizes and of systems, in one table."""
    frames = [molecule("H2O"), molecule("OH"), molecule("H2O2")]
    ase.io.write(tmp_path / "in.xyz", frames)
    write_system(tmp_path / "data", 2)
    out = tmp_path / "out.npz"
    result = command("describe", model, tmp_path / "in.xyz", tmp_path / "data", "--layer", layer, "-o", out)
    assert result.code == 0, result.err
    found = np.load(out)
    assert found["frame"].tolist() == [0] * 3 + [1] * 2 + [2] * 4 + [3] * 6 + [4] * 6
    sources = [tmp_path / "in.xyz"] * 3 + [tmp_path / "data"] * 2
    assert [bytes(path).decode() for path in found["source"]] == [str(path) for path in sources]
    for i, atoms in enumerate(ase.io.read(tmp_path / "in.xyz", ":")):
        mine = found["frame"] == i
        np.testing.assert_allclose(found["values"][mine], rows_of(model, atoms, layer), rtol=0, atol=1e-13)
        assert [found["type_map"][t].decode() for t in found["types"][mine]] == list(atoms.symbols)


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_one_row_a_frame_in_hdf5(command: Command, tmp_path: Path, model: Path, reduce: str) -> None:
    frames = [molecule("H2O"), molecule("H2O2")]
    ase.io.write(tmp_path / "in.xyz", frames)
    result = command("describe", model, tmp_path / "in.xyz", "--reduce", reduce, "-o", tmp_path / "out.h5")
    assert result.code == 0, result.err
    with h5py.File(tmp_path / "out.h5") as file:
        assert set(file) == {"values", "frame", "source", "type_map"}
        for row, atoms in zip(file["values"], ase.io.read(tmp_path / "in.xyz", ":"), strict=True):
            right = getattr(np, reduce)(rows_of(model, atoms, "descriptor"), axis=0)
            np.testing.assert_allclose(row, right, rtol=0, atol=1e-12)


def test_what_cannot_be_described(command: Command, tmp_path: Path, model: Path) -> None:
    ase.io.write(tmp_path / "in.xyz", [molecule("H2O"), molecule("CO")])
    line = command.refuses("describe", model, tmp_path / "in.xyz", "-o", tmp_path / "out.npz")
    assert f"{tmp_path / 'in.xyz'}, frame 1" in line
    assert "'C'" in line
    assert not (tmp_path / "out.npz").exists()
