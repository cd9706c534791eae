"""Warnings of a trajectory, shown once instead of at every step."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from dpmodel.errors import NeighborOverflowWarning


class WarnOnce:
    """``with once():`` lets the first NeighborOverflowWarning through, and all other warnings."""

    def __init__(self) -> None:
        self.said = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with warnings.catch_warnings(record=True) as met:
            warnings.simplefilter("always", NeighborOverflowWarning)
            yield
        for warning in met:
            is_overflow = issubclass(warning.category, NeighborOverflowWarning)
            if not (is_overflow and self.said):
                self.said |= is_overflow
                warnings.warn(warning.message, warning.category, stacklevel=4)
