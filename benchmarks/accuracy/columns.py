"""What the benchmark runs: for every model its ratios and kinds, and the rows that they make."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.accuracy.cases import Case
from benchmarks.accuracy.compress import GRID, Compressor
from benchmarks.accuracy.correct import Corrections
from benchmarks.accuracy.families import FAMILIES, Plan
from lrfdse.base.keys import digest
from lrfdse.base.store import Store

MAIN = (2.0, 4.0, 8.0, 16.0, 32.0)
CORRECTED = ("asvd", "att2", "att3", "any")
REFINED_FROM = {False: 8.0, True: 16.0}
"""Ratios from which on plans of any path are also refined in sweeps, by whether on the larger calibration set: the
dearest rows of all, which say little where little is lost."""
BETWEEN = (3.0, 6.0, 12.0, 24.0)
"""Ratios that cost no further fits: they say where a loss begins."""


@dataclass(frozen=True)
class Runs:
    """How much is run of one model."""

    ratios: tuple[float, ...]
    between: tuple[float, ...] = ()
    families: tuple[str, ...] = tuple(FAMILIES)
    grid: tuple[float, ...] = GRID
    candidates: int = 2
    probes: tuple[float, ...] = (4.0, 8.0, 16.0)
    """Ratios at which each layer is compressed alone."""
    sweeps: int = 4
    """Of the refined columns; 0 for none."""
    corrected_at: tuple[float, ...] | None = None
    """Ratios at which finished plans of any path are corrected, and nothing else is; None for every column of
    `CORRECTED`. A correction runs the model once for every layer that depends on another."""
    probe_all: bool = True
    """Whether all seeds are probed (layers alone, proxies), or the first only."""
    larger: bool = True
    """Whether there are rows with the larger calibration set, where there is one."""
    alone: int = 12
    """Options of a layer that are run alone for the comparison of error proxies; 0 for none."""
    seeds: int = 3
    """Most seeds. Of a model that is not trained here a seed changes the data alone."""


RUNS = {
    "lenet300": Runs(MAIN, BETWEEN, candidates=3),
    "mlp1024": Runs(MAIN, BETWEEN, larger=False),
    "conv512": Runs((2.0, 4.0, 8.0, 16.0, 32.0, 64.0), grid=(2.0, 4.0, 8.0, 16.0, 32.0, 64.0), sweeps=0, larger=False),
    "rapidocr-head": Runs((1.5, 2.0, 4.0, 8.0), grid=(1.5, 2.0, 4.0, 8.0)),
    "rapidocr": Runs(
        (1.5, 2.0, 4.0),
        families=("svd", "asvd", "att2", "any"),
        grid=(1.35, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0),
        probes=(2.0, 4.0),
        alone=6,
        sweeps=0,
        corrected_at=(2.0,),
        probe_all=False,
        seeds=1,
    ),
    "minilm": Runs(
        (1.35, 2.0, 4.0),
        families=("svd", "asvd", "att2", "any"),
        grid=(1.35, 2.0, 3.0, 4.0, 8.0),
        candidates=1,
        probes=(2.0, 4.0),
        alone=0,
        sweeps=0,
        corrected_at=(2.0,),
        probe_all=False,
        seeds=1,
    ),
}


@dataclass(frozen=True)
class Row:
    """One compressed model with what it costs and scores."""

    key: str
    model: str
    seed: int
    family: str
    ratio: float
    allocated: bool
    corrected: bool
    sweeps: int
    """Refinement sweeps of the correction."""
    more: bool
    """Fitted on the larger calibration set."""
    plan: dict[str, str]
    costs: dict[str, int]
    scores: dict[str, float]
    """Part name to score: "eval" chooses, the others report."""
    seconds: float

    @property
    def title(self) -> str:
        """The row's name in tables."""
        return title(self.family, self.allocated, self.corrected, self.sweeps, self.more)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return dataclasses.asdict(self)


def title(family: str, allocated: bool, corrected: bool, sweeps: int, more: bool) -> str:
    """Return a column's name.

    >>> title("asvd", True, True, 0, False)
    'activation-aware SVD, allocated, corrected'
    """
    name = "original" if family == "dense" else FAMILIES[family].title
    done = f"corrected in {sweeps} sweeps" if sweeps else "corrected"
    parts = [(allocated, "allocated"), (corrected, done), (more, "8192 images")]
    return ", ".join([name, *(text for wanted, text in parts if wanted)])


@dataclass(frozen=True)
class Job:
    """One row to make."""

    family: str
    ratio: float
    allocated: bool = False
    corrected: bool = False
    sweeps: int = 0
    more: bool = False


def jobs(case: Case, runs: Runs) -> list[Job]:
    """Return the rows of a case.

    One layer alone has nothing to allocate. A correction knows the data, so it would turn the kinds that know only
    weights into others.
    """
    several = len(case.layers) > 1
    found = [Job("dense", 1.0)]
    for family in runs.families:
        for ratio in sorted((*runs.ratios, *runs.between)):
            for allocated in (False, True) if several else (False,):
                found.append(Job(family, ratio, allocated))
                finished = allocated or not several
                # Between the ratios of the tables only the finished form matters.
                wanted = family in CORRECTED and (ratio in runs.ratios or (finished and family == "any"))
                if runs.corrected_at is not None:
                    wanted = finished and family == "any" and ratio in runs.corrected_at
                if wanted:
                    found.append(Job(family, ratio, allocated, True))
                dear = ratio in runs.ratios and ratio >= REFINED_FROM[False]
                if family == "any" and dear and finished and runs.sweeps:
                    found.append(Job(family, ratio, allocated, True, runs.sweeps))
    if case.more_calib is not None and runs.larger:
        found += [Job("any", ratio, several, True, 0, True) for ratio in runs.ratios]
        found += [
            Job("any", ratio, several, True, runs.sweeps, True) for ratio in runs.ratios if ratio >= REFINED_FROM[True]
        ]
    return found


def make_rows(
    case: Case, runs: Runs, cache: Store, known: Callable[[str], bool], seconds: Callable[[], float] = time.process_time
) -> Iterator[Row]:
    """Yield the rows of a case that are not known by their key."""
    families = tuple(name for name in runs.families if not FAMILIES[name].parts)
    base = Compressor(case, cache, False, runs.candidates, runs.grid, families)
    larger = Compressor(case, cache, True, runs.candidates, runs.grid, families)
    corrections = {False: Corrections(base.case, base.calib), True: Corrections(larger.case, larger.calib)}
    for job in jobs(case, runs):
        key = digest(base.key, larger.key if job.more else "", dataclasses.astuple(job))
        if known(key):
            continue
        start = seconds()
        plan = _plan(base, job)
        if plan is None:
            continue
        fitted = larger if job.more else base
        factors = fitted.factors(job.family, plan) if plan else {}
        if job.corrected:
            factors = corrections[job.more](factors, job.sweeps)
        scores = case.scores(fitted.content(factors), (case.choosing, *case.reporting))
        yield Row(
            key,
            case.name,
            case.seed,
            **dataclasses.asdict(job),
            plan={name: str(shape) for name, shape in plan.items()},
            costs=base.costs(plan),
            scores=scores,
            seconds=round(seconds() - start, 2),
        )


def _plan(compressor: Compressor, job: Job) -> Plan | None:
    if job.family == "dense":
        return {}
    if job.allocated:
        return compressor.allocated(job.family, job.ratio)
    return compressor.uniform(job.family, job.ratio)
