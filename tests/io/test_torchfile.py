"""PyTorch's files read and written without PyTorch, compared with PyTorch."""

import subprocess
import sys
import zipfile
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpmodel.errors import FileError
from dpmodel.io.pickled import Attributes
from dpmodel.io.torchfile import read_torchfile, script_state, write_checkpoint
from trees import TRAINED, arrays, assert_same

pytest.importorskip("torch")
import torch

OURS = "bool int8 int16 int32 int64 uint8 float16 float32 float64".split()  # PyTorch has no other unsigned storages


def with_arrays(value: Any) -> Any:
    """PyTorch's object with NumPy arrays for tensors."""
    if isinstance(value, torch.Tensor):
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, dict):
        return {key: with_arrays(v) for key, v in value.items()}
    return type(value)(map(with_arrays, value)) if isinstance(value, list | tuple) else value


def plain_checkpoint() -> Any:
    return st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | arrays().filter(lambda a: a.dtype.name in OURS),
        lambda v: (
            st.lists(v, max_size=3)
            | st.tuples(v, v)
            | st.dictionaries(st.text(max_size=4) | st.integers(-9, 300), v, max_size=3)
        ),
        max_leaves=8,
    )


@pytest.mark.parametrize("name", ["model.ckpt-300.pt", "mt.ckpt-20.pt", "bfloat16.pt"])
def test_reads_what_pytorch_reads(name, tmp_path):
    ours = read_torchfile(TRAINED / name)
    assert_same(ours, with_arrays(dict(torch.load(TRAINED / name, weights_only=True))))
    write_checkpoint(tmp_path / "copy.pt", ours)
    assert_same(with_arrays(torch.load(tmp_path / "copy.pt", weights_only=True)), ours)
    assert_same(read_torchfile(tmp_path / "copy.pt"), ours)


@settings(max_examples=60, deadline=None)
@given(value=plain_checkpoint())
def test_writes_what_pytorch_reads(value, tmp_path_factory):
    path = tmp_path_factory.mktemp("a") / "a.pt"
    write_checkpoint(path, value)
    assert_same(with_arrays(torch.load(path, weights_only=True)), value)
    assert_same(read_torchfile(path), value)


def odd_tensors() -> dict[Any, Any]:
    base = torch.arange(24, dtype=torch.float64)
    return {
        "whole": base,
        "shared tail": base[5:],
        "transposed": base.reshape(4, 6).T,
        "strided": base[1::3],
        "block": base.reshape(2, 3, 4)[1, :, 2:],
        "0-d": base[7],
        "0-d of its own": torch.tensor(-0.0),
        "expanded": torch.tensor([3.0]).expand(2, 5),
        "empty": torch.zeros(0, 3),
        "empty tail": base[24:],
        "one": torch.ones(1, 1, 1),
        "bool": torch.tensor([True, False]),
        "nan": torch.tensor([float("nan"), float("inf")]),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "size": torch.Size([1, 2]),
        "bfloat16": torch.tensor([1.5, -3.0e38, 1e-40], dtype=torch.bfloat16),
        "half": torch.tensor([1.5, 6e-8], dtype=torch.float16),
        "long": torch.tensor(2**62),
        "numbers": [0, 255, 256, 65536, -1, 2**31, -(2**31), 2**200, 0.1, True, None],
        "tuple": (1, (2, 3), ()),
        3: "a number as key",
    }  # fmt: skip


def test_views_strides_and_odd_values(tmp_path):
    torch.save(odd_tensors(), tmp_path / "a.pt")
    ours = read_torchfile(tmp_path / "a.pt")
    assert type(ours.pop("size")) is tuple
    theirs = torch.load(tmp_path / "a.pt", weights_only=True)
    theirs.pop("size")
    assert_same(ours, with_arrays(theirs))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_newer_protocols(protocol, tmp_path):
    """PyTorch writes the second one unless it is asked for another."""
    value = odd_tensors() | {"long text": "x" * 300, "same": ["again"] * 2}
    torch.save(value, tmp_path / "a.pt", pickle_protocol=protocol)
    torch.save(value, tmp_path / "b.pt")
    assert_same(read_torchfile(tmp_path / "a.pt"), read_torchfile(tmp_path / "b.pt"))


def test_state_dict_with_metadata(tmp_path):
    """An OrderedDict with an attribute, as ``Module.state_dict`` returns it."""
    state = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()
    torch.save(state, tmp_path / "a.pt")
    assert_same(read_torchfile(tmp_path / "a.pt"), with_arrays(dict(state)))


def test_optimizer_state(tmp_path):
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.Adam([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "a.pt")
    assert_same(read_torchfile(tmp_path / "a.pt"), with_arrays(optimizer.state_dict()))


def test_big_endian_file(tmp_path):
    torch.save({"a": torch.tensor([1.0, 2.0])}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as old, zipfile.ZipFile(tmp_path / "b.pt", "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith("byteorder"):
                data = b"big"
            if info.filename.endswith("data/0"):
                data = np.frombuffer(data, "<f4").astype(">f4").tobytes()
            new.writestr(info.filename, data)
    assert_same(read_torchfile(tmp_path / "b.pt"), {"a": np.asarray([1, 2], np.float32)})


class Inner(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.register_buffer("count", torch.tensor(3))
        self.numbers: list[int] = [1, 2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight * len(self.numbers)


class Outer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([Inner(), Inner()])
        self.text = "settings"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_module(tmp_path):
    torch.jit.script(Outer()).save(str(tmp_path / "a.pth"))
    module = read_torchfile(tmp_path / "a.pth")
    assert isinstance(module, Attributes)
    assert module["text"] == "settings"
    assert module["layers"]["0"]["numbers"] == [1, 2]
    theirs = with_arrays(dict(torch.jit.load(str(tmp_path / "a.pth")).state_dict()))
    assert_same({name: script_state(module)[name] for name in theirs}, theirs)
    assert script_state(module).keys() == theirs.keys()


def test_reading_needs_no_pytorch():
    code = f"""
import sys
sys.modules["torch"] = None
from dpmodel.io.torchfile import read_torchfile
assert "model" in read_torchfile({str(TRAINED / "model.ckpt-300.pt")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_arrays_can_be_changed(tmp_path):
    write_checkpoint(tmp_path / "a.pt", {"a": np.ones(3)})
    read_torchfile(tmp_path / "a.pt")["a"][:] = 2


@pytest.mark.parametrize("value", [{"a": object()}, {"a": [np.ones(2, complex)]}, {"a": np.ones(2, np.uint32)}])
def test_what_pytorch_cannot_hold_is_refused(value, tmp_path):
    with pytest.raises(FileError, match="/a"):
        write_checkpoint(tmp_path / "a.pt", value)
    assert not list(tmp_path.iterdir())
