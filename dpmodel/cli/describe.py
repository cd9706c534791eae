"""Descriptors of atoms, or the last hidden layer, as arrays.

Files ending in .h5 or .hdf5 are HDF5, others NumPy's .npz. They hold "values" (one row an atom, all frames after one
another), "frame" (which frame an atom is in), "types", "type_map" and "source" (the file of each frame).
With --reduce there is one row a frame, and no "types".

Examples:
    dpmodel describe model.dp data/ -o descriptors.npz
    dpmodel describe model.dp water.xyz --layer features --reduce mean -o water.h5
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

from dpmodel.cli.frames import read_frames
from dpmodel.cli.options import Backend, Device, Head, Index, Model, Precision, Structures, console, progress
from dpmodel.data.structure import Structure
from dpmodel.io.files import expect_free, replacing
from dpmodel.potential import load

Reduce = Literal["none", "sum", "mean"]
Arrays = dict[str, np.ndarray]


def main(
    model: Model,
    structures: Structures,
    index: Index = ":",
    head: Head = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write: .npz, .h5 or .hdf5.")] = Path(
        "descriptors.npz"
    ),
    layer: Annotated[
        Literal["descriptor", "features"],
        typer.Option("--layer", help="The descriptor, or the last hidden layer of the fitting net."),
    ] = "descriptor",
    reduce: Annotated[Reduce, typer.Option("--reduce", help="Sum or mean over the atoms of a frame.")] = "none",
    backend: Backend = "numpy",
    device: Device = None,
    precision: Precision = None,
) -> None:
    expect_free(output, overwrite=True)
    potential = load(model, backend, head=head, device=device, precision=precision)
    sources = [(frames.path, s) for frames in read_frames(structures, potential, index) for s in frames.structures]
    with progress() as bar:
        rows = potential.evaluator.describe([s for _, s in sources], strict=potential.strict, layer=layer)
        arrays = collected(list(bar.track(rows, total=len(sources), description="frames")), sources, reduce)
    arrays["type_map"] = np.array(potential.type_map, dtype="S")
    write(output, arrays)
    console.print(f"wrote {output}: {layer}, {arrays['values'].shape}", markup=False, highlight=False, soft_wrap=True)


def collected(rows: list[np.ndarray], sources: list[tuple[str, Structure]], reduce: Reduce) -> Arrays:
    """The arrays of the file; virtual atoms are left out."""
    real = [s.types >= 0 for _, s in sources]
    selected = [x[mask] for x, mask in zip(rows, real, strict=True)]
    source = np.array([path for path, _ in sources], dtype="S")
    if reduce != "none":
        values = [x.sum(axis=0) if reduce == "sum" else x.mean(axis=0) for x in selected]
        return {"values": np.stack(values), "frame": np.arange(len(values)), "source": source}
    return {
        "values": np.concatenate(selected),
        "frame": np.repeat(np.arange(len(selected)), [len(x) for x in selected]),
        "types": np.concatenate([s.types[mask] for (_, s), mask in zip(sources, real, strict=True)]),
        "source": source,
    }


def write(output: Path, arrays: Arrays) -> None:
    """To HDF5 or NumPy's own, whole or not at all."""
    with replacing(output) as file:
        if output.suffix in (".h5", ".hdf5"):
            import h5py

            with h5py.File(file, "w") as hdf5:
                for name, value in arrays.items():
                    hdf5[name] = value
        else:
            np.savez(file, allow_pickle=False, **arrays)
