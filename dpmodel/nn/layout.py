"""deepmd-kit's layout of layers, with a leaf for each array (specification/serialization.md 3).

One description serves both directions: to write, every ``Leaf`` is replaced by its array; to read, the description and
the file are walked together, or the names of tensors follow from the places of the leaves.
"""

from dataclasses import dataclass
from typing import Any

from dpmodel.nn import LayerNorm, Linear

Tree = dict[str, Any]


@dataclass(frozen=True)
class Leaf:
    """An array of the model by its path, and how the file holds it.

    ``copies``: repeated so many times along a new axis 1 (statistics, one row a slot); ``lead``: with an axis of length
    1 in front; ``packed``: (n, 6, width) as (n, 6 * width) with the six coefficients together (tables); ``row``: older
    files have (n,) as (1, n).
    """

    path: str
    copies: int = 0
    lead: bool = False
    packed: bool = False
    row: bool = False


def linear(layer: Linear, path: str, *, precision: str, trainable: bool, stored_activation: str | None = None) -> Tree:
    """One layer.  deepmd-kit applies some activations outside the layer and then stores "none"."""
    return {
        "@class": "Layer",
        "@version": 2,
        "bias": layer.bias is not None,
        "use_timestep": layer.idt is not None,
        "activation_function": stored_activation or layer.activation,
        "resnet": layer.resnet,
        "precision": precision,
        "trainable": trainable,
        "@variables": {
            name: None if value is None else Leaf(f"{path}.{field}", row=name != "w")
            for name, field, value in (
                ("w", "weight", layer.weight),
                ("b", "bias", layer.bias),
                ("idt", "idt", layer.idt),
            )
        },
    }


def layer_norm(norm: LayerNorm, path: str, *, precision: str, trainable: bool) -> Tree:
    return {
        "@class": "LayerNorm",
        "@version": 1,
        "eps": norm.eps,
        "trainable": trainable,
        "precision": precision,
        "@variables": {"w": Leaf(f"{path}.weight"), "b": Leaf(f"{path}.bias", row=True)},
    }


def collection(network: Tree, kind: str, n_types: int) -> Tree:
    """A NetworkCollection of one network for all types."""
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": 0,
        "ntypes": n_types,
        "network_type": kind,
        "networks": [network],
    }
