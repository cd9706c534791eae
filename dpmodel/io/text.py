"""The text containers: YAML as deepmd-kit writes it, and the same tree in JSON (specification/serialization.md 1.3)."""

import json
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import yaml

from dpmodel.errors import FileError
from dpmodel.io.files import read_text
from dpmodel.io.tree import LONGEST_NUMBER, MAX_DEPTH, expect_mapping, map_leaves, parse_json
from dpmodel.io.values import DTYPES, check_array, describe, plain_value

_DTYPES = DTYPES | {"bfloat16": DTYPES["float32"]}
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read_json(path: str) -> dict[str, Any]:
    """The tree in a ``.dp.json`` file."""
    return _decode(parse_json(read_text(path), path), path)


def write_json(file: BinaryIO, tree: dict[str, Any], name: str) -> None:
    """Write ``tree`` as JSON; ``name`` is that of error messages."""
    file.write(json.dumps(_encode(tree, name)).encode())


def read_yaml(path: str) -> dict[str, Any]:
    """The tree in a ``.yaml`` file."""
    data = Path(path).read_bytes()
    try:
        tree = _Composer(data, path).document()
    except (yaml.YAMLError, UnicodeError) as error:
        raise FileError(f"{path}: expected YAML, found {' '.join(str(error).split())}") from None
    return _decode(tree, path)


def write_yaml(file: BinaryIO, tree: dict[str, Any], name: str) -> None:
    """Write ``tree`` as YAML; ``name`` is that of error messages."""
    try:
        yaml.dump(
            _encode(tree, name), file, _Dumper, default_flow_style=None, sort_keys=False, width=120, encoding="utf-8"
        )
    except UnicodeError as error:
        raise FileError(f"{name}: expected text that UTF-8 can hold, found {error}") from None


def _encode(tree: Any, name: str) -> dict[str, Any]:
    def leaf(value: Any, flagged: bool, where: str) -> Any:
        if not flagged or value is None:
            return plain_value(value, where)
        array = check_array(value, where)
        if isinstance(value, bool | int | float) and not isinstance(value, np.generic):
            return value
        numbers = array.tolist()
        text = {"@class": "np.ndarray", "@is_variable": True, "@version": 1, "dtype": array.dtype.name}
        if array.size == 0:  # nested lists lose the shape of an empty array
            text["shape"] = list(array.shape)
        return text | {"value": numbers}

    return expect_mapping(map_leaves(tree, leaf, name), name)


def _decode(tree: Any, path: str) -> dict[str, Any]:
    def leaf(value: Any, flagged: bool, where: str) -> Any:
        if isinstance(value, dict):
            return _array(value, where)
        return value if not flagged or value is None else check_array(value, where)

    return expect_mapping(map_leaves(tree, leaf, path), path)


def _array(text: dict[str, Any], where: str) -> np.ndarray:
    """The array written as ``{"dtype": ..., "value": nested lists}``."""
    if text.get("@class") != "np.ndarray" or text.get("dtype") not in list(_DTYPES):
        raise FileError(f"{where}: expected an array ('@class': 'np.ndarray', 'dtype': one of {', '.join(_DTYPES)}), "
                        f"found '@class': {text.get('@class')!r}, 'dtype': {text.get('dtype')!r}")  # fmt: skip
    numbers, dtype = text.get("value"), _DTYPES[text["dtype"]]
    try:
        with np.errstate(over="ignore"):  # whoever reads the model refuses infinite numbers
            array = np.asarray(numbers, dtype=dtype)
        exact = np.asarray(numbers).dtype.kind in "iuf" if dtype.kind == "f" else array.tolist() == numbers
        if array.size == 0:
            array = array.reshape(text.get("shape", array.shape))
    except (ValueError, TypeError, OverflowError) as error:
        raise FileError(f"{where}: expected nested lists of {dtype} numbers: {error}") from None
    if not exact:
        raise FileError(f"{where}: expected nested lists of {dtype} numbers, found text or other numbers")
    return array


_CONSTRUCT = {
    f"tag:yaml.org,2002:{kind}": getattr(yaml.SafeLoader, f"construct_yaml_{kind}")
    for kind in ("null", "bool", "int", "float")
}


class _Composer:
    """Plain dictionaries, lists and scalars from YAML events.

    PyYAML's own composer recurses in C without a limit and expands merges without one: a short
    file could end the process.  Here depth and the number of values, aliases included, are bounded.
    """

    def __init__(self, data: bytes, path: str) -> None:
        self.path = path
        self.left = 10 * len(data)  # values; without aliases two bytes make at most one
        self.events = yaml.parse(data, _Loader)
        self.scalars: Any = yaml.SafeLoader("")
        self.anchors: dict[Any, tuple[Any, int]] = {}

    def document(self) -> Any:
        """The one document of the stream."""
        begin = [next(self.events), next(self.events)]
        if isinstance(begin[1], yaml.StreamEndEvent):
            raise FileError(f"{self.path}: expected a YAML document, found comments or nothing")
        value = self.node(next(self.events), 0)
        next(self.events)
        if not isinstance(next(self.events), yaml.StreamEndEvent):
            raise FileError(f"{self.path}: expected one YAML document, found several")
        return value

    def node(self, event: Any, depth: int) -> Any:
        if depth > 2 * MAX_DEPTH:
            self.fail(event, f"at most {2 * MAX_DEPTH} levels", "more")
        if isinstance(event, yaml.AliasEvent):
            value, cost = self.anchors.get(event.anchor, (None, -1))
            if cost < 0:
                self.fail(event, "an anchor defined above", f"*{event.anchor}")
        else:
            before = self.left
            value = self.plain(event, depth)
            cost = before - self.left + 1
            if event.anchor is not None:
                self.anchors[event.anchor] = value, cost
            cost = 1
        self.left -= cost
        if self.left < 0:
            self.fail(event, "a tree in proportion to the file", "aliases that multiply it")
        return value

    def plain(self, event: Any, depth: int) -> Any:
        if event.tag is not None:
            self.fail(event, "plain values", f"tag {event.tag}")
        if isinstance(event, yaml.ScalarEvent):
            return self.scalar(event)
        if isinstance(event, yaml.SequenceStartEvent):
            members = []
            while not isinstance(inner := next(self.events), yaml.SequenceEndEvent):
                members.append(self.node(inner, depth + 1))
            return members
        mapping = {}
        while not isinstance(inner := next(self.events), yaml.MappingEndEvent):
            key = self.node(inner, depth + 1)
            if not isinstance(key, str) or key in mapping:
                self.fail(inner, "a new text key", describe(key))
            mapping[key] = self.node(next(self.events), depth + 1)
        return mapping

    def scalar(self, event: Any) -> Any:
        if not event.implicit[0]:
            return event.value
        tag = self.scalars.resolve(yaml.ScalarNode, event.value, event.implicit)
        construct = _CONSTRUCT.get(tag)
        if construct is None:
            return event.value
        if len(event.value) > LONGEST_NUMBER:
            self.fail(event, "a number", f"{len(event.value)} characters of one")
        try:
            return construct(self.scalars, yaml.ScalarNode(tag, event.value))
        except ValueError as error:
            self.fail(event, "a number", str(error))

    def fail(self, event: Any, expected: str, actual: str) -> NoReturn:
        raise FileError(f"{self.path}, line {event.start_mark.line + 1}: expected {expected}, found {actual}")
