"""The features of each backend, said once: the tests expect exactly this, and the documentation shows it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

BACKENDS = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX", "paddle": "Paddle"}

NO_GPU = "has not been run on one"


@dataclass(frozen=True)
class Feature:
    """``missing``: why a backend does not have it; a backend that is not named has it."""

    words: str
    missing: Mapping[str, str] = field(default_factory=dict)


FEATURES = {
    "energy": Feature("energies of frames and atoms"),
    "forces": Feature("forces"),
    "virial": Feature("virials of frames and atoms"),
    "heads": Feature("dipoles, polarizabilities, densities of states, properties"),
    "hessian": Feature("Hessian"),
    "float32": Feature("networks in float32"),
    "bfloat16": Feature(
        "networks in bfloat16",
        {"paddle": "Paddle multiplies no matrices of half precision on a CPU"},
    ),
    "compile": Feature("compiled programs", {"numpy": "NumPy does not compile"}),
    "parameter_gradients": Feature("derivatives of a loss, forces in it, by all parameters"),
    "hessian_loss": Feature(
        "derivatives of a loss with a Hessian in it",
        {"paddle": "Paddle has no third derivatives of roots, quotients and bounds"},
    ),
    "checkpoint": Feature("memory of forces bounded by recomputing groups of atoms"),
    "gpu": Feature("GPU", {"numpy": "NumPy runs on the CPU", "torch": NO_GPU, "jax": NO_GPU, "paddle": NO_GPU}),
}


def why_not(feature: str, backend: str) -> str | None:
    """The reason why ``backend`` does not have ``feature``; None if it has it.  KeyError for an unknown feature."""
    return FEATURES[feature].missing.get(backend)


def markdown_table() -> str:
    """A Markdown table of all features and backends; numbers stand for the reasons below it."""
    reasons = list(dict.fromkeys(reason for f in FEATURES.values() for reason in f.missing.values()))

    def cell(feature: Feature, backend: str) -> str:
        reason = feature.missing.get(backend)
        return "yes" if reason is None else f"({reasons.index(reason) + 1})"

    rows = [["", *BACKENDS.values()], ["---"] * (1 + len(BACKENDS))]
    rows += [[feature.words, *(cell(feature, backend) for backend in BACKENDS)] for feature in FEATURES.values()]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return table + "\n\n" + "\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, 1)) + "\n"
