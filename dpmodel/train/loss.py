"""The loss on any array library: the sum of the terms of ``dpmodel.train.terms``."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from dpmodel.backend import GradAndAux
from dpmodel.execution import Execution
from dpmodel.graph import Graph
from dpmodel.model.build import output_width
from dpmodel.model.model import Model
from dpmodel.model.predict import atomic_output, hessian_product, predict
from dpmodel.model.settings import FittingSettings, ModelSettings
from dpmodel.ops.arrays import frame_sum
from dpmodel.train.settings.loss import CommonLoss, EnergyLoss, PropertyLoss
from dpmodel.train.terms import Comparison, Labels, Term
from dpmodel.xp import Array, namespace, shape


class Batch(NamedTuple):
    """All that one step is given."""

    graph: Graph
    positions: Array  # (N, 3) angstrom
    labels: Labels


Prefactors = Mapping[str, Array]  # by term; 0-d
Errors = dict[str, Array]  # by column of the learning curve: mean absolute or mean square difference, 0-d


@dataclass(frozen=True)
class Objective:
    """The objective of a task: the terms of its loss, in the names of what its head predicts."""

    settings: CommonLoss
    fitting: FittingSettings
    uncounted: tuple[int, ...] = ()  # types whose atoms have no output

    @classmethod
    def of(cls, settings: CommonLoss, model: ModelSettings) -> "Objective":
        energy = isinstance(settings, EnergyLoss)
        return cls(settings, model.fitting_net, () if energy else model.atom_exclude_types)

    @property
    def root(self) -> bool:
        """Whether the loss is the root of what the terms add up to."""
        return isinstance(self.settings, PropertyLoss) and self.settings.loss_func == "rmse"

    @property
    def needs(self) -> dict[str, tuple[str, ...]]:
        """The labels that each active term cannot do without."""
        unused = self.settings.unused
        return {t.name: tuple(x for x in self._names(t.labels) if not unused(x)) for t in self.settings.active}

    @property
    def labels(self) -> frozenset[str]:
        """The labels to read; energies in any case, for the output bias."""
        always = ("energy",) if isinstance(self.settings, EnergyLoss) else ()
        terms = [name for t in self.settings.active for name in self._names(t.labels)]
        beside = [name for t in self.settings.active for name in t.optional if not self.settings.unused(name)]
        return frozenset([*always, *terms, *beside])

    @property
    def widths(self) -> dict[str, int]:
        """The length of the last axis that labels must have, where files may have any."""
        if isinstance(self.settings, EnergyLoss):
            return {"drdq": self.settings.numb_generalized_coord}
        width = output_width(self.fitting)
        own = dict.fromkeys((self.fitting.output, f"atom_{self.fitting.output}"), width)
        return own if self.fitting.type in ("dos", "property") else {}

    def column(self, term: Term, measure: str) -> str:
        """The name of a column of a term."""
        return term.column.format(measure=measure, kind=self.fitting.type)

    def prefactors(self, learning_rate: float, start_lr: float) -> dict[str, float]:
        """The prefactor of each active term while the learning rate is ``learning_rate``; ``start_lr`` is its peak."""
        phases = {term.name: self.settings.prefactors(term) for term in self.settings.active}
        return {name: limit + (start - limit) * learning_rate / start_lr for name, (start, limit) in phases.items()}

    def reported(self, total: float, errors: Mapping[str, float]) -> dict[str, float]:
        """Columns of the learning curve from the loss and ``errors``; NaN for terms without labels."""
        columns = {"rmse": total**0.5} if isinstance(self.settings, EnergyLoss) else {}
        for name in (self.column(term, m) for term in self.settings.active for m in self.settings.measures):
            value = float(errors.get(name, float("nan")))
            columns[name] = value**0.5 if name.startswith("rmse") else value
        return columns

    def _names(self, labels: tuple[str, ...]) -> list[str]:
        return [name.format(quantity=self.fitting.output) for name in labels]


def loss(
    model: Model,
    batch: Batch,
    weights: Prefactors,
    objective: Objective,
    grad_and_aux: GradAndAux,
    execution: Execution | None = None,
) -> tuple[Array, Errors]:
    """The loss, 0-d, and the errors of each term that has labels, by column.

    ``weights`` are the prefactors of the active terms.
    """
    c = _compared(model, batch, objective, grad_and_aux, execution or Execution())
    total, errors = namespace(c.real).sum(c.frame * 0.0), dict[str, Array]()
    for term in objective.settings.active:
        result = term.compare(c)
        if result is not None:
            total = total + weights[term.name] * result.value
            errors |= {objective.column(term, measure): x for measure, x in result.errors.items()}
    return total, errors


def _compared(
    model: Model, batch: Batch, objective: Objective, grad_and_aux: GradAndAux, execution: Execution
) -> Comparison:
    """The prediction beside the labels."""
    graph, positions, labels = batch
    forces = virial = None
    if isinstance(objective.settings, EnergyLoss):
        p = predict(model, graph, positions, grad_and_aux, execution)
        frame, atomic, forces, virial = p.energy, p.atom_energy, p.forces, p.virial
    else:
        atomic = atomic_output(model, graph, positions, execution)
        frame = frame_sum(atomic, graph.members)
    xp, types = namespace(atomic), graph.types[: shape(atomic)[0]]
    real = types < model.n_types if forces is not None else model.counted(types)
    real = xp.astype(real, atomic.dtype)
    sizes = frame_sum(real[:, None], graph.members)[:, 0]
    sizes = xp.where(sizes > 0.0, sizes, 1.0)
    return Comparison(
        settings=objective.settings,
        model=model,
        quantity=objective.fitting.output,
        graph=graph,
        labels=labels,
        frame=frame / sizes[:, None] if model.intensive else frame,
        atomic=atomic,
        forces=forces,
        virial=virial,
        real=real,
        sizes=sizes,
        hessian_product=lambda along: hessian_product(model, graph, positions, along, grad_and_aux, execution),
        loop=execution.loop,
    )
