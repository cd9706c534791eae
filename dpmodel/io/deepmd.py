"""Models from and to the trees of deepmd-kit's files (specification/serialization.md 2-6)."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from dpmodel.dpa2.repinit import EnvironmentEmbedding
from dpmodel.errors import FileError
from dpmodel.io.metadata import distance_entries, extras_of, shortest_distance
from dpmodel.io.node import describe
from dpmodel.io.reader import Reader
from dpmodel.io.template import Leaf, model_template
from dpmodel.io.tree import count_arrays
from dpmodel.model.build import build
from dpmodel.model.model import Model
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, expected_shapes, state
from dpmodel.nn import Table, TypeTable


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
        told = self.extras.get("model_def_script", {}) | settings.model_dump()
        return replace(self, settings=settings, model=model, extras=self.extras | {"model_def_script": told})


def from_tree(tree: Mapping[str, Any], file: str = "model") -> ModelFile:
    """The model in the tree of a file; ``file`` is its name for messages.

    Raises
    ------
    FileError
        For anything that is missing, unknown, of the wrong shape or at odds with the rest, by its path in the tree.
    """
    if not isinstance(tree.get("model"), dict):
        found = describe(tree.get("model")) if "model" in tree else f"the keys {', '.join(map(repr, list(tree)[:6]))}"
        raise FileError(f"{file}: /model: expected a mapping with the model, found {found}")
    reader, extras = Reader(file), extras_of(tree, file)
    settings = reader.settings(tree["model"], extras.get("model_def_script"))
    plain = empty_model(settings, count_arrays(tree["model"]), file)
    mould = with_tables(plain, tree["model"]["descriptor"], reader)
    arrays = reader.arrays(model_template(settings, mould), tree["model"], precisions(plain))
    constants = {path: value for path, value in state(mould).items() if path.endswith("type_embedding.features")}
    model = Rebuilder(mould)(arrays | constants)
    for path, value, want, words in expected_shapes(model):
        if tuple(value.shape) != want:
            raise FileError(
                f"{file}: {reader.place[path]}: expected shape {words} = {want}, found {tuple(value.shape)}"
            )
    return ModelFile(settings, model, extras, shortest_distance(tree, file))


def empty_model(settings: ModelSettings, n_arrays: int, file: str) -> Model:
    """The model that ``settings`` describe, to be filled with ``n_arrays`` arrays: its own take no memory.

    Raises FileError where that many arrays cannot fill it: building every layer that a file may ask for could take
    forever.
    """
    repinit, repformer = settings.descriptor.repinit, settings.descriptor.repformer
    layers = repformer.nlayers + repinit.attn_layer + len(repinit.neuron) + len(settings.fitting_net.neuron)
    layers += len(repinit.three_body_neuron) if repinit.use_three_body else 0
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


def precisions(plain: Model) -> Mapping[str, np.dtype[Any]]:
    """In which dtype a file has each array: what ``plain`` has, bfloat16 as float32; tables as the descriptor."""
    single = np.dtype(np.float32)
    known = {path: single if x.dtype.name == "bfloat16" else x.dtype for path, x in state(plain).items()}
    return defaultdict(lambda: known["descriptor.repinit.near.mean"], known)


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
    marked = {"extensions": list(extensions(model_file))} if any(extensions(model_file)) else {}
    return tree | marked | {"model": fill(model_template(model_file.settings, model_file.model))}


def extensions(file: ModelFile) -> Iterator[str]:
    """What is in a model that deepmd-kit 3.2 does not have, and so cannot read or ignores."""
    settings, three_body = file.settings.descriptor, file.model.descriptor.three_body
    if settings.repinit.attn_layer:
        yield "attention in repinit"
    if not settings.padding_leak or not settings.truncate:
        yield "padding_leak, truncate"
    if three_body is not None and three_body.near.table is not None:
        yield "tables of the three-body block"


def stored(leaf: Leaf, value: np.ndarray) -> np.ndarray:
    """An array as the file holds it."""
    if leaf.copies:
        return np.repeat(value[:, None, :], leaf.copies, axis=1)
    if leaf.packed:
        return np.ascontiguousarray(np.swapaxes(value, 1, 2)).reshape(len(value), -1)
    return value[None] if leaf.lead else value


def with_tables(model: Model, tree: Mapping[str, Any], reader: Reader) -> Model:
    """``model`` with room for the tables of a compressed descriptor ``tree`` (specification/compression.md 7)."""

    def near(of: EnvironmentEmbedding, key: str) -> EnvironmentEmbedding:
        if not isinstance(tree.get(key), dict) or tree[key].get("compress") is None:
            return of
        return tabulated(of, tree[key]["compress"], f"/model/descriptor/{key}/compress", reader)

    d = model.descriptor
    d = replace(d, repinit=replace(d.repinit, near=near(d.repinit.near, "repinit_variable")))
    if d.three_body is not None:
        d = replace(d, three_body=replace(d.three_body, near=near(d.three_body.near, "repinit_three_body_variable")))
    return replace(model, descriptor=d)


def tabulated(near: EnvironmentEmbedding, entry: Any, place: str, reader: Reader) -> EnvironmentEmbedding:
    """``near`` with tables as large as those in ``entry``; their numbers are put in by path like all others."""
    found = entry.get("@variables") if isinstance(entry, dict) else None
    if not isinstance(found, dict):
        reader.fail(f"{place}/@variables", "a mapping", found)
    width = near.embedding.layers[-1].n_out
    rows = reader.table(found.get("type_embd_data"), 2, f"{place}/@variables/type_embd_data")
    near = replace(near, type_table=TypeTable(rows=rows, n_rows=len(rows), width=width))
    if not entry.get("geo_compress"):
        return near
    members = {}
    for name, ndim in (("compress_data", 2), ("compress_info", 1)):
        here, value = f"{place}/@variables/{name}", found.get(name)
        if not isinstance(value, list) or len(value) != 1:
            reader.fail(here, "a list of one array", value)
        members[name] = reader.table(value[0], ndim, f"{here}/0")
    info, n_rows = members["compress_info"], len(members["compress_data"])
    if info.shape != (6,) or not np.all(info[3:5] > 0) or not info[0] < info[1] <= info[2]:
        reader.fail(f"{place}/@variables/compress_info/0", "lower < upper <= top, two steps, a frequency", info)
    numbers = dict(zip(("lower", "upper", "top", "fine", "coarse", "check_frequency"), map(float, info), strict=True))
    table = Table(coefficients=members["compress_data"], n_rows=n_rows, width=width, **numbers)
    if not table.n_fine <= n_rows:
        reader.fail(f"{place}/@variables/compress_data/0", f"at least {table.n_fine} rows", members["compress_data"])
    return replace(near, table=table)
