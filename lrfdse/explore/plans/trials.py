"""The trials of one exploration: which plans are evaluated is decided here, by whom does not matter.

The process that explores puts plans into the study's queue and waits for their results; it evaluates them itself
together with whoever else takes them from there. What it proposes depends on the results of what it proposed before and
on nothing else, so the result is the same for any number of workers, and for a run that was killed and resumed.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener
from lrfdse.base.threads import in_threads
from lrfdse.errors import InputError, PlanError
from lrfdse.explore.plans.assemble import assemble, plan_of
from lrfdse.explore.plans.job import Job, broken, evaluate
from lrfdse.ir.plan import Plan, plan_id
from lrfdse.quality.scores import Scores
from lrfdse.results.settings import Limits

if TYPE_CHECKING:
    from lrfdse.explore.plans.helpers import Helpers
    from lrfdse.ir.plan import Design
    from lrfdse.search.plans.tables import PlanKey
    from lrfdse.search.samplers.protocol import Observation, Sampler, Space
    from lrfdse.search.study.queue import Finished, Proposal, Snapshot
    from lrfdse.search.study.study import Study


_FIRST_LOOK, _LAST_LOOK = 0.05, 1.0
"""Seconds between looks at the study while others evaluate, at first and at last."""


_DEATHS = 3
"""Processes that died over a plan after which it counts as one that cannot be evaluated."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What the search over plans may spend, and what it looks for."""

    budget: int = 60
    """Plans evaluated on data, baselines included."""
    sampler: str = "nsga2"
    """What proposes plans around the knapsack's, a name of `lrfdse.search.samplers.builtin`."""
    limits: Limits = field(default_factory=Limits)
    """What the recommended design must satisfy."""
    seed: int = 0
    """Seed of the sampler."""
    accept_unverified: bool = False
    """Whether a design may be recommended though no evaluation data say what it loses."""
    resolution: float | None = 0.0
    """Relative difference of two latencies up to which they are a tie, see `lrfdse.ir.latency.are_tied`."""
    rest_us: float | None = None
    """What everything but the fully-connected layers takes in the whole model; None where it is not known."""
    minutes: float | None = None
    """Minutes of the whole exploration after which no new plan is begun; None means never."""
    helpers: int = 0
    """Most processes that evaluate plans beside the one that explores."""
    refined: int = 4
    """Designs refined before one is recommended, beside the one that would be anyway; 0 refines none."""
    helped_after: float = 20.0
    """Seconds of evaluation ahead from which on helpers pay: each reads the model and the data first."""


class Trials:
    """Puts plans into the study's queue and returns their designs; what the study knows is not evaluated again.

    Parameters
    ----------
    study
        The study of this exploration.
    job
        How plans are evaluated here.
    space
        What the sampler may propose.
    request
        How many plans may be evaluated, and the sampler's seed.
    helpers
        Processes that evaluate beside this one, once that pays.
    progress
        Told of every result.
    deadline
        `time.monotonic` from which on nothing new is begun; None means never.
    """

    def __init__(
        self,
        study: Study,
        job: Job,
        space: Space,
        request: SearchRequest,
        helpers: Helpers,
        progress: Listener,
        deadline: float | None = None,
    ) -> None:
        self._study = study
        self._job = job
        self._space = space
        self._request = request
        self._helpers = helpers
        self._listener = progress
        self._deadline = deadline
        self._designs: dict[PlanKey, Design] = {}
        self._asked: dict[PlanKey, None] = {}
        self._deaths: Counter[PlanKey] = Counter()
        self._results = 0

    @property
    def study(self) -> str:
        """The study's name."""
        return self._study.name

    @property
    def out_of_time(self) -> bool:
        """Whether the deadline is over."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def failures(self) -> dict[str, str]:
        """Return why plans of this run could not be evaluated, by the id of each."""
        space, layers = list(self._space.choices), self._job.layers
        return {
            plan_id(plan_of(dict(zip(space, plan, strict=True)), layers)): reason
            for plan, reason in self._study.failed().items()
            if plan in self._asked
        }

    def designs(self) -> list[Design]:
        """Return every design so far, in the order in which the plans were proposed."""
        return list(self._designs.values())

    def has(self, texts: Mapping[str, str]) -> bool:
        """Return whether a plan is among the designs so far."""
        return self._study.key(texts) in self._designs

    def baseline(self) -> Design:
        """Return the original model, evaluated first and whatever the time.

        Raises
        ------
        InputError
            It cannot be evaluated.
        """
        dense = self._study.key({})
        if dense not in self._designs:
            self.run([{}], "dense", in_time_only=False)
        if dense not in self._designs:
            raise InputError(self._study.failed().get(dense, "the original model cannot be evaluated"))
        return self._designs[dense]

    def run(self, plans: Sequence[Mapping[str, str]], origin: str, in_time_only: bool = True) -> list[Design]:
        """Return the designs of plans, evaluating those that are new; plans that cannot be evaluated are left out.

        Once the deadline is over, plans that nobody has begun are left out, too.
        """
        wanted = dict.fromkeys(self._study.key(texts) for texts in plans)
        self._asked |= wanted
        pause = _FIRST_LOOK
        while left := self._left(wanted, origin, in_time_only):
            if (proposal := self._study.take(wanted) if self._may_begin(in_time_only) else None) is not None:
                self._evaluate(proposal)
                pause = _FIRST_LOOK
                continue
            self._reclaim(left)
            time.sleep(pause)
            pause = min(1.3 * pause, _LAST_LOOK)
        finished = self._study.finished()
        return [self._take(plan, finished[plan], origin) for plan in wanted if plan in finished]

    def refine(self, designs: Sequence[Design], ahead: Mapping[str, str] | None = None) -> list[Design]:
        """Refine these designs with full-model Gauss-Newton steps and return them.

        One that scores worse when it is refined stays as it was. The study keeps the scores from before.

        Parameters
        ----------
        designs
            What is to be refined.
        ahead
            A plan that may be refined next: where processors would be idle at the end, its factors are made beside
            those of the designs, and are found when they are asked for.
        """
        if not (self._request.refined and self._job.evaluator.refines):
            return list(designs)
        # Nothing waits in the queue any more, and threads of this process take less memory than another one.
        self._helpers.stop()
        found: list[Design] = []
        self._listener(Event("refine", "", 0, len(designs)))
        threads = self._request.helpers + 1
        items: list[Design | Plan] = list(designs)
        if ahead is not None and len(designs) % threads:
            items.append(plan_of(ahead, self._job.layers))
        refined = in_threads(self._refined_or_ahead, items, threads)
        for design, scores in zip(designs, refined, strict=False):
            found.append(self._better(design, scores))
            self._listener(Event("refine", design.id, len(found), len(designs)))
        return found

    def _refined_or_ahead(self, item: Design | Plan) -> Scores | PlanError | None:
        """Return `_refined_scores` of a design; of a plan only its factors are made, and kept for later."""
        if not isinstance(item, Plan):
            return self._refined_scores(item)
        if not self.out_of_time:
            with contextlib.suppress(PlanError):
                self._job.evaluator.builder.factors(item, refined=True)
        return None

    def _refined_scores(self, design: Design) -> Scores | PlanError | None:
        """Return the scores of a design once it is refined, or why it has none; None where it stays as it is."""
        if design.refined or self.out_of_time:
            return None
        try:
            return self._job.evaluator.scores(design.plan, refined=True)
        except PlanError as error:
            return error

    def _better(self, design: Design, scores: Scores | PlanError | None) -> Design:
        """Return a design or, where its refined factors score no worse, what has become of it."""
        if scores is None:
            return design
        if isinstance(scores, PlanError):
            self._listener(Event("note", f"plan {design.id} cannot be evaluated once it is refined: {scores}"))
            return design
        job = self._job
        other = assemble(design.plan, job.layers, job.target, scores, design.origin, refined=True)
        if other.score(job.metric) < design.score(job.metric):
            return design
        self._designs[self._study.key(design.plan.texts())] = other
        return other

    def sample(self, sampler: Sampler, count: int) -> None:
        """Evaluate plans that the sampler proposes, batch by batch, until there are `count` more designs."""
        goal = len(self._designs) + count
        while (left := goal - len(self._designs)) > 0 and not self.out_of_time:
            size = left if sampler.batch is None else min(left, sampler.batch)
            plans = sampler.propose(self._space, self._observations(), self._asked, self._request.seed, size)
            if not plans:
                return
            self.run([dict(zip(self._space.choices, plan, strict=True)) for plan in plans], sampler.name)

    def _may_begin(self, in_time_only: bool) -> bool:
        return not (in_time_only and self.out_of_time)

    def _left(self, wanted: Mapping[PlanKey, None], origin: str, in_time_only: bool) -> list[PlanKey]:
        """Return the wanted plans that will get a result but have none; queue those that the study does not know."""
        known = self._study.snapshot()
        self._report(known)
        if not self._may_begin(in_time_only):
            return [plan for plan in wanted if plan in known.running]
        for plan in wanted:
            if plan not in known:
                self._study.open_queue()
                self._study.enqueue(dict(zip(self._space.choices, plan, strict=True)), origin, known)
        return [plan for plan in wanted if plan not in known.finished and plan not in known.failed]

    def _evaluate(self, proposal: Proposal) -> None:
        base = self._designs.get(self._study.key({}))
        score = None if base is None else base.score(self._job.metric)
        began = time.monotonic()
        try:
            design = evaluate(self._study, proposal, self._job, score)
        except PlanError as error:
            if proposal.origin == "dense":
                # Nothing is compressed in this one: what is wrong is the model, the data or the metric.
                raise InputError(str(error)) from error
            self._study.fail(proposal, str(error))
            plan = plan_of(proposal.texts, self._job.layers)
            self._listener(Event("note", f"plan {plan_id(plan)} cannot be evaluated: {error}"))
            return
        seconds = time.monotonic() - began
        self._helpers.start_if_worth(seconds * (self._request.budget - len(self._designs)))
        self._progress(f"{design.id} {self._job.quality(design)} ({proposal.origin})")

    def _reclaim(self, left: Sequence[PlanKey]) -> None:
        """Fail the trials of processes that are gone, so that they are queued again; not a plan that kills them all."""
        self._deaths.update(self._study.reclaim())
        for plan in left:
            if self._deaths[plan] >= _DEATHS and (proposal := self._study.take({plan})) is not None:
                self._study.fail(proposal, f"{_DEATHS} processes died while they evaluated it (out of memory?)")

    def _report(self, known: Snapshot) -> None:
        """Tell how many plans have a result when others have given some."""
        results = sum(plan in known.finished for plan in self._asked)
        if results > self._results:
            self._results = results
            self._progress("")

    def _progress(self, text: str) -> None:
        budget = self._request.budget
        self._listener(Event("plans", text, min(max(self._results, 1), budget), budget))

    def _observations(self) -> list[Observation]:
        from lrfdse.search.samplers.protocol import Observation

        metric, limits = self._job.metric, self._job.limits
        base = self.baseline().score(metric)
        return [
            Observation(
                plan,
                (design.latency.us, float(design.words), design.score(metric)),
                broken(design, design.score(metric), base, limits),
            )
            for plan, design in self._designs.items()
        ]

    def _take(self, plan: PlanKey, trial: Finished, origin: str) -> Design:
        """Return a finished plan's design; its origin is the stage of this run that asked for it first."""
        scores = Scores.of(trial.attrs)
        design = assemble(plan_of(trial.texts, self._job.layers), self._job.layers, self._job.target, scores, origin)
        return self._designs.setdefault(plan, design)
