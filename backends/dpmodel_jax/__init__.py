"""dpmodel on JAX: an engine for ``dpmodel.load``, and pure functions of pytrees for programs of one's own."""

from importlib import import_module
from typing import Any

import jax

from dpmodel.execution import keep_freed_memory
from dpmodel.xp import register_namespace
from dpmodel_jax import namespace
from dpmodel_jax.engine import Engine, find_device, grad_and_aux, grouped, in_turn
from dpmodel_jax.functional import Fixed, apply, atomic_output, describe, join, split
from dpmodel_jax.processes import processes

__all__ = [
    "Engine",
    "Fixed",
    "apply",
    "atomic_output",
    "backend",
    "describe",
    "grad_and_aux",
    "grouped",
    "in_turn",
    "join",
    "split",
]

register_namespace(jax.Array, namespace)
register_namespace(jax.core.Tracer, namespace)  # what jit, grad and vmap put in the place of arrays


class JaxBackend:
    name = "jax"
    processes = staticmethod(processes)

    def engine(self, device: str | None = None, compile: bool | None = None) -> Engine:
        """Compiling by default."""
        keep_freed_memory()
        return Engine(find_device(device), compiles=compile is not False)

    def exporter(self, form: str) -> Any:
        """The module that writes and reads exported files; JAX has one form."""
        return import_module("dpmodel_jax.export")


backend = JaxBackend()
