"""The one way into HDF5 files, of models and of data: what is read lies in the file itself, and is as long as it says.

HDF5 2.0 does not check this of strings: it follows lists that never end, and believes lengths of gigabytes.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from dpmodel.errors import FileError
from dpmodel.io.files import LONGEST_TEXT, damaged, expect_no_other

_SIGNATURE = b"GCOL\x01\0\0\0"
_MANY = 1000  # a model file has two strings, a system one for each element
_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, h5py.h5z.FILTER_LZF}
_LARGEST_CHUNK = 2**28  # bytes
_LARGEST_RATIO = 1100  # of sizes without and with compression; deflate reaches 1032
_REFERENCE = np.dtype([("length", "<u4"), ("heap", "<u8"), ("number", "<u4")])  # to a string
_LAYOUTS = ((1, 8, 8), (2, 8, 1), (3, 9, 1))  # of attributes: version, bytes before the name, alignment


@contextmanager
def opened(path: str) -> Iterator[h5py.File]:
    """The HDF5 file at ``path``, to read in; whatever goes wrong inside is a FileError."""
    expect_no_other(Path(path), "an HDF5 file")
    with damaged(path, "an HDF5 file"), h5py.File(path, "r", locking="best-effort") as file:
        yield file


def member(group: h5py.Group, name: str) -> Any:
    """The member ``name`` of ``group``, None if there is none; links are followed, but not into another file."""
    here = group
    for part in filter(None, name.split("/")):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if isinstance(link, h5py.SoftLink):
            here = member(here.file if link.path.startswith("/") else here, link.path)
        else:
            here = here[part] if isinstance(link, h5py.HardLink) else None
    return here


def expect_plain(dataset: Any, where: str, *, chunks: bool) -> int:
    """Bytes of ``dataset``; FileError unless all are in its file, in one piece or, if allowed, in ``chunks``."""
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise FileError(f"{where}: expected a dataset, found {'a group or an empty one' if dataset else 'none here'}")
    layout, stored = dataset.id.get_create_plist(), dataset.id.get_storage_size()
    item = _REFERENCE.itemsize if dataset.dtype.kind == "O" else dataset.id.get_type().get_size()
    need = int(np.prod(dataset.shape, dtype=object)) * item
    in_chunks = layout.get_layout() == h5py.h5d.CHUNKED
    is_plain = layout.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) and not layout.get_external_count()
    if not is_plain and not (chunks and in_chunks):
        raise FileError(f"{where}: expected a plain dataset, found a chunked, compressed, virtual or external one; "
                        "'h5repack -l CONTI -f NONE' makes it plain")  # fmt: skip
    if (is_plain and need != (stored if need else 0)) or (in_chunks and not _chunks_are_there(dataset, layout)):
        raise FileError(f"{where}: shape {dataset.shape} needs {need} bytes, the file does not have them")
    return need


def _chunks_are_there(dataset: h5py.Dataset, layout: Any) -> bool:
    """Whether every chunk is in the file, and becomes no larger than a common compression can have made it."""
    infos: list[Any] = []
    dataset.id.chunk_iter(infos.append)
    length = os.path.getsize(dataset.file.filename)
    count = np.prod([-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True)], dtype=object)
    size = np.prod(dataset.chunks, dtype=object) * dataset.dtype.itemsize
    return (
        {layout.get_filter(i)[0] for i in range(layout.get_nfilters())} <= _FILTERS
        and len(infos) == count
        and all(info.byte_offset + info.size <= length for info in infos)
        and size <= min(_LARGEST_CHUNK, _LARGEST_RATIO * min((info.size for info in infos), default=0))
    )


def words(dataset: Any, path: str, where: str) -> list[str]:
    """The words in a dataset of numbers or strings."""
    need = expect_plain(dataset, where, chunks=getattr(dataset, "dtype", np.dtype("O")).kind != "O")
    if need > LONGEST_TEXT:
        raise FileError(f"{where}: expected words, found {need} bytes")
    text = h5py.check_string_dtype(dataset.dtype)
    if text is not None and text.length is None:
        values = _strings(path, where, dataset.id.get_offset(), dataset.size)
    elif dataset.dtype.kind in "iufS":
        values = np.ravel(dataset[()]).tolist()
    else:
        raise FileError(f"{where}: expected numbers or words, found {dataset.dtype}")
    return " ".join(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values).split()


def _strings(path: str, where: str, offset: int | None, count: int) -> list[bytes]:
    """Strings of any length, which HDF5 keeps in heaps."""
    if offset is None or count > _MANY:
        raise FileError(f"{where}: expected at most {_MANY} words, in one piece, found {count}")
    strings = []
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for length, heap, number in np.frombuffer(data[offset : offset + count * _REFERENCE.itemsize], _REFERENCE):
            entries = _heap(data, int(heap)) if data[heap : heap + 8] == _SIGNATURE else iter(())
            entry = next((e for e in entries if e.number == number), None)
            if entry is None or length > entry.length or entry.position + 16 + length > len(data):
                raise FileError(f"{where}: expected a string of {length} bytes, the file does not have it")
            strings.append(data[entry.position + 16 : entry.position + 16 + int(length)])
    return strings


class _Entry(NamedTuple):
    heap: int  # byte where the list begins
    position: int
    number: int  # 0 for what is free
    length: int


def check_heaps(path: str, names: tuple[str, ...]) -> None:
    """Raise FileError where a list of strings, or a string in an attribute of one of ``names``, would make HDF5 read
    forever or reserve memory for what is not there."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for position, length in (claim for name in names for claim in _attributes(data, name.encode() + b"\0")):
            if length > len(data):
                raise FileError(f"{path}: damaged HDF5 file: text of length {length} at byte {position}")
        for count, entry in enumerate(_entries(data)):
            if count > _MANY or _step(entry) < 16 or _longest_claim(data, entry) > entry.length:
                raise FileError(f"{path}: damaged HDF5 file: text of length {entry.length} at byte {entry.position}")


def _attributes(data: mmap.mmap, name: bytes) -> Iterator[tuple[int, int]]:
    """Positions of the values of attributes called ``name``, and the lengths that they give for their strings."""
    at = -1
    while (at := data.find(name, at + 1)) >= 0:
        for version, header, step in _LAYOUTS:
            if at < header or data[at - header] != version:
                continue
            sizes = struct.unpack_from("<HHH", data, at - header + 2)  # of the name, of type and shape of the value
            position = at + sum(size + -size % step for size in sizes)
            if sizes[0] == len(name) and position + 4 <= len(data):
                yield position, int.from_bytes(data[position : position + 4], "little")


def _entries(data: mmap.mmap) -> Iterator[_Entry]:
    """The entries of all global heaps, as HDF5 walks them."""
    heap = data.find(_SIGNATURE)
    while heap >= 0:
        yield from _heap(data, heap)
        heap = data.find(_SIGNATURE, heap + 1)


def _heap(data: mmap.mmap, heap: int) -> Iterator[_Entry]:
    position, end = heap + 16, min(heap + int.from_bytes(data[heap + 8 : heap + 16], "little"), len(data))
    while position + 16 <= end:
        entry = _Entry(heap, position, *struct.unpack_from("<H6xQ", data, position))
        yield entry
        position += _step(entry)


def _step(entry: _Entry) -> int:
    return entry.length if entry.number == 0 else 16 + entry.length + -entry.length % 8


def _longest_claim(data: mmap.mmap, entry: _Entry) -> int:
    """The largest length that a reference to ``entry`` (length, heap, number) gives it."""
    reference, claims, at = struct.pack("<QI", entry.heap, entry.number), [0], -1
    while entry.number and (at := data.find(reference, at + 1)) >= 4:
        claims.append(int.from_bytes(data[at - 4 : at], "little"))
    return max(claims)
