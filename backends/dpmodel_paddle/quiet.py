"""Paddle, imported without its remark on compilers: ``from dpmodel_paddle.quiet import paddle``."""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "No ccache found", UserWarning)
    import paddle

__all__ = ["paddle"]
