"""The atomic model: descriptor, fitting net, bias and mask (specification/model.md 3)."""

from dpmodel.dpa2.descriptor import DPA2, Description
from dpmodel.execution import Execution
from dpmodel.graph import Graph
from dpmodel.model.fitting import Fitting
from dpmodel.model.heads import HEADS
from dpmodel.module import buffer, module
from dpmodel.xp import Array, namespace, shape


@module
class Model:
    descriptor: DPA2
    fitting: Fitting
    out_bias: Array = buffer("n_types n_out")  # eV per atom of each type (energy)
    out_std: Array = buffer("n_types n_out")
    n_types: int
    n_out: int
    excluded: tuple[int, ...]  # types whose atoms give no output; they still are neighbors
    distinguish_types: bool = True  # property heads: statistics of each type rather than of all
    intensive: bool = False  # property heads: a frame has the mean of its atoms rather than the sum

    def counted(self, types: Array) -> Array:
        """The atoms with an output, (N,) bool: real ones whose type is not excluded."""
        counted = types < self.n_types
        for t in self.excluded:
            counted = counted & namespace(types).not_equal(types, t)
        return counted

    def __call__(self, graph: Graph, vectors: Array, execution: Execution | None = None) -> Array:
        """Output of each center, (N, ...) in float64; zero for virtual and excluded atoms."""
        execution = execution or Execution()
        return self.output(self.descriptor(graph, vectors, execution), graph, execution)

    def output(self, description: Description, graph: Graph, execution: Execution) -> Array:
        """Output of the centers that are described; of ``graph``, types and parameters are enough."""
        y = self.fitting(description, graph)
        types = graph.types[: shape(y)[0]]
        y = HEADS[self.fitting.kind].bias(self, y, types)
        execution.observe("atomic", y)
        xp, counted = namespace(y), self.counted(types)
        return xp.where(xp.reshape(counted, (-1,) + (1,) * (len(shape(y)) - 1)), y, 0.0)
