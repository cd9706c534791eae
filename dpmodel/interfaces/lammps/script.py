"""An ordinary LAMMPS script with ``pair_style dpmodel``: where it is cut, and what LAMMPS reads in its place."""

import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

from dpmodel.errors import InputError
from dpmodel.settings import nearest

STYLE = "dpmodel"
HYBRID = ("hybrid", "hybrid/overlay")


class Script(NamedTuple):
    """The lines around the two that LAMMPS does not know; the ``style`` line has its variables still in it."""

    before: list[str]
    style: list[str]  # words after pair_style
    between: list[str]
    elements: list[str]
    after: list[str]


def cut(text: str, where: str) -> Script:
    """The script ``text`` cut at ``pair_style dpmodel`` and at its ``pair_coeff``; ``where`` names it in errors.

    Raises
    ------
    InputError
        If one of them is missing, there twice, or in the wrong order.
    """
    lines = _whole_lines(text)
    words = [_words(line) for line in lines]
    style = _the_only(where, f"pair_style {STYLE}", [k for k, w in enumerate(words) if _is_style(w)])
    is_hybrid = words[style][1] != STYLE
    coefficients = [k for k, w in enumerate(words) if k > style and _is_coefficient(w, is_hybrid)]
    if is_hybrid or not coefficients:
        coefficient = _the_only(where, f"pair_coeff * * {STYLE if is_hybrid else ''}...", coefficients)
    else:
        coefficient = coefficients[0]
    found = words[coefficient]
    if found[1:3] != ["*", "*"]:
        raise InputError(f"{where}: '{' '.join(found)}' should be 'pair_coeff * * ...': the model is one for all pairs")
    return Script(
        before=lines[:style],
        style=words[style][1:],
        between=lines[style + 1 : coefficient],
        elements=found[4 if is_hybrid else 3 :],
        after=lines[coefficient + 1 :],
    )


def _whole_lines(text: str) -> list[str]:
    """Lines, those that end with ``&`` joined with what continues them."""
    lines: list[str] = []
    goes_on = False
    for line in text.splitlines():
        if goes_on:
            lines[-1] = lines[-1].rstrip()[:-1] + " " + line
        else:
            lines.append(line)
        goes_on = line.rstrip().endswith("&")
    return lines


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:  # a quotation over several lines, which is none of ours
        return []


def _is_style(words: Sequence[str]) -> bool:
    return words[:2] == ["pair_style", STYLE] or (
        words[:1] == ["pair_style"] and words[1].startswith("hybrid") and STYLE in words
    )


def _is_coefficient(words: Sequence[str], is_hybrid: bool) -> bool:
    return words[:1] == ["pair_coeff"] and (not is_hybrid or words[3:4] == [STYLE])


def _the_only(where: str, what: str, found: Sequence[int]) -> int:
    if not found:
        raise InputError(f"{where} has no line '{what}'; a file that it includes is not looked into")
    if len(found) > 1:
        raise InputError(f"{where} has {len(found)} lines '{what}', but there can be one only")
    return found[0]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What may follow the models in ``pair_style dpmodel``."""

    backend: str = "numpy"
    device: str | None = None
    precision: str | None = None
    head: str | None = None
    out_freq: int = 100
    out_file: str = "model_devi.out"
    atomic: bool = False
    relative: float | None = None
    relative_v: float | None = None
    fparam: tuple[float, ...] | None = None
    strict: bool = False


def _count(word: str) -> int:
    value = int(word)
    if value < 1:
        raise ValueError
    return value


FLAGS = ("atomic", "strict")  # options without a value
VALUES: dict[str, Callable[[str], Any]] = {"out_freq": _count, "relative": float, "relative_v": float}
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
    given: dict[str, Any] = {}
    while rest:
        name = rest.pop(0)
        if name not in NAMES:
            hint = nearest(name, NAMES) or f"; known are {', '.join(NAMES)}"
            raise InputError(f"pair_style {STYLE}: {name!r} is no option{hint}")
        if name in FLAGS:
            given[name] = True
        elif name == "fparam":
            numbers = next((k for k, word in enumerate(rest) if word in NAMES), len(rest))
            given[name] = tuple(_value(name, word, float) for word in rest[:numbers])
            del rest[:numbers]
        elif rest:
            word = rest.pop(0)
            given[name] = _value(name, word, VALUES.get(name, str))
        else:
            raise InputError(f"pair_style {STYLE}: {name} needs a value")
    if not paths:
        raise InputError(f"pair_style {STYLE} needs a model file: pair_style {STYLE} model.dp backend torch")
    return paths, Options(**given)


def _value(name: str, word: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(word)
    except ValueError:
        expected = "a positive whole number" if kind is _count else "a number"
        raise InputError(f"pair_style {STYLE}: {name} should be {expected}, got {word!r}") from None


class Style(NamedTuple):
    """``pair_style`` in three parts: ``hybrid/overlay zbl 1 2``, the words of ``dpmodel``, and what follows them."""

    before: list[str]
    own: list[str]
    after: list[str]


def styles(words: Sequence[str], known: Collection[str]) -> Style:
    """The words after ``pair_style`` apart; ``known``: names of LAMMPS' own styles, where those of dpmodel end.

    Raises
    ------
    InputError
        For hybrid styles that LAMMPS cannot apply to forces that come from elsewhere.
    """
    start = list(words).index(STYLE)
    if start and words[0] not in HYBRID:
        raise InputError(f"pair_style {words[0]} cannot scale or switch {STYLE}: use hybrid/overlay")
    end = next((k for k in range(start + 1, len(words)) if words[k] in known), len(words))
    if STYLE in words[start + 1 :]:
        raise InputError(f"pair_style {words[0]}: {STYLE} can be there only once; several models are a deviation")
    return Style(list(words[:start]), list(words[start + 1 : end]), list(words[end:]))


def coefficients(elements: Sequence[str | None], is_hybrid: bool) -> list[str]:
    """The ``pair_coeff`` lines of LAMMPS' empty style in the place of dpmodel's."""
    if not is_hybrid:
        return ["pair_coeff * *"]
    types = [k for k, name in enumerate(elements, 1) if name is not None]
    return [f"pair_coeff {i} {j} zero" for i, j in combinations_with_replacement(types, 2)]
