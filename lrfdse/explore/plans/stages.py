"""The stages of a search over plans, in their order: what each may spend of the budget, and which plans it proposes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.explore.layers.options import BASELINE_RATIOS
from lrfdse.explore.plans.choose import lost, pareto, recommend, worth_refining
from lrfdse.explore.plans.relaxation import relaxed
from lrfdse.ir.choice import Choice, is_plain
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.plan import DENSE_FP16, DENSE_INT8, DENSE_QDQ
from lrfdse.ir.storage import FLOAT16, INT8, QDQ

if TYPE_CHECKING:
    from lrfdse.explore.plans.trials import SearchRequest, Trials
    from lrfdse.ir.plan import Design, Metric
    from lrfdse.results.settings import Limits
    from lrfdse.search.plans.tables import LayerTable, PlanFront
    from lrfdse.search.samplers.protocol import Sampler


_UNNOTICED = 3e-3
"""Predicted error below which plans lose nothing that scores could tell: there, none is farther from another."""


_SHOWN = 6
"""Plans of one layer's front that are evaluated to show the trade-off, beside those around the limit. Chosen."""


_BEYOND = 3
"""Plans that are evaluated beyond the first that loses too much, where one layer is bisected. Chosen."""


_WORTH_HAVING = 2.5
"""Multiples of the allowed loss up to which a plan is worth a closer look."""


@dataclass(slots=True)
class Search:
    """What the stages of one search share: what is asked, what plans are predicted to be, and what was found so far."""

    request: SearchRequest
    trials: Trials
    warm: Sequence[LayerTable]
    """Choices of every layer, with latencies of plans that stay in the cache between inferences."""
    cold: Sequence[LayerTable]
    """The same choices with latencies of plans that do not."""
    warm_params: int
    """Parameters up to which a plan stays in the cache."""
    front: PlanFront
    """The plans that no other is predicted to beat."""
    sampler: Sampler
    metric: Metric
    base: Design
    """The original model."""
    verified: bool = True
    """Whether scores are of evaluation data that the user gave, not of random inputs."""
    recommended: Design | None = None
    plain: Design | None = None
    """The best SVD design at no more parameters than the recommended one, where that is another."""
    notes: list[str] = field(default_factory=list)
    """What the reader of the results must know."""

    @property
    def may_recommend(self) -> bool:
        """Whether a design may be recommended: what nobody measured is not, unless the user accepts it."""
        return self.verified or self.request.accept_unverified

    @property
    def is_one_layer(self) -> bool:
        """Whether one layer alone has choices, and losses tell which of them may be recommended."""
        alone = sum(len(table.choices) > 1 for table in self.warm) == 1
        return alone and self.may_recommend and not self.sampler.whole_space

    def left(self, reserve: float = 0.0) -> int:
        """Return how many more plans may be evaluated if a share of the budget is kept for later stages."""
        # One place is kept for the comparison with SVD at the end, which is no plan of its own where all are tried.
        last = 0 if self.sampler.whole_space else 1
        budget = self.request.budget
        return max(0, budget - last - len(self.trials.designs()) - int(reserve * budget))

    def best(self) -> Design | None:
        """Return what is to be recommended of the designs so far."""
        front = pareto(self.trials.designs(), self.metric, self.verified, self.request.resolution)
        request = self.request
        return recommend(front, self.base, self.metric, request.limits, request.resolution, request.rest_us)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a search.

    >>> Stage("nothing", lambda search, most: None, share=0.25).reserve
    0.0
    """

    name: str
    propose: Callable[[Search, int], None]
    """Has at most so many new plans evaluated, or makes something of those that were."""
    share: float = 1.0
    """Share of the budget that it may spend at most."""
    reserve: float = 0.0
    """Share of the budget that it leaves for later stages."""
    recommends: bool = False
    """Whether it serves the recommended design alone, and is left out where none may be recommended."""

    def run(self, search: Search) -> None:
        """Run the stage where it has something to do."""
        if search.may_recommend or not self.recommends:
            self.propose(search, min(search.left(self.reserve), int(self.share * search.request.budget)))


def dense_int8(search: Search, most: int) -> None:
    """Evaluate the model with all layers dense in int8, where that is a choice of any: what is deployed most.

    Weights alone, and where that is a choice, what the layers read as well; and all in half precision.
    """
    for storage, origin in ((INT8, DENSE_INT8), (QDQ, DENSE_QDQ), (FLOAT16, DENSE_FP16)):
        stored = str(Choice(Factorization.dense(1, 1), storage))
        having = {table.layer for table in search.warm if any(c.text == stored for c in table.choices)}
        plan = {table.layer: stored if table.layer in having else table.dense.text for table in search.warm}
        if having and most:
            search.trials.run([plan], origin)
            most -= 1


def uniform_svd(search: Search, most: int) -> None:
    """Evaluate SVD of all layers at one ratio, for ratios spread evenly over the baselines."""
    from lrfdse.search.plans.knapsack import uniform

    places = np.linspace(0, len(BASELINE_RATIOS) - 1, min(most, len(BASELINE_RATIOS))).round().astype(int)
    ratios = [BASELINE_RATIOS[place] for place in np.unique(places)]
    search.trials.run(uniform(search.warm, "svd", ratios), "uniform-svd")


def whole_front(search: Search, most: int) -> None:
    """Evaluate plans spread over the knapsack's front; of one layer, some to show the trade-off."""
    _spread(search, search.front, min(most, _SHOWN) if search.is_one_layer else most)


def useful_front(search: Search, most: int) -> None:
    """Evaluate plans of that part of the front whose loss is near the allowed one; one layer alone is bisected."""
    if search.is_one_layer:
        return
    near = near_limit(search.front, search.trials.designs(), search.base, search.metric, search.request.limits)
    _spread(search, near, most)


def bisection(search: Search, most: int) -> None:
    """With one layer, halve what is left of the knapsack's front around the plan that loses just what it may.

    Beyond the limit some plans more are evaluated: losses of neighbours differ by chance.
    """
    if not search.is_one_layer:
        return
    limits, front, trials = search.request.limits, search.front, search.trials
    places = sorted(range(len(front)), key=lambda i: (float(front.error[i]), -int(front.params[i])))
    before = len(trials.designs())

    def holds(place: int) -> bool:
        found = trials.run([front.texts(places[place])], "bisection")
        return bool(found) and lost(found[0], search.base, search.metric, limits) <= limits.max_drop + 1e-9

    # The original, which loses nothing, is the first or stands before it.
    good, bad = -1, len(places)
    while bad - good > 1 and len(trials.designs()) - before < most:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    for place in range(bad + 1, min(bad + 1 + _BEYOND, len(places))):
        if len(trials.designs()) - before < most:
            holds(place)


def relaxation(search: Search, most: int) -> None:
    """Relax one plan layer by layer where every compressed design loses too much."""
    if search.sampler.whole_space:
        return
    where = "" if search.verified else " (on random inputs)"
    notes = relaxed(search.trials, search.warm, search.base, search.metric, search.request.limits, most)
    search.notes += [f"{note}{where}" for note in notes]


def sampling(search: Search, most: int) -> None:
    """Evaluate what the sampler proposes; of one layer alone the front holds all that is worth a look."""
    if search.is_one_layer:
        return
    search.trials.sample(search.sampler, most)


def refinement(search: Search, most: int) -> None:
    """Refine the designs that could become the recommended one, and choose it; nothing new is evaluated.

    The study keeps the scores before; what is printed and written has those after.
    """
    request, trials = search.request, search.trials
    chosen = worth_refining(
        trials.designs(),
        search.base,
        search.metric,
        request.limits,
        request.refined,
        verified=search.verified,
        resolution=request.resolution,
        rest_us=request.rest_us,
    )
    # Most often it is still the best once designs are refined.
    now = search.best()
    trials.refine(chosen, ahead=None if now is None else _plain_beside(search, now))
    search.recommended = search.best()


def comparison(search: Search, most: int) -> None:
    """Evaluate and refine SVD at no more parameters than the recommended design: what that is to be compared with."""
    chosen, trials = search.recommended, search.trials
    texts = None if chosen is None else _plain_beside(search, chosen)
    if chosen is None or texts is None:
        return
    plain = next(iter(trials.run([texts], "svd")), None)
    if plain is None:
        return
    plain = trials.refine([plain])[0]
    # It may be better than what it was to be compared with.
    search.recommended = search.best() or chosen
    search.plain = None if plain.id == search.recommended.id else plain


def _plain_beside(search: Search, chosen: Design) -> dict[str, str] | None:
    """Return the plan of SVD that a design is to be compared with; None where there is none, or no place for it."""
    if chosen.id == search.base.id:
        return None
    texts = best_svd(search.warm, chosen.words)
    fits = texts is not None and (len(search.trials.designs()) < search.request.budget or search.trials.has(texts))
    return texts if fits else None


STAGES = (
    Stage("dense int8", dense_int8),
    Stage("uniform SVD", uniform_svd, share=0.15),
    Stage("bisection", bisection, share=0.3, recommends=True),
    Stage("front", whole_front, share=0.25),
    Stage("useful front", useful_front, reserve=0.15),
    Stage("relaxation", relaxation, recommends=True),
    Stage("sampler", sampling),
    Stage("refinement", refinement, recommends=True),
    Stage("comparison", comparison, recommends=True),
)
"""What a search does once the original model is evaluated. Each stage sees the results of those before."""


def _spread(search: Search, front: PlanFront, most: int) -> None:
    from lrfdse.search.plans.spread import spread

    search.trials.run([front.texts(i) for i in spread(told_apart(front), most)], "knapsack")


def told_apart(front: PlanFront) -> PlanFront:
    """Return the front with errors that no score would notice counted as equal, as distances between plans need it.

    Predicted losses reach over many decades, and most plans of a front may lie where nothing is lost.
    """
    return replace(front, error=np.maximum(front.error, _UNNOTICED))


def near_limit(front: PlanFront, designs: Sequence[Design], base: Design, metric: Metric, limits: Limits) -> PlanFront:
    """Return the plans whose predicted error is within that of designs that lose little enough to be of use."""
    known: Mapping[tuple[tuple[str, str], ...], Design] = {
        tuple(sorted(design.plan.texts().items())): design for design in designs
    }
    worst = 0.0
    for i in range(len(front)):
        design = known.get(tuple(sorted(front.texts(i).items())))
        if design is not None and lost(design, base, metric, limits) <= _WORTH_HAVING * limits.max_drop:
            worst = max(worst, float(front.error[i]))
    worst = max(worst, float(np.quantile(front.error, 0.1))) if len(front) else 0.0
    return front.taken(np.flatnonzero(front.error <= worst))


def best_svd(tables: Sequence[LayerTable], most: int) -> dict[str, str] | None:
    """Return the SVD plan of least predicted error with at most `most` parameters, or None.

    Latencies have no say: a front of (params, error) alone is smaller by far than one that keeps all three.
    """
    from lrfdse.search.plans.knapsack import plans

    plain = [
        replace(table, choices=tuple(replace(c, latency_us=1.0) for c in table.choices if is_plain(c.text)))
        for table in tables
    ]
    front = plans(plain, max_params=most)
    return front.texts(int(np.argmin(front.error))) if len(front) else None
