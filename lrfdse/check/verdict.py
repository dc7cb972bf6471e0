"""The outcome of a check: one verdict for each thing that was looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lrfdse.ir.latency import MeterKind
from lrfdse.results.designs import NORMAL_95, DesignFacts

Verdict = Literal["pass", "fail", "skip", "error"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, with its verdict."""

    name: str
    """Identifier of the check in every output: one of a fixed set of words joined by hyphens."""
    verdict: Verdict
    limit: str = ""
    value: str = ""
    reason: str = ""
    """Why the check failed or was skipped; else what the reader should know, or nothing."""
    measurement: float | None = None
    unit: str = ""
    unmeasured: bool = False
    """Whether the check was skipped because nobody measured what it is about; under ``--strict`` it fails."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What a design lost against the original model; fractions."""

    value: float
    standard_error: float | None
    """Standard error of the loss; None where it is not known."""

    @property
    def margin(self) -> float | None:
        """Half the 95 % interval of the loss, which stands behind ±; None where it is not known."""
        return None if self.standard_error is None else NORMAL_95 * self.standard_error


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything that one call of ``lrfdse check`` found."""

    source: Path
    """The folder or file that was checked."""
    model: str
    target: str
    meter: str
    """Name of the meter; empty where there is no result."""
    checks: tuple[Check, ...]
    kind: MeterKind | None = None
    """How latencies were obtained; None where there is no result."""
    design: DesignFacts | None = None
    original: DesignFacts | None = None
    loss: Loss | None = None
    """What the design loses on the evaluation data; None where nobody measured it."""
    input_error: bool = False
    """Whether the exploration failed because it was asked for something impossible."""
    notes: tuple[str, ...] = ()
    version: str = ""
    """Version of the lrfdse that explored; empty where it is not known."""

    @property
    def title(self) -> str:
        """The model and the target, as far as they are known."""
        return " for ".join(part for part in (self.model, self.target) if part) or str(self.source)

    @property
    def exit_code(self) -> int:
        """0 where nothing is broken, 1 where a limit is broken, 2 or 4 where there is no result to check."""
        if self.original is None and not self.of("fail"):
            return 2 if self.input_error else 4
        return 1 if self.of("fail") else 4 if self.of("error") else 0

    def of(self, verdict: Verdict) -> list[Check]:
        """Return the checks with that verdict."""
        return [check for check in self.checks if check.verdict == verdict]
