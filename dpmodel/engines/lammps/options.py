"""The words of ``pair_style dpmodel`` and of its ``pair_coeff``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from dpmodel.engines.lammps.plugin import STYLE
from dpmodel.errors import InputError
from dpmodel.settings import nearest


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options that may follow the models in ``pair_style dpmodel``."""

    backend: str = "numpy"
    device: str | None = None
    precision: str | None = None
    head: str | None = None
    out_freq: int = 100
    out_file: str = "model_devi.out"
    atomic: bool = False
    relative: float | None = None
    relative_v: float | None = None
    uncertainty: str | None = None
    max_uncertainty: float | None = None
    fparam: tuple[float, ...] | None = None
    strict: bool = False
    trust: bool = False


def _count(word: str) -> int:
    value = int(word)
    if value < 1:
        raise ValueError
    return value


def _number(word: str) -> float:
    value = float(word)
    if not isfinite(value):  # nothing is larger than nan: such a threshold would never stop a run
        raise ValueError
    return value


def _size(word: str) -> float:
    value = _number(word)
    if value < 0:
        raise ValueError
    return value


FLAGS = ("atomic", "strict", "trust")  # options without a value
VALUES: dict[str, Callable[[str], Any]] = {
    "out_freq": _count,
    "relative": _size,
    "relative_v": _size,
    "max_uncertainty": _size,
}
EXPECTED: dict[Callable[[str], Any], str] = {_count: "a positive whole number", _size: "a number, at least 0"}
NAMES = list(Options.__dataclass_fields__)


def models_and_options(words: Sequence[str]) -> tuple[list[str], Options]:
    """Paths of the models and the options after them, from the words after ``dpmodel``.

    Raises
    ------
    InputError
        For an option that is unknown or has no value, or no good one.
    """
    first = next((k for k, word in enumerate(words) if "." not in word), len(words))  # model files have a suffix
    paths, rest = list(words[:first]), list(words[first:])
    values: dict[str, Any] = {}
    while rest:
        name = rest.pop(0)
        if name not in NAMES:
            hint = nearest(name, NAMES) or f"; known are {', '.join(NAMES)}"
            raise InputError(f"pair_style {STYLE}: {name!r} is no option{hint}")
        if name in FLAGS:
            values[name] = True
        elif name == "fparam":
            numbers = next((k for k, word in enumerate(rest) if word in NAMES), len(rest))
            values[name] = tuple(_value(name, word, _number) for word in rest[:numbers])
            del rest[:numbers]
        elif rest:
            word = rest.pop(0)
            values[name] = _value(name, word, VALUES.get(name, str))
        else:
            raise InputError(f"pair_style {STYLE}: {name} needs a value")
    if not paths:
        raise InputError(f"pair_style {STYLE} needs a model file: pair_style {STYLE} model.dp backend torch")
    return paths, Options(**values)


def _value(name: str, word: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(word)
    except ValueError:
        expected = EXPECTED.get(kind, "a number")
        raise InputError(f"pair_style {STYLE}: {name} should be {expected}, got {word!r}") from None


def elements_of(words: Sequence[str], is_hybrid: bool) -> list[str | None]:
    """The elements that the words of ``pair_coeff * * O H`` name, None for ``NULL``.

    Raises
    ------
    InputError
        For single pairs of types, and for ``NULL`` where no other style could act on those atoms.
    """
    line = " ".join(["pair_coeff", *words])
    if words[:2] != ["*", "*"]:
        raise InputError(f"'{line}' should be 'pair_coeff * * ...': the model is one for all pairs")
    elements = [None if name == "NULL" else name for name in words[2:]]
    if None in elements and not is_hybrid:
        raise InputError("pair_coeff: NULL would leave atoms without any force; it goes with hybrid/overlay")
    return elements
