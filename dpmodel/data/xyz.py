"""Extended XYZ, read and written where ASE is not installed."""

import re
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from dpmodel.errors import InputError
from dpmodel.io.files import read_text
from dpmodel.xp import Array

PAIR = re.compile(r"""([^\s="']+)\s*=\s*("[^"]*"|'[^']*'|\S+)""")
KINDS: dict[str, Any] = {"R": float, "I": int, "S": str, "L": str}
TRUE = {"t", "true", "1"}


@dataclass
class Atoms:
    """One frame with the names that ``ase.Atoms`` has, as far as ``from_ase`` asks for them.

    ``positions`` (n, 3) and ``cell`` (3, 3) in angstrom, zeros without a cell; ``pbc`` (3,); ``info`` belongs to the
    frame, ``arrays`` (n, ...) to the atoms.
    """

    symbols: list[str]
    positions: Array
    cell: Array
    pbc: Array
    info: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.symbols)

    def get_chemical_symbols(self) -> list[str]:
        """The element of each atom."""
        return self.symbols

    def get_chemical_formula(self) -> str:
        """Elements by Hill's rule: carbon, hydrogen, then the alphabet."""
        first = [s for s in ("C", "H") if "C" in self.symbols and s in self.symbols]
        names = [*first, *sorted(set(self.symbols) - set(first))]
        return "".join(f"{s}{n if (n := self.symbols.count(s)) > 1 else ''}" for s in names)

    def get_volume(self) -> float:
        """Volume of the cell, cubic angstrom."""
        return float(abs(np.linalg.det(self.cell)))

    def copy(self) -> "Atoms":
        """The same frame, with dictionaries of its own."""
        return Atoms(self.symbols, self.positions, self.cell, self.pbc, dict(self.info), dict(self.arrays))


def read_xyz(path: Path) -> list[Atoms]:
    """All frames of a file, extended or plain XYZ.  Errors name the file, the frame and the line."""
    lines = read_text(path).splitlines()
    frames: list[Atoms] = []
    at = 0
    while at < len(lines) and lines[at].strip():
        where = f"{path}, frame {len(frames)}"
        try:
            n = int(lines[at])
        except ValueError:
            raise InputError(f"{where}: line {at + 1} should be the number of atoms, got {lines[at][:40]!r}") from None
        rows = lines[at + 2 : at + 2 + n]
        if n < 1 or len(rows) < n:
            raise InputError(f"{where}: line {at + 1} says {n} atoms, {len(rows)} lines follow")
        frames.append(_frame(lines[at + 1], [row.split() for row in rows], where, at + 3))
        at += 2 + n
    return frames


def _frame(comment: str, rows: list[list[str]], where: str, line: int) -> Atoms:
    info: dict[str, Any] = {key: value.strip("\"'") for key, value in PAIR.findall(comment)}
    try:
        lattice = [float(x) for x in info.pop("Lattice", "").split()]
        cell = np.reshape(lattice, (3, 3)) if lattice else np.zeros((3, 3))
        flags = [flag.lower() in TRUE for flag in info.pop("pbc", "").split()]
        pbc = np.array(flags) if flags else np.full(3, bool(lattice))
        columns = _columns(info.pop("Properties", "species:S:1:pos:R:3"), rows, line)
        info = {key: _value(value) for key, value in info.items()}
        symbols = [str(name) for name in columns.pop("species")[:, 0]]
        positions = columns.pop("pos")
        if positions.shape[1:] != (3,) or pbc.shape != (3,):
            raise ValueError("positions and pbc should have three components")
    except KeyError as error:
        raise InputError(f"{where}: Properties has no {error}") from None
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    arrays = {name: column[:, 0] if column.shape[1] == 1 else column for name, column in columns.items()}
    return Atoms(symbols, positions, cell, pbc, info, arrays)


def _columns(layout: str, rows: list[list[str]], line: int) -> dict[str, Array]:
    """Columns (n, k) by name from ``name:kind:k`` triples."""
    parts = layout.split(":")
    entries = list(zip(parts[::3], parts[1::3], map(int, parts[2::3]), strict=True))
    width = sum(n for _, _, n in entries)
    for i, row in enumerate(rows):
        if len(row) < width:
            raise ValueError(f"line {line + i} should have {width} columns, got {len(row)}")
    result, at = {}, 0
    for name, kind, n in entries:
        if kind not in KINDS:
            raise ValueError(f"Properties has {kind!r} where R, I, S or L should be")
        result[name] = np.array([[KINDS[kind](x) for x in row[at : at + n]] for row in rows])
        at += n
    return result


def _value(text: str) -> Any:
    """Numbers where all words are numbers, else the text."""
    try:
        numbers = np.array([float(word) for word in text.split()])
    except ValueError:
        return text
    return numbers if len(numbers) > 1 else float(numbers[0]) if len(numbers) else text


def xyz_text(frames: list[Atoms]) -> str:
    """The frames as extended XYZ."""
    return "".join(f"{line}\n" for line in chain.from_iterable(map(_lines, frames)))


def _lines(atoms: Atoms) -> list[str]:
    columns = {name: np.reshape(array, (len(atoms), -1)) for name, array in atoms.arrays.items()}
    kinds = {name: {"f": "R", "i": "I"}.get(column.dtype.kind, "S") for name, column in columns.items()}
    layout = "species:S:1:pos:R:3" + "".join(f":{name}:{kinds[name]}:{c.shape[1]}" for name, c in columns.items())
    head = [f'Lattice="{_words(atoms.cell)}"'] if np.any(atoms.cell) else []
    head += [f"Properties={layout}", *(f'{key}="{_words(value)}"' for key, value in atoms.info.items())]
    head.append(f'pbc="{" ".join("T" if periodic else "F" for periodic in atoms.pbc)}"')
    rows = zip(atoms.symbols, atoms.positions, *columns.values(), strict=True)
    return [str(len(atoms)), " ".join(head), *(" ".join([s, *map(_words, rest)]) for s, *rest in rows)]


def _words(value: Any) -> str:
    """Numbers with eight decimals, as ASE writes them; strings as they are."""
    return " ".join(f"{x:.8f}" if isinstance(x, float) else str(x) for x in np.ravel(value))
