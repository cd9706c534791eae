"""Models from and to the trees of deepmd-kit's files (specification/serialization.md 2-6)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from dpmodel.dpa2.layout import ENTRIES, extensions, layer_count
from dpmodel.errors import FileError
from dpmodel.io.metadata import distance_entries, extras_of, shortest_distance
from dpmodel.io.reader import Reader
from dpmodel.io.template import model_template
from dpmodel.io.tree import count_arrays
from dpmodel.io.values import describe
from dpmodel.model.build import build
from dpmodel.model.model import Model
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, State, expected_shapes, state
from dpmodel.nn import Table, TypeTable
from dpmodel.nn.layout import Leaf

SINGLE = "Default"  # deepmd-kit's name of the only head or task


@dataclass(frozen=True)
class ModelFile:
    """A model with all that its file says of it.

    ``extras`` are the top-level entries beside the model: software, version, training script.  ``min_pair_distance`` is
    the shortest distance between two atoms of the training data, angstrom, None if it is not known.
    """

    settings: ModelSettings
    model: Model
    extras: dict[str, Any] = field(default_factory=dict)
    min_pair_distance: float | None = None

    def changed(self, settings: ModelSettings, model: Model) -> "ModelFile":
        """The file with another model; the script in it, from which deepmd-kit would train it again, follows."""
        script = self.extras.get("model_def_script", {}) | settings.model_dump()
        return replace(self, settings=settings, model=model, extras=self.extras | {"model_def_script": script})


def from_tree(tree: Mapping[str, Any], file: str = "model") -> ModelFile:
    """The model in the tree of a file; ``file`` is its name for messages.

    Raises
    ------
    FileError
        For anything that is missing, unknown, of the wrong shape or at odds with the rest, by its path in the tree.
    """
    if not isinstance(tree.get("model"), dict):
        actual = describe(tree.get("model")) if "model" in tree else f"the keys {', '.join(map(repr, list(tree)[:6]))}"
        raise FileError(f"{file}: /model: expected a mapping with the model, found {actual}")
    reader, extras = Reader(file), extras_of(tree, file)
    settings = reader.settings(tree["model"], extras.get("model_def_script"))
    tables = _entries_of_tables(tree["model"]["descriptor"])
    blank = with_tables(empty_model(settings, count_arrays(tree["model"]), file), tables, reader)
    model = filled(blank, reader.arrays(model_template(settings, blank), tree["model"]), reader)
    return ModelFile(settings, model, extras, shortest_distance(tree, file))


def filled(blank: Model, arrays: State, reader: Reader) -> Model:
    """``blank`` with ``arrays``, which ``reader`` took from a file, in the precision and the shapes that it wants."""
    empty = state(blank)
    held = {path: reader.held(path, value, _dtype(empty[path])) for path, value in arrays.items()}
    # constants, and zeros and ones where older files have nothing
    held |= {path: np.array(value) for path, value in empty.items() if path not in held}
    model: Model = Rebuilder(blank)(held)
    for path, value, want, words in expected_shapes(model):
        if tuple(value.shape) != want:
            reader.fail(reader.where[path], f"shape {words} = {want}", words=f"{tuple(value.shape)}")
    return model


def _dtype(empty: np.ndarray) -> np.dtype[Any]:
    """The dtype in which a file has an array: bfloat16 as float32."""
    return np.dtype(np.float32) if empty.dtype.name == "bfloat16" else empty.dtype


def empty_model(settings: ModelSettings, n_arrays: int, file: str) -> Model:
    """The model that ``settings`` describe, to be filled with ``n_arrays`` arrays: its own take no memory.

    Raises FileError where that many arrays cannot fill it: building every layer that a file may ask for could take
    forever.
    """
    layers = layer_count(settings.descriptor) + len(settings.fitting_net.neuron)
    if layers > n_arrays:
        raise FileError(
            f"{file}: expected arrays of the {layers} layers that the settings ask for, found {n_arrays} in all"
        )
    try:
        return build(settings, seed=None)
    except (ValueError, OverflowError):
        raise FileError(f"{file}: /model: the settings ask for arrays that no memory could hold") from None
    except ModuleNotFoundError as error:
        raise FileError(
            f"{file}: a model in bfloat16 needs the package {error.name}: pip install {error.name}"
        ) from None


def to_tree(model_file: ModelFile) -> dict[str, Any]:
    """The tree of a file, as deepmd-kit 3.2 writes it."""
    arrays = state(model_file.model)

    def fill(template: Any) -> Any:
        if isinstance(template, dict):
            return {key: fill(value) for key, value in template.items()}
        if isinstance(template, list | tuple):
            return [fill(value) for value in template]
        return stored(template, arrays[template.path]) if isinstance(template, Leaf) else template

    head = {"software": "dpmodel", "time": str(datetime.now(UTC)), "backend": "dpmodel"}
    tree = head | {"model_def_script": model_file.settings.model_dump()} | model_file.extras
    tree |= distance_entries(model_file.min_pair_distance, tree.get("@variables", {}))
    beyond = list(extensions(model_file.settings.descriptor, model_file.model.descriptor))
    tree |= {"extensions": beyond} if beyond else {}
    return tree | {"model": fill(model_template(model_file.settings, model_file.model))}


def stored(leaf: Leaf, value: np.ndarray) -> np.ndarray:
    """An array as the file holds it."""
    if leaf.copies:
        return np.repeat(value[:, None, :], leaf.copies, axis=1)
    if leaf.packed:
        return np.ascontiguousarray(np.swapaxes(value, 1, 2)).reshape(len(value), -1)
    return value[None] if leaf.lead else value


Tables = Mapping[str, tuple[str, Any]]  # of blocks: place of an entry in the file, and the entry


def _entries_of_tables(descriptor: Mapping[str, Any]) -> Tables:
    """The tables in the ``descriptor`` of a tree."""
    entries = {name: (key, descriptor.get(key)) for name, key in ENTRIES.items()}
    return {
        name: (f"/model/descriptor/{key}/compress", entry["compress"])
        for name, (key, entry) in entries.items()
        if isinstance(entry, dict) and entry.get("compress") is not None
    }


def with_tables(model: Model, tables: Tables, reader: Reader) -> Model:
    """``model`` with room for the ``tables`` of a compressed descriptor (specification/compression.md 7)."""
    if not tables:
        return model
    from dpmodel.dpa2.tables import with_embeddings

    def changed(name: str, block: Any) -> Any:
        return tabulated(block.near, *tables[name], reader) if name in tables else block.near

    return replace(model, descriptor=with_embeddings(model.descriptor, changed))


def tabulated(near: Any, where: str, entry: Any, reader: Reader) -> Any:
    """The embedding ``near`` with room for tables as large as those in ``entry``."""
    arrays = entry.get("@variables") if isinstance(entry, dict) else None
    if not isinstance(arrays, dict):
        reader.fail(f"{where}/@variables", "a mapping", arrays)
    width = near.embedding.layers[-1].n_out
    rows = reader.table(arrays.get("type_embd_data"), 2, f"{where}/@variables/type_embd_data")
    dtype = near.mean.dtype
    near = replace(near, type_table=TypeTable(rows=np.empty(rows.shape, dtype), n_rows=len(rows), width=width))
    if not entry.get("geo_compress"):
        return near
    members = {}
    for name, ndim in (("compress_data", 2), ("compress_info", 1)):
        here, value = f"{where}/@variables/{name}", arrays.get(name)
        if not isinstance(value, list) or len(value) != 1:
            reader.fail(here, "a list of one array", value)
        members[name] = reader.table(value[0], ndim, f"{here}/0")
    info, n_rows = members["compress_info"], len(members["compress_data"])
    if info.shape != (6,) or not np.all(info[3:5] > 0) or not info[0] < info[1] <= info[2]:
        reader.fail(f"{where}/@variables/compress_info/0", "lower < upper <= top, two steps, a frequency", info)
    numbers = dict(zip(("lower", "upper", "top", "fine", "coarse", "check_frequency"), map(float, info), strict=True))
    table = Table(coefficients=np.empty((n_rows, 6, width), dtype), n_rows=n_rows, width=width, **numbers)
    if not table.n_fine <= n_rows:
        reader.fail(f"{where}/@variables/compress_data/0", f"at least {table.n_fine} rows", members["compress_data"])
    return replace(near, table=table)
