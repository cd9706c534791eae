"""The stored reference numbers are those of the installed deepmd-kit."""

import importlib.util

import pytest

from reference_cases import EVERY, HERE, case

pytestmark = [pytest.mark.deepmd, pytest.mark.filterwarnings("ignore")]  # warnings of its own


@pytest.mark.parametrize("name", EVERY)
def test_reference_numbers(name: str) -> None:
    spec = importlib.util.spec_from_file_location("make_reference", HERE / "make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    make_reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make_reference)
    found = make_reference.differences(HERE / name)
    assert len(found) >= 11  # with PyTorch 16
    assert max(found.values()) < 0.01 * case(name).tolerance, found
