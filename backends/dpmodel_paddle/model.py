"""A model as an ``nn.Layer``, for training, fine-tuning and building on it.

    layer = dpmodel_paddle.Model(numpy_model)
    graph, positions = dpmodel_paddle.tensors((graph, positions))
    found = layer(graph, positions)  # under paddle.no_grad() if nothing of it is to be differentiated
    features = layer.describe(graph, positions).descriptor
    numpy_model = layer.to_numpy()

Differentiate losses of forces with ``loss.backward()`` or ``dpmodel_paddle.grad_and_aux``.  ``paddle.grad`` by some of
the variables crashes in Paddle 3.3, in the second derivative of a quotient.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dpmodel.dpa2.descriptor import Description
from dpmodel.errors import InputError
from dpmodel.execution import Execution
from dpmodel.graph import Graph
from dpmodel.model import predict
from dpmodel.model.predict import EnergyForces
from dpmodel.module import Rebuilder, arrays
from dpmodel_paddle.arrays import to_numpy, to_tensor
from dpmodel_paddle.derivative import grad_and_aux
from dpmodel_paddle.quiet import paddle

Array = Any


class Module(paddle.nn.Layer):
    """Any module of dpmodel: the array at the path ``a.b.c`` is the parameter or buffer ``a__b__c``."""

    def __init__(self, m: Any) -> None:
        """From a module of NumPy arrays or tensors, such as ``potential.model``, which are copied."""
        super().__init__()
        self._rebuild = Rebuilder(m)
        self._names: dict[str, str] = {}
        for path, value, metadata in arrays(m):
            name = self._names[path] = path.replace(".", "__")
            if metadata["trainable"]:
                self.add_parameter(name, paddle.nn.Parameter(_copied(value)))
            else:
                self.register_buffer(name, _copied(value))

    def state(self) -> dict[str, Array]:
        """The arrays that are held now, by path."""
        return {path: getattr(self, name) for path, name in self._names.items()}

    def load(self, source: Mapping[str, np.ndarray]) -> None:
        """Take other values by path, such as ``dpmodel.module.state(model)``.

        Raises
        ------
        InputError
            If paths, shapes or dtypes are not those of this module; then nothing has changed.
        """
        held = self.state()
        if held.keys() != source.keys():
            odd = sorted(held.keys() ^ source.keys())
            raise InputError(f"the paths should be those of this module; in one of them only: {', '.join(odd[:3])}")
        new = {path: to_tensor(np.asarray(value)) for path, value in source.items()}
        for path, value in new.items():
            want, got = ((tuple(x.shape), x.dtype) for x in (held[path], value))
            if want != got:
                raise InputError(f"{path} should be {want[0]} of {want[1]}, got {got[0]} of {got[1]}")
        for path, value in new.items():
            held[path].set_value(value)

    def pure(self) -> Any:
        """The module of dpmodel on the tensors that are held now; derivatives flow through."""
        return self._rebuild(self.state())

    def to_numpy(self) -> Any:
        """The module of dpmodel on copies of the arrays, exactly as they are."""
        return self._rebuild({path: to_numpy(value) for path, value in self.state().items()})

    def forward(self, *args: Any) -> Any:
        """The output of the module of dpmodel."""
        return self.pure()(*args)


class Model(Module):
    """A model; ``Model(build(settings))`` or ``Model(potential.model)``."""

    def forward(self, graph: Graph, positions: Array, execution: Execution | None = None) -> EnergyForces:
        """Energies, forces and virials of a graph, from positions (A, 3) in angstrom.

        Raises
        ------
        InputError
            If this is no energy model (then: ``atomic_output``), or positions or shifts are not float64.
        """
        predict.expect_float64(graph, positions)
        return predict.predict(self.pure(), graph, positions, grad_and_aux, execution)

    def atomic_output(self, graph: Graph, positions: Array, execution: Execution | None = None) -> Array:
        """Output of each center, (N, ...), of a model of any kind; raises as ``forward``."""
        predict.expect_float64(graph, positions)
        return predict.atomic_output(self.pure(), graph, positions, execution)

    def describe(self, graph: Graph, positions: Array, execution: Execution | None = None) -> Description:
        """The descriptor alone; raises as ``forward``."""
        predict.expect_float64(graph, positions)
        return predict.describe(self.pure(), graph, positions, execution)


def _copied(x: Any) -> Array:
    return x.detach().clone() if isinstance(x, paddle.Tensor) else to_tensor(x)
