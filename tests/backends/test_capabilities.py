"""The table of what works where says what is so."""

import re
from pathlib import Path

import pytest

from dpmodel.backend import Engine, backend, installed
from dpmodel.capabilities import BACKENDS, FEATURES, markdown_table, why_not

TESTS = Path(__file__).parents[1]


def test_every_feature_is_tested_on_every_backend() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in TESTS.rglob("test_*.py"))
    assert set(re.findall(r'mark\.needs\("(\w+)"\)', sources)) == set(FEATURES)


def test_every_backend_has_its_column() -> None:
    assert set(BACKENDS) == set(installed())
    assert all(set(feature.missing) <= set(BACKENDS) for feature in FEATURES.values())


def test_the_table_shows_every_reason() -> None:
    table, _, notes = markdown_table().partition("\n\n")
    header, _, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines())
    reasons = dict(line.split(". ", 1) for line in notes.splitlines())
    assert header == ["", *BACKENDS.values()]
    for row, (name, feature) in zip(rows, FEATURES.items(), strict=True):
        assert row[0] == feature.words
        for cell, backend_name in zip(row[1:], BACKENDS, strict=True):
            assert (None if cell == "yes" else reasons[cell.strip("()")]) == why_not(name, backend_name)


@pytest.mark.needs("compile")
def test_programs_are_compiled_where_it_is_said(engine: Engine) -> None:
    assert backend(engine.name).engine("cpu", compile=True).rounds_shapes


@pytest.mark.needs("checkpoint")
def test_functions_are_recomputed_where_it_is_said(engine: Engine) -> None:
    def function(x: object) -> tuple[object]:
        return (x,)

    assert engine.checkpoint(function) is not function


@pytest.mark.needs("gpu")
def test_a_gpu_is_used_where_it_is_said(engine: Engine) -> None:
    assert backend(engine.name).engine("cuda").device != "cpu"


@pytest.mark.parametrize(("frameworks", "taken"), [("torch jax", "torch"), ("jax", "jax"), ("", "numpy")])
def test_auto_is_the_fastest_that_is_there(
    frameworks: str, taken: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dpmodel.backend.find_spec", lambda name: name in frameworks.split() or None)
    with caplog.at_level("INFO", logger="dpmodel"):
        assert backend("auto").name == taken
    assert caplog.messages == [f"backend: {taken}, the fastest that is installed"]
