"""Memory: what is planned, what happens where it does not suffice, and that no number changes."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import Engine, backend
from dpmodel.errors import BackendError, InputError, OutOfMemoryWarning
from dpmodel.evaluator import Evaluator
from dpmodel.execution import Execution
from dpmodel.memory import Memory, bytes_of
from dpmodel.model.settings import ModelSettings
from random_models import random_graph, random_model
from sample_settings import model

SETTINGS = ModelSettings.read(
    model({"repinit.neuron": [3, 6], "repinit.axis_neuron": 2, "repformer.nlayers": 2}), "model"
)


@pytest.mark.parametrize(
    ("words", "number"), [("4GB", 4e9), ("1.5 kb", 1500.0), ("2GiB", 2.0 * 2**30), ("7", 7.0), (3e9, 3e9)]
)
def test_words_for_bytes(words: str | float, number: float) -> None:
    assert bytes_of(words) == number


@pytest.mark.parametrize("words", ["", "much", "4 GBB", "-1GB", ".", "1.2.3", 0, -5.0, "0"])
def test_words_that_are_no_bytes(words: str | float) -> None:
    with pytest.raises(InputError, match='memory should be like "4GB"'):
        bytes_of(words)


def test_derivatives_are_remembered_where_they_fit() -> None:
    engine, (graph, _) = backend("numpy").engine(), random_graph(SETTINGS, n=8)
    need = Memory(engine, SETTINGS.descriptor).need(graph)
    assert need is not None
    assert 0.0 < need.recomputed < need.remembered
    for limit, plain in ((1.01 * need.remembered, True), (0.99 * need.remembered, False)):
        plan = Memory(engine, SETTINGS.descriptor, limit).plan(engine.run(slope=True), graph)
        assert (plan.checkpoint is Execution().checkpoint) == plain


class Small:
    """An engine that says it is full until groups are small."""

    def __init__(self, engine: Engine, most: int) -> None:
        self.engine, self.most, self.calls = engine, most, list[int | None]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def run(self, slope: bool) -> Execution:
        return Execution(group=48, most_bins=4, remember=99, checkpoint=self.engine.checkpoint)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def full(self, plan: Execution) -> bool:
        self.calls.append(plan.group)
        return plan.group is None or plan.group > self.most


@pytest.mark.parametrize(("most", "groups"), [(60, [48]), (8, [48, 48, 24, 12, 8])])
def test_smaller_groups_after_one_message(most: int, groups: list[int]) -> None:
    engine: Any = Small(backend("numpy").engine(), most)
    graph, _ = random_graph(SETTINGS, n=50)
    memory = Memory(engine, SETTINGS.descriptor)

    def work(plan: Execution) -> str:
        if engine.full(plan):
            raise MemoryError
        return "done"

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert memory.run(engine.run(True), graph, work) == "done"
        assert memory.run(engine.run(True), graph, work) == "done"
    assert engine.calls == [*groups, groups[-1]]
    assert [w.category for w in seen] == [OutOfMemoryWarning] * (len(groups) > 1)


def test_giving_up() -> None:
    engine: Any = Small(backend("numpy").engine(), 0)
    graph, _ = random_graph(SETTINGS, n=20)
    memory = Memory(engine, SETTINGS.descriptor)

    def work(plan: Execution) -> None:
        raise MemoryError

    with pytest.warns(OutOfMemoryWarning), pytest.raises(BackendError, match="take fewer atoms"):
        memory.run(engine.run(True), graph, work)
    with pytest.raises(BackendError, match="more processes"):
        memory.run(engine.run(True), graph, work, alone=False)
    with pytest.raises(ZeroDivisionError):
        memory.run(engine.run(True), graph, lambda plan: 1 / 0)


def test_a_limit_changes_no_number(engine: Engine) -> None:
    file, (graph, positions) = random_model(SETTINGS), random_graph(SETTINGS, n=8)
    free, tight = (Evaluator(file, engine, memory).energy_forces(graph, positions) for memory in ("1TB", 1))
    for a, b in zip(free, tight, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(free.atom_virial).max())


FULL = """
import resource, sys, warnings
import numpy as np
from dpmodel.backend import backend
engine = backend(sys.argv[1]).engine("cpu")
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
try:
    x = engine.native(np.ones(1 << 20))
    x = x[:, None] * x[None, :]
    engine.numpy(x)
except Exception as error:
    sys.exit(0 if engine.out_of_memory(error) and not engine.out_of_memory(ValueError("shape")) else repr(error))
sys.exit("8 TB fitted")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux'")
def test_a_full_machine_is_recognized(engine: Engine) -> None:
    """In a process of its own, with little address space: what the library raises then is known for what it is."""
    done = subprocess.run([sys.executable, "-c", FULL, engine.name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
