"""Settings are declared once; reading, errors, JSON schema and the reference page follow from the declaration.

A section of an input file is a class:

    class TrainingSettings(Settings):
        start_lr: float = setting(..., "Learning rate at the peak.", gt=0)
        disp_freq: int = setting(1000, "Steps between two lines of the log.", unit="steps", gt=0)

        def problems(self):                       # what no single field can know
            if self.stop_lr > self.start_lr:
                yield "stop_lr", f"should be at most start_lr = {self.start_lr}, got {self.stop_lr}"

``TrainingSettings.read(data, "learning_rate")`` returns the section or raises one SettingError that lists
every problem with its path.  Types are strict: an integer is a number, but 2.0 is not an integer and "2" is
neither.  Keys that start with an underscore are comments.
"""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from reprlib import Repr
from typing import Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from dpmodel.errors import SettingError, printable

Problem = tuple[tuple[int | str, ...], str]

MANY = 50  # problems that a message lists
ANY = object()
"""In ``Settings.ignored``: a key that may have any value."""


def setting(
    default: Any,
    meaning: str,
    *,
    unit: str = "",
    aliases: tuple[str, ...] = (),
    sparse: bool = False,
    idle: bool = False,
    **bounds: Any,
) -> Any:
    """Declare a setting.

    Parameters
    ----------
    default : any
        Its default, ``...`` if it must be given.
    meaning : str
        One sentence for errors, schema and reference page.
    unit : str
        Unit of the value; empty for a pure number.
    aliases : tuple of str
        Other names that input files may use.
    sparse : bool
        Leave it out of ``model_dump`` at its default: deepmd-kit does not know the key or the default.
    idle : bool
        It has no effect here; a value other than the default brings a warning.
    **bounds
        ``gt``, ``ge``, ``lt``, ``le``, ``min_length``, as in ``pydantic.Field``.
    """
    extra = {"unit": unit, "aliases": list(aliases), "sparse": sparse, "idle": idle}
    extras: Any = {key: value for key, value in extra.items() if value}
    return Field(default, description=meaning, json_schema_extra=extras, **bounds)


class Settings(BaseModel):
    """A section of an input file: frozen, strict, and able to explain itself."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        defer_build=True,
        json_schema_extra={"patternProperties": {"^_": {}}},
    )

    moved: ClassVar[Mapping[str, str]] = {}
    """Keys of old input files and the dotted paths, from this section, that replaced them."""

    ignored: ClassVar[Mapping[str, object]] = {}
    """Keys of deepmd-kit that mean nothing here and the value (of a section: some values) that asks for nothing, or
    ``ANY``; others bring a warning."""

    fixed: ClassVar[Mapping[str, object]] = {}
    """Keys of deepmd-kit that may only have this one value."""

    foreign: ClassVar[Mapping[str, str]] = {}
    """Keys, and types of sections, of deepmd-kit that are not here, and what to say of them."""

    @classmethod
    def read(cls, data: Any, path: str = "") -> Self:
        """The section in ``data`` (nested mappings, as from JSON or YAML), which is at ``path`` of its file.

        Raises
        ------
        SettingError
            Naming every unknown, missing, ill-typed or inconsistent setting by its path (of hundreds the first ones).
        """
        try:
            with remarks_together():
                return cls.model_validate(data)
        except ValidationError as error:
            lines = [printable(f"{_dotted(path, e['loc']) or 'input'} {e['msg']}") for e in error.errors()]
        if len(lines) == 1:
            raise SettingError(lines[0])
        shown = lines if len(lines) <= MANY else [*lines[:MANY], f"and {len(lines) - MANY} more"]
        raise SettingError(f"{len(lines)} settings cannot be used:\n" + "\n".join(f"  {line}" for line in shown))

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield ``(dotted path from here, message)`` for what is wrong between settings that are fine by themselves."""
        yield from ()

    def model_dump(self, **kwargs: Any) -> dict[str, Any]:
        """The section as plain JSON types, by default; ``read`` turns it back into an equal section."""
        return super().model_dump(**{"mode": "json", **kwargs})

    @model_serializer(mode="wrap")
    def _without_sparse(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        sparse = {name for name, field in type(self).model_fields.items() if _extra(field).get("sparse")}
        unset = {name for name in sparse if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in handler(self).items() if name not in unset}

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        problems: list[Problem] = []
        if isinstance(data, Mapping):
            data = cls._rename(dict(data), problems)
        try:
            result = handler(data)
        except ValidationError as error:
            errors = error.errors()
            wrong_type = [e for e in errors if e["loc"] == ("type",) and e["type"] == "literal_error"]
            problems += [cls._explain(e) for e in wrong_type or errors]  # the keys of another type would only be noise
        else:
            problems += [(tuple(where.split(".")), what) for where, what in result.problems()]
        if problems:
            raise _failure(cls.__name__, problems)
        return result

    @classmethod
    def _rename(cls, data: dict[str, Any], problems: list[Problem]) -> dict[str, Any]:
        """``data`` in current names, without comments and ignored keys."""
        values = {key: value for key, value in data.items() if not str(key).startswith("_")}
        names = cls._other_names()
        for key in [key for key in values if key in names]:
            remark(OLD, f"{key!r} is now {names[key]!r}")
            _move(values, key, names[key], problems)
        for key in [key for key in values if key in cls.fixed]:
            value, only = values.pop(key), cls.fixed[key]
            if value != only:
                problems.append(((key,), f"is not supported (only {only!r} is), got {_short(value)}"))
        idle = {name: field.default for name, field in cls.model_fields.items() if _extra(field).get("idle")}
        for key in [key for key in values if key in cls.ignored or key in idle]:
            if not _asks_nothing(values[key], cls.ignored.get(key, idle.get(key))):
                remark(IDLE, repr(key))
        return {key: value for key, value in values.items() if key not in cls.ignored}

    @classmethod
    def _other_names(cls) -> dict[str, str]:
        """Old keys, and the dotted paths that replaced them."""
        fields = cls.model_fields.items()
        return {**cls.moved, **{alias: name for name, field in fields for alias in _extra(field).get("aliases", ())}}

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The schema knows old and ignored keys, too."""
        made = handler(core)
        section, names = handler.resolve_ref_schema(made), cls._other_names()
        properties = section.setdefault("properties", {})
        for old, new in names.items():
            value = {key: x for key, x in properties.get(new, {}).items() if key not in ("default", "title", "aliases")}
            properties[old] = value | {"deprecated": True, "description": f"Old name of {new}."}
        properties |= {key: {"deprecated": True, "description": "Without effect."} for key in cls.ignored}
        only = "Only this value is supported."
        properties |= {key: {"const": value, "description": only} for key, value in cls.fixed.items()}
        for new in list(section.get("required", ())):
            others = [old for old, path in names.items() if path.partition(".")[0] == new]
            if others:
                section["required"].remove(new)
                section.setdefault("allOf", []).append({"anyOf": [{"required": [name]} for name in (new, *others)]})
        return made

    @classmethod
    def _explain(cls, error: Any) -> Problem:
        """One of pydantic's errors in our words: what is allowed, what came, what may have been meant."""
        kind, loc, value = error["type"], tuple(p for p in error["loc"] if not _is_tag(p)), error["input"]
        if kind == "setting":
            return loc, error["msg"]
        field = cls.model_fields.get(str(loc[0])) if loc else None
        if kind == "missing":
            return loc, f"is required: {field.description if field else ''}"
        if kind == "extra_forbidden":
            key, names = error["loc"][0], sorted(cls.model_fields)
            if key in cls.foreign:
                return (key,), cls.foreign[key]
            return (key,), f"is not a setting{nearest(str(key), names) or '; known are ' + ', '.join(names)}"
        if kind == "union_tag_invalid":
            loc, kind, value = (*loc, "type"), "literal_error", value["type"]
            if isinstance(value, str) and value in cls.foreign:
                return loc, f"{cls.foreign[value]}, got {value!r}"
            error = {"ctx": {"expected": error["ctx"]["expected_tags"].replace("<", "").replace(">", "")}}
        if kind == "literal_error" and isinstance(value, str) and value in cls.foreign:
            return loc, f"{cls.foreign[value]}, got {value!r}"
        what = _EXPECTED.get(kind, "{msg}").format(msg=error.get("msg"), **error.get("ctx", {}))
        unit = _extra(field).get("unit", "") if kind in _BOUNDS else ""
        meant = nearest(value, re.findall(r"'(\w+)'", what)) if isinstance(value, str) else ""
        return loc, f"should be {what}{' ' * bool(unit)}{unit}, got {_short(value)}{meant}"


_BOUNDS = {
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
}
_EXPECTED = _BOUNDS | {
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_too_short": "text of at least {min_length} character(s)",
    "tuple_type": "a list",
    "too_short": "a list of at least {min_length}",
    "invalid_key": "the name of a setting",
    "dict_type": "a section {{...}}",
    "model_type": "a section {{...}}",
    "union_tag_not_found": "a section {{...}}",
    "literal_error": "{expected}",
    "value_error": "{error}",
}


OLD, IDLE = "old names of settings", "settings without effect here"
_remarks: ContextVar[dict[str, list[str]] | None] = ContextVar("remarks", default=None)


@contextmanager
def remarks_together() -> Iterator[None]:
    """One warning of each kind for all that is read inside, unless it is read inside another such block."""
    if _remarks.get() is not None:
        yield
        return
    remarks: dict[str, list[str]] = {}
    token = _remarks.set(remarks)
    try:
        yield
    finally:
        _remarks.reset(token)
    for kind, details in remarks.items():
        warnings.warn(f"{kind}: {', '.join(dict.fromkeys(details))}", UserWarning, stacklevel=4)


def remark(kind: str, text: str) -> None:
    """Something to warn of when everything has been read."""
    remarks = _remarks.get()
    if remarks is not None:
        remarks.setdefault(kind, []).append(text)


def _asks_nothing(value: Any, harmless: Any) -> bool:
    if isinstance(value, Mapping) and isinstance(harmless, Mapping):
        return all(value.get(key, x) == x for key, x in harmless.items())
    return harmless is ANY or value == harmless


def _extra(field: Any) -> dict[str, Any]:
    return (field.json_schema_extra or {}) if field is not None else {}


def _is_tag(part: int | str) -> bool:
    return isinstance(part, str) and part.startswith("<")


def _dotted(path: str, loc: tuple[int | str, ...]) -> str:
    return (path + "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc)).lstrip(".")


def _short(value: Any) -> str:
    limits = Repr()
    limits.maxstring = limits.maxother = 80
    limits.maxlist = limits.maxtuple = limits.maxdict = 8
    return limits.repr(value)


def nearest(name: str, names: Iterable[str]) -> str:
    """The end of a message about ``name``: which of the ``names`` names may have been meant, if one is like it.

    Names of other numbers, or whose parts begin with other letters, are of another kind: "dpa3" is no typo for "dpa2".
    """
    by_lower_case = {one.lower(): one for one in names if _are_akin(name.lower(), one.lower())}
    near = [one for one in by_lower_case if _letters(one) == _letters(name.lower())]
    near = near or get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.75)
    return f"; did you mean {by_lower_case[near[0]]!r}?" if near else ""


def _letters(name: str) -> str:
    return re.sub(r"[\W\d_]", "", name)


def _are_akin(a: str, b: str) -> bool:
    digits, others = (sorted(re.findall(r"\d", name)) for name in (a, b))
    if digits and others and digits != others:
        return False
    initials, first = (re.findall(r"(?<![a-z])[a-z]", name) for name in (a, b))
    return _letters(a) == _letters(b) or initials == first[: len(initials)]


def by_path(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a dumped section by their dotted paths."""
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from by_path(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _move(data: dict[str, Any], old: str, new: str, problems: list[Problem]) -> None:
    """Move ``data[old]`` to the dotted path ``new``, unless something is there."""
    value, (*sections, name) = data.pop(old), new.split(".")
    for section in sections:
        inner = data.get(section, {})
        if not isinstance(inner, Mapping):
            return  # an error of its own
        data[section] = dict(inner)
        data = data[section]
    if name in data:
        problems.append(((old,), f"is another name of {new}: give only one of them"))
    data.setdefault(name, value)


def _failure(title: str, problems: list[Problem]) -> ValidationError:
    details = [
        InitErrorDetails(type=PydanticCustomError("setting", "{message}", {"message": message}), loc=loc, input=None)
        for loc, message in problems
    ]
    return ValidationError.from_exception_data(title, details)
