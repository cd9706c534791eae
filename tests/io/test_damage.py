"""Damaged, foreign and hostile files: one clear error, little memory, nothing executed."""

import json
import os
import pickle
import random
import tracemalloc
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

import fuzz
from dpmodel.errors import FileError
from dpmodel.io.container import read_tree, write_tree
from dpmodel.io.model import read_model
from dpmodel.io.torchfile import read_torchfile, write_checkpoint
from trees import TRAINED

CORPUS = Path(__file__).parent / "corpus"
EXPECTED = json.loads((CORPUS / "expected.json").read_text())
SMALL = {"@variables": {f"a{i}": np.arange(6.0).reshape(2, 3) + i for i in range(4)}, "text": ["a", 1, None, 0.5]}
KINDS = [".dp", ".yaml", ".dp.json", ".pt"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def read(path: Path):
    return read_torchfile(path) if path.suffix in (".pt", ".pth") else read_tree(path)


@pytest.fixture
def file(tmp_path, kind):
    """A small file of each kind; the .dp one without our checksum, as deepmd-kit writes it."""
    path = tmp_path / f"small{kind}"
    (write_checkpoint if kind == ".pt" else write_tree)(path, SMALL)
    if kind == ".dp":
        with h5py.File(path, "r+") as opened:
            del opened.attrs["sha256"]
    return path


def survives(path: Path, data: bytes) -> bool:
    """Whether ``data`` can be read; raising anything but FileError fails the test."""
    path.write_bytes(data)
    try:
        read(path)
    except FileError as error:
        return not str(error).startswith(str(path))  # a message without the file would count as survival
    return True


@every_kind
def test_cut_anywhere(file):
    data = file.read_bytes()
    cuts = range(0, len(data), max(1, len(data) // 150))
    survivors = [cut for cut in cuts if survives(file, data[:cut])]
    assert file.suffix == ".yaml" or survivors == []  # the beginning of a YAML text may be one itself


@every_kind
def test_bits_flipped_anywhere(file):
    data, dice = file.read_bytes(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(data)
        for _ in range(dice.choice([1, 1, 4])):
            damaged[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        survives(file, bytes(damaged))


@every_kind
def test_words_overwritten_anywhere(file):
    """Sizes, offsets and counts become zero, huge or negative."""
    data, dice = file.read_bytes(), random.Random(1)
    for _ in range(200):
        place = dice.randrange(0, len(data) - 8, 4)
        word = dice.choice([b"\0" * 8, b"\xff" * 8, (1 << dice.randrange(63)).to_bytes(8, "little")])
        survives(file, data[:place] + word + data[place + 8 :])


@pytest.mark.parametrize("name", ["single.dp", "single.pth", "mt.ckpt-20.pt"])
def test_trained_models_cut(name, tmp_path):
    data = (TRAINED / name).read_bytes()
    path = tmp_path / name
    assert not any(survives(path, data[:cut]) for cut in range(0, len(data), len(data) // 12))


@pytest.mark.parametrize("seed", ["0-model.dp", "1-json", "2-model.yaml", "3-model.dp.json", "4-model.pt", "5-pickle"])
def test_whole_models_damaged(seed, tmp_path):
    """What fuzz.py does for hours, without its guidance: bytes flipped, taken out, copied to other places."""
    fuzz.seeds(tmp_path)
    data, dice = (tmp_path / seed).read_bytes(), random.Random(3)
    assert fuzz.attempt(fuzz.use, data, tmp_path) == ("model" in seed)  # the others are without their arrays
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(dice.choice([1, 1, 3])):
            a, b, n = (dice.randrange(1, top) for top in (len(data), len(data), 9))
            change = dice.choice([bytes(n), data[a : a + n], b"", bytes([data[b] ^ 1 << dice.randrange(8)])])
            damaged[b : b + dice.choice([n, len(change)])] = change
        fuzz.attempt(fuzz.use, bytes(damaged), tmp_path)


@pytest.mark.parametrize("name", sorted(set(os.listdir(CORPUS)) - {"expected.json"}))
def test_corpus(name):
    """Each file with the error it gives; add a file and a line for every accident."""
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match=EXPECTED[name]) as caught:
            read(CORPUS / name)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert str(caught.value).startswith(str(CORPUS / name))
    assert "\n" not in str(caught.value)
    assert peak < 1e7


# HDF5


def hdf5(path: Path, make, tree='{"@variables":{"a":"/variable_0000"}}') -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["json"] = tree
        make(file)
    return path


def virtual(file):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    file.create_virtual_dataset("variable_0000", layout)


HOSTILE_DATASETS = {
    "none": (lambda f: None, "found none"),
    "group": (lambda f: f.create_group("variable_0000"), "found a group"),
    "external link": (lambda f: f.__setitem__("variable_0000", h5py.ExternalLink("x.h5", "/a")), "another place"),
    "soft link": (lambda f: f.__setitem__("variable_0000", h5py.SoftLink("/b")), "another place"),
    "external": (
        lambda f: f.create_dataset("variable_0000", (4,), "f8", external=[("/etc/passwd", 0, 32)]),
        "external",
    ),
    "compressed": (lambda f: f.create_dataset("variable_0000", data=np.zeros(10**6), compression=9), "h5repack"),
    "chunked": (lambda f: f.create_dataset("variable_0000", (10**12,), "f8", chunks=(1024,)), "h5repack"),
    "hollow": (lambda f: f.create_dataset("variable_0000", (10**12,), "f8"), r"needs 8000000000000 bytes"),
    "text": (lambda f: f.create_dataset("variable_0000", data="text"), "dtypes .*, found object"),
    "fixed text": (lambda f: f.create_dataset("variable_0000", data=np.bytes_("text")), "dtypes"),
    "complex": (lambda f: f.create_dataset("variable_0000", data=1j), "found complex128"),
    "compound": (lambda f: f.create_dataset("variable_0000", data=np.zeros(2, "i4,f8")), "dtypes"),
    "long double": (lambda f: f.create_dataset("variable_0000", data=np.longdouble(1)), "dtypes"),
    "null": (lambda f: f.create_dataset("variable_0000", data=h5py.Empty("f8")), "an empty one"),
}


@pytest.mark.parametrize("name", HOSTILE_DATASETS)
def test_hostile_datasets(name, tmp_path):
    make, message = HOSTILE_DATASETS[name]
    path = hdf5(tmp_path / "a.dp", make)
    with pytest.raises(FileError, match=rf"a\.dp: /@variables/a \(variable_0000\): .*{message}"):
        read_tree(path)


def test_virtual_dataset(tmp_path):
    """Already its reference to the heap is none that a model file has."""
    with pytest.raises(FileError, match=r"a\.dp: damaged HDF5 file: text of length"):
        read_tree(hdf5(tmp_path / "a.dp", virtual))


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "/variable_1", "//variable_0000", "variable_0000/x", "/variable_0000\n"]
)
def test_hostile_names_of_datasets(name, tmp_path):
    path = hdf5(tmp_path / "a.dp", lambda f: None, json.dumps({"@variables": {"a": name}}))
    with pytest.raises(FileError, match="/@variables/a: expected the name of a dataset"):
        read_tree(path)


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("not json", "attribute 'json': expected JSON, found Expecting value"),
        ("[]", "/: expected a mapping, found a list of 0"),
        ('{"@variables": 3}', "/@variables: expected the name of a dataset, found 3"),
        ('{"a":' * 500 + "1" + "}" * 500, "levels"),
        ('{"a":' * 5000 + "1" + "}" * 5000, "recursion"),
        (np.arange(3), "attribute 'json': expected one string, found int64"),
        (["a", "b"], "expected one string"),
    ],
)
def test_hostile_attribute(attribute, message, tmp_path):
    path = hdf5(tmp_path / "a.dp", lambda f: None, attribute)
    with pytest.raises(FileError, match=message):
        read_tree(path)


def test_an_hdf5_file_of_something_else(tmp_path):
    with h5py.File(tmp_path / "a.dp", "w") as file:
        file["x"] = 1
    with pytest.raises(FileError, match=r"expected a model .*found another kind of HDF5 file"):
        read_tree(tmp_path / "a.dp")


def test_datasets_that_share_their_bytes_are_counted(tmp_path):
    """Many names of one dataset must not amount to more than the file."""
    names = [f"variable_{i:04d}" for i in range(100)]

    def make(file):
        file["variable_0000"] = np.zeros(10_000)
        for name in names[1:]:
            file[name] = file["variable_0000"]

    path = hdf5(tmp_path / "a.dp", make, json.dumps({"@variables": {name: f"/{name}" for name in names}}))
    with pytest.raises(FileError, match="the file does not have them"):
        read_tree(path)


# Files that are not there, or not what they are called


@pytest.mark.parametrize("suffix", KINDS)
def test_missing_file_and_directory(suffix, tmp_path):
    with pytest.raises(FileError, match="there is no such file"):
        read(tmp_path / f"a{suffix}")
    (tmp_path / f"b{suffix}").mkdir()
    with pytest.raises(FileError, match="expected a file, found a directory"):
        read(tmp_path / f"b{suffix}")


def test_pipes_and_devices(tmp_path):
    """Opening a pipe would wait for somebody to write into it."""
    os.mkfifo(tmp_path / "a.dp")
    (tmp_path / "b.pt").symlink_to("/dev/zero")
    for name in ("a.dp", "b.pt"):
        with pytest.raises(FileError, match="expected a file, found a device or a pipe"):
            read_model(tmp_path / name)
    with pytest.raises(FileError, match="expected a file or a new name, found a device or a pipe"):
        write_tree(tmp_path / "a.dp", SMALL)


NO_NAMES = {
    "x" * 300 + ".dp": "File name too long",
    "a\0b.dp": "embedded null byte",
    "a.dp": "Too many levels of symbolic",
}


@pytest.mark.parametrize(("name", "reason"), NO_NAMES.items())
def test_names_that_no_file_can_have(name, reason, tmp_path):
    (tmp_path / "a.dp").symlink_to("a.dp")
    for function in (read_tree, lambda path: write_tree(path, SMALL)):
        with pytest.raises(FileError, match=f"cannot be used: {reason}"):
            function(tmp_path / name)


CONTENTS = {
    "text": b"model: {}",
    "JSON text": b' {"a": 1}',
    "a Python pickle": pickle.dumps({"a": 1}),
    "a NumPy array file": b"\x93NUMPY\x01",
    "a gzip file": b"\x1f\x8b\x08",
    "unknown binary data": b"\x00\x01\x02",
    "an empty file": b"",
    "a program": b"\x7fELF",
}


@pytest.mark.parametrize("content", CONTENTS)
def test_a_wrongly_named_file_is_recognized(content, tmp_path):
    (tmp_path / "a.dp").write_bytes(CONTENTS[content])
    with pytest.raises(FileError, match=f"expected an HDF5 file, found {content}"):
        read_tree(tmp_path / "a.dp")


def test_text_whose_first_page_ends_inside_a_character(tmp_path):
    (tmp_path / "a.yaml").write_text("a: " + "x" * 4092 + "€" * 9, encoding="utf-8")
    assert read_tree(tmp_path / "a.yaml")["a"].endswith("€")


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "a.dp").touch()
    with pytest.raises(FileError, match="cannot be used: Not a directory"):
        read_tree(tmp_path / "a.dp" / "b.dp")


# Pickles


class Touch:
    """Unpickled, this would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_nothing_in_a_pickle_is_executed(protocol, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"model": Touch(tmp_path / "owned")}, protocol))
    message = r"system: it will not be called" if protocol >= 2 else "an opcode that PyTorch writes|will not be called"
    with pytest.raises(FileError, match=message):
        read_torchfile(tmp_path / "a.pt")
    assert not (tmp_path / "owned").exists()


def test_random_pickles(tmp_path):
    """Random programs for the interpreter, made of valid opcodes."""
    opcodes = [b"N", b"\x88", b"]", b"}", b")", b"(", b"t", b"e", b"u", b"a", b"s", b"R", b"\x81", b"b", b"Q", b"\x85"]
    opcodes += [b"q\x00", b"q\x01", b"h\x00", b"h\x01", b"K\x07", b"X\x01\x00\x00\x00a", b"ctorch\nSize\n"]
    opcodes += [b"ctorch._utils\n_rebuild_tensor_v2\n", b"c__torch__.a\nB\n", b"ctorch\nFloatStorage\n"]
    opcodes += [b"\x94", b"\x93", b"\x8c\x05torch", b"\x8c\x04Size"]
    dice = random.Random(2)
    for _ in range(500):
        program = b"\x80\x02" + b"".join(dice.choices(opcodes, k=dice.randrange(1, 30))) + b"."
        with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
            archive.writestr("a/data.pkl", program)
        survives(tmp_path / "a.pt", (tmp_path / "a.pt").read_bytes())


def test_a_damaged_storage_is_noticed(tmp_path):
    write_checkpoint(tmp_path / "a.pt", {"a": np.arange(4.0)})
    data = (tmp_path / "a.pt").read_bytes()
    values = np.arange(4.0).tobytes()
    (tmp_path / "a.pt").write_bytes(data.replace(values, values[::-1]))
    with pytest.raises(FileError, match=r"a\.pt: .*Bad CRC-32"):
        read_torchfile(tmp_path / "a.pt")
