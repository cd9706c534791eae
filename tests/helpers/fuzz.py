"""Bytes that nobody wrote, read as files of models and of data for as long as one likes.

    python -m pip install atheris
    python tests/helpers/fuzz.py --minutes 60

atheris changes the bytes so that they reach new lines of the readers.  Whatever is not a FileError that names the file,
takes longer than 20 seconds or more than 1 GB ends the run and is written to ``crash-*``: mend the reader, and put the
file (``--show crash-...`` writes it) into io/corpus, with the error it should give in expected.json.
"""

import argparse
import io
import shutil
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
from rich.console import Console

from dpmodel.data.check import check_system
from dpmodel.data.systems import System, find_systems
from dpmodel.errors import FileError

HERE = Path(__file__).parents[1]
LIMITS = ["-timeout=20", "-rss_limit_mb=1024", "-max_len=100000"]


def hdf5(text: bytes) -> bytes:
    """A container with ``text`` in the place of its JSON, and three arrays."""
    with h5py.File("image", "w", driver="core", backing_store=False) as file:
        file.attrs["json"] = text.decode("utf-8", "replace").replace("\0", "")
        for i in range(3):
            file[f"variable_{i:04d}"] = [[0.5, 1.5], [2.5, 3.5]]
        file.flush()
        return bytes(file.id.get_file_image())


def pytorch(pickle: bytes) -> bytes:
    """An archive with this pickle, its checksum right, and one storage."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr("a/data.pkl", pickle)
        archive.writestr("a/data/0", bytes(64))
    return buffer.getvalue()


FILES = ("type.raw", "type_map.raw", *(f"set.000/{n}.npy" for n in ("coord", "box", "energy", "real_atom_types")))


def write_system(folder: Path, *, mixed: bool) -> None:
    """Three frames of four atoms."""
    random = np.random.default_rng(0)
    (folder / "set.000").mkdir(parents=True, exist_ok=True)
    (folder / "type.raw").write_text("0 0 0 0" if mixed else "0 1 1 0")
    (folder / "type_map.raw").write_text("O H")
    arrays: dict[str, Any] = {"coord": random.uniform(0, 8, (3, 12)), "box": np.tile(9 * np.eye(3).ravel(), (3, 1))}
    arrays |= {"energy": random.normal(size=3), "real_atom_types": random.integers(0, 2, (3, 4))}
    for name, array in arrays.items():
        if mixed or name != "real_atom_types":
            np.save(folder / f"set.000/{name}.npy", array)


def hdf5_system(**how: Any) -> bytes:
    """The same system in HDF5, with texts of any length or in compressed chunks, as ``how`` says."""
    with tempfile.TemporaryDirectory() as name, h5py.File("image", "w", driver="core", backing_store=False) as file:
        write_system(Path(name), mixed=True)
        for array in Path(name).glob("set.000/*.npy"):
            file.create_dataset(f"s/set.000/{array.name}", data=np.load(array), **how)
        file["s/type.raw"], file["s/type_map.raw"] = [0] * 4, "O H" if how else np.array([b"O", b"H"])
        file.flush()
        return bytes(file.id.get_file_image())


def use_data(path: Path) -> None:
    """Read all of the systems in ``path``; what is read is finite and of the shapes that labels have."""
    for name in find_systems(str(path)):
        system = System(name)
        for frame in system:
            s = frame.structure
            assert s.positions.shape == (system.n_atoms, 3)
            assert s.types.max() < len(system.type_map)
            assert all(np.isfinite(a).all() for a in (s.positions, *frame.labels.values()))
        check_system(name)


def as_it_is(data: bytes) -> bytes:
    return data


# how the bytes of a file are made from those of the fuzzer, whose first one chooses: six kinds of models, two of data
KINDS: list[tuple[str, Callable[[bytes], bytes]]] = [
    (".dp", as_it_is),
    (".dp", hdf5),
    (".yaml", as_it_is),
    (".dp.json", as_it_is),
    (".pt", as_it_is),
    (".pt", pytorch),
    ("", as_it_is),
    (".h5", as_it_is),
]


def file_of(data: bytes, folder: Path) -> Path:
    """The file that ``data`` means."""
    suffix, wrap = KINDS[(data[0] if data else 0) % len(KINDS)]
    path = folder / f"fuzz{suffix}"
    if suffix == "":  # one file of a system
        write_system(path, mixed=True)
        number = data[1] if len(data) > 1 else 0
        (path / FILES[number % len(FILES)]).write_bytes(data[2:])
    else:
        path.write_bytes(wrap(data[1:]))
    return path


def attempt(read: Callable[[Path], object], data: bytes, folder: Path) -> bool:
    """Whether ``data`` is a model; anything but that, or a FileError that names the file, is raised."""
    path = file_of(data, folder)
    try:
        read(path)
    except FileError as error:
        if not str(error).startswith(str(path)):
            raise AssertionError(f"a message without the name of the file: {error}") from None
        return False
    return True


def use(path: Path) -> None:
    """Read what is in ``path``, and do with it what a user may."""
    (use_data if path.suffix in ("", ".h5") else use_model)(path)


def use_model(path: Path) -> None:
    """Show, compare and translate the model in ``path``."""
    from dpmodel.cli.diff import diff
    from dpmodel.cli.show import show_file
    from dpmodel.io.checkpoint import to_checkpoint
    from dpmodel.io.model import read_model

    Console(file=io.StringIO()).print(show_file(path))
    str(diff(file := read_model(path), file))
    to_checkpoint(file, str(path))


def seeds(folder: Path) -> None:
    """Model files of every kind to begin with: the corpus, and the smallest of the reference models."""
    from dpmodel.io.container import read_tree, write_tree
    from dpmodel.io.model import read_model, write_model

    model = HERE / "reference" / "head_property_intensive" / "model.dp"
    for number, (suffix, wrap) in enumerate(KINDS[:6]):
        files = [path for path in HERE.glob("io/corpus/*") if path.name.endswith(suffix)]
        if wrap is as_it_is:
            write_model(folder / f"model{suffix}", read_model(model))
            files.append(folder / f"model{suffix}")
        for path in files:
            if path.stat().st_size < 200_000 and wrap is as_it_is:
                (folder / f"{number}-{path.name}").write_bytes(bytes([number]) + path.read_bytes())
    with zipfile.ZipFile(folder / "model.pt") as archive:
        (folder / "5-pickle").write_bytes(b"\x05" + archive.read("archive/data.pkl"))
    write_tree(folder / "small.dp", read_tree(model))
    with h5py.File(folder / "small.dp") as file:
        (folder / "1-json").write_bytes(b"\x01" + file.attrs["json"].encode())
    write_system(folder / "system", mixed=True)
    for number, name in enumerate(FILES):
        (folder / f"6-{Path(name).name}").write_bytes(bytes([6, number]) + (folder / "system" / name).read_bytes())
    shutil.rmtree(folder / "system")
    for how, name in (({}, "7-plain"), ({"chunks": True, "compression": "gzip"}, "7-chunks")):
        (folder / name).write_bytes(b"\x07" + hdf5_system(**how))
    for path in folder.glob("*.*"):
        if path.stem in ("model", "model.dp", "small"):
            path.unlink()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=10.0)
    options.add_argument("--show", type=Path, help="write the file that a crash-* means, and its error")
    given: SimpleNamespace = options.parse_args(namespace=SimpleNamespace())
    warnings.simplefilter("ignore")
    if given.show:
        print(path := file_of(given.show.read_bytes(), Path()))
        use(path)
        return
    import atheris

    with atheris.instrument_imports(include=["dpmodel.io", "dpmodel.data"]):
        import dpmodel.io.model  # noqa: F401
    with tempfile.TemporaryDirectory() as name:
        (folder := Path(name) / "seeds").mkdir()
        seeds(folder)
        options_of_fuzzer = [sys.argv[0], str(folder), f"-max_total_time={int(60 * given.minutes)}", *LIMITS]
        atheris.Setup(options_of_fuzzer, lambda data: attempt(use, data, Path(name)))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
