"""PyTorch checkpoints of deepmd-kit, to and from the tree of its other files (specification/serialization.md 7-9).

Settings give the description of the tree (``dpmodel.io.template``); where the description has an array,
the checkpoint has a tensor whose name follows from the place by one table.
"""

import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dpmodel.errors import FileError, SettingError
from dpmodel.io.deepmd import empty_model, stored
from dpmodel.io.metadata import DISTANCE, shortest_distance
from dpmodel.io.node import describe
from dpmodel.io.pickled import Attributes
from dpmodel.io.reader import Reader
from dpmodel.io.template import Leaf, model_template
from dpmodel.io.torchfile import read_torchfile, script_state, write_checkpoint
from dpmodel.io.tree import parse_json
from dpmodel.model.settings import ModelSettings
from dpmodel.module import state as arrays_of
from dpmodel.settings import MANY, nearest

Place = tuple[str, ...]

# part of a place in the tree: part of a tensor's name; what is not listed has the same name in both
NAMES = {
    "@variables": "",
    "fitting": "fitting_net",
    "nets": "filter_layers",
    "repinit_variable": "repinit",
    "repinit_three_body_variable": "repinit_three_body",
    "repformers_variable": "repformers",
    "repformer_layers": "layers",
    "embeddings": "filter_layers",
    "embeddings_strip": "filter_layers_strip",
    "embedding": "embedding.embedding_net",  # the type embedding's
    "compress": "",
    "davg": "mean",
    "dstd": "stddev",
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
BLOCKS = {"repinit_variable": "repinit", "repinit_three_body_variable": "repinit_three_body"}
TABLES = ("type_embd_data", "compress_info.0", "compress_data.0")
# parts of names of tensors that say nothing new: second names, constants, settings
COPIES = tuple("._networks. .type_mask .econf_tebd .bias_dos .default_fparam_tensor .graph_lower_disabled".split())
NO_TABLES = (
    "a checkpoint of deepmd-kit holds no tables: write the compressed model as .dp or .yaml, "
    "or the plain one that it was made from as .pt"
)
ONLY = "Default"  # what the model of a single task is called
UNSAVED = ("scale", "constant_matrix")  # PyTorch forgets these of a polar fitting net
OUTPUT = ("out_bias", "out_std")  # 0 and 1 where an old checkpoint lacks them
LAYERS = (".matrix", ".bias", ".idt")  # tensors without which the settings in the file mean another model


def tensor_name(place: Place) -> str:
    """The name of the tensor that stands at ``place`` below ``model`` of the tree."""
    return ".".join(("atomic_model", *filter(None, (NAMES.get(part, part) for part in place))))


def usual_name(name: str) -> str:
    """The name of a tensor in a checkpoint of the PyTorch backend, given that of either of the two."""
    for theirs, usual in EXPORTABLE.items():
        name = name.replace(theirs, usual)
    stem, dot, end = name.rpartition(".")
    return stem + dot + ENDS.get(end, end)


def read_checkpoint(path: str | os.PathLike[str], head: str | None = None) -> dict[str, Any]:
    """The tree of the model in a ``.pt`` or ``.pth`` file; ``head`` chooses one of a multi-task checkpoint.

    Raises FileError where the file is no such thing, where it and its settings disagree, and where ``head`` is
    needed: the message lists the heads.
    """
    file = os.fspath(path)
    return checkpoint_to_tree(*tensors_and_settings(read_torchfile(path), file), head, file)


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


def save_checkpoint(path: str | os.PathLike[str], tree: Mapping[str, Any]) -> None:
    """Write the model in ``tree`` as a ``.pt`` file that deepmd-kit's PyTorch backend loads."""
    write_checkpoint(path, {"model": tree_to_checkpoint(tree, os.fspath(path))})


def heads(model_params: Any) -> dict[str, Any]:
    """The settings of each head of a checkpoint; a single-task one has the head "Default"."""
    branches = model_params.get("model_dict") if isinstance(model_params, dict) else None
    return {str(k): v for k, v in branches.items()} if isinstance(branches, dict) else {ONLY: model_params}


def choose(model_params: Any, head: str | None, file: str) -> tuple[str, Any]:
    """The name and settings of ``head``, which may be an alias and may be left out if there is only one."""
    branches = heads(model_params)
    if head is None and len(branches) == 1:
        return next(iter(branches.items()))
    for name, settings in branches.items():
        aliases = settings.get("model_branch_alias") if isinstance(settings, dict) else None
        if head is not None and head in (name, *(aliases if isinstance(aliases, list) else ())):
            return name, settings
    shown = list(branches)[:MANY]
    if not shown:
        raise FileError(f"{file}: expected models in model_dict, found none")
    what = "which was not chosen: give --head NAME" if head is None else f"not {head!r}{nearest(head, shown)}"
    more = f" and {len(branches) - MANY} more" if len(branches) > MANY else ""
    raise FileError(f"{file}: expected one of the heads {', '.join(map(repr, shown))}{more}, {what}")


def settings_of(branches: Mapping[str, Any], name: str, file: str) -> ModelSettings:
    """The settings of one of the ``heads``; raises FileError where they cannot be."""
    try:
        return ModelSettings.read(branches[name], f"model_params[{name!r}]")
    except SettingError as error:
        raise FileError(f"{file}: {error}") from None


def checkpoint_to_tree(
    state: Mapping[str, Any], model_params: Any, head: str | None = None, file: str = "checkpoint"
) -> dict[str, Any]:
    """The tree of one model of a checkpoint.

    ``state`` maps names of tensors to arrays, ``model_params`` is the model section of the input script, ``file`` the
    name for messages.  Raises FileError.
    """
    name, script = choose(model_params, head, file)
    settings = settings_of({name: script}, name, file)
    prefix = f"model.{name}."
    arrays = {str(key): value for key, value in state.items() if isinstance(value, np.ndarray)}
    own = {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)} or arrays
    settings = with_all_neighbors(settings) if takes_all_neighbors(settings, own) else settings
    tensors = {usual_name(key): a for key, a in own.items()}
    loader = _Loader(tensors, settings, file)
    distance = shortest_distance({DISTANCE: tensors.get(DISTANCE)}, file)
    beside = {} if distance is None else {DISTANCE: np.asarray(distance)}
    tree = {"backend": "PyTorch", "model": loader.model(), "model_def_script": script, "@variables": beside}
    loader.finish()
    return tree


def takes_all_neighbors(settings: ModelSettings, tensors: Mapping[str, Any]) -> bool:
    """Whether ``nsel`` only normalizes in the model that was trained: the exportable backend's second meaning of it.

    Only the names of the ``tensors`` tell that backend (specification/serialization.md 7).
    """
    exportable = any(theirs in f".{name}" for name in tensors for theirs in EXPORTABLE)
    disabled = any(name.endswith(DENSE) and np.any(flag) for name, flag in tensors.items())
    tables = any(name.endswith(TABLES[0]) and value.size for name, value in tensors.items())
    return exportable and not disabled and not tables and settings.descriptor.exportable_takes_all


def with_all_neighbors(settings: ModelSettings) -> ModelSettings:
    """The same with ``truncate`` off."""
    changed = settings.model_dump()
    changed["descriptor"]["truncate"] = False
    return ModelSettings.read(changed)


class _Loader:
    def __init__(self, tensors: Mapping[str, Any], settings: ModelSettings, file: str) -> None:
        self.tensors, self.settings, self.file = tensors, settings, file
        self.mould = empty_model(settings, len(tensors), file)
        self.used: set[str] = {DISTANCE}
        self.lacking: list[str] = []

    def model(self) -> dict[str, Any]:
        tree: dict[str, Any] = self.fill(model_template(self.settings, self.mould), ())
        for key, block in BLOCKS.items():
            compressed = self.compressed(f"atomic_model.descriptor.{block}.")
            if compressed:
                tree["descriptor"]["@version"] = 4
                tree["descriptor"][key]["compress"] = compressed
        return tree

    def fill(self, template: Any, place: Place) -> Any:
        if isinstance(template, dict):
            return {key: self.fill(value, (*place, key)) for key, value in template.items()}
        if isinstance(template, list | tuple):
            return [self.fill(value, (*place, str(i))) for i, value in enumerate(template)]
        return self.tensor(template, place) if isinstance(template, Leaf) else template

    def tensor(self, leaf: Leaf, place: Place) -> np.ndarray:
        name = tensor_name(place)
        if name not in self.tensors and place[-1] in UNSAVED + OUTPUT:
            self.lacking += [name] if place[-1] in OUTPUT else []
            return stored(leaf, arrays_of(self.mould)[leaf.path])
        if name not in self.tensors:
            raise FileError(f"{self.file}: expected a tensor {name}, as the settings in the file want, found none")
        self.used.add(name)
        return self.tensors[name]

    def compressed(self, prefix: str) -> dict[str, Any] | None:
        """The tables of a compressed block (specification/compression.md 7), None where they are absent or empty."""
        types, info, data = (self.tensors.get(prefix + name, np.empty(0)) for name in TABLES)
        self.used.update(prefix + name for name in TABLES)
        if types.size == 0:
            return None
        tables = {"type_embd_data": types}
        geometric = {"compress_data": [data], "compress_info": [info]} if data.size else {}
        return {"geo_compress": data.size > 0, "@variables": tables | geometric}

    def finish(self) -> None:
        """Warn of tensors that nothing asked for, copies and constants aside, and of missing biases.

        Raises FileError where parts of a network are left over.
        """
        unknown = [n for n in self.tensors if n not in self.used and not any(part in n for part in COPIES)]
        layers = [n for n in unknown if n.endswith(LAYERS) or "_residual." in n]
        if layers:
            some = ", ".join(layers[:3])
            raise FileError(f"{self.file}: expected tensors of the model only, found {len(layers)} more: {some}")
        for names, what in ((unknown, "unknown tensors, left out"), (self.lacking, "no biases (0) or scales (1)")):
            if names:
                warnings.warn(f"{self.file}: {what}: {', '.join(names[:3])}", UserWarning, stacklevel=2)


def tree_to_checkpoint(tree: Mapping[str, Any], file: str = "model") -> dict[str, Any]:
    """The state dictionary, ``_extra_state`` included, from which deepmd-kit's PyTorch backend makes the model."""
    model = tree.get("model") or {}
    settings = Reader(file).settings(model, tree.get("model_def_script"))
    if any("compress" in (model["descriptor"].get(block) or {}) for block in BLOCKS):
        raise FileError(f"{file}: {NO_TABLES}")
    state = {tensor_name(place): array for place, array in _arrays(model, ())}
    state = {name: array for name, array in state.items() if not name.endswith(UNSAVED)}
    state |= {name.replace(".networks.", "._networks."): array for name, array in state.items() if ".networks." in name}
    blocks = [block for key, block in BLOCKS.items() if key in model["descriptor"]]
    state |= {f"atomic_model.descriptor.{block}.{name}": np.empty(0) for block in blocks for name in TABLES}
    default = settings.fitting_net.default_fparam
    if default is not None:
        state["atomic_model.fitting_net.default_fparam_tensor"] = np.asarray(default)
    distance = shortest_distance(tree, file)
    state[DISTANCE] = np.asarray(-1.0 if distance is None else distance)
    params = (tree.get("model_def_script") or {}) | settings.model_dump() | _polar(model, settings, file)
    extra = {"model_params": params, "train_infos": {"lr": 0.0, "step": 0}}
    return {f"model.Default.{name}": array for name, array in state.items()} | {"_extra_state": extra}


def _arrays(tree: Any, place: Place) -> Iterator[tuple[Place, np.ndarray]]:
    members = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in members:
        yield from _arrays(value, (*place, str(key)))
    if isinstance(tree, np.ndarray):
        yield place, tree


def _polar(model: Mapping[str, Any], settings: ModelSettings, file: str) -> dict[str, Any]:
    """The part of a polar fitting net that a checkpoint keeps among the settings."""
    variables = model["fitting"]["@variables"]
    if np.any(variables.get("constant_matrix", 0)):
        raise FileError(f"{file}: /model/fitting/@variables/constant_matrix: expected zeros, as PyTorch checkpoints "
                        "do not hold it, found other numbers; write .dp or .yaml instead")  # fmt: skip
    if "scale" not in variables or np.all(variables["scale"][:, 0] == getattr(settings.fitting_net, "scale", 1.0)):
        return {}
    return {"fitting_net": settings.fitting_net.model_dump() | {"scale": variables["scale"].ravel().tolist()}}
