"""Pickles as data: an interpreter for the few opcodes that PyTorch writes, of protocols 2 to 5.

Python's own unpickler calls what the file names.  Here names are looked up in a table given by the
caller, a name that is not in the table is an error, and the result consists of plain values only.
"""

import pickletools
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from dpmodel.errors import FileError
from dpmodel.io.files import damaged
from dpmodel.io.tree import MAX_DEPTH

Function = Callable[..., Any]
_MARK: Any = object()


class Attributes(dict[str, Any]):
    """The attributes of an object, its class forgotten."""


def unpickle(data: bytes, file: str, find: Callable[[str], Function | None], load: Function) -> Any:
    """The value pickled in ``data``.

    ``find("module name")`` gives the function for a name, or None; ``load`` takes a persistent id.
    Raises FileError, naming ``file``, for names and opcodes a model file has no use for.
    """
    machine = _Machine(file, find, load, len(data))
    with damaged(file, "a pickle"):
        for opcode, argument, _ in pickletools.genops(data):
            machine.step(opcode.name, argument)
        return _Plain(file, 10 * len(data)).copy(machine.stack.pop())


class _Machine:
    def __init__(self, file: str, find: Callable[[str], Function | None], load: Function, left: int) -> None:
        self.file, self.find, self.load = file, find, load
        self.left = left  # attributes, in proportion to the pickle
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _VALUES:
            self.stack.append(_VALUES[name]())
        elif name in _TUPLES:
            self.stack.append(tuple(self.pop(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            self.fail("an opcode that PyTorch writes", name)

    def pop(self, count: int) -> list[Any]:
        """The last ``count`` values."""
        if len(self.stack) < count:
            self.fail("a value", "an empty stack")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def pop_to_mark(self) -> list[Any]:
        values: list[Any] = []
        while (value := self.stack.pop()) is not _MARK:
            values.append(value)
        return values[::-1]

    def name(self, argument: str) -> None:
        function = self.find(argument)
        if function is None:
            self.fail("names of tensors and modules only", f"{argument.replace(' ', '.')}: it will not be called")
        self.stack.append(function)

    def stack_name(self) -> None:
        """A name whose two parts are on the stack (protocol 4)."""
        module, attribute = self.pop(2)
        if not isinstance(module, str) or not isinstance(attribute, str):
            self.fail("the name of a function", "something else")
        self.name(f"{module} {attribute}")

    def call(self) -> None:
        function, arguments = self.pop(2)
        if not callable(function) or not isinstance(arguments, tuple):
            self.fail("a call", "something else")
        self.stack.append(function(*arguments))

    def append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            self.fail("a list", type(self.stack[-1]).__name__)
        self.stack[-1].extend(values)

    def update(self, values: list[Any]) -> None:
        mapping = self.stack[-1]
        if type(mapping) is not dict or len(values) % 2 or any(not isinstance(k, str | int) for k in values[::2]):
            self.fail("a mapping with text or numbers as keys", type(mapping).__name__)
        mapping.update(zip(values[::2], values[1::2], strict=True))

    def build(self) -> None:
        (state,), target = self.pop(1), self.stack[-1]
        if type(target) is dict:
            return  # the state of a dictionary is bookkeeping of PyTorch's
        if not isinstance(target, Attributes) or type(state) is not dict:
            self.fail("the attributes of an object", type(target).__name__)
        self.left -= len(state)
        if self.left < 0:
            self.fail("objects in proportion to the file", "many with the same long list of attributes")
        target.update(state)

    def fail(self, expected: str, actual: str) -> NoReturn:
        raise FileError(f"{self.file}: expected {expected}, found {actual}")


_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
_VALUES: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "MARK": lambda: _MARK,
}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "TUPLE": lambda m, _: m.stack.append(tuple(m.pop_to_mark())),
    "APPEND": lambda m, _: m.append(m.pop(1)),
    "APPENDS": lambda m, _: m.append(m.pop_to_mark()),
    "SETITEM": lambda m, _: m.update(m.pop(2)),
    "SETITEMS": lambda m, _: m.update(m.pop_to_mark()),
    "GLOBAL": lambda m, name: m.name(name),
    "STACK_GLOBAL": lambda m, _: m.stack_name(),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.stack.append(m.load(m.pop(1)[0])),
}


class _Plain:
    """A copy without sharing, of plain values only; small files that unfold into large trees are refused."""

    def __init__(self, file: str, left: int) -> None:
        self.file, self.left = file, left

    def copy(self, value: Any, depth: int = 0) -> Any:
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:
            raise FileError(
                f"{self.file}: expected a tree in proportion to the file, found a cycle or a chain of copies"
            )
        if isinstance(value, dict):
            return type(value)({key: self.copy(member, depth + 1) for key, member in value.items()})
        if type(value) in (list, tuple):
            return type(value)(self.copy(member, depth + 1) for member in value)
        if value is None or type(value) in (bool, int, float, str) or isinstance(value, np.ndarray):
            return value
        raise FileError(f"{self.file}: expected plain values and arrays, found {type(value).__name__}")
