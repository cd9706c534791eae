"""Elementary networks (spec model.md 1)."""

from dpmodel.nn.layers import MLP, LayerNorm, Linear, joint

__all__ = ["MLP", "LayerNorm", "Linear", "joint"]
