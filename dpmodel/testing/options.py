"""The options that are varied: every option of a model that changes its numbers, and every kind of structure.

The first choice of each option is the plainest.  ``Space.draw`` picks rows of choices such that pairs of choices meet
soon; ``section`` turns a row into a model section of an input file.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import combinations
from typing import Any

import numpy as np

from dpmodel.dpa2.options import ACTIVATION_CHOICES, CUTOFFS, DESCRIPTOR, EXTENSIONS, OFF_ON, ON_OFF, TIGHT
from dpmodel.errors import SettingError
from dpmodel.model.settings import ModelSettings

Row = dict[str, int]  # option: which of its choices

CANDIDATES = 20  # rows tried for each that is kept


class Each(tuple[Any, ...]):
    """A list with one entry for each type: these values in turn."""


MODEL: dict[str, Sequence[Any]] = {
    "type_map": (("O", "H"), ("H",), ("H", "C", "N", "Cu"), ("O_water", "X")),
    "atom_exclude_types": ((), (0,)),
    "pair_exclude_types": ((), ((0, 0),), ((1, 0),)),
}
FITTING: dict[str, Sequence[Any]] = {
    "type": ("ener", "dipole", "ener", "polar", "ener", "dos", "ener", "property"),  # half of them have forces
    "neuron": ((3,), (4, 4), (2, 4, 3)),
    "activation_function": ACTIVATION_CHOICES,
    "precision": ("float64", "float64", "float64", "float32"),
    "resnet_dt": OFF_ON,
    "numb_fparam": (0, 2),
    "numb_aparam": (0, 1),
    "dim_case_embd": (0, 2),
    "use_aparam_as_mask": OFF_ON,
}
# settings of one kind of head, by its name
OF_HEAD: dict[str, dict[str, Sequence[Any]]] = {
    "ener": {"atom_ener": ((), Each((-1.5, None)))},
    "polar": {"fit_diag": ON_OFF, "shift_diag": ON_OFF, "scale": (1.0, Each((0.5, 2.0)))},
    "dos": {"numb_dos": (2, 5)},
    "property": {"property_name": ("gap",), "task_dim": (1, 3), "distinguish_types": ON_OFF},
}
STRUCTURE: dict[str, Sequence[Any]] = {
    "boundary": ("none", "triclinic", "left-handed", "slab", "wire", "small cell"),
    "crowd": ("dense", "sparse", "lonely atom"),
    "virtual": ("none", "first atom", "some"),
    "frames": ("one", "two", "two sizes"),
}
OPTIONS: dict[str, Sequence[Any]] = {
    "cutoffs": CUTOFFS,
    **MODEL,
    **{f"descriptor.{name}": choices for name, choices in DESCRIPTOR.items()},
    **{f"fitting_net.{name}": choices for name, choices in FITTING.items()},
    **{f"{head}.{name}": choices for head, own in OF_HEAD.items() for name, choices in own.items()},
    **EXTENSIONS,
    **{f"structure.{name}": choices for name, choices in STRUCTURE.items()},
}


class Space:
    """The options with their choices; ``only`` narrows some: ``{"descriptor.smooth": [True]}``.

    Options are named by their path in the model section; those of one head only by its name (``"polar.fit_diag"``),
    those of the structure by ``structure`` (see ``OPTIONS``).

    Raises
    ------
    SettingError
        For an option that does not exist or has no choice left.
    """

    def __init__(self, only: Mapping[str, Sequence[Any]] | None = None) -> None:
        for name, choices in (only or {}).items():
            if name not in OPTIONS:
                near = get_close_matches(name, OPTIONS, n=1, cutoff=0.4)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise SettingError(f"only: {name!r} is not an option that varies{hint}")
            if isinstance(choices, str) or not len(choices):
                raise SettingError(f"only[{name!r}] should be a list of at least one choice, got {choices!r}")
        self.choices = {name: tuple((only or {}).get(name, choices)) for name, choices in OPTIONS.items()}

    @property
    def plain(self) -> Row:
        """The first choice of everything."""
        return dict.fromkeys(self.choices, 0)

    def draw(self, count: int, seed: int) -> list[Row]:
        """``count`` valid rows, the plainest first, each chosen for the pairs of choices that no row before it has."""
        random = np.random.default_rng(seed)
        rows: list[Row] = [self.plain] if self.is_valid(self.plain) else []
        seen = {pair for row in rows for pair in pairs(row)}
        while len(rows) < count:
            rows.append(self.best(random, seen))
            seen.update(pairs(rows[-1]))
        return rows[:count]

    def best(self, random: np.random.Generator, seen: set[Any]) -> Row:
        """The valid one of a few random rows that has most pairs which are not in ``seen``."""
        for _ in range(100):
            rows = [{n: int(random.integers(len(c))) for n, c in self.choices.items()} for _ in range(CANDIDATES)]
            for row in sorted(rows, key=lambda row: -sum(pair not in seen for pair in pairs(row))):
                if self.is_valid(row):
                    return row
        raise SettingError("only: hardly any of these choices can be combined")

    def is_valid(self, row: Row) -> bool:
        """Whether such a model and structure exist, and are free of ties."""
        value = self.values(row)
        if value["structure.boundary"] == "small cell" and value["cutoffs"] == TIGHT:
            return False  # an atom's images on both sides are equally far: which of them is kept is nobody's choice
        try:
            ModelSettings.read(section(value))
        except SettingError:
            return False
        return True

    def values(self, row: Row) -> dict[str, Any]:
        """Option to value."""
        return {name: self.choices[name][i] for name, i in row.items()}

    def beyond_plain(self, row: Row) -> dict[str, Any]:
        """The options that are not those of the plainest model and structure, without those of other heads."""
        value = self.values(row)
        other_heads = OF_HEAD.keys() - {value["fitting_net.type"]}
        changed: dict[str, Any] = {}
        for name, (plainest, *_) in self.choices.items():
            if value[name] == plainest or name.split(".")[0] in other_heads:
                continue
            several = isinstance(plainest, dict)
            changed |= {n: v for n, v in value[name].items() if v != plainest[n]} if several else {name: value[name]}
        return changed


def pairs(row: Row) -> Iterator[tuple[Any, ...]]:
    return combinations(row.items(), 2)


def section(values: Mapping[str, Any]) -> dict[str, Any]:
    """The model section of an input file that has ``values``."""
    head, n_types = values["fitting_net.type"], len(values["type_map"])
    flat: dict[str, Any] = {}
    for name, value in values.items():
        first, _, rest = name.partition(".")
        if isinstance(value, dict):
            flat |= value
        elif first == head or first not in ("structure", *OF_HEAD):
            flat[f"fitting_net.{rest}" if first == head else name] = value
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, key = path.split(".")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[key] = [value[i % len(value)] for i in range(n_types)] if isinstance(value, Each) else value
    return tree
