"""The report of a check: for machines and for people."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from dpmodel.accuracy import json_number
from dpmodel.testing.cases import Case
from dpmodel.testing.terms import Difference, meaning


@dataclass(frozen=True)
class Outcome:
    """One case: how far every term was off, in the order in which terms are computed, or why there are none."""

    case: Case
    beyond_plain: dict[str, Any]  # options that are not at their plainest
    differences: Sequence[Difference] = ()
    error: str = ""

    @property
    def ok(self) -> bool:
        return not self.error and self.first is None

    @property
    def first(self) -> Difference | None:
        """The first term that differs."""
        return next((d for d in self.differences if not d.ok), None)

    @property
    def kind(self) -> str:
        """The kind of failure, whichever layer it was in: "g1"; empty if there was none."""
        return self.first.term.split(".")[-1] if self.first else self.error.partition(":")[0]

    def explain(self) -> str:
        """The failure in words: what, where, and in which model."""
        fine = ", ".join(d.term for d in self.differences if d.ok) or "nothing"
        what = f"{self.error}\n  equal before it: {fine}" if self.error else "nothing is wrong"
        if self.first:
            d = self.first
            before = ", ".join(other.term for other in self.differences[: self.differences.index(d)]) or "nothing"
            what = (
                f"{d.term} is the first term that differs: {meaning(d.term)}\n"
                f"  largest difference {d.largest:.2g} ({d.where}); its numbers go up to {d.scale:.2g}, allowed is"
                f" {d.allowed:.2g}\n"
                f"  equal before it: {before}"
            )
        return f"{what}\n  smallest case found (seed {self.case.seed}): {self.options}"

    @property
    def options(self) -> str:
        settings = [f"{name} = {json.dumps(value)}" for name, value in self.beyond_plain.items()]
        return ", ".join(settings) or "the plainest model and structure"

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "seed": self.case.seed,
            "first": self.first.term if self.first else None,
            "error": self.error or None,
            "beyond_plain": self.beyond_plain,
            "model": self.case.settings.model_dump(),
            "terms": [
                {"term": d.term, "largest": json_number(d.largest), "scale": json_number(d.scale), "allowed": d.allowed,
                 "ok": d.ok, "where": d.where}
                for d in self.differences
            ],
        }  # fmt: skip


@dataclass(frozen=True)
class Report:
    """Of a whole check.  ``print(report)``, ``rich.print(report)``, ``report.to_json()``.

    ``findings``: for each way in which cases failed, the smallest case that shows it; ``finding.case`` holds its model,
    structures and graph.
    """

    subject: str
    outcomes: Sequence[Outcome]
    findings: Sequence[Outcome] = field(default=())

    @property
    def ok(self) -> bool:
        return all(outcome.ok for outcome in self.outcomes)

    @property
    def terms(self) -> list[str]:
        """Every term that was compared, in the order of computation."""
        order: list[str] = []
        for outcome in self.outcomes:
            at = 0
            for term in (d.term for d in outcome.differences):
                if term not in order:
                    order.insert(at, term)
                at = order.index(term) + 1
        return order

    def to_json(self) -> str:
        """Everything, as JSON."""
        return json.dumps(
            {
                "subject": self.subject,
                "ok": self.ok,
                "dpmodel": version("dpmodel"),
                "draws": [outcome.to_dict() for outcome in self.outcomes],
                "findings": [finding.to_dict() | {"message": finding.explain()} for finding in self.findings],
            }
        )

    def __rich__(self) -> RenderableType:
        failed, count = sum(not outcome.ok for outcome in self.outcomes), len(self.outcomes)
        verdict = f"{failed} of {count} cases differ from" if failed else f"all {count} cases agree with"
        lines = Table(box=None, header_style="bold")
        for name in ("term", "cases", "float64", "float32", ""):
            lines.add_column(name, justify="left" if name == "term" else "right")
        for term in self.terms:
            lines.add_row(*self._line(term))
        head = Text(f"{self.subject}: {verdict} the NumPy core", "bold red" if failed else "bold green")
        below = Text("largest differences, relative to the largest number of the term", "dim")
        return Group(head, lines, below, *(Text(finding.explain()) for finding in self.findings))

    def _line(self, term: str) -> list[RenderableType]:
        of_term = [(o.case.is_single, d) for o in self.outcomes for d in o.differences if d.term == term]
        cells = []
        for single in (False, True):
            relative = [d.relative for is_single, d in of_term if is_single == single]
            cells.append(f"{np.max(relative):.1e}" if relative else "")
        mark = Text("ok", "green") if all(d.ok for _, d in of_term) else Text("differs", "bold red")
        return [term, str(len(of_term)), *cells, mark]

    def __str__(self) -> str:
        console = Console(width=160, no_color=True)
        with console.capture() as text:
            console.print(self)
        return text.get()
