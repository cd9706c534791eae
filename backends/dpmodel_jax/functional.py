"""A model as pure functions of pytrees, for programs of one's own: jit, grad, vmap, optax, any loss.

    potential = dpmodel.load("model.dp")
    params, fixed = dpmodel_jax.split(potential.model)
    graph, positions = potential.graph([atoms], rounded=True)
    values = jax.jit(dpmodel_jax.apply)(params, fixed, graph, positions)
    model = dpmodel_jax.join(params, fixed)

NumPy arrays will do.  Every new set of shapes is compiled anew; ``rounded`` makes them few.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dpmodel.dpa2.descriptor import Description
from dpmodel.errors import BackendError
from dpmodel.execution import Execution
from dpmodel.graph import Graph
from dpmodel.model import predict
from dpmodel.model.model import Model
from dpmodel.model.predict import EnergyForces
from dpmodel.module import Rebuilder, arrays
from dpmodel_jax.engine import grad_and_aux

State = dict[str, jax.Array]


@partial(jax.tree_util.register_dataclass, data_fields=["buffers"], meta_fields=["structure"])
@dataclass(frozen=True)
class Fixed:
    """All of a model but its trained arrays: a pytree of buffers, the structure static."""

    buffers: State
    structure: Rebuilder


def split(model: Model) -> tuple[State, Fixed]:
    """The trained arrays of ``model`` by path, each in its own dtype, and everything else.

    Raises
    ------
    BackendError
        If JAX would round float64 to float32.
    """
    _require_x64()
    params: State = {}
    buffers: State = {}
    for path, value, about in arrays(model):
        (params if about["trainable"] else buffers)[path] = jnp.array(value)
    return params, Fixed(buffers, Rebuilder(model))


def join(params: State, fixed: Fixed) -> Model:
    """The model in NumPy arrays, exactly."""
    return fixed.structure({path: np.array(value) for path, value in (params | fixed.buffers).items()})


def apply(
    params: State, fixed: Fixed, graph: Graph, positions: Any, execution: Execution | None = None
) -> EnergyForces:
    """Energies, forces and virials of a graph, from positions (A, 3) in angstrom.

    ``execution``: ``dpmodel_jax.grouped()`` bounds the memory where there are hundreds of atoms.

    Raises
    ------
    InputError
        If positions or shifts are not float64, or the model is no energy model: ``atomic_output`` serves all.
    BackendError
        If JAX would round float64 to float32.
    """
    return predict.predict(*_prepare(params, fixed, graph, positions), grad_and_aux, execution)


def atomic_output(
    params: State, fixed: Fixed, graph: Graph, positions: Any, execution: Execution | None = None
) -> jax.Array:
    """Output of each center, (N, ...), of a model of any kind, without derivatives; raises as ``apply``."""
    return predict.atomic_output(*_prepare(params, fixed, graph, positions), execution)


def describe(
    params: State, fixed: Fixed, graph: Graph, positions: Any, execution: Execution | None = None
) -> Description:
    """The descriptor alone; raises as ``apply``."""
    return predict.describe(*_prepare(params, fixed, graph, positions), execution)


def _prepare(params: State, fixed: Fixed, graph: Graph, positions: Any) -> tuple[Model, Graph, jax.Array]:
    _require_x64()
    graph, positions = jax.tree.map(jnp.asarray, (graph, positions))
    predict.expect_float64(graph, positions)
    return fixed.structure(params | fixed.buffers), graph, positions


def _require_x64() -> None:
    if jax.dtypes.canonicalize_dtype("float64") != np.float64:
        raise BackendError(
            "JAX is in single precision, which would round the model: put "
            'jax.config.update("jax_enable_x64", True) at the start of the program'
        )
