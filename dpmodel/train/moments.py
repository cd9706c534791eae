"""The state of Adam in a checkpoint of deepmd-kit, under our names of parameters."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dpmodel.io.checkpoint import tensor_paths, tensors_of
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.reader import Reader
from dpmodel.module import arrays

Arrays = dict[str, np.ndarray]

MOMENTS = {":first": "exp_avg", ":second": "exp_avg_sq", ":step": "step"}
# last parts of names of tensors that are no parameters of PyTorch
BUFFERS = set(
    """mean stddev out_bias out_std bias_atom_e case_embd fparam_avg fparam_inv_std aparam_avg aparam_inv_std
    default_fparam_tensor min_nbor_dist type_embd_data type_mask econf_tebd""".split()
)


def moments(optimizer: Any, tensors: Mapping[str, Any], models: Mapping[str, ModelFile], file: str) -> Arrays:
    """Parameters, moments and numbers of steps as ``dpmodel.backend.Optimizer`` has them; empty if none fit.

    ``optimizer`` is the entry of the file, which numbers parameters as the model has them; ``tensors`` are those of all
    ``models`` by head.
    """
    groups, reader, by_name = list(_parameters(tensors)), Reader(file), dict[str, Any]()
    columns = _columns(optimizer, [tensors[names[0]] for names in groups])
    for suffix, column in columns.items():
        values = {name: value for names, value in zip(groups, column, strict=True) for name in names}
        for head, model in models.items():
            trained = {path: x.dtype for path, x, about in arrays(model.model) if about["trainable"]}
            own, leaves = tensors_of(values, head), tensor_paths(model.settings, model.model)
            for name, leaf in leaves.items():
                if leaf.path in trained:
                    value = reader.array(leaf, own[name], name).astype(trained[leaf.path])
                    by_name[f"{head}/{leaf.path}{suffix}"] = value.flat[0] if suffix == ":step" else value
    return by_name


def _parameters(tensors: Mapping[str, Any]) -> Iterator[list[str]]:
    """The names of each parameter, in PyTorch's order: second names and those of other tasks are of the same memory."""
    groups: dict[tuple[int, str], list[str]] = {}
    last = 0
    for name, tensor in tensors.items():
        if not isinstance(tensor, np.ndarray) or name.rpartition(".")[2] in BUFFERS:
            continue
        last = tensor.ctypes.data if tensor.size else last
        # tables that are not there have no memory: they belong to the network before them
        empty = "" if tensor.size else name.rpartition("compress")[2]
        groups.setdefault((last, empty), []).append(name)
    yield from groups.values()


def _columns(optimizer: Any, parameters: list[np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Parameters, first and second moments and steps, all of the shape of the parameters; empty unless all fit."""
    state = optimizer.get("state") if isinstance(optimizer, dict) else None
    if not isinstance(state, dict) or not state or not state.keys() <= set(range(len(parameters))):
        return {}
    columns: dict[str, list[np.ndarray]] = {"": parameters, **{suffix: [] for suffix in MOMENTS}}
    for i, parameter in enumerate(parameters):
        zeros, shape = np.zeros_like(parameter), parameter.shape
        one = state.get(i, {"exp_avg": zeros, "exp_avg_sq": zeros, "step": np.zeros(())})  # it was not trained
        for suffix, name in MOMENTS.items():
            value = one.get(name) if isinstance(one, dict) else None
            if not isinstance(value, np.ndarray) or value.shape != (() if name == "step" else shape):
                return {}
            columns[suffix].append(np.broadcast_to(value, shape).astype(parameter.dtype))
    return columns
