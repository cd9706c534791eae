"""One structure: atoms in a cell, checked once, where the user hands them over."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dpmodel.errors import InputError
from dpmodel.settings import nearest
from dpmodel.xp import Array

SHORTEST = 0.1  # angstrom: lattices shorter than this put thousands of images into every cutoff
FLAT = 1e-6  # sine of the angle below which lattice vectors count as dependent
CELL_HINT = "rows are lattice vectors: nine numbers a frame need cell.reshape(-1, 3, 3), three lengths np.diag(lengths)"


@dataclass(frozen=True, eq=False)
class Structure:
    """One frame; ``structures`` and ``from_ase`` check what they put into it."""

    positions: Array  # (n, 3) float64, angstrom
    types: Array  # (n,) int64: index into the model's type map, -1 for a virtual atom
    cell: Array | None  # (3, 3) float64, angstrom: rows are lattice vectors
    pbc: Array  # (3,) bool: directions that repeat
    fparam: Array | None = None  # (k,) float64: frame parameters
    aparam: Array | None = None  # (n, k) float64: atomic parameters


def structures(
    positions: Any,
    types: Any,
    cell: Any = None,
    pbc: Any = None,
    *,
    type_map: Sequence[str],
    fparam: Any = None,
    aparam: Any = None,
    n_fparam: int = 0,
    n_aparam: int = 0,
    default_fparam: Sequence[float] | None = None,
) -> list[Structure]:
    """Frames from arrays, lists or anything NumPy takes; nothing given is kept or changed.

    ``positions`` (n, 3) or (nf, n, 3), angstrom; ``types`` (n,) or (nf, n), -1 for virtual atoms; ``cell`` None, (3, 3)
    or (nf, 3, 3), rows are lattice vectors in angstrom; ``pbc`` a bool, (3,) or (nf, 3), default: periodic if there is
    a cell; ``fparam`` (k,) or (nf, k); ``aparam`` (n, k) or (nf, n, k); the axis of k = 1 may be missing.
    What lacks the axis of frames serves them all.
    ``n_fparam`` and ``n_aparam`` are what the model wants, ``default_fparam`` is its default.

    Raises InputError, which names the frame and the atom.
    """
    x = _positions(positions)
    nf, n = x.shape[:2]
    t = _types(types, nf, n, type_map)
    box = None if cell is None else per_frame("cell", cell, nf, (3, 3), CELL_HINT)
    periodic = _pbc(pbc, nf, box is not None)
    if box is None and periodic.any():
        raise InputError("pbc asks for periodic directions, but there is no cell: give cell (3, 3), or pbc=False")
    if box is not None:
        for f in range(nf):
            check_cell(box[f], periodic[f], f"frame {f}")
    if fparam is None and n_fparam:
        fparam = default_fparam
    fp = _parameters("fparam", fparam, nf, (n_fparam,), "(k,) or (nf, k)")
    ap = _parameters("aparam", aparam, nf, (n, n_aparam), "(n, k) or (nf, n, k)")
    return [Structure(x[f], t[f], _at(box, f), periodic[f], _at(fp, f), _at(ap, f)) for f in range(nf)]


def from_ase(
    atoms: Any,
    type_map: Sequence[str],
    *,
    n_fparam: int = 0,
    n_aparam: int = 0,
    default_fparam: Sequence[float] | None = None,
) -> Structure:
    """The structure of an ``ase.Atoms``, with ``info["fparam"]`` and ``arrays["aparam"]`` if the model wants them.

    Raises InputError for an element that the model does not know, and as ``structures``.
    """
    cell = np.asarray(atoms.cell)
    return structures(
        atoms.positions,
        types_of(atoms.get_chemical_symbols(), type_map),
        cell if cell.any() or atoms.pbc.any() else None,
        atoms.pbc,
        type_map=type_map,
        fparam=atoms.info.get("fparam") if n_fparam else None,
        aparam=atoms.arrays.get("aparam") if n_aparam else None,
        n_fparam=n_fparam,
        n_aparam=n_aparam,
        default_fparam=default_fparam,
    )[0]


def _positions(positions: Any) -> Array:
    x = _numbers("positions", positions)
    if x.ndim not in (2, 3) or x.shape[-1] != 3:
        raise InputError(
            f"positions should have shape (n, 3) or (nf, n, 3), got {x.shape}"
            + ("; use positions.reshape(nf, -1, 3)" if x.ndim in (1, 2) and x.shape[-1] % 3 == 0 and x.size else "")
        )
    x = x[None] if x.ndim == 2 else x
    if 0 in x.shape:
        raise InputError(f"there are no {'atoms' if x.shape[0] else 'frames'}: positions has shape {x.shape}")
    _check_finite("positions", x)
    return x


def _types(types: Any, nf: int, n: int, type_map: Sequence[str]) -> Array:
    array = _array("types", types)
    if array.dtype.kind not in "iuf":
        got = "strings" if array.dtype.kind in "US" else array.dtype
        raise InputError(f"types should be integers, indices into {_listed(type_map)}, got {got}")
    t = _broadcast("types", array, nf, (n,), "one for each atom of positions")
    names = ", ".join(f"{i} {name}" for i, name in enumerate(type_map))
    bad = np.argwhere(~((t == np.floor(t)) & (t >= -1) & (t < len(type_map))))
    if len(bad):
        f, i = bad[0]
        raise InputError(f"frame {f}, atom {i}: type {t[f, i]} is none of {names} (and -1 for a virtual atom)")
    return t.astype(np.int64)


def _pbc(pbc: Any, nf: int, default: bool) -> Array:
    flags = _array("pbc", default if pbc is None else pbc)
    if flags.dtype.kind not in "biu" or not np.isin(flags, (0, 1)).all():
        raise InputError(f"pbc should be True or False, or three of them, got {pbc!r}")
    if flags.ndim == 0:
        flags = np.repeat(flags, 3)
    return _broadcast("pbc", flags, nf, (3,), "one for each lattice vector").astype(bool)


def per_frame(name: str, value: Any, nf: int, shape: tuple[int, ...], hint: str) -> Array:
    """``value`` as finite float64 of (nf, *shape)."""
    a = _broadcast(name, _numbers(name, value), nf, shape, hint)
    _check_finite(name, a)
    return a


def _parameters(name: str, value: Any, nf: int, shape: tuple[int, ...], hint: str) -> Array | None:
    width = shape[-1]
    if value is None and not width:
        return None
    if value is None:
        raise InputError(f"the model needs {name}, {width} numbers: give shape {hint} with k = {width}")
    if not width:
        raise InputError(f"the model takes no {name}: leave it out")
    a = _numbers(name, value)
    if width == 1 and a.shape in (shape[:-1], (nf, *shape[:-1])):  # files have no axis of one number
        a = a[..., None]
    return per_frame(name, a, nf, shape, f"the model takes k = {width} numbers")


def check_cell(cell: Array, pbc: Array, where: str) -> None:
    """Periodic vectors must span as many directions as they are; the others do not matter.

    Raises InputError, which starts with ``where``.
    """
    for k in np.flatnonzero(pbc & ~cell.any(axis=1)):
        raise InputError(
            f"{where}: lattice vector {k} of cell is zero, but direction {k} is periodic; "
            f"give its length, or pbc with False there"
        )
    vectors = cell[pbc]
    if len(vectors):
        largest = np.abs(vectors).max(axis=1, keepdims=True)  # whose square may be no number
        lengths = largest * np.linalg.norm(vectors / largest, axis=1, keepdims=True)
        if lengths.min() < SHORTEST:
            raise InputError(
                f"{where}: a periodic lattice vector of cell is {lengths.min():.3g} Å long, but no atom can be "
                f"closer than {SHORTEST} to its own image; rows are lattice vectors in Å"
            )
        if np.linalg.svd(vectors / lengths, compute_uv=False).min() < FLAT:
            raise InputError(
                f"{where}: the cell is singular, its periodic vectors are linearly dependent: {vectors.tolist()}"
            )


def _array(name: str, value: Any) -> Array:
    try:
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as e:
        raise InputError(f"{name} is not an array ({e}); frames of different sizes are separate structures") from e


def _numbers(name: str, value: Any) -> Array:
    """A float64 copy."""
    array = _array(name, value)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name} should be real numbers, got {array.dtype}")
    return np.array(array, dtype=np.float64)


def _broadcast(name: str, a: Array, nf: int, shape: tuple[int, ...], hint: str) -> Array:
    if a.shape not in (shape, (nf, *shape)):
        raise InputError(f"{name} should have shape {shape} or {(nf, *shape)}, got {a.shape}; {hint}")
    return np.broadcast_to(a, (nf, *shape))


def _check_finite(name: str, a: Array) -> None:
    """``a`` (nf, ...) holds no NaN and no infinity."""
    bad = np.argwhere(~np.isfinite(a))
    if len(bad):
        index = tuple(int(i) for i in bad[0])
        atom = f", atom {index[1]}" if name in ("positions", "aparam") else ""
        raise InputError(f"frame {index[0]}{atom}: {name}{list(index)} is {a[index]}")


def types_of(symbols: Sequence[str], type_map: Sequence[str], what: str = "atom") -> list[int]:
    """The type of each symbol; InputError for an element that the model does not know, of ``what`` by its number."""
    index = {name: t for t, name in enumerate(type_map)}
    for i, symbol in enumerate(symbols):
        if symbol not in index:
            raise InputError(f"{what} {i} is {symbol!r}, {unknown_element(symbol, type_map)}")
    return [index[symbol] for symbol in symbols]


def unknown_element(symbol: str, type_map: Sequence[str]) -> str:
    """The end of a message about an element that the model does not know."""
    return f"which the model does not know: it knows {_listed(type_map)}{nearest(symbol, type_map)}"


def _listed(type_map: Sequence[str]) -> str:
    return ", ".join(type_map)


def _at(a: Array | None, f: int) -> Array | None:
    return None if a is None else a[f]


def wrapped(frame: Structure) -> Array:
    """(n, 3) angstrom: positions in the cell along the directions that repeat."""
    if frame.cell is None or not frame.pbc.any():
        return frame.positions
    fractional = frame.positions @ np.linalg.inv(frame.cell)
    return frame.positions - np.floor(np.where(frame.pbc, fractional, 0.0)) @ frame.cell
