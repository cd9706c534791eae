"""The labels that data files may hold beside positions (specification/data.md 1.3)."""

from typing import NamedTuple

Shape = tuple[int | str, ...]


class Label(NamedTuple):
    """``shape`` of one frame: "n" is the number of atoms, "*" what the file has; ``default`` where others have it."""

    shape: Shape
    default: float | None = None


LABELS = {
    "energy": Label(()),
    "force": Label(("n", 3)),
    "virial": Label((3, 3)),
    "atom_ener": Label(("n",)),
    "atom_pref": Label(("n",), default=1.0),
    "atom_ener_coeff": Label(("n",), default=1.0),
    "atom_weight": Label(("n",), default=1.0),
    "drdq": Label(("n", 3, "*")),
    "hessian": Label(("n", 3, "n", 3)),
    "fparam": Label(("*",)),
    "aparam": Label(("n", "*")),
    "dipole": Label((3,)),
    "atom_dipole": Label(("n", 3)),
    "polarizability": Label((3, 3)),
    "atom_polarizability": Label(("n", 3, 3)),
    "dos": Label(("*",)),
    "atom_dos": Label(("n", "*")),
    "numb_copy": Label(()),
}
OTHER = Label(("*",))  # a property of the user's own


def label_name(file: str) -> str:
    """The name of the label in a file: "atomic_X" is "atom_X"."""
    return "atom_" + file.removeprefix("atomic_") if file.startswith("atomic_") else file


def frame_shape(name: str, n_atoms: int, size: int) -> tuple[int, ...] | None:
    """The shape of one frame of a label that has ``size`` numbers; None if no such shape has."""
    shape = [n_atoms if d == "n" else d for d in LABELS.get(name, OTHER).shape]
    fixed = 1
    for d in shape:
        fixed *= d if isinstance(d, int) else 1
    if size % fixed or ("*" not in shape and size != fixed):
        return None
    return tuple(size // fixed if d == "*" else int(d) for d in shape)
