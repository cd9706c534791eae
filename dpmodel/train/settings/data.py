"""Settings of the data (specification/training.md 1.6, 6)."""

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from dpmodel.setting_types import Count, Listed, OneOrMany
from dpmodel.settings import ANY, Settings, setting


def _batch_size(value: Any) -> Any:
    whole = value if isinstance(value, list | tuple) else [value]
    if whole and all(type(n) is int and n > 0 for n in whole):
        return tuple(value) if isinstance(value, list | tuple) else value
    if isinstance(value, str) and re.fullmatch(r"auto|(auto|max|filter|mixed):[1-9]\d*", value):
        return value
    raise ValueError("a positive integer, one for each system, 'auto', 'auto:N', 'max:N', 'filter:N' or 'mixed:N'")


BatchSize = Annotated[
    int | str | tuple[int, ...],
    PlainValidator(_batch_size),
    PlainSerializer(lambda size: size),  # pydantic's own expects tuples where it made lists, and warns
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "exclusiveMinimum": 0},
                {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}},
                {"type": "string", "pattern": "^(auto|(auto|max|filter|mixed):[1-9][0-9]*)$"},
            ],
            "$comment": "integer > 0, one for each system, "
            + ", ".join(f'`"{rule}"`' for rule in ("auto", "auto:N", "max:N", "filter:N", "mixed:N")),
        }
    ),
]
"""Frames in a batch, or the rule that gives it from the number of atoms (specification/training.md 6.1)."""


_BLOCK = r"\s*\d+\s*:\s*\d+\s*:\s*\d+(\.\d*)?([eE][+-]?\d+)?\s*"
_AUTO_PROB = rf"prob_uniform|prob_sys_size(;{_BLOCK})*"


def _auto_prob(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(_AUTO_PROB, value):
        return value
    raise ValueError("'prob_uniform', 'prob_sys_size' or 'prob_sys_size;from:to:weight;...'")


AutoProb = Annotated[
    str, PlainValidator(_auto_prob), WithJsonSchema({"type": "string", "pattern": f"^({_AUTO_PROB})$"})
]


class DataSettings(Settings):
    """Systems, and how batches are drawn from them."""

    systems: OneOrMany[str] = setting(..., "Systems, folders to search for systems, or HDF5 files.")
    rglob_patterns: Listed[str] | None = setting(None, "Take only folders that match one of these patterns.")
    batch_size: BatchSize = setting("auto", "Frames in a batch, or the rule that gives it.", unit="frames")
    auto_prob: AutoProb = setting("prob_sys_size", "How often each system gives a batch.", aliases=("auto_prob_style",))
    sys_probs: Listed[float] | None = setting(
        None, "How often each system gives a batch; negative ones share what is left.", aliases=("sys_weights",)
    )

    ignored: ClassVar = {"set_prefix": ANY}

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.systems:
            yield "systems", "should name at least one system, or a folder of them, got none"
        fixed = sum(p for p in self.sys_probs or () if p >= 0)
        if fixed > 1 + 1e-12:
            yield "sys_probs", f"should add up to at most 1 (negative ones aside), got {fixed:g}"


class TrainingData(DataSettings):
    """Data to learn from."""

    min_pair_dist: float = setting(0.0, "Frames with two atoms closer than this are left out.", unit="Å", ge=0)


class ValidationData(DataSettings):
    """Data to look at while learning."""

    numb_btch: Count = setting(1, "Batches that a value is averaged over.", aliases=("numb_batch",))
