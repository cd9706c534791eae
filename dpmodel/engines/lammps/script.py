"""An ordinary LAMMPS script with ``pair_style dpmodel``: where LAMMPS stops reading, and what dpmodel's lines say."""

import os
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

from dpmodel.errors import InputError
from dpmodel.settings import nearest

STYLE = "dpmodel"
HYBRID = ("hybrid", "hybrid/overlay")
PLACE, START = "dpmodel_at", "dpmodel_start"  # LAMMPS' variable of the label to go on from; its value at other times
SKIPPED = "dpmodel_skipped"  # its value where LAMMPS has left out a jump that is not the script's own
ACTED_ON = r"(pair_style|pair_coeff|include|jump(?!\s+SELF\b)|replicate|write_data)\s"
STOP = re.compile(rf"\s*(if\s.*[\s'\"])?{ACTED_ON}", re.DOTALL)
COMMENT = re.compile(r"""("[^"]*"|'[^']*')|#.*""")


class Script(NamedTuple):
    """What LAMMPS reads in place of a script, and the lines at which it stops for Python to act, by their labels."""

    text: str
    stops: dict[str, str]


def stopping(text: str) -> Script:
    """The script ``text``, which ends at each line that dpmodel may have to act on.

    LAMMPS sets the variable ``PLACE`` to the label of the stop and leaves the file.  When it reads the file again it
    goes on there, so that all else in a script, loops included, stays LAMMPS' own.
    """
    is_skipped = [f"variable {PLACE} string {SKIPPED}", f"jump {os.devnull}"]
    lines, stops = [f"jump SELF ${{{PLACE}}}", *is_skipped, f"label {START}"], dict[str, str]()
    for line in _whole_lines(text):
        if not STOP.match(line):
            lines.append(line)
            continue
        here, shown = f"{STYLE}_{len(stops)}", line.replace("\n", "\n# ")  # for the log
        lines += [f"# {shown}", f"variable {PLACE} string {here}", f"jump {os.devnull}"]
        lines += [] if line.split()[0] == "jump" else is_skipped  # only jumps follow an exhausted ``next``
        lines += [f"label {here}", f"variable {PLACE} string {START}"]
        stops[here] = COMMENT.sub(lambda found: found[1] or "", re.sub(r"&[ \t]*\n", " ", line))
    return Script("\n".join(lines) + "\n", stops)


def _whole_lines(text: str) -> list[str]:
    """Lines, with those that continue them after ``&`` or inside triple quotes."""
    lines: list[str] = []
    goes_on = False
    for line in text.split("\n"):
        if goes_on:
            lines[-1] += "\n" + line
        else:
            lines.append(line)
        goes_on = lines[-1].rstrip().endswith("&") or lines[-1].count('"""') % 2 == 1
    return lines


def words_of(line: str) -> list[str]:
    """The words of a line whose variables are put in; raises InputError for a quotation that does not end."""
    try:
        return shlex.split(line)
    except ValueError:
        raise InputError(f"'{line.strip()}' has a quotation without an end") from None


def choice(words: Sequence[str]) -> tuple[str, list[list[str]]]:
    """The words of an ``if`` as a line that sets ``PLACE`` to the number of a branch, and the commands of each."""
    line, branches = [words[0]], list[list[str]]()
    rest = iter(words[1:])
    for word in rest:
        if word in ("then", "elif", "else"):
            line += [word, f'"{next(rest, "")}"'] if word == "elif" else [word]
            branches.append([])
        elif not branches:
            line.append(f'"{word}"')
        else:
            line += [] if branches[-1] else [f'"variable {PLACE} string {len(branches) - 1}"']
            branches[-1].append(word)
    return " ".join(line), branches


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
        For hybrid styles that LAMMPS cannot apply to forces that come from elsewhere, and for ``zero`` among them.
    """
    start = list(words).index(STYLE)
    if start and words[0] not in HYBRID:
        raise InputError(f"pair_style {words[0]} cannot scale or switch {STYLE}: use hybrid/overlay")
    if "zero" in words:
        raise InputError(f"pair_style {words[0]}: leave out zero, which {STYLE} uses for its own neighbor list")
    end = next((k for k in range(start + 1, len(words)) if words[k] in known), len(words))
    if STYLE in words[start + 1 :]:
        raise InputError(f"pair_style {words[0]}: {STYLE} can be there only once; several models are a deviation")
    return Style(list(words[:start]), list(words[start + 1 : end]), list(words[end:]))


def elements_of(words: Sequence[str], is_hybrid: bool) -> list[str | None]:
    """The elements that the words of ``pair_coeff * * O H`` name, None for ``NULL``."""
    if words[1:3] != ["*", "*"]:
        raise InputError(f"'{' '.join(words)}' should be 'pair_coeff * * ...': the model is one for all pairs")
    return [None if name == "NULL" else name for name in words[4 if is_hybrid else 3 :]]


def coefficients(elements: Sequence[str | None], is_hybrid: bool) -> list[str]:
    """The ``pair_coeff`` lines of LAMMPS' empty style in the place of dpmodel's.

    Raises
    ------
    InputError
        If there are types without an element, and no other style that could act on them.
    """
    if is_hybrid:
        types = [k for k, name in enumerate(elements, 1) if name is not None]
        return [f"pair_coeff {i} {j} zero" for i, j in combinations_with_replacement(types, 2)]
    if None in elements:
        raise InputError("pair_coeff: NULL would leave atoms without any force; it goes with hybrid/overlay")
    return ["pair_coeff * *"]


def advice(message: str) -> str:
    """What to do about an error of LAMMPS that comes from a line which it should not have met, or nothing."""
    last = message.partition("Last input line:")[2].split()
    if "deepmd" in last:
        return f"\nWrite 'pair_style {STYLE} model.dp' in place of 'pair_style deepmd model.pb': the rest is the same"
    if STYLE in last or (last[:1] == ["pair_coeff"] and "pair_zero.cpp" in message):
        return (
            f"\nLines with {STYLE} should stand by themselves or within 'if', not within another command; and both "
            "come again after 'read_restart'"
        )
    return ""
