"""The kinds of values that settings have, beyond int, float, bool and str.

A validator raises ``ValueError("<what is allowed>")``; ``dpmodel.settings`` adds where, and what came.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    Strict,
    Tag,
    WithJsonSchema,
)

from dpmodel.ops.activations import ACTIVATIONS

T = TypeVar("T")


@dataclass(frozen=True)
class by_type:
    """Choose among sections by their key ``type``.

    ``Annotated[Annotated[A, Tag("<a>")] | Annotated[B, Tag("<b>")], by_type("a")]`` reads ``{"type": "b", ...}`` as
    ``B`` and a section without ``type`` as ``A``.
    """

    default: str

    def _tag(self, value: Any) -> str | None:
        if isinstance(value, Mapping):
            return f"<{value.get('type', self.default)}>"
        return f"<{value.type}>" if hasattr(value, "type") else None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return Discriminator(self._tag).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(self, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """All sections but the default one require ``type``: exactly one fits."""
        made = handler(core)
        for option in made["oneOf"]:
            section = handler.resolve_ref_schema(option)
            if section["properties"]["type"]["const"] != self.default:
                section["required"] = sorted({"type", *section.get("required", ())})
        return made


def _one_or_many(value: Any) -> str:
    return "<many>" if isinstance(value, list | tuple) else "<one>"


Listed = Annotated[tuple[T, ...], Strict(False)]
"""A list of any length in the file, a tuple here."""

OneOrMany = Annotated[
    Annotated[T, Tag("<one>")] | Annotated[tuple[T, ...], Strict(False), Tag("<many>")], Discriminator(_one_or_many)
]
"""One value for all, or a list with one value for each."""

Count = Annotated[int, Field(gt=0)]
Index = Annotated[int, Field(ge=0)]
Widths = Annotated[tuple[Count, ...], Strict(False), Field(min_length=1)]
Seed = OneOrMany[Index] | None


def _pair(value: Any) -> tuple[int, int]:
    whole = isinstance(value, list | tuple) and all(type(i) is int and i >= 0 for i in value)
    if not whole or len(value) != 2:
        raise ValueError("a pair of type indices [i, j]")
    return value[0], value[1]


TypePairs = Annotated[tuple[Annotated[tuple[int, int], BeforeValidator(_pair)], ...], Strict(False)]
"""Pairs of type indices; each means both orders."""


def _selection(value: Any) -> int | str:
    if type(value) is int and value > 0:
        return value
    if value == "auto":
        return "auto"
    factor = re.fullmatch(r"auto:(\d+(\.\d*)?)", value) if isinstance(value, str) else None
    if factor and float(factor[1]) >= 1:
        return str(value)
    raise ValueError("a positive integer, 'auto' or 'auto:f' with a factor f of at least 1")


Nsel = Annotated[
    int | str,
    PlainValidator(_selection),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "exclusiveMinimum": 0}, {"type": "string", "pattern": "^auto(:[0-9.]+)?$"}],
            "$comment": 'integer > 0, `"auto"` or `"auto:f"` with f ≥ 1',
        }
    ),
]
"""A number of neighbors, or "auto" ("auto:1.2") until the training data have been counted."""


def _activation(value: str) -> str:
    name, colon, threshold = value.lower().partition(":")
    number = re.fullmatch(r"-?\d+(\.\d*)?(e[+-]?\d+)?", threshold)
    if name not in ACTIVATIONS or (colon and (name not in ("silut", "custom_silu") or not number)):
        raise ValueError(", ".join(map(repr, ACTIVATIONS)) + " or 'silut:T' with a number T")
    return value.lower()


Activation = Annotated[
    str,
    AfterValidator(_activation),
    WithJsonSchema(
        {
            "anyOf": [{"enum": list(ACTIVATIONS)}, {"type": "string", "pattern": "^(silut|custom_silu):.+$"}],
            "$comment": f"{', '.join(f'`{name}`' for name in ACTIVATIONS)}, or `silut:T` with a number T",
        }
    ),
]
"""The name of an activation function (specification/model.md 1.5), in lower case."""

Precision = Literal["default", "float16", "half", "bfloat16", "float32", "single", "float64", "double"]
PRECISIONS = {"default": "float64", "half": "float16", "single": "float32", "double": "float64"}


def dtype_name(precision: str) -> str:
    """The dtype that a precision name means: "float64", "float32", "float16" or "bfloat16"."""
    return PRECISIONS.get(precision, precision)
