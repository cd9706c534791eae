"""deepmd-kit itself reads what we write."""

from pathlib import Path

import pytest

from dpmodel.io.checkpoint import save_checkpoint
from dpmodel.io.container import read_tree, write_tree
from trees import MODELS, differences

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
    save_checkpoint(tmp_path / "a.pt", tree)
    write_tree(tmp_path / "b.dp", serialization.serialize_from_file(str(tmp_path / "a.pt")))
    found = differences(read_tree(tmp_path / "b.dp")["model"], tree["model"])
    assert [d for d in found if not d.endswith("/atom_ener")] == []
