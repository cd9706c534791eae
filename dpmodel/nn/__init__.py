"""Elementary networks (specification/model.md 1)."""

from dpmodel.nn.layers import MLP, LayerNorm, Linear, joint
from dpmodel.nn.table import Table, TypeTable

__all__ = ["MLP", "LayerNorm", "Linear", "Table", "TypeTable", "joint"]
