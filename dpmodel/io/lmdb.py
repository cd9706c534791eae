"""LMDB files, read only: the place of the value of each key (the pages of LMDB 0.9; all numbers are little-endian).

LMDB's own library maps the file into memory and trusts it: where pages are missing or damaged, the process dies.
"""

import struct
from typing import NamedTuple

from dpmodel.errors import FileError
from dpmodel.io.stored import OpenedFile

MAGIC = 0xBEEFC0DE, 1  # and the version of the layout
HEADER = struct.Struct("<8x2xHH2x")  # of a page: what it is, and where its list of entries ends
META = struct.Struct("<II16xI84xQ8xQ")  # magic, version, size of a page, first page of the tree, number of the write
ENTRY = struct.Struct("<IHH")  # length or number of a page, flags or its high part, length of the key
BRANCH, LEAF = 1, 2  # what a page is
ELSEWHERE = 1  # flag of a value on pages of its own
NONE = 2**64 - 1  # the number of no page
SIZES = [2**k for k in range(9, 17)]  # of a page


class Value(NamedTuple):
    """The place of a value, in bytes."""

    offset: int
    length: int


def values(file: OpenedFile) -> dict[bytes, Value]:
    """The values of all keys.  Raises FileError where the file is no whole LMDB file, or has changed."""
    try:
        return _Tree(file).values()
    except struct.error:
        raise FileError(f"{file.path}: damaged LMDB file: an entry reaches beyond its page") from None


class _Tree:
    def __init__(self, file: OpenedFile) -> None:
        self.file = file
        magic, version, self.size, root, write = self._meta(0)
        if (magic, version) != MAGIC or self.size not in SIZES:
            raise FileError(f"{file.path}: expected an LMDB file (version {MAGIC[1]}), found something else")
        other = self._meta(self.size)
        self.root = other[3] if other[:3] == (*MAGIC, self.size) and other[4] > write else root

    def _meta(self, offset: int) -> tuple[int, ...]:
        return META.unpack(self.file.read(offset + 16, META.size))

    def values(self) -> dict[bytes, Value]:
        """Keys and places of values: each page once, and no more bytes than the file has."""
        pages, seen, values = [self.root] if self.root != NONE else [], set[int](), dict[bytes, Value]()
        while pages:
            self._expect((number := pages.pop()) not in seen, f"page {number} comes twice")
            seen.add(number)
            page = self.file.read(number * self.size, self.size)
            kind, end = HEADER.unpack_from(page)
            self._expect(kind in (BRANCH, LEAF), f"page {number} is none of the tree")
            starts = (at for (at,) in struct.iter_unpack("<H", page[16 : end & ~1]))
            entries = [(at + 8, *ENTRY.unpack_from(page, at)) for at in starts]
            self._expect(sum(8 + n_key for *_, n_key in entries) <= self.size, f"page {number} is too full")
            if kind == BRANCH:
                pages += [low | high << 32 for _, low, high, _ in entries]
            else:
                values |= {page[at : at + n]: self._value(page, number, at + n, *rest) for at, *rest, n in entries}
        self._expect(sum(value.length for value in values.values()) <= self.file.size, "it was cut, or values overlap")
        return values

    def _value(self, page: bytes, number: int, at: int, length: int, flags: int) -> Value:
        offset = number * self.size + at
        if flags == ELSEWHERE:
            offset = struct.unpack_from("<Q", page, at)[0] * self.size + 16
        self._expect(flags == ELSEWHERE or (not flags and at + length <= self.size), "a value reaches beyond its page")
        self._expect(offset + length <= self.file.size, "it was cut, or a value is not in it")
        return Value(offset, length)

    def _expect(self, is_sound: bool, what: str) -> None:
        if not is_sound:
            raise FileError(f"{self.file.path}: damaged LMDB file: {what}")
