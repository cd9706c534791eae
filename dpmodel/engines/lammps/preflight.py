"""The requests of a LAMMPS script that would be refused, read from its text: LAMMPS itself is not needed."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dpmodel.data.structure import unknown_element
from dpmodel.engines.lammps.library import UNITS
from dpmodel.engines.lammps.options import models_and_options
from dpmodel.engines.lammps.plugin import STYLE
from dpmodel.engines.lammps.styles import ROWS
from dpmodel.errors import InputError
from dpmodel.io.files import read_text

REFUSED = {(row.category, s): row for row in ROWS if row.outcome.startswith("refused") for s in row.styles}


def refusals(script: Path, type_map: Sequence[str] = ()) -> Iterator[str]:
    """One sentence for each line of ``script`` that the model cannot serve; ``type_map`` is the model's, if known.

    Variables with a fixed value are put in; loops and included files are not followed.  Raises InputError if the script
    cannot be read.
    """
    pairs = 0
    for number, words in commands(script):
        try:
            _expect_served(words, script.parent, type_map)
        except InputError as error:
            yield f"{script}, line {number}: {error}"
        pairs += words[0] == "pair_style" and STYLE in words
    if not pairs:
        yield f"{script}: there is no 'pair_style {STYLE} model.dp'"


def commands(script: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each command, joined over ``&``, without comments, variables with a fixed value put in."""
    values: dict[str, str] = {}
    before = ""
    for number, line in enumerate(read_text(script).splitlines(), 1):
        text = before + line.partition("#")[0].rstrip()
        if text.endswith("&"):
            before = text[:-1] + " "
            continue
        before = ""
        words = re.sub(r"\$\{(\w+)\}", lambda match: values.get(match[1], match[0]), text).split()
        if words[:1] == ["variable"] and len(words) > 3 and words[2] in ("index", "string", "getenv"):
            values.setdefault(words[1], words[3])
        if words:
            yield number, words


def _expect_served(words: list[str], folder: Path, type_map: Sequence[str]) -> None:
    command, *rest = words
    style = rest[2] if command in ("compute", "fix") and len(rest) > 2 else ""
    row = REFUSED.get((command, style)) or REFUSED.get(("command", command))
    if row is not None:
        raise InputError(f"{f'{command} {style}'.strip()} is {row.outcome}: {row.words}")
    if command in ("read_data", "include") and rest and "$" not in rest[0] and not (folder / rest[0]).exists():
        raise InputError(f"there is no file {rest[0]}")
    if command == "units" and rest and rest[0] not in UNITS:
        raise InputError(f"units {rest[0]}: a model needs one of {', '.join(UNITS)}")
    if command == "pair_style" and rest[:1] == ["deepmd"]:
        raise InputError(f"write 'pair_style {STYLE} model.dp' in place of 'pair_style deepmd': the rest is the same")
    if command == "pair_style" and rest[:1] == [STYLE]:
        for path in models_and_options(rest[1:])[0]:
            if "$" not in path and not (folder / path).exists():
                raise InputError(f"there is no model {path}")
    if command == "pair_coeff" and type_map and rest[:2] == ["*", "*"]:
        for name in [word for word in rest[2:] if word not in ("NULL", STYLE) and "$" not in word]:
            if name not in type_map:
                raise InputError(f"pair_coeff names {name!r}, {unknown_element(name, type_map)}")
