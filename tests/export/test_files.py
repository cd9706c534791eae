"""Exported files: written only if they pass their own test, run only if trusted, and clear when they are bad."""

import json
import shutil
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import dpmodel
from dpmodel.cli.compare import compare
from dpmodel.cli.show import show_file, to_json
from dpmodel.errors import BackendError, DpmodelError, FileError, InputError
from dpmodel.export.forms import FORMS, exporter_of
from dpmodel.export.record import MEMBER, record_of
from dpmodel.export.write import export
from dpmodel.model.settings import ModelSettings
from random_models import random_model
from small_water import MODEL

SLOW = [pytest.param(form, marks=pytest.mark.slow) for form in ("torch", "paddle")]
WRITTEN = ("deepmd-kit", "metatomic", "stablehlo", *SLOW)
every_form = pytest.mark.parametrize("form", WRITTEN)


@cache
def files(form: str) -> tuple[Path, Path]:
    """A model, and what it is exported to, through everything that the command does."""
    folder = Path(mkdtemp())
    file = random_model(ModelSettings.read(MODEL, "model"), 7)
    dpmodel.potential.Potential(file, dpmodel.backend.backend("numpy").engine()).save(folder / "model.dp")
    exported = folder / f"model{FORMS[form].suffix}"
    report = export(exported, file, form)
    assert report.worst < 1e-10
    assert report.size == exported.stat().st_size
    assert sorted(folder.iterdir()) == sorted([folder / "model.dp", exported])
    return folder / "model.dp", exported


def changed(path: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """``path`` with another record."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith(MEMBER):
                record = json.loads(data)
                change(record)
                data = json.dumps(record).encode()
            new.writestr(entry, data)
    return target


@pytest.mark.filterwarnings("ignore::dpmodel.errors.NeighborOverflowWarning")  # dense structures are meant
@every_form
def test_an_exported_file_answers_like_its_model(form):
    model, exported = files(form)
    a, b = dpmodel.load(model), dpmodel.load(exported, trusted=True)
    assert (b.type_map, b.cutoff) == (a.type_map, a.cutoff)
    random = np.random.default_rng(3)
    x, types = random.uniform(0, 6, (10, 3)), random.integers(0, 2, 10)
    p: Any = a.evaluate(x, types, 6.5 * np.eye(3), atom_virial=True)
    q: Any = b.evaluate(x, types, 6.5 * np.eye(3), atom_virial=True)
    for name in ("energy", "atom_energy", "forces", "virial", "atom_virial"):
        value = getattr(p, name)
        np.testing.assert_allclose(getattr(q, name), value, rtol=0, atol=1e-10 * np.abs(value).max())
    assert compare(model, backends=["numpy"], other=exported, trusted=True).ok


@every_form
def test_a_file_says_what_it_is_and_runs_nothing(form, monkeypatch, capsys):
    _, exported = files(form)
    monkeypatch.setattr(exporter_of(form), "read", None)
    Console(width=200).print(show_file(exported))
    shown = capsys.readouterr().out
    assert f"exported for {form}" in shown
    assert "ener model of O, H" in shown
    assert (to_json(exported, None)["form"], to_json(exported, None)["type_map"]) == (form, ["O", "H"])


@every_form
def test_nothing_runs_unless_it_is_trusted(form, monkeypatch):
    _, exported = files(form)

    def never(*_: Any) -> None:
        raise AssertionError("the program was loaded")

    monkeypatch.setattr(exporter_of(form), "read", never)
    with pytest.raises(FileError, match="trusted=True or --trust") as caught:
        dpmodel.load(exported)
    assert "\n" not in str(caught.value)


@every_form
def test_what_a_program_cannot_do_is_told(form, tmp_path):
    _, exported = files(form)
    potential = dpmodel.load(exported, trusted=True)
    for ask in (
        lambda: potential.evaluate([[0.0, 0, 0]], [0], hessian=True),
        lambda: potential.describe([[0.0, 0, 0]], [0]),
        lambda: potential.save(tmp_path / "model.dp"),
        lambda: potential.to("torch"),
    ):
        with pytest.raises(InputError, match="load the model that it was made from"):
            ask()
    assert not list(tmp_path.iterdir())


@every_form
def test_a_cut_file_is_named(form, tmp_path):
    _, exported = files(form)
    cut = tmp_path / exported.name
    cut.write_bytes(exported.read_bytes()[: exported.stat().st_size // 2])
    with pytest.raises(DpmodelError, match=cut.name):
        dpmodel.load(cut, trusted=True)


@every_form
def test_bytes_of_the_program_that_changed_are_found(form, tmp_path):
    _, exported = files(form)
    with zipfile.ZipFile(exported) as old, zipfile.ZipFile(tmp_path / exported.name, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry, data if entry.filename.endswith(MEMBER) else data[: len(data) // 2])
    with pytest.raises(FileError, match=exported.name):
        dpmodel.load(tmp_path / exported.name, trusted=True)


@every_form
def test_another_layout_is_told_in_one_line(form, tmp_path):
    _, exported = files(form)
    newer = changed(exported, tmp_path / exported.name, lambda record: record.update(dpmodel_export=2))
    with pytest.raises(FileError, match="expected an exported file of layout 1, found 2") as caught:
        dpmodel.load(newer, trusted=True)
    assert "\n" not in str(caught.value)


@every_form
def test_a_file_that_gives_other_numbers_is_not_used(form, tmp_path):
    _, exported = files(form)

    def lie(record: dict[str, Any]) -> None:
        record["test"]["forces"][0][0] += 1e-6

    with pytest.raises(FileError, match="does not pass its own test: forces differ"):
        dpmodel.load(changed(exported, tmp_path / exported.name, lie), trusted=True)


def test_a_file_that_fails_its_test_is_not_written(monkeypatch, tmp_path):
    model, _ = files("deepmd-kit")

    def wrong(*arguments: Any) -> Any:
        record = record_of(*arguments)
        record.answers["energy"] += 1e-3
        return record

    monkeypatch.setattr("dpmodel.export.write.record_of", wrong)
    with pytest.raises(FileError, match=r"model\.pth: not written: in a fresh process: .*energy differ"):
        export(tmp_path / "model.pth", dpmodel.load(model).file, "deepmd-kit")
    assert not list(tmp_path.iterdir())


def test_what_stands_in_the_way_is_told_before_any_work(tmp_path):
    model, exported = files("deepmd-kit")
    file = dpmodel.load(model).file
    with pytest.raises(InputError, match="the suffix says which form"):
        export(tmp_path / "model.onnx", file)
    with pytest.raises(InputError, match="should end in"):
        export(tmp_path / "model.pt2", file, "deepmd-kit")
    with pytest.raises(InputError, match="--for: expected one of"):
        export(tmp_path / "model.pth", file, "tensorflow")
    with pytest.raises(FileError, match="exists already"):
        export(exported, file, "deepmd-kit")
    dipole: Any = json.loads(json.dumps(MODEL))
    dipole["fitting_net"] |= {"type": "dipole"}
    with pytest.raises(InputError, match="a dipole model cannot be exported for deepmd-kit"):
        export(tmp_path / "dipole.pth", random_model(ModelSettings.read(dipole, "model")), "deepmd-kit")
    with pytest.raises(BackendError, match="runs on torch, not on jax"):
        dpmodel.load(exported, "jax", trusted=True)
    with pytest.raises(InputError, match="what they are"):
        dpmodel.load(exported, precision="float32", trusted=True)
    assert not list(tmp_path.iterdir())


def test_an_ordinary_file_needs_no_trust(tmp_path):
    model, _ = files("deepmd-kit")
    shutil.copy(model, tmp_path / "other.dp")
    assert dpmodel.load(tmp_path / "other.dp", trusted=True).type_map == dpmodel.load(model).type_map
