"""What HDF5 2.0 does not check before it reads text: lists that never end, and lengths of gigabytes."""

import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple

from dpmodel.errors import FileError

_SIGNATURE = b"GCOL\x01\0\0\0"
_MANY = 1000  # a model file has two texts
_LAYOUTS = ((1, 8, 8), (2, 8, 1), (3, 9, 1))  # of attributes: version, bytes before the name, alignment


class _Entry(NamedTuple):
    heap: int  # byte where the list begins
    position: int
    number: int  # 0 for what is free
    length: int


def check_heaps(path: str, names: tuple[str, ...]) -> None:
    """Raise FileError where a list of texts, or an attribute of one of these names that is a text, would make HDF5 read
    forever or reserve memory for what is not there."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for position, length in (claim for name in names for claim in _attributes(data, name.encode() + b"\0")):
            if length > len(data):
                raise FileError(f"{path}: damaged HDF5 file: text of length {length} at byte {position}")
        for count, entry in enumerate(_entries(data)):
            if count > _MANY or _step(entry) < 16 or _longest_claim(data, entry) > entry.length:
                raise FileError(f"{path}: damaged HDF5 file: text of length {entry.length} at byte {entry.position}")


def _attributes(data: mmap.mmap, name: bytes) -> Iterator[tuple[int, int]]:
    """Where attributes called ``name`` have their values, and how long they say that their texts are."""
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
        position, end = heap + 16, min(heap + int.from_bytes(data[heap + 8 : heap + 16], "little"), len(data))
        while position + 16 <= end:
            entry = _Entry(heap, position, *struct.unpack_from("<H6xQ", data, position))
            yield entry
            position += _step(entry)
        heap = data.find(_SIGNATURE, heap + 1)


def _step(entry: _Entry) -> int:
    return entry.length if entry.number == 0 else 16 + entry.length + -entry.length % 8


def _longest_claim(data: mmap.mmap, entry: _Entry) -> int:
    """The largest length that a reference to ``entry`` (length, heap, number) gives it."""
    reference, claims, at = struct.pack("<QI", entry.heap, entry.number), [0], -1
    while entry.number and (at := data.find(reference, at + 1)) >= 4:
        claims.append(int.from_bytes(data[at - 4 : at], "little"))
    return max(claims)
