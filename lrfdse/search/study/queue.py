"""The queue of a study: waiting trials are taken, evaluated and told by any number of processes.

Whoever takes a trial samples nothing: the plan, with all its parameters, stands in the trial since it was put there.
A trial whose process is gone is failed; it counts as if it had not been, because a failed plan always has its reason.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrfdse.search.plans.tables import PlanKey
from lrfdse.search.study.storage import close_storage, heartbeat_keeper
from lrfdse.search.study.workers import BEAT, Heartbeats, Watch, worker

if TYPE_CHECKING:
    import optuna
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

_OWN = frozenset({"origin", "worker", "interrupted", "duplicate_of", "reason", BEAT})
"""User attributes of trials that are the queue's own; the others are the caller's."""

STATE = "state"
"""User attribute of the study that says whether plans are still being proposed."""

RUNNING, FINISHED = "running", "finished"
"""Values of `STATE`."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan to evaluate: a running trial of the study."""

    number: int
    """The trial's number."""
    texts: Mapping[str, str]
    """Layer name to factorization text."""
    origin: str
    """Name of what proposed the plan: a sampler, "knapsack", "dense"."""


@dataclass(frozen=True, slots=True)
class Finished:
    """An evaluated plan."""

    number: int
    texts: Mapping[str, str]
    latency_us: float
    params: int
    score: float
    origin: str
    attrs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a study knows of plans at one moment."""

    finished: Mapping[PlanKey, Finished]
    failed: Mapping[PlanKey, str]
    """Plans that could not be evaluated, with the reason."""
    waiting: frozenset[PlanKey]
    running: frozenset[PlanKey]

    def __contains__(self, plan: PlanKey) -> bool:
        return plan in self.waiting or plan in self.running or plan in self.finished or plan in self.failed


class Queue:
    """An open study as those see it who evaluate; made by `lrfdse.search.study.opening.join_study`.

    Not safe to share between threads: everybody who evaluates opens a queue.

    Parameters
    ----------
    study
        Optuna's study.
    storage
        Where it is kept.
    layers
        Names of the layers, in the order of the study's choices.
    grace
        Seconds without a sign of life after which a process on another machine counts as gone.
    """

    def __init__(self, study: optuna.Study, storage: BaseStorage, layers: Sequence[str], grace: float) -> None:
        self._study = study
        self._storage = storage
        self._id = storage.get_study_id_from_name(study.study_name)
        self._layers = tuple(layers)
        self._running: dict[int, int] = {}
        self._keeps_heartbeats = heartbeat_keeper(storage) is not None
        self._beats = Heartbeats(storage, grace / 4)
        self._watch = Watch(None if self._keeps_heartbeats else grace)

    @property
    def name(self) -> str:
        """The study's name."""
        return self._study.study_name

    @property
    def optuna_study(self) -> optuna.Study:
        """The study itself: for artifacts, notes and figures."""
        return self._study

    def facts(self) -> Mapping[str, Any]:
        """Return the study's user attributes as they are now."""
        return self._storage.get_study_user_attrs(self._id)

    def note(self, key: str, value: Any) -> None:
        """Keep a JSON value with the study."""
        self._storage.set_study_user_attr(self._id, key, value)

    @property
    def is_over(self) -> bool:
        """Whether whoever proposes plans has said that there will be no more."""
        return self.facts().get(STATE) == FINISHED

    def take(self, wanted: Container[PlanKey] | None = None) -> Proposal | None:
        """Return a waiting plan, running from here on until `progress` or `fail`; None where nothing waits.

        Parameters
        ----------
        wanted
            The plans to take, by `Study.key`; any by default.
        """
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        for trial in self._storage.get_all_trials(self._id, deepcopy=False, states=(TrialState.WAITING,)):
            plan = self._plan_of(trial)
            if plan is None or (wanted is not None and plan not in wanted):
                continue
            trial_id = self._id_of(trial)
            # The first sign of life comes before the trial is taken: a process that dies in between is noticed.
            self._beats.add(trial_id)
            try:
                taken = self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
            except UpdateFinishedTrialError:
                taken = False
            if not taken:
                self._beats.remove(trial_id)
                continue
            self._running[trial.number] = trial_id
            try:
                self._storage.set_trial_user_attr(trial_id, "worker", worker())
            except UpdateFinishedTrialError:
                self._forget(trial.number)
                continue
            if (before := self._same_before(trial, plan)) is not None:
                self._finish(trial.number, None, {"duplicate_of": before})
                continue
            origin = str(trial.user_attrs.get("origin", "unknown"))
            return Proposal(trial.number, dict(zip(self._layers, plan, strict=True)), origin)
        return None

    def tell(
        self,
        proposal: Proposal,
        latency_us: float,
        params: int,
        score: float,
        attrs: Mapping[str, Any] | None = None,
        constraints: Mapping[str, float] | None = None,
    ) -> None:
        """Finish a plan. A trial that was taken for dead and failed meanwhile is left as it is.

        Parameters
        ----------
        proposal
            What `take` returned.
        latency_us, params, score
            The objectives; finite.
        attrs
            What else was found out; JSON values.
        constraints
            Name to a number that is positive where the constraint is broken.
        """
        values = (float(latency_us), float(params), float(score))
        if not all(map(math.isfinite, values)):
            raise ValueError(f"objectives of trial {proposal.number} must be finite, but are {values}")
        self._finish(proposal.number, values, attrs or {}, constraints or {})

    def fail(self, proposal: Proposal, reason: str) -> None:
        """Finish a plan that cannot be evaluated, here or anywhere."""
        self._finish(proposal.number, None, {"reason": reason})

    def snapshot(self) -> Snapshot:
        """Return what the study knows now, finished plans in the order of their trials."""
        from optuna.trial import TrialState

        finished: dict[PlanKey, Finished] = {}
        failed: dict[PlanKey, str] = {}
        waiting: set[PlanKey] = set()
        running: set[PlanKey] = set()
        for trial in self._storage.get_all_trials(self._id, deepcopy=False):
            plan = self._plan_of(trial)
            if plan is None or "duplicate_of" in trial.user_attrs:
                continue
            if trial.state == TrialState.COMPLETE:
                finished.setdefault(plan, self._finished(trial, plan))
            elif trial.state == TrialState.FAIL and "reason" in trial.user_attrs:
                failed.setdefault(plan, str(trial.user_attrs["reason"]))
            elif not trial.state.is_finished():
                (waiting if trial.state == TrialState.WAITING else running).add(plan)
        failed = {plan: reason for plan, reason in failed.items() if plan not in finished}
        done = finished.keys() | failed.keys()
        return Snapshot(finished, failed, frozenset(waiting - done), frozenset(running - done))

    def reclaim(self, sole: bool = False) -> list[PlanKey]:
        """Fail the trials whose process is gone, and return their plans.

        Parameters
        ----------
        sole
            Whether nobody else works on the study: every trial that this queue did not take is then of a process gone.
        """
        import optuna
        from optuna.trial import TrialState

        def running() -> list[FrozenTrial]:
            states = (TrialState.RUNNING,)
            found = self._storage.get_all_trials(self._id, deepcopy=False, states=states)
            return [trial for trial in found if trial.number not in self._running]

        before = running()
        gone = [trial for trial in before if sole or self._watch.is_gone(trial)]
        for trial in gone:
            self._give_up(self._id_of(trial))
        if self._keeps_heartbeats and len(gone) < len(before):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                optuna.storages.fail_stale_trials(self._study)
            left = {trial.number for trial in running()}
            known = {trial.number for trial in gone}
            gone += [trial for trial in before if trial.number not in left | known and self._is_stale(trial)]
        return [plan for trial in gone if (plan := self._plan_of(trial)) is not None]

    def close(self) -> None:
        """Give back what is under way and close the connections to the storage."""
        for trial in list(self._running.values()):
            with suppress(Exception):
                self._give_up(trial)
        self._running.clear()
        self._beats.close()
        close_storage(self._storage)

    def _id_of(self, trial: FrozenTrial) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._id, trial.number)

    def _is_stale(self, trial: FrozenTrial) -> bool:
        from optuna.trial import TrialState

        now = self._storage.get_trial(self._id_of(trial))
        return now.state == TrialState.FAIL and "reason" not in now.user_attrs

    def _give_up(self, trial_id: int) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        with suppress(UpdateFinishedTrialError):
            self._storage.set_trial_user_attr(trial_id, "interrupted", True)
            self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _forget(self, number: int) -> None:
        self._beats.remove(self._running.pop(number))

    def _finish(
        self,
        number: int,
        values: tuple[float, float, float] | None,
        attrs: Mapping[str, Any],
        constraints: Mapping[str, float] | None = None,
    ) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import Trial, TrialState

        if number not in self._running:
            raise ValueError(f"trial {number} is not running in this process")
        trial_id = self._running[number]
        try:
            for key, value in attrs.items():
                self._storage.set_trial_user_attr(trial_id, key, value)
            if constraints:
                running = Trial(self._study, trial_id)
                for key, value in constraints.items():
                    running.set_constraint(key, value)
            state = TrialState.FAIL if values is None else TrialState.COMPLETE
            self._storage.set_trial_state_values(trial_id, state, values)
        except UpdateFinishedTrialError:
            pass
        self._forget(number)

    def _same_before(self, taken: FrozenTrial, plan: PlanKey) -> int | None:
        """Return a trial that has or gets the plan's values: an earlier one, or one that is finished.

        Two processes that enqueue at once may both enqueue a plan.
        """
        from optuna.trial import TrialState

        for trial in self._storage.get_all_trials(self._id, deepcopy=False):
            if trial.number == taken.number or self._plan_of(trial) != plan or "duplicate_of" in trial.user_attrs:
                continue
            done = trial.state == TrialState.COMPLETE or "reason" in trial.user_attrs
            if done or (trial.number < taken.number and not trial.state.is_finished()):
                return trial.number
        return None

    def _finished(self, trial: FrozenTrial, plan: PlanKey) -> Finished:
        attrs = {key: value for key, value in trial.user_attrs.items() if key not in _OWN}
        latency, params, score = trial.values
        texts = dict(zip(self._layers, plan, strict=True))
        origin = str(trial.user_attrs.get("origin", "unknown"))
        return Finished(trial.number, texts, latency, round(params), score, origin, attrs)

    def _plan_of(self, trial: FrozenTrial) -> PlanKey | None:
        """Return a trial's plan; None where somebody else made the trial and it has none."""
        if any(layer not in trial.params for layer in self._layers):
            return None
        return tuple(str(trial.params[layer]) for layer in self._layers)
