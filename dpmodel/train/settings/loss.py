"""Settings of the losses (specification/training.md 1.5, heads_training.md 1-3); prefactors are those of terms."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, Tag, create_model

from dpmodel.setting_types import Index, Listed, OneOrMany, by_type
from dpmodel.settings import Settings, setting
from dpmodel.train.terms import TERMS, Term

Weight = Annotated[float, Field(ge=0)]


class CommonLoss(Settings):
    """The settings that all losses share: how far predictions are from the labels, term by term."""

    heads: ClassVar[tuple[str, ...]] = ()  # types of the fitting nets that it goes with

    type: str = setting("ener", "The kind of loss.")

    @property
    def terms(self) -> tuple[Term, ...]:
        """All terms that there may be."""
        return TERMS[self.type]

    @property
    def active(self) -> tuple[Term, ...]:
        """The terms that count: both prefactors are nonzero (Hessian: one of them)."""
        return tuple(t for t in self.terms if (any if t.either else all)(self.prefactors(t)))

    @property
    def half_off(self) -> tuple[str, ...]:
        """Terms that are switched off because only one of their prefactors is zero."""
        return tuple(t.name for t in self.terms if any(self.prefactors(t)) and t not in self.active)

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures that are shown."""
        return ("rmse",)

    def prefactors(self, term: Term) -> tuple[float, float]:
        """Prefactors of a term at the start and in the end."""
        start, limit = term.keys
        return getattr(self, start), getattr(self, limit)

    def unused(self, label: str) -> bool:
        """Whether a label is not looked at, or not needed, whatever the terms say."""
        return False

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.active:
            first = self.terms[0].keys[0]
            yield first, "is zero, and so are all other prefactors (of start or limit): nothing would be learned"


def _with_prefactors(terms: Sequence[Term]) -> Any:
    """A section with the prefactors of ``terms``."""
    fields: dict[str, Any] = {}
    for term in terms:
        phases = zip(term.keys, (term.start, term.limit), (" at the start", " in the end"), strict=True)
        for key, default, when in phases:
            meaning = f"Prefactor of {term.words}{'' if term.constant else when}."
            fields[key] = (Weight, setting(... if term.constant else default, meaning))
    return create_model("Prefactors", __base__=CommonLoss, **fields)


class EnergyLoss(_with_prefactors(TERMS["ener"])):  # type: ignore[misc]
    """Energies, forces, virials; a prefactor goes from start to limit with the learning rate."""

    heads: ClassVar = ("ener",)

    type: Literal["ener"] = setting("ener", "The kind of loss.")
    loss_func: Literal["mse", "mae"] = setting("mse", "Mean square or mean absolute differences.")
    use_huber: bool = setting(False, "Mean squares of small differences, absolute values of large ones.")
    huber_delta: OneOrMany[Annotated[float, Field(gt=0)]] = setting(
        0.01, "Where small ends: for all, or for energy, force and virial."
    )
    f_use_norm: bool = setting(False, "Differences of force vectors instead of their components.")
    relative_f: float | None = setting(None, "Divide differences of forces by the force plus this.", gt=0)
    use_default_pf: bool = setting(False, "Weigh forces by 1 where there is no atom_pref.")
    enable_atom_ener_coeff: bool = setting(False, "The energy is the sum of atomic energies times atom_ener_coeff.")
    numb_generalized_coord: Index = setting(0, "Number of generalized coordinates in drdq.")
    intensive_ener_virial: bool = setting(False, "Mean squares of energies and virials per atom.")

    @property
    def measures(self) -> tuple[str, ...]:
        return ("mae" if self.loss_func == "mae" else "rmse",)

    @property
    def deltas(self) -> tuple[float, float, float]:
        """Huber thresholds of energy, force and virial."""
        d = self.huber_delta
        return (d[0], d[1], d[2]) if isinstance(d, tuple) else (d, d, d)

    def unused(self, label: str) -> bool:
        unused = {"atom_pref": self.use_default_pf, "atom_ener_coeff": not self.enable_atom_ener_coeff}
        return unused.get(label, False)

    def problems(self) -> Iterator[tuple[str, str]]:
        active = {term.name for term in self.active}
        if isinstance(self.huber_delta, tuple) and len(self.huber_delta) != 3:
            yield "huber_delta", f"should be one number or three [energy, force, virial], got {len(self.huber_delta)}"
        if self.use_huber and self.loss_func == "mae":
            yield "use_huber", "goes with loss_func 'mse', which it changes into absolute values far out"
        if self.use_huber:
            wrong = [f"start_pref_{t}" for t in ("pf", "gf", "h") if t in active]
            wrong += ["relative_f"] if self.relative_f is not None else []
            yield from ((name, "does not go with use_huber") for name in wrong)
        if self.f_use_norm and not (self.use_huber or self.loss_func == "mae"):
            yield "f_use_norm", "goes with loss_func 'mae' or use_huber: the square is the same without it"
        if "gf" in active and not self.numb_generalized_coord:
            yield "numb_generalized_coord", "should be above 0 for the term of generalized forces, got 0"
        yield from super().problems()


class TensorLoss(_with_prefactors(TERMS["tensor"])):  # type: ignore[misc]
    """Dipoles or polarizabilities of frames and of atoms."""

    heads: ClassVar = ("dipole", "polar")

    type: Literal["tensor"] = setting("tensor", "The kind of loss.")
    enable_atomic_weight: bool = setting(False, "Weigh the differences of atoms by atomic_weight.")

    def unused(self, label: str) -> bool:
        return label == "atom_weight" and not self.enable_atomic_weight


class DosLoss(_with_prefactors(TERMS["dos"])):  # type: ignore[misc]
    """Densities of states of frames and of atoms, and their sums up to each energy."""

    heads: ClassVar = ("dos",)

    type: Literal["dos"] = setting("dos", "The kind of loss.")


Measure = Literal["smooth_mae", "mae", "mse", "rmse", "mape"]


class PropertyLoss(CommonLoss):
    """Any other property of frames, in standard deviations of the data."""

    heads: ClassVar = ("property",)

    type: Literal["property"] = setting("property", "The kind of loss.")
    loss_func: Measure = setting("smooth_mae", "What of the differences is minimized.")
    metric: Annotated[Listed[Measure], Field(min_length=1)] = setting(("mae",), "Columns of the learning curve.")
    beta: float = setting(1.0, "Up to where smooth_mae is a square.", gt=0)

    @property
    def measures(self) -> tuple[str, ...]:
        return self.metric

    def prefactors(self, term: Term) -> tuple[float, float]:
        return 1.0, 1.0


LossSettings = Annotated[
    Annotated[EnergyLoss, Tag("<ener>")]
    | Annotated[TensorLoss, Tag("<tensor>")]
    | Annotated[DosLoss, Tag("<dos>")]
    | Annotated[PropertyLoss, Tag("<property>")],
    by_type("ener"),
]
"""One of the losses, chosen by ``type``."""

SECTIONS: tuple[type[CommonLoss], ...] = (EnergyLoss, TensorLoss, DosLoss, PropertyLoss)
LOSSES = {section.model_fields["type"].default: section.heads for section in SECTIONS}
"""The heads that each type of loss is for."""
