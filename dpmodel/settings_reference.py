"""The reference page of settings, Markdown made from their declarations."""

import json
from collections.abc import Iterator
from typing import Any, get_args

from dpmodel.settings import Settings


def reference(cls: type[Settings], path: str = "", leave_out: tuple[str, ...] = ()) -> str:
    """Markdown tables of every setting of ``cls`` but those of ``leave_out``, and of the sections inside it."""
    schema = cls.model_json_schema()
    rows = [f"### `{path or cls.__name__}`", "", _first_line(cls), ""]
    rows += ["| setting | allowed | default | unit | meaning |", "|---|---|---|---|---|"]
    inner = []
    for name in (name for name in cls.model_fields if name not in leave_out):
        field = cls.model_fields[name]
        rows.append(_row(name, schema["properties"][name]))
        sections = list(_sections(field.annotation))
        for section in sections:
            kind = f" ({section.model_fields['type'].default})" if len(sections) > 1 else ""
            inner.append(reference(section, f"{path}.{name}{kind}".lstrip(".")))
    return "\n\n".join(["\n".join(rows), *inner])


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().split("\n\n")[0]


def _row(name: str, prop: dict[str, Any]) -> str:
    names = ", ".join(f"`{n}`" for n in (name, *prop.get("aliases", ())))
    default = f"`{json.dumps(prop['default'])}`" if "default" in prop else "required"
    cells = [names, _allowed(prop), default, prop.get("unit", ""), prop.get("description", "")]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _allowed(prop: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in short notation."""
    if "$comment" in prop:
        return str(prop["$comment"])
    if "anyOf" in prop or "oneOf" in prop:
        return " or ".join(dict.fromkeys(_allowed(option) for option in prop.get("anyOf") or prop["oneOf"]))
    if "enum" in prop or "const" in prop:
        return ", ".join(f"`{json.dumps(value)}`" for value in prop.get("enum") or [prop["const"]])
    if prop.get("type") == "array":
        pair = [_allowed(item) for item in prop.get("prefixItems", ())]
        return f"[{', '.join(pair or [_allowed(prop['items']), '...'])}]"
    if prop.get("type", "object") == "object":  # no type: a reference to another section
        values = prop.get("additionalProperties")
        return f"{{name: {_allowed(values)}, ...}}" if isinstance(values, dict) else "{...}"
    word = {"string": "text", "boolean": "true or false"}.get(prop["type"], prop["type"])
    signs = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}
    return " ".join([word, *(f"{sign} {prop[key]:g}" for key, sign in signs.items() if key in prop)])


def _sections(annotation: Any) -> Iterator[type[Settings]]:
    """The classes of settings in a type annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation
    for part in get_args(annotation):
        yield from _sections(part)
