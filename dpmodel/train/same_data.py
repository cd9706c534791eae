"""Whether a run goes on with the data it began with, by a few frames of every system."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dpmodel.data.systems import System

Summary = dict[str, list[Any]]  # of systems in order: "path", "frames", and a checksum by name of array
ARRAYS = "energy", "force"  # whose checksums are there, beside that of the structures
SHOWN = 5  # changes


def summary(systems: Sequence[System]) -> Summary:
    """The training data as a checkpoint names them: it takes reading the first, the middle and the last frame."""
    rows = [_row(system) for system in systems]
    return {name: [row[name] for row in rows] for name in ("path", "frames", "structure", *ARRAYS)}


def _row(system: System) -> dict[str, Any]:
    n, row = len(system), dict.fromkeys(("structure", *ARRAYS), 0)
    for i in sorted({0, n // 2, n - 1}):
        s = system.structure(i)
        parts = {"structure": [s.positions, s.types, *([] if s.cell is None else [s.cell])]}
        parts |= {name: [system.label(i, name)] for name in ARRAYS if name in system.labels_of(i)}
        for name, arrays in parts.items():
            for array in arrays:
                row[name] = zlib.crc32(np.ascontiguousarray(array).tobytes(), row[name])
    return {"path": system.path, "frames": n, **row}


def expect_summary(data: Mapping[str, Any]) -> None:
    """Raise ValueError where ``data``, of a file, are no summary."""
    columns = [data[name] for name in ("path", "frames")] + list(data.values())
    if not all(isinstance(column, list) and len(column) == len(columns[0]) for column in columns):
        raise ValueError("the summary of the training data is damaged")


def difference(old: Mapping[str, Sequence[Any]], new: Mapping[str, Sequence[Any]]) -> str:
    """The changes from one summary to another, in words, empty if there are none; only paths may differ.

    A checksum counts where both have one: which labels are read is a matter of the loss.
    """
    names = [name for name in ("frames", "structure", *ARRAYS) if name in old and name in new]

    def same(a: int, b: int) -> bool:
        return all(old[n][a] == new[n][b] or (n in ARRAYS and 0 in (old[n][a], new[n][b])) for n in names)

    n_old, n_new = len(old["path"]), len(new["path"])
    if n_old == n_new and all(same(i, i) for i in range(n_old)):
        return ""
    before = {path: i for i, path in enumerate(old["path"])}
    words = [] if n_old == n_new else [f"{n_new} systems, there were {n_old}"]
    for b, path in enumerate(new["path"]):
        a = before.pop(path, None)
        if a is None:
            words.append(f"{path} is new")
        elif new["frames"][b] != old["frames"][a]:
            words.append(f"{path} has {new['frames'][b]} frames, it had {old['frames'][a]}")
        elif not same(a, b):
            words.append(f"the numbers in {path} are others")
    words += [f"{path} is gone" for path in before] or ([] if words else ["the order of the systems is another one"])
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")
