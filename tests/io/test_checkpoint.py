"""deepmd-kit's checkpoints against its own conversion of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmodel.errors import FileError
from dpmodel.io.checkpoint import (
    from_checkpoint,
    heads,
    read_checkpoint,
    save_checkpoint,
    tensor_name,
    to_checkpoint,
    usual_name,
)
from dpmodel.io.container import read_tree, write_tree
from dpmodel.io.deepmd import ModelFile, from_tree, to_tree
from dpmodel.io.torchfile import read_torchfile, script_state, write_checkpoint
from trees import MODELS, TRAINED, assert_same, differences

PAIRS = [("model.ckpt-300.pt", "single.dp"), ("single.pth", "single.dp"), ("bfloat16.pt", "bfloat16.dp")]
STAMPS = {"/software", "/version", "/time", "/pt_version"}  # of the conversion
REPINIT = ("descriptor", "repinit_variable")


def tree_of(file: ModelFile) -> dict[str, Any]:
    """What a model file would hold, without when and by what it was written."""
    return {key: value for key, value in to_tree(file).items() if key not in ("software", "time", "min_nbor_dist")}


def state_and_params(name: str):
    state = read_torchfile(TRAINED / name)["model"]
    return state, state["_extra_state"]["model_params"]


@pytest.mark.parametrize(("checkpoint", "converted"), PAIRS)
def test_the_tree_is_deepmd_kits_own_key_by_key_and_bit_for_bit(checkpoint, converted):
    if "bfloat16" in checkpoint:
        pytest.importorskip("ml_dtypes")
    assert set(differences(tree_of(read_checkpoint(TRAINED / checkpoint)), read_tree(TRAINED / converted))) <= STAMPS


def test_compressed_torchscript():
    """Like the uncompressed model, plus its tables (specification/compression.md 7)."""
    tree, plain = tree_of(read_checkpoint(TRAINED / "strip_c.pth")), read_tree(TRAINED / "strip.dp")
    compress = tree["model"]["descriptor"]["repinit_variable"].pop("compress")
    assert tree["model"]["descriptor"]["@version"] == 4
    assert set(differences(tree, plain)) <= STAMPS | {"/model/descriptor/@version"}
    assert compress["geo_compress"] is True
    tables = compress["@variables"]
    width = 32  # of the embedding
    assert tables["type_embd_data"].shape == (9, width)  # (types + 1)^2
    assert [t.shape for t in tables["compress_data"]] == [(1820, 6 * width)]
    lower, upper, maximum, stride, wide_stride, _ = tables["compress_info"][0]
    assert (maximum, stride, wide_stride) == (5 * upper, 0.01, 0.1)
    assert lower == int(lower) < upper == int(upper)


def test_multi_task_heads():
    state, params = state_and_params("mt.ckpt-20.pt")
    assert list(heads(params)) == ["A", "B"]
    trees = {head: tree_of(read_checkpoint(TRAINED / "mt.ckpt-20.pt", head)) for head in "AB"}
    assert [trees[head]["model"]["fitting"]["neuron"] for head in "AB"] == [[48, 48, 48], [24, 24]]
    shared = [d for d in differences(trees["A"]["model"], trees["B"]["model"]) if d.startswith("/descriptor")]
    assert shared == []
    for head, tree in trees.items():
        bias = state[f"model.{head}.atomic_model.out_bias"]
        assert_same(tree["model"]["@variables"]["out_bias"], bias)
        assert tree["model_def_script"] == params["model_dict"][head]
    params["model_dict"]["A"]["model_branch_alias"] = ["water"]
    assert differences(tree_of(from_checkpoint(state, params, "water"))["model"], trees["A"]["model"]) == []


@pytest.mark.parametrize(
    ("head", "message"),
    [(None, "expected one of the heads 'A', 'B', which was not chosen"), ("C", "expected .* 'A', 'B', not 'C'")],
)
def test_the_head_must_be_chosen(head, message):
    with pytest.raises(FileError, match=f"mt.ckpt-20.pt: {message}"):
        read_checkpoint(TRAINED / "mt.ckpt-20.pt", head)


def test_a_long_list_of_heads_is_cut():
    params: dict[str, Any] = {"model_dict": {f"h{i}": {} for i in range(100_000)} | {3: {}}}
    with pytest.raises(FileError, match=r"heads 'h0', .*'h49' and 99951 more, not 'h999999'") as caught:
        from_checkpoint({}, params, "h999999")
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("aliases", [5, "water", {"water": 1}])
def test_aliases_that_are_no_list(aliases):
    params = {"model_dict": {"A": {"model_branch_alias": aliases}, "B": {}}}
    with pytest.raises(FileError, match="heads 'A', 'B', not 'water'"):
        from_checkpoint({}, params, "water")


def test_a_single_task_has_the_head_default():
    read_checkpoint(TRAINED / "model.ckpt-300.pt", "Default")
    with pytest.raises(FileError, match="heads 'Default', not 'A'"):
        read_checkpoint(TRAINED / "model.ckpt-300.pt", "A")


def test_back_to_the_names_of_the_checkpoint():
    state, params = state_and_params("model.ckpt-300.pt")
    ours = to_checkpoint(read_checkpoint(TRAINED / "model.ckpt-300.pt"))
    extra, ours_extra = state.pop("_extra_state"), ours.pop("_extra_state")
    assert differences(ours, state) == []
    assert extra["train_infos"].keys() == ours_extra["train_infos"].keys()
    assert ours_extra["model_params"]["info"] == params["info"]


def test_names_of_torchscript_are_the_same_without_prefix():
    theirs = script_state(read_torchfile(TRAINED / "single.pth"))
    ours = to_checkpoint(from_tree(read_tree(TRAINED / "single.dp")))
    names = {name.removeprefix("model.Default.") for name in ours} - {"_extra_state"}
    assert names == {name for name in theirs if not name.endswith("emask.type_mask")}


CASES = [p for p in MODELS if p.parent != TRAINED]
POLAR = [p for p in CASES if "polar" in p.parent.name]
every_case = pytest.mark.parametrize("path", [p for p in CASES if p not in POLAR], ids=lambda p: p.parent.name)


@every_case
def test_every_reference_model_as_checkpoint_and_back(path: Path, tmp_path):
    tree = read_tree(path)
    save_checkpoint(tmp_path / "a.pt", from_tree(tree))
    again = to_tree(read_checkpoint(tmp_path / "a.pt"))
    assert [d for d in differences(again["model"], tree["model"]) if not d.endswith("/atom_ener")] == []
    write_tree(tmp_path / "b.dp", again)
    assert_same(read_tree(tmp_path / "b.dp"), again)


@every_case
def test_the_input_script_gives_the_settings(path: Path):
    """deepmd-kit made the tree from ``input.json``, and so do we; some cases name their precision in one place only."""
    tree = read_tree(path)
    params = json.loads((path.parent / "input.json").read_text())["model"]
    again = to_tree(from_checkpoint(to_checkpoint(from_tree(tree)), params))
    found = differences(again["model"], tree["model"])
    assert [d for d in found if not d.endswith(("/precision", "/atom_ener"))] == []


@pytest.mark.parametrize("path", POLAR, ids=lambda p: p.parent.name)
def test_polar_models_keep_their_scale_but_not_their_constants(path: Path):
    tree = read_tree(path)
    variables = tree["model"]["fitting"]["@variables"]
    variables["constant_matrix"] = np.asarray([0.0, 0.5])
    with pytest.raises(FileError, match=r"m.pt: /model/fitting/@variables/constant_matrix: expected zeros.*write .dp"):
        to_checkpoint(from_tree(tree), "m.pt")
    variables["constant_matrix"] = np.zeros(2)
    state = to_checkpoint(from_tree(tree))
    again = tree_of(from_checkpoint(state, state["_extra_state"]["model_params"]))
    assert differences(again["model"], tree["model"]) == []


def test_the_table_of_names():
    assert tensor_name(("@variables", "out_bias")) == "atomic_model.out_bias"
    assert tensor_name((*REPINIT, "@variables", "davg")) == "atomic_model.descriptor.repinit.mean"
    net = (*REPINIT, "embeddings_strip", "networks", "0", "layers", "1", "@variables")
    assert tensor_name((*net, "w")).endswith("repinit.filter_layers_strip.networks.0.layers.1.matrix")
    norm = ("descriptor", "repformers_variable", "repformer_layers", "2", "attn2_lm", "@variables", "b")
    assert tensor_name(norm) == "atomic_model.descriptor.repformers.layers.2.attn2_lm.bias"


OLDER = ["repinit_three_body.type_embd_data", "repinit_three_body.compress_info.0", "repinit.compress_data.0"]


def test_names_that_older_checkpoints_lack():
    state, params = state_and_params("model.ckpt-300.pt")
    whole = tree_of(from_checkpoint(state, params))
    for name in OLDER:
        del state[f"model.Default.atomic_model.descriptor.{name}"]
    del state["model.Default.min_nbor_dist"]
    assert differences(tree_of(from_checkpoint(state, params)), whole) == ["/@variables/min_nbor_dist"]


def test_an_unknown_distance_is_left_out():
    state, params = state_and_params("model.ckpt-300.pt")
    state["model.Default.min_nbor_dist"] = np.asarray(-1.0)
    file = from_checkpoint(state, params)
    assert tree_of(file)["@variables"] == {}
    assert_same(to_checkpoint(file)["model.Default.min_nbor_dist"], np.asarray(-1.0))


def test_a_missing_tensor_is_named():
    state, params = state_and_params("model.ckpt-300.pt")
    del state["model.Default.atomic_model.descriptor.repformers.layers.1.linear1.bias"]
    with pytest.raises(FileError, match=r"f.pt: expected a tensor \S+layers\.1\.linear1\.bias.*found none"):
        from_checkpoint(state, params, file="f.pt")


@pytest.mark.parametrize("name", ["linear1.matrix", "linear2.bias", "linear1.idt", "g1_residual.0"])
def test_a_layer_too_many_is_named(name):
    state, params = state_and_params("model.ckpt-300.pt")
    state[f"model.Default.atomic_model.descriptor.repformers.layers.3.{name}"] = np.ones(2)
    with pytest.raises(FileError, match=rf"found 1 more: atomic_model\.\S+layers\.3\.{name}"):
        from_checkpoint(state, params)


def test_other_unknown_tensors_are_left_out_with_a_warning():
    state, params = state_and_params("model.ckpt-300.pt")
    whole = tree_of(from_checkpoint(state, params))
    state["model.Default.atomic_model.of_the_future"] = np.ones(2)
    with pytest.warns(UserWarning, match="f.pt: unknown tensors, left out: atomic_model.of_the_future"):
        assert differences(tree_of(from_checkpoint(state, params, file="f.pt")), whole) == []


def test_biases_that_are_not_there_are_zero():
    state, params = state_and_params("model.ckpt-300.pt")
    for name in ("out_bias", "out_std"):
        del state[f"model.Default.atomic_model.{name}"]
    with pytest.warns(
        UserWarning, match=r"no biases \(0\) or scales \(1\): atomic_model.out_bias, atomic_model.out_std"
    ):
        variables = tree_of(from_checkpoint(state, params))["model"]["@variables"]
    assert_same(variables, {"out_bias": np.zeros((1, 2, 1)), "out_std": np.ones((1, 2, 1))})


EXPORTABLE = {  # names of the exportable backend, and where the PyTorch backend has the same
    "_min_nbor_dist": "min_nbor_dist",
    "atomic_model.out_bias": "atomic_model.out_bias",
    "atomic_model.descriptor.repinit.mean": "atomic_model.descriptor.repinit.mean",
    "atomic_model.descriptor.repinit.embeddings._module_networks.0.layers.1.b": (
        "atomic_model.descriptor.repinit.filter_layers.networks.0.layers.1.bias"
    ),
    "atomic_model.descriptor.repinit_three_body.embeddings_strip._module_networks.0.layers.2.w": (
        "atomic_model.descriptor.repinit_three_body.filter_layers_strip.networks.0.layers.2.matrix"
    ),
    "atomic_model.descriptor.repformers.layers.0.linear2.w": (
        "atomic_model.descriptor.repformers.layers.0.linear2.matrix"
    ),
    "atomic_model.descriptor.repformers.layers.2.g1_residual.1": (
        "atomic_model.descriptor.repformers.layers.2.g1_residual.1"
    ),
    "atomic_model.descriptor.type_embedding.embedding_net.layers.0.w": (
        "atomic_model.descriptor.type_embedding.embedding.embedding_net.layers.0.matrix"
    ),
    "atomic_model.fitting_net.nets._module_networks.0.layers.1.idt": (
        "atomic_model.fitting_net.filter_layers.networks.0.layers.1.idt"
    ),
}


@pytest.mark.parametrize(("name", "usual"), EXPORTABLE.items())
def test_names_of_the_exportable_backend(name, usual):
    state, _ = state_and_params("model.ckpt-300.pt")
    assert usual_name(name) == usual_name(usual) == usual
    assert f"model.Default.{usual}" in state or "residual" in usual or "strip" in usual


def test_weights_called_w_and_b():
    state, params = state_and_params("model.ckpt-300.pt")
    ends = {"matrix": "w", "bias": "b"}
    renamed = {
        ".".join((*name.split(".")[:-1], ends.get(end := name.split(".")[-1], end))): a for name, a in state.items()
    }
    assert differences(tree_of(from_checkpoint(renamed, params)), tree_of(from_checkpoint(state, params))) == []


def test_wrong_settings_are_named():
    state, params = state_and_params("model.ckpt-300.pt")
    params["descriptor"]["repinit"]["rcut"] = -1.0
    with pytest.raises(FileError, match=r"f.pt: model_params.*repinit.rcut should be above 0"):
        from_checkpoint(state, params, file="f.pt")


@pytest.mark.parametrize("head", ["A", "B"])
def test_branches_of_another_kind(head):
    with pytest.raises(FileError):
        from_checkpoint({}, {"model_dict": {"A": 3, "C": {}}}, head)


@pytest.mark.parametrize("value", [{"a": 1}, [1], {"model": {"_extra_state": {}}}, {"model": 3}, None])
def test_other_pytorch_files(value, tmp_path):
    write_checkpoint(tmp_path / "a.pt", value)
    with pytest.raises(FileError, match="expected a checkpoint of deepmd-kit"):
        read_checkpoint(tmp_path / "a.pt")


def test_whole_numbers_in_the_place_of_others(tmp_path):
    state, params = state_and_params("model.ckpt-300.pt")
    state["model.Default.atomic_model.out_bias"] = np.ones((1, 2, 1), np.int64)
    with pytest.raises(FileError, match=r"atomic_model.out_bias: expected an array of floating.* found int64"):
        from_checkpoint(state, params)


def test_no_models_at_all():
    with pytest.raises(FileError, match=r"f.pt: expected models in model_dict, found none"):
        from_checkpoint({}, {"model_dict": {}}, file="f.pt")


@pytest.mark.parametrize("params", [3, [], {"model_dict": {}}, {"model_dict": {"A": 3}}, {}])
def test_model_params_of_another_kind(params):
    with pytest.raises(FileError):
        from_checkpoint({}, params)
