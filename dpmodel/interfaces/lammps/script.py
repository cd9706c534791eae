"""An ordinary LAMMPS script with ``pair_style dpmodel``: where LAMMPS stops reading, and what dpmodel's lines say."""

import os
import re
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any, NamedTuple

from dpmodel.errors import InputError
from dpmodel.settings import nearest

STYLE = "dpmodel"
HYBRID = ("hybrid", "hybrid/overlay")
PLACE, START = "dpmodel_at", "start"  # LAMMPS' variable that says where to go on reading; its value at other times
STOP = re.compile(r"\s*(pair_style|pair_coeff|include)\s")
COMMENT = re.compile(r"""("[^"]*"|'[^']*')|#.*""")
JUMP = re.compile(r"""\bjump\s+([^\s"']+)""")


class Script(NamedTuple):
    """What LAMMPS reads in place of a script, and the lines at which it stops for Python to act."""

    text: str
    stops: list[str]


def stopping(text: str, path: Path) -> Script:
    """The script ``text`` of the file ``path``, which ends at each line that dpmodel may have to act on.

    LAMMPS sets the variable ``PLACE`` to the number of the stop and leaves the file.  When it reads the file again it
    goes on there, so that all else in a script, loops and jumps included, stays LAMMPS' own.
    """
    lines, stops = [f"jump SELF {STYLE}_${{{PLACE}}}", f"label {STYLE}_{START}"], list[str]()
    for line in _whole_lines(text):
        if STOP.match(line):
            here, shown = len(stops), line.replace("\n", "\n# ")  # for the log
            lines += [f"# {shown}", f"variable {PLACE} string {here}", f"jump {os.devnull}"]
            lines += [f"label {STYLE}_{here}", f"variable {PLACE} string {START}"]
            stops.append(COMMENT.sub(lambda found: found[1] or "", re.sub(r"&[ \t]*\n", " ", line)))
        else:
            lines.append(JUMP.sub(lambda found: _to_itself(found, path), line))
    return Script("\n".join(lines) + "\n", stops)


def _to_itself(jump: "re.Match[str]", path: Path) -> str:
    """A ``jump`` to the script by its own name leads to what LAMMPS reads in its place."""
    return "jump SELF" if Path(jump[1]).resolve() == path.resolve() else jump[0]


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
    line = message.partition("Last input line:")[2].split()
    if "deepmd" in line:
        return f"\nWrite 'pair_style {STYLE} model.dp' in place of 'pair_style deepmd model.pb': the rest is the same"
    if STYLE in line or (line[:1] == ["pair_coeff"] and "pair_zero.cpp" in message):
        return (
            f"\nLines with {STYLE} should stand by themselves, in the script or in a file that a line 'include FILE' "
            "names: not within 'if' or another command, nor in a file that is jumped to by its name"
        )
    return ""
