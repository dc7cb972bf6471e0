"""What a sampler is: the space it proposes from, what was observed, and what it gives."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lrfdse.search.plans.tables import LayerTable, PlanKey

_BATCH = 5
"""Plans proposed at once: few enough to learn from them, enough to keep some workers busy. Chosen."""


@dataclass(frozen=True, slots=True)
class Space:
    """All plans: one choice of every table."""

    tables: tuple[LayerTable, ...]

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """Layer name to factorization texts."""
        return {table.layer: tuple(choice.text for choice in table.choices) for table in self.tables}

    @property
    def size(self) -> int:
        """How many plans there are."""
        return math.prod(len(table.choices) for table in self.tables)

    def plans(self) -> Iterator[PlanKey]:
        """Yield every plan, the last layer changing fastest."""
        return itertools.product(*self.choices.values())


@dataclass(frozen=True, slots=True)
class Observation:
    """An evaluated plan as samplers see it."""

    plan: PlanKey
    values: tuple[float, float, float]
    """Latency and params, the less the better, and the score."""
    constraints: Mapping[str, float] = field(default_factory=dict)
    """Name to a number that is positive where the constraint is broken."""


Propose = Callable[[Space, Sequence[Observation], Collection[PlanKey], int, int], list[PlanKey]]
"""A function that proposes plans.

Its arguments are the space, the plans evaluated so far, further plans not to propose, a seed, and how many plans are
wanted; it returns so many new plans, or fewer.
"""


@dataclass(frozen=True, slots=True)
class Sampler:
    """A way to propose plans."""

    name: str
    """The name under which it is registered; designs that it proposes carry it as their origin."""
    propose: Propose
    batch: int | None = _BATCH
    """Plans proposed at once; None where they do not depend on what was evaluated."""
    needs: str = ""
    """Module that must be installed."""
    package: str = ""
    whole_space: bool = False
    """Whether every plan is proposed, so that the space must not be larger than the budget."""
