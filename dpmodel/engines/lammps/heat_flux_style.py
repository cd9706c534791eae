"""``compute dpmodel/heat/flux``, made as the pair style is: an object of LAMMPS' class of a compute with six numbers.

``ComputeGyration`` finds its own six numbers; then the model's go into the same memory, which LAMMPS' library says
where it is.
"""

import ctypes
from typing import Any
from weakref import WeakValueDictionary

from dpmodel.engines.lammps.heat_flux import HEAT_FLUX
from dpmodel.engines.lammps.plugin import (
    INT,
    NAMESPACE,
    OBJECT,
    ROOM,
    STYLE,
    USED,
    WORDS,
    Plugin,
    address_of,
    copied,
    function_of,
    handle_of,
    words_of,
)
from dpmodel.errors import BackendError, InputError

CLASS = "15ComputeGyration"
VECTOR, SCALAR, DESTROY = (f"{CLASS}{name}" for name in ("14compute_vectorEv", "14compute_scalarEv", "D0Ev"))


class _Style:
    """The style in one LAMMPS library, and the computes that its LAMMPS objects have."""

    def __init__(self, lib: ctypes.CDLL) -> None:
        try:
            self._construct = function_of(lib, f"{CLASS}C1EPNS_6LAMMPSEiPPc", None, OBJECT, OBJECT, INT, WORDS)
            self._vector, self._destroy = (function_of(lib, symbol, None, OBJECT) for symbol in (VECTOR, DESTROY))
            self._new = function_of(lib, "_Znwm", OBJECT, ctypes.c_size_t)
            self._plugin, self._restore = (function_of(lib, *USED[name]) for name in ("register", "restore"))
            self._numbers = lib["lammps_extract_compute"]  # a function object of its own
            self._numbers.restype = ctypes.POINTER(ctypes.c_double)
            self._numbers.argtypes = [OBJECT, ctypes.c_char_p, INT, INT]
            first = ctypes.addressof(ctypes.c_char.in_dll(lib, f"_ZTVN9LAMMPS_NS{CLASS}E"))
            old = {symbol: address_of(lib[NAMESPACE + symbol]) for symbol in (VECTOR, SCALAR, DESTROY)}
        except (AttributeError, ValueError) as error:
            raise BackendError(f"this LAMMPS lacks a function that {HEAT_FLUX} needs ({error})") from None
        self._hosts: WeakValueDictionary[int, Any] = WeakValueDictionary()  # by LAMMPS' address
        self._computes: dict[int, tuple[int, str]] = {}  # LAMMPS' address and the ID, by that of the compute
        void, real = ctypes.CFUNCTYPE(None, OBJECT), ctypes.CFUNCTYPE(ctypes.c_double, OBJECT)
        self._callbacks = {VECTOR: void(self._compute), SCALAR: real(self._scalar), DESTROY: void(self._destroyed)}
        self._table = copied(first, {old[name]: address_of(back) for name, back in self._callbacks.items()})
        self._creator = ctypes.CFUNCTYPE(OBJECT, OBJECT, INT, WORDS)(self._create)
        names = (name.encode() for name in ("compute", HEAT_FLUX, "the heat flux of DPA-2 models", STYLE))
        self._offer = Plugin(None, *names, address_of(self._creator), ctypes.CDLL(None)._handle)

    def register(self, lmp: Any, host: Any) -> None:
        """Let all commands of ``lmp`` have the compute, whose numbers are ``host.heat_flux()``."""
        self._hosts[handle_of(lmp)] = host
        if not lmp.has_style("compute", HEAT_FLUX):
            self._plugin(ctypes.byref(self._offer), lmp.lmp)
        if not lmp.has_style("compute", HEAT_FLUX):
            self._restore(lmp.lmp, False)

    def _create(self, handle: int, count: int, arguments: Any) -> int:
        words = [arguments[k].decode(errors="surrogateescape") for k in range(count)]
        host = self._hosts.get(handle)  # a LAMMPS that does not know the pair style may know the compute

        def check() -> None:
            if words[1] != "all" or count > 3:
                raise InputError(f"'compute {' '.join(words)}' should be 'compute {words[0]} all {HEAT_FLUX}'")

        if host is not None:
            host.agreed(check)
        address: int = self._new(ROOM)
        self._construct(address, handle, 3, words_of(words[:3]))
        OBJECT.from_address(address).value = ctypes.addressof(self._table) + 2 * ctypes.sizeof(OBJECT)
        self._computes[address] = handle, words[0]
        return address

    def _compute(self, address: int) -> None:
        handle, name = self._computes[address]
        host = self._hosts.get(handle)
        self._vector(address)
        numbers = self._numbers(handle, name.encode(errors="surrogateescape"), 0, 1)
        for k, number in enumerate([float("nan")] * 6 if host is None else host.heat_flux()):
            numbers[k] = number

    def _scalar(self, address: int) -> float:
        del address
        return float("nan")  # the compute is a vector

    def _destroyed(self, address: int) -> None:
        self._computes.pop(address, None)
        self._destroy(address)


_styles: dict[str, _Style] = {}  # by the path of the library


def heat_flux_style(lmp: Any) -> _Style:
    """The style in the library that ``lmp`` is an object of; BackendError if that is not built as it has to be."""
    name = lmp.lib._name
    if name not in _styles:
        _styles[name] = _Style(lmp.lib)
    return _styles[name]
