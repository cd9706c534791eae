"""PyTorch checkpoints of deepmd-kit, from and to models (specification/serialization.md 7-9).

Settings give the layout of a model (``dpmodel.io.template``); where that has an array, the checkpoint has a tensor,
whose name follows from the place by one table.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dpmodel.dpa2.layout import ENTRIES, TENSORS
from dpmodel.errors import FileError, HeadError, SettingError
from dpmodel.io.deepmd import SINGLE, ModelFile, Tables, empty_model, filled, stored, with_tables
from dpmodel.io.metadata import DISTANCE, RIGIDITY, extras_of, shortest_distance
from dpmodel.io.pickled import Attributes
from dpmodel.io.reader import Reader
from dpmodel.io.template import model_template
from dpmodel.io.torchfile import read_torchfile, script_state, write_checkpoint
from dpmodel.io.tree import parse_json
from dpmodel.io.values import describe
from dpmodel.model.model import Model
from dpmodel.model.settings import ModelSettings
from dpmodel.module import state as arrays_of
from dpmodel.nn.layout import Leaf
from dpmodel.settings import MANY, nearest

Keys = tuple[str, ...]

# part of a place in the tree: part of a tensor's name; what is not listed has the same name in both
NAMES = {
    "@variables": "",
    "fitting": "fitting_net",
    "nets": "filter_layers",
    **TENSORS,
    "w": "matrix",
    "b": "bias",
}
# what the exportable PyTorch backend calls otherwise: anywhere in a name, and at its end
EXPORTABLE = {
    "_min_nbor_dist": DISTANCE,
    "._module_networks.": ".networks.",
    ".nets.": ".filter_layers.",
    ".embeddings.": ".filter_layers.",
    ".embeddings_strip.": ".filter_layers_strip.",
    ".type_embedding.embedding_net.": ".type_embedding.embedding.embedding_net.",
}
ENDS = {"w": "matrix", "b": "bias"}
DENSE = "descriptor.graph_lower_disabled"  # its flag for a model that keeps to nsel all the same
TABLES = ("type_embd_data", "compress_info.0", "compress_data.0")
# parts of names of tensors that say nothing new: second names, constants, settings
COPIES = tuple("._networks. .type_mask .econf_tebd .bias_dos .default_fparam_tensor .graph_lower_disabled".split())
NO_TABLES = (
    "a checkpoint of deepmd-kit holds no tables: write the compressed model as .dp or .yaml, "
    "or the plain one that it was made from as .pt"
)
UNSAVED = ("scale", "constant_matrix")  # PyTorch forgets these of a polar fitting net
OUTPUT = ("out_bias", "out_std")  # 0 and 1 where an old checkpoint lacks them
LAYERS = (".matrix", ".bias", ".idt")  # tensors without which the settings in the file mean another model


def tensor_name(keys: Keys) -> str:
    """The name of the tensor at ``keys`` below ``model`` of the tree."""
    return ".".join(("atomic_model", *filter(None, (NAMES.get(part, part) for part in keys))))


def tensor_paths(settings: ModelSettings, model: Model) -> dict[str, Leaf]:
    """The tensors of a model by name; each leaf says which array of ``model`` it is, and how a file holds it."""

    def walk(part: Any, keys: Keys) -> Iterator[tuple[str, Leaf]]:
        if isinstance(part, Leaf):
            yield tensor_name(keys), part
        members = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, member in members:
            yield from walk(member, (*keys, str(key)))

    return dict(walk(model_template(settings, model), ()))


def own_tensors(state: Mapping[str, Any], head: str) -> dict[str, np.ndarray]:
    """The tensors of one model of a checkpoint, by the file's names for them."""
    prefix = f"model.{head}."
    every = {str(key): value for key, value in state.items() if isinstance(value, np.ndarray)}
    return {key.removeprefix(prefix): value for key, value in every.items() if key.startswith(prefix)} or every


def tensors_of(state: Mapping[str, Any], head: str) -> dict[str, np.ndarray]:
    """The tensors of one model of a checkpoint, by the names of ``tensor_paths``."""
    return {usual_name(key): value for key, value in own_tensors(state, head).items()}


def usual_name(name: str) -> str:
    """The name of a tensor in a checkpoint of the PyTorch backend, given that of either of the two."""
    for exported, usual in EXPORTABLE.items():
        name = name.replace(exported, usual)
    stem, dot, end = name.rpartition(".")
    return stem + dot + ENDS.get(end, end)


def read_checkpoint(path: str | os.PathLike[str], head: str | None = None) -> ModelFile:
    """The model in a ``.pt`` or ``.pth`` file; ``head`` chooses one of a multi-task checkpoint.

    Raises FileError where the file is no such thing, where it and its settings disagree, and where ``head`` is
    needed: the message lists the heads.
    """
    file = os.fspath(path)
    return from_checkpoint(*tensors_and_settings(read_torchfile(path), file), head, file)


def tensors_and_settings(saved: Any, file: str) -> tuple[dict[str, Any], Any]:
    """Tensors by name, and the model section that describes them, of what was ``saved`` in a ``.pt`` or ``.pth`` file.

    Raises FileError, naming ``file``, where that is no model of deepmd-kit.
    """
    if isinstance(saved, Attributes):
        if not isinstance(saved.get("model_def_script"), str):
            raise FileError(
                f"{file}: expected deepmd-kit's attribute 'model_def_script', found another TorchScript module"
            )
        return script_state(saved), parse_json(saved["model_def_script"], file)
    state = saved.get("model", saved) if isinstance(saved, dict) else saved
    extra = state.get("_extra_state") if isinstance(state, dict) else None
    if not isinstance(extra, dict) or "model_params" not in extra:
        raise FileError(f"{file}: expected a checkpoint of deepmd-kit (with _extra_state), found {describe(saved)}")
    return state, extra["model_params"]


def save_checkpoint(path: str | os.PathLike[str], model: ModelFile) -> None:
    """Write ``model`` as a ``.pt`` file that deepmd-kit's PyTorch backend loads."""
    write_checkpoint(path, {"model": to_checkpoint(model, os.fspath(path))})


def heads(model_params: Any) -> dict[str, Any]:
    """The settings of each head of a checkpoint; a single-task one has the head "Default"."""
    branches = model_params.get("model_dict") if isinstance(model_params, dict) else None
    return {str(k): v for k, v in branches.items()} if isinstance(branches, dict) else {SINGLE: model_params}


def choose(model_params: Any, head: str | None, file: str) -> tuple[str, Any]:
    """The name and settings of ``head``: by ``head_called``, and left out the only one, or the one called "Default"."""
    branches = heads(model_params)
    if head is None and len(branches) == 1:
        return next(iter(branches.items()))
    aliases = {name: s.get("model_branch_alias") if isinstance(s, dict) else None for name, s in branches.items()}
    listed = {name: [str(a) for a in also] if isinstance(also, list) else [] for name, also in aliases.items()}
    name = head_called(SINGLE if head is None else head, listed)
    if name is not None:
        return name, branches[name]
    shown = list(branches)[:MANY]
    if not shown:
        raise FileError(f"{file}: expected models in model_dict, found none")
    what = "which was not chosen: give --head NAME" if head is None else f"not {head!r}{nearest(head, shown)}"
    more = f" and {len(branches) - MANY} more" if len(branches) > MANY else ""
    error = HeadError(f"{file}: expected one of the heads {', '.join(map(repr, shown))}{more}, {what}")
    error.heads = tuple(branches)
    raise error


def head_called(wanted: str, aliases: Mapping[str, Sequence[str]]) -> str | None:
    """The head with the name ``wanted`` or, by ``aliases``, another one: as it is spelled, or regardless of case."""
    called = [(name, other) for name, also in aliases.items() for other in (name, *also)]
    exact = [name for name, other in called if other == wanted]
    close = dict.fromkeys(name for name, other in called if other.lower() == wanted.lower())
    return exact[0] if exact else next(iter(close)) if len(close) == 1 else None


def settings_of(branches: Mapping[str, Any], name: str, file: str) -> ModelSettings:
    """The settings of one of the ``heads``; raises FileError where they cannot be."""
    try:
        return ModelSettings.read(branches[name], f"model_params[{name!r}]")
    except SettingError as error:
        raise FileError(f"{file}: {error}") from None


def from_checkpoint(
    state: Mapping[str, Any], model_params: Any, head: str | None = None, file: str = "checkpoint"
) -> ModelFile:
    """One model of a checkpoint.

    ``state`` maps names of tensors to arrays, ``model_params`` is the model section of the input script, ``file`` the
    name for messages.  Raises FileError.
    """
    name, script = choose(model_params, head, file)
    settings, tensors, reader = settings_of({name: script}, name, file), tensors_of(state, name), Reader(file)
    if takes_all_neighbors(settings, own_tensors(state, name)):
        settings = with_all_neighbors(settings)
    blank = with_tables(empty_model(settings, len(tensors), file), _tables(tensors), reader)
    names = tensor_paths(settings, blank)
    _expect_tensors(tensors, names, file)
    arrays = {leaf.path: reader.array(leaf, tensors[name], name) for name, leaf in names.items() if name in tensors}
    extra = state.get("_extra_state", {})
    beside = {"backend": "PyTorch", "model_def_script": script, "@variables": {}}
    beside |= {key: extra[key] for key in (RIGIDITY,) if key in extra}
    distance = shortest_distance({DISTANCE: tensors.get(DISTANCE)}, file)
    return ModelFile(settings, filled(blank, arrays, reader), extras_of(beside, file), distance)


def takes_all_neighbors(settings: ModelSettings, tensors: Mapping[str, Any]) -> bool:
    """Whether ``nsel`` only normalizes in the model that was trained: the exportable backend's second meaning of it.

    Only the names of the ``tensors`` tell that backend (specification/serialization.md 7).
    """
    exportable = any(exported in f".{name}" for name in tensors for exported in EXPORTABLE)
    disabled = any(name.endswith(DENSE) and np.any(flag) for name, flag in tensors.items())
    tables = any(name.endswith(TABLES[0]) and value.size for name, value in tensors.items())
    return exportable and not disabled and not tables and settings.descriptor.exportable_takes_all


def with_all_neighbors(settings: ModelSettings) -> ModelSettings:
    """The same with ``truncate`` off."""
    changed = settings.model_dump()
    changed["descriptor"]["truncate"] = False
    return ModelSettings.read(changed)


def _tables(tensors: Mapping[str, np.ndarray]) -> Tables:
    """The tables of compressed blocks (specification/compression.md 7): tensors that are there and not empty."""
    tables: dict[str, tuple[str, Any]] = {}
    for block, key in ENTRIES.items():
        prefix = f"atomic_model.descriptor.{NAMES[key]}"
        types, info, data = (tensors.get(f"{prefix}.{name}", np.empty(0)) for name in TABLES)
        geometric = {"compress_data": [data], "compress_info": [info]} if data.size else {}
        if types.size:
            arrays = {"type_embd_data": types} | geometric
            tables[block] = (prefix, {"geo_compress": data.size > 0, "@variables": arrays})
    return tables


def _expect_tensors(tensors: Mapping[str, np.ndarray], names: Mapping[str, Leaf], file: str) -> None:
    """Raise FileError where tensors are missing or parts of a network are left over.

    Warns of others that nothing asked for, copies and constants aside, and of missing biases.
    """
    missing = [name for name in names if name not in tensors and not name.endswith(UNSAVED)]
    lacking = [name for name in missing if name.endswith(OUTPUT)]
    for name in missing:
        if name not in lacking:
            raise FileError(f"{file}: expected a tensor {name}, as the settings in the file want, found none")
    asked = {*names, DISTANCE}
    left = [name for name in tensors if name not in asked and not name.endswith(TABLES)]
    unknown = [name for name in left if not any(part in name for part in COPIES)]
    layers = [name for name in unknown if name.endswith(LAYERS) or "_residual." in name]
    if layers:
        raise FileError(
            f"{file}: expected tensors of the model only, found {len(layers)} more: {', '.join(layers[:3])}"
        )
    for some, what in ((unknown, "unknown tensors, left out"), (lacking, "no biases (0) or scales (1)")):
        if some:
            warnings.warn(f"{file}: {what}: {', '.join(some[:3])}", UserWarning, stacklevel=3)


def to_checkpoint(model_file: ModelFile, file: str = "model") -> dict[str, Any]:
    """The state dictionary, ``_extra_state`` included, from which deepmd-kit's PyTorch backend makes the model."""
    settings, model = model_file.settings, model_file.model
    blocks = model.descriptor.first_blocks
    if any(block.near.type_table is not None for block in blocks.values()):
        raise FileError(f"{file}: {NO_TABLES}")
    names, arrays = tensor_paths(settings, model), arrays_of(model)
    state = {name: stored(leaf, arrays[leaf.path]) for name, leaf in names.items() if not name.endswith(UNSAVED)}
    state |= {name.replace(".networks.", "._networks."): array for name, array in state.items() if ".networks." in name}
    state |= {
        f"atomic_model.descriptor.{NAMES[ENTRIES[block]]}.{name}": np.empty(0) for block in blocks for name in TABLES
    }
    if settings.fitting_net.default_fparam is not None:
        state["atomic_model.fitting_net.default_fparam_tensor"] = np.asarray(settings.fitting_net.default_fparam)
    distance = model_file.min_pair_distance
    state[DISTANCE] = np.asarray(-1.0 if distance is None else distance)
    params = model_file.extras.get("model_def_script", {}) | settings.model_dump() | _polar(model_file, file)
    extra = {"model_params": params, "train_infos": {"lr": 0.0, "step": 0}}
    extra |= {key: value for key, value in model_file.extras.items() if key == RIGIDITY}
    return {f"model.{SINGLE}.{name}": array for name, array in state.items()} | {"_extra_state": extra}


def _polar(model_file: ModelFile, file: str) -> dict[str, Any]:
    """The part of a polar fitting net that a checkpoint keeps among the settings."""
    fitting, settings = model_file.model.fitting, model_file.settings.fitting_net
    if fitting.constant is not None and np.any(fitting.constant):
        raise FileError(f"{file}: /model/fitting/@variables/constant_matrix: expected zeros, as PyTorch checkpoints "
                        "do not hold it, found other numbers; write .dp or .yaml instead")  # fmt: skip
    if fitting.scale is None or np.all(fitting.scale[:, 0] == getattr(settings, "scale", 1.0)):
        return {}
    return {"fitting_net": settings.model_dump() | {"scale": fitting.scale.ravel().tolist()}}
