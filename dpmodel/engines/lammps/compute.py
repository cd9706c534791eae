"""Computes with a model's numbers, made as the pair style is: objects of LAMMPS' own classes.

The class finds its own numbers; then the model's go into the same memory, which LAMMPS' library says where it is.
"""

import ctypes
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from dpmodel.engines.lammps.plugin import (
    INT,
    NAMESPACE,
    OBJECT,
    ROOM,
    STYLE,
    WORDS,
    Plugin,
    address_of,
    copied,
    function_of,
    handle_of,
    register,
    words_of,
)
from dpmodel.errors import BackendError, InputError

GLOBAL, ATOM, VECTOR = 0, 1, 1  # LAMMPS' numbers for what a compute has
HEAT_FLUX, UNCERTAINTY = f"{STYLE}/heat/flux", f"{STYLE}/uncertainty"


class Kind(NamedTuple):
    """A class of LAMMPS, and its virtual functions."""

    name: str
    fill: str
    where: int  # GLOBAL: six numbers; ATOM: one an atom
    others: tuple[str, ...] = ()  # that would give something else


KINDS = {
    HEAT_FLUX: Kind("15ComputeGyration", "14compute_vectorEv", GLOBAL, ("14compute_scalarEv",)),
    UNCERTAINTY: Kind("13ComputeKEAtom", "15compute_peratomEv", ATOM),
}


class _Style:
    """One style in one LAMMPS library, and the computes that its LAMMPS objects have."""

    def __init__(self, lib: ctypes.CDLL, style: str) -> None:
        self.style, kind = style, KINDS[style]
        fill, destroy, *others = (f"{kind.name}{symbol}" for symbol in (kind.fill, "D0Ev", *kind.others))
        try:
            self._construct = function_of(lib, f"{kind.name}C1EPNS_6LAMMPSEiPPc", None, OBJECT, OBJECT, INT, WORDS)
            self._fill, self._destroy = (function_of(lib, symbol, None, OBJECT) for symbol in (fill, destroy))
            self._new = function_of(lib, "_Znwm", OBJECT, ctypes.c_size_t)
            self._count = lib["lammps_extract_setting"]  # function objects of their own
            self._count.argtypes = [OBJECT, ctypes.c_char_p]
            self._numbers = lib["lammps_extract_compute"]
            self._numbers.restype = ctypes.POINTER(ctypes.c_double)
            self._numbers.argtypes = [OBJECT, ctypes.c_char_p, INT, INT]
            first = ctypes.addressof(ctypes.c_char.in_dll(lib, f"_ZTVN9LAMMPS_NS{kind.name}E"))
            old = {symbol: address_of(lib[NAMESPACE + symbol]) for symbol in (fill, destroy, *others)}
        except (AttributeError, ValueError) as error:
            raise BackendError(f"this LAMMPS lacks a function that {style} needs ({error})") from None
        self._hosts: WeakValueDictionary[int, Any] = WeakValueDictionary()  # by LAMMPS' address
        self._computes: dict[int, tuple[int, str]] = {}  # LAMMPS' address and the ID, by that of the compute
        void, real = ctypes.CFUNCTYPE(None, OBJECT), ctypes.CFUNCTYPE(ctypes.c_double, OBJECT)
        self._callbacks = {fill: void(self._compute), destroy: void(self._destroyed)}
        self._callbacks |= {symbol: real(lambda address: float("nan")) for symbol in others}
        self._table = copied(first, {old[name]: address_of(back) for name, back in self._callbacks.items()})
        self._creator = ctypes.CFUNCTYPE(OBJECT, OBJECT, INT, WORDS)(self._create)
        names = (name.encode() for name in ("compute", style, "a number of DPA-2 models", STYLE))
        self._offer = Plugin(None, *names, address_of(self._creator), ctypes.CDLL(None)._handle)

    def register(self, lmp: Any, host: Any) -> None:
        """Let all commands of ``lmp`` have the compute, whose numbers are ``host.numbers(style)``."""
        self._hosts[handle_of(lmp)] = host
        register(lmp, "compute", self.style, self._offer)

    def _create(self, handle: int, count: int, arguments: Any) -> int:
        words = [arguments[k].decode(errors="surrogateescape") for k in range(count)]
        host = self._hosts.get(handle)  # a LAMMPS that does not know the pair style may know the compute

        def check() -> None:
            if words[1] != "all" or count > 3:
                raise InputError(f"'compute {' '.join(words)}' should be 'compute {words[0]} all {self.style}'")

        if host is not None:
            host.agreed(check)
        address: int = self._new(ROOM)
        self._construct(address, handle, 3, words_of(words[:3]))
        OBJECT.from_address(address).value = ctypes.addressof(self._table) + 2 * ctypes.sizeof(OBJECT)
        self._computes[address] = handle, words[0]
        return address

    def _compute(self, address: int) -> None:
        handle, name = self._computes[address]
        host, where = self._hosts.get(handle), KINDS[self.style].where
        self._fill(address)
        memory = self._numbers(handle, name.encode(errors="surrogateescape"), where, VECTOR)
        size = 6 if where == GLOBAL else self._count(handle, b"nlocal")
        numbers = np.full(size, np.nan) if host is None else host.numbers(self.style, size)
        if size:
            np.ctypeslib.as_array(memory, (size,))[:] = numbers

    def _destroyed(self, address: int) -> None:
        self._computes.pop(address, None)
        self._destroy(address)


_styles: dict[tuple[str, str], _Style] = {}  # by the path of the library and the name


def register_computes(lmp: Any, host: Any) -> None:
    """Let ``lmp`` have all computes of ``KINDS``; BackendError if its library is not built as it has to be."""
    for style in KINDS:
        key = lmp.lib._name, style
        if key not in _styles:
            _styles[key] = _Style(lmp.lib, style)
        _styles[key].register(lmp, host)
