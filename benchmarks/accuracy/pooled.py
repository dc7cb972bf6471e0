"""Rows of all seeds put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.accuracy.columns import Row
from benchmarks.accuracy.families import FAMILIES
from benchmarks.accuracy.latency import Latencies


@dataclass(frozen=True)
class Pooled:
    """One column of one model at one ratio, over seeds."""

    model: str
    family: str
    ratio: float
    allocated: bool
    corrected: bool
    sweeps: int
    more: bool
    title: str
    keys: tuple[str, ...]
    seeds: tuple[int, ...]
    chooses: tuple[float, ...]
    """Score on the data that choose, a seed each."""
    tests: tuple[float, ...]
    others: dict[str, float]
    """Means on further test data."""
    params: float
    macs: float
    us: float | None
    """Of the first seed."""

    @property
    def kind(self) -> str:
        """The family's name."""
        return FAMILIES[self.family].title

    @property
    def short(self) -> str:
        """What of the column is not the family's name."""
        return self.title.removeprefix(self.kind).strip(", ") or "uniform"

    @property
    def test(self) -> float:
        """Mean on test data."""
        return float(np.mean(self.tests))

    @property
    def choosing(self) -> float:
        """Mean on the data that choose."""
        return float(np.mean(self.chooses))

    @property
    def score(self) -> str:
        """Mean and standard deviation on test data."""
        return _spread(self.tests)


@dataclass(frozen=True)
class Chosen:
    """What a choice on validation data, seed by seed, scores on test data."""

    tests: tuple[float, ...]
    title: str
    """The column chosen most often, with how often."""

    @property
    def test(self) -> float:
        """Mean on test data."""
        return float(np.mean(self.tests))

    @property
    def score(self) -> str:
        """Mean and standard deviation on test data."""
        return _spread(self.tests)


def pooled(rows: Sequence[Row], timed: Latencies) -> list[Pooled]:
    """Put the rows of all seeds together, in the order of the first ones."""
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.model, row.title, row.ratio), []).append(row)
    found = []
    for members in groups.values():
        members.sort(key=lambda row: row.seed)
        first = members[0]
        further = [part for part in first.scores if part not in ("eval", "test")]
        found.append(
            Pooled(
                model=first.model,
                family=first.family,
                ratio=first.ratio,
                allocated=first.allocated,
                corrected=first.corrected,
                sweeps=first.sweeps,
                more=first.more,
                title=first.title,
                keys=tuple(row.key for row in members),
                seeds=tuple(row.seed for row in members),
                chooses=tuple(row.scores["eval"] for row in members),
                tests=tuple(row.scores["test"] for row in members),
                others={part: float(np.mean([row.scores[part] for row in members])) for part in further},
                params=float(np.mean([row.costs["params"] for row in members])),
                macs=float(np.mean([row.costs["macs"] for row in members])),
                us=next((timed[row.key][""] for row in members if row.key in timed), None),
            )
        )
    order = list(dict.fromkeys(group.title for group in found))
    return sorted(found, key=lambda group: (order.index(group.title), group.ratio))


def chosen(groups: Sequence[Pooled]) -> Chosen | None:
    """Return the choice of the column with the best score on validation data, seed by seed."""
    best: dict[int, tuple[float, float, str]] = {}
    for group in groups:
        for seed, choosing, test in zip(group.seeds, group.chooses, group.tests, strict=True):
            if seed not in best or choosing > best[seed][0]:
                best[seed] = choosing, test, group.title
    if not best:
        return None
    (title, times), *_ = Counter(title for _, _, title in best.values()).most_common()
    return Chosen(tuple(test for _, test, _ in best.values()), f"{title} ({times} of {len(best)})")


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
