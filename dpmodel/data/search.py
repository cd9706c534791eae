"""vesin, without the array libraries that it would bring.

vesin imports torch and CuPy wherever they are installed, to serve their arrays: seconds and hundreds of megabytes
that a run on NumPy or JAX has no use for.  It is imported here as if they were not there, and then forgotten, so that
whoever else imports vesin gets all of it.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

OPTIONAL = ("torch", "cupy", "ase")


@contextmanager
def _without(names: Iterable[str]) -> Iterator[None]:
    """Importing ``names`` fails inside, unless they are imported already."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: cannot be imported
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _neighbor_list_class() -> Any:
    if "vesin" in sys.modules:
        return sys.modules["vesin"].NeighborList
    with _without(OPTIONAL):
        from vesin import NeighborList
    for name in [name for name in sys.modules if name.split(".")[0] == "vesin"]:
        del sys.modules[name]
    return NeighborList


NeighborList = _neighbor_list_class()
