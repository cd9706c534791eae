"""The mathematics uses the Array API standard and nothing else, and changes nothing that it is given."""

from collections.abc import Callable, Iterator
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpmodel.graph import Graph
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.model import Model
from dpmodel.model.predict import atomic_output, describe, predict
from dpmodel.model.settings import ModelSettings
from dpmodel.module import convert
from dpmodel.xp import map_arrays
from random_models import examples, graph_of, random_graph, random_model
from reference_cases import EVERY, Case, case
from strategies import dpmodel_settings

ELSEWHERE = array_api_strict.Device("device1")  # where nothing is made by default
MODELS = dpmodel_settings(precisions=("float64", "float32"))

pytestmark = pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")


@pytest.fixture(scope="module", autouse=True)
def the_standard_and_no_more() -> Iterator[None]:
    array_api_strict.set_array_api_strict_flags(
        api_version="2024.12", boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
    )
    yield
    array_api_strict.reset_array_api_strict_flags()


def strict(x: np.ndarray) -> Any:
    return array_api_strict.asarray(x, device=ELSEWHERE)


def frozen(x: np.ndarray) -> np.ndarray:
    copy = np.array(x)
    copy.flags.writeable = False
    return copy


def plain(x: Any) -> np.ndarray:
    return np.from_dlpack(array_api_strict.asarray(x, device=array_api_strict.Device("CPU_DEVICE")))


def no_derivatives(function: Callable[..., Any], *x: Any) -> tuple[tuple[Any, ...], Any]:
    """In place of a backend's: the function is called as it would be, its slope is said to be zero."""
    _, aux = function(*x)
    return tuple(part * 0.0 for part in x), aux


def everything(model: Model, graph: Graph, positions: Any) -> list[Any]:
    """Whatever the core computes from a graph."""
    found = [atomic_output(model, graph, positions), *describe(model, graph, positions)]
    return found + (list(predict(model, graph, positions, no_derivatives)) if model.fitting.kind == "ener" else [])


def lower(c: Case, convert_array: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """Arguments of deepmd-kit's own interface."""
    names = {"coord_ext": "ext_coord", "atype_ext": "ext_atype", "nlist": "nlist", "mapping": "mapping"}
    return {argument: convert_array(c.io[key]) for argument, key in names.items()}


def compare(file: ModelFile, graph: Graph, positions: np.ndarray) -> None:
    """Strict arrays on another device and read-only ones give what ordinary ones give."""
    expected = everything(file.model, graph, positions)
    for convert_array in (strict, frozen):
        arrays = map_arrays(convert_array, graph)
        found = everything(convert(file.model, convert_array), arrays, convert_array(positions))
        for ours, reference in zip(found, expected, strict=True):
            same(ours, reference)


def same(ours: Any, reference: np.ndarray) -> None:
    """The very same numbers, in the same precision and where the input was."""
    if not isinstance(ours, np.ndarray):
        assert ours.device == ELSEWHERE
        ours = plain(ours)
    assert ours.dtype == reference.dtype
    np.testing.assert_array_equal(ours, reference)


@pytest.mark.parametrize("name", EVERY)
def test_reference_cases(name: str) -> None:
    c = case(name)
    compare(c.file, *graph_of(c.file.settings, **c.frames))


@pytest.mark.parametrize("name", EVERY)
def test_lower_interface(name: str) -> None:
    c = case(name)
    descriptor = c.file.model.descriptor
    expected = descriptor.call(**lower(c, np.asarray))
    for convert_array in (strict, frozen):
        found = convert(descriptor, convert_array).call(**lower(c, convert_array))
        for ours, reference in zip(found, expected, strict=True):
            same(ours, reference)


@examples(25)
@given(MODELS, st.integers(0, 99), st.booleans())
def test_any_settings(model: ModelSettings, seed: int, crowded: bool) -> None:
    graph = random_graph(model, seed, nf=2, filling=2.0 if crowded else 0.4)
    compare(random_model(model, seed), *graph)
