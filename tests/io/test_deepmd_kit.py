"""deepmd-kit itself reads what we write."""

import copy
from pathlib import Path

import numpy as np
import pytest

from dpmodel.edit.type_map import change_type_map
from dpmodel.io.checkpoint import from_checkpoint, save_checkpoint, to_checkpoint
from dpmodel.io.container import read_tree, write_tree
from dpmodel.io.deepmd import from_tree, to_tree
from dpmodel.io.model import read_model, write_model
from trees import MODELS, TRAINED, differences

pytestmark = [pytest.mark.deepmd, pytest.mark.filterwarnings("ignore")]  # warnings of its own
FOR_PYTORCH = [p for p in MODELS if "polar" not in p.parent.name]  # its checkpoints lose a part of those


def name(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


@pytest.mark.parametrize("suffix", [".dp", ".yaml"])
@pytest.mark.parametrize("path", MODELS, ids=name)
def test_containers(path, suffix, tmp_path):
    serialization = pytest.importorskip("deepmd.dpmodel.utils.serialization")
    tree = read_tree(path)
    write_tree(tmp_path / f"a{suffix}", tree)
    assert differences(serialization.load_dp_model(str(tmp_path / f"a{suffix}"))["model"], tree["model"]) == []


@pytest.mark.parametrize("path", FOR_PYTORCH, ids=name)
def test_checkpoints(path, tmp_path):
    serialization = pytest.importorskip("deepmd.pt.utils.serialization")
    tree = read_tree(path)
    save_checkpoint(tmp_path / "a.pt", from_tree(tree))
    write_tree(tmp_path / "b.dp", serialization.serialize_from_file(str(tmp_path / "a.pt")))
    found = differences(read_tree(tmp_path / "b.dp")["model"], tree["model"])
    assert [d for d in found if not d.endswith("/atom_ener")] == []


@pytest.mark.parametrize("path", [p for p in FOR_PYTORCH if p.stem != "bfloat16"], ids=name)
def test_checkpoints_of_the_exportable_backend(path, tmp_path):
    models = pytest.importorskip("deepmd.pt_expt.model.model")
    tree = read_tree(path)
    state = models.BaseModel.deserialize(copy.deepcopy(tree["model"])).state_dict()
    arrays = {f"model.Default.{key}": value.numpy() for key, value in state.items()}
    found = to_tree(from_checkpoint(arrays, to_checkpoint(from_tree(tree))["_extra_state"]["model_params"]))
    assert [d for d in differences(found["model"], tree["model"]) if not d.endswith("/atom_ener")] == []


@pytest.mark.parametrize(
    ("source", "head", "reference"), [("single.pth", None, "single"), ("mt.ckpt-20.pt", "A", "mtA")]
)
def test_energies_and_forces_of_checkpoints(source, head, reference, tmp_path):
    """Its PyTorch backend runs what we write; types in another order and a new one do not disturb it."""
    infer = pytest.importorskip("deepmd.infer")
    write_model(tmp_path / "a.pt", change_type_map(read_model(TRAINED / source, head), ["H", "C", "O"]))
    with np.load(TRAINED / f"{reference}.pth.ref.npz") as known:
        types = np.where(known["atype"] == 0, 2, 0)  # O, H
        theirs = infer.DeepPot(str(tmp_path / "a.pt"))
        energy, forces, _ = theirs.eval(known["coord"][:1].reshape(1, -1), known["box"][:1].reshape(1, 9), types)
        np.testing.assert_allclose(energy, known["energy"][:1], rtol=1e-12)
        np.testing.assert_allclose(forces, known["force"][:1], rtol=0, atol=1e-11)
