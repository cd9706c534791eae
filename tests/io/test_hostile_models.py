"""Files that are whole, and say impossible things about a model: one clear error, in little time and memory."""

import copy
import tracemalloc
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpmodel.errors import FileError
from dpmodel.io.checkpoint import from_checkpoint, to_checkpoint
from dpmodel.io.container import read_tree
from dpmodel.io.deepmd import from_tree, to_tree
from reference_cases import HERE

MODELS = ["all_updates", "strip_three_body", "fparam_aparam", "head_polar", "head_property", "econf"]
MEMORY = 1e8  # bytes; the files have 3e5
many = settings(max_examples=120, deadline=None)


@cache
def valid(name: str) -> dict[str, Any]:
    return read_tree(HERE / name / "model.dp")


def places(tree: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to every value of a tree, however deep."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else []
    return [p for key in keys for p in [(*place, key), *places(tree[key], (*place, key))]]


NUMBERS: list[float] = [0, -1, 1, 2, 3, 10**6, 10**9, 2**31, 2**63, 10**30, 10**400]
NUMBERS += [0.5, 1e300, float("inf"), float("nan"), True, False]
TEXTS = ["", "O", "ener", "polar", "dpa2", "x" * 10_000]
OTHERS: list[Any] = [None, [], {}, [[]], [None], {"a": 1}, {"@class": "Layer"}]
ARRAYS: list[Any] = [np.zeros(0), np.zeros(()), np.zeros((3, 0)), np.full((2, 2), np.nan), np.ones((1,) * 32)]
ARRAYS += [np.arange(4), np.zeros(3, bool), np.array(["text"]), np.array([1j])]
values = st.sampled_from([*NUMBERS, *TEXTS, *OTHERS, *ARRAYS]).map(copy.deepcopy)


@st.composite
def spoiled(draw: st.DrawFn, valid: Callable[[str], dict[str, Any]]) -> dict[str, Any]:
    """A ``valid`` tree with one to three values deleted, replaced, repeated, or exchanged for others of its own."""
    tree = copy.deepcopy(valid(draw(st.sampled_from(MODELS))))
    for _ in range(draw(st.integers(1, 3))):
        every = places(tree)
        if not every:
            break
        *parents, key = draw(st.sampled_from(every))
        inner = value_at(tree, parents)
        action = draw(st.sampled_from(["delete", "replace", "exchange", "list", "add"]))
        if action == "delete":
            del inner[key]
        elif action == "list":
            inner[key] = [inner[key]] * draw(st.sampled_from([0, 1, 2, 1000]))
        elif action == "exchange":
            inner[key] = copy.deepcopy(value_at(tree, draw(st.sampled_from(every))))
        elif action == "add" and isinstance(inner, dict):
            inner[draw(st.sampled_from(["@version", "compress", "extra", "type", "trainable"]))] = draw(values)
        else:
            inner[key] = draw(values)
    return tree


def value_at(tree: Any, place: Sequence[Any]) -> Any:
    for key in place:
        tree = tree[key]
    return tree


def at_most_one_error(function: Callable[..., Any], *arguments: Any) -> None:
    """FileError that names the file, or nothing; and little memory."""
    message = "file.dp: "
    tracemalloc.start()
    try:
        function(*arguments)
    except FileError as error:
        message = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert message.startswith("file.dp: "), message[:200]
    assert len(message) < 20_000
    assert peak < MEMORY


@many
@pytest.mark.filterwarnings("ignore:old names of settings")
@given(tree=spoiled(valid))
def test_trees(tree: dict[str, Any]) -> None:
    at_most_one_error(from_tree, tree, "file.dp")


@cache
def checkpoint(name: str) -> dict[str, Any]:
    tree = copy.deepcopy(valid(name))
    tree["model"]["fitting"]["@variables"].pop("constant_matrix", None)
    return to_checkpoint(from_tree(tree))


@many
@pytest.mark.filterwarnings("ignore:old names of settings", "ignore:.*unknown tensors", "ignore:.*no biases")
@given(state=spoiled(checkpoint))
def test_checkpoints(state: dict[str, Any]) -> None:
    def read() -> None:
        extra = state.get("_extra_state")
        params = extra.get("model_params") if isinstance(extra, dict) else None
        from_checkpoint(state, params, None, "file.dp")

    at_most_one_error(read)


@many
@pytest.mark.filterwarnings("ignore:old names of settings")
@given(params=spoiled(lambda name: checkpoint(name)["_extra_state"]["model_params"]))
def test_settings_of_checkpoints(params: dict[str, Any]) -> None:
    """Most of the damage in the small part that says how large everything is."""
    at_most_one_error(from_checkpoint, checkpoint("all_updates"), params, None, "file.dp")


SECTIONS = {  # where settings stand in a tree, and in the script of a checkpoint
    "repinit": (["descriptor", "repinit_args"], ["descriptor", "repinit"]),
    "repformer": (["descriptor", "repformer_args"], ["descriptor", "repformer"]),
    "fitting": (["fitting"], ["fitting_net"]),
}
DEEP: list[tuple[str, dict[str, Any]]] = [
    ("repformer", {"nlayers": 10**9}),
    ("repinit", {"attn_layer": 10**8}),
    ("repinit", {"neuron": [20] * 300_000}),
    ("repinit", {"use_three_body": True, "three_body_neuron": [8] * 300_000, "three_body_sel": 2}),
    ("fitting", {"neuron": [10] * 300_000}),
]


@pytest.mark.parametrize(("section", "changes"), DEEP)
def test_more_layers_than_arrays(section: str, changes: dict[str, Any]) -> None:
    """One number in a small file asks for layers that would take all time and memory to make."""
    tree, state = copy.deepcopy(valid("baseline")), copy.deepcopy(checkpoint("baseline"))
    params = state["_extra_state"]["model_params"]
    in_tree, in_script = SECTIONS[section]
    value_at(tree["model"], in_tree).update(changes)
    value_at(params, in_script).update(changes)
    message = r"^file.dp: expected arrays of the \d{6,} layers that the settings ask for, found \d+ in all$"
    with pytest.raises(FileError, match=message):
        from_tree(tree, "file.dp")
    with pytest.raises(FileError, match=message):
        from_checkpoint(state, params, None, "file.dp")


@pytest.mark.parametrize("width", [2**63, 10**400])
def test_widths_beyond_all_memory(width: int) -> None:
    for section, changes in (("repformer", {"g1_dim": width}), ("fitting", {"neuron": [width]})):
        tree = copy.deepcopy(valid("baseline"))
        value_at(tree["model"], SECTIONS[section][0]).update(changes)
        with pytest.raises(FileError, match=r"^file.dp: /model: the settings ask for arrays that no memory could hold"):
            from_tree(tree, "file.dp")


BESIDE: list[tuple[dict[str, Any], str]] = [
    ({"@variables": [np.zeros(1)]}, "/@variables: expected a mapping, found a list of 1"),
    ({"@variables": "x"}, "/@variables: expected a mapping, found 'x'"),
    ({"@variables": {"a": "x"}}, "/@variables/a: expected an array, found 'x'"),
    ({"model_def_script": "x"}, "/model_def_script: expected a mapping, found 'x'"),
    ({"model_def_script": [1, 2]}, r"/model_def_script: expected a mapping, found \[1, 2\]"),
    ({"model_def_script": {"info": {"a": np.zeros(2)}}}, "/model_def_script/info/a: expected text, a number"),
    ({"software": np.zeros(2)}, "/software: expected text, a number"),
    ({"@variables": {"min_nbor_dist": np.zeros(2)}}, "/@variables/min_nbor_dist: expected a distance .*shape"),
    ({"@variables": {"min_nbor_dist": np.asarray(-5.0)}}, "/@variables/min_nbor_dist: expected a distance .*-5.0"),
    ({"@variables": {}, "min_nbor_dist": "abc"}, "/min_nbor_dist: expected an array, found 'abc'"),
    ({"@variables": {}, "min_nbor_dist": float("nan")}, "/min_nbor_dist: expected a distance .*nan"),
    ({"@variables": {}, "min_nbor_dist": True}, "/min_nbor_dist: expected a distance .*True"),
]


@pytest.mark.parametrize(("beside", "message"), BESIDE)
def test_what_stands_beside_the_model(beside: dict[str, Any], message: str) -> None:
    with pytest.raises(FileError, match=f"^file.dp: {message}"):
        from_tree(valid("baseline") | beside, "file.dp")


@pytest.mark.parametrize("unknown", [None, 0, -1, -1.0, np.asarray(-1.0), np.asarray([0])])
def test_distances_that_are_not_known(unknown: Any) -> None:
    for beside in ({"@variables": {"min_nbor_dist": unknown}}, {"@variables": {}, "min_nbor_dist": unknown}):
        assert from_tree(valid("baseline") | beside).min_pair_distance is None


def test_both_homes_of_the_distance() -> None:
    """One for deepmd-kit's conversion, the other for its compression."""
    for beside in ({"@variables": {"min_nbor_dist": np.asarray(0.5)}}, {"@variables": None, "min_nbor_dist": 0.5}):
        file = from_tree(valid("baseline") | beside)
        tree = to_tree(file)
        assert (file.min_pair_distance, tree["min_nbor_dist"], tree["@variables"]["min_nbor_dist"]) == (0.5, 0.5, 0.5)


def test_missing_sections_and_other_lists_are_shown() -> None:
    tree = copy.deepcopy(valid("baseline"))
    tree["model"]["descriptor"]["repinit_variable"]["embeddings"]["networks"][0]["neuron"] = [4, 8, 17]
    with pytest.raises(FileError, match=r"0/neuron: expected \[4, 8, 16\] .*, found \[4, 8, 17\]"):
        from_tree(tree)
    del tree["model"]["descriptor"]["repformer_args"]
    with pytest.raises(FileError, match="/model/descriptor/repformer_args: expected a mapping, found nothing"):
        from_tree(tree)
    tree["model"]["descriptor"]["repformer_args"] = "=abc"
    with pytest.raises(FileError, match="/model/descriptor/repformer_args: expected a mapping, found '=abc'"):
        from_tree(tree)


def test_texts_of_files_cannot_forge_a_line() -> None:
    """Line breaks and commands for terminals are shown, not executed, wherever in the tree they stand."""
    for key in ("descriptor", "fitting"):
        tree = copy.deepcopy(valid("baseline"))
        tree["model"][key]["new\nerror: all is well\x1b[2J"] = 1
        with pytest.raises(FileError, match=r"new\\nerror: all is well\\x1b\[2J") as caught:
            from_tree(tree)
        assert str(caught.value).isprintable()


def test_cutoffs_that_contradict_each_other() -> None:
    """Without this one the default would be taken, which is another one than the model was trained with."""
    tree = copy.deepcopy(valid("strip_three_body"))
    descriptor = tree["model"]["descriptor"]
    assert descriptor["repinit_args"].pop("three_body_rcut_smth") == 2.5
    with pytest.raises(FileError, match=r"repinit_three_body_variable/env_mat/rcut_smth: expected 0.5 .*, found 2.5"):
        from_tree(tree)
