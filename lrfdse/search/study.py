"""The Optuna study: every evaluated plan is a trial, whatever proposed it.

One categorical parameter a layer, named after the layer, whose values are factorization texts (``fc1 = "svd:r=32"``);
three objectives, `METRICS`; the plan's origin and what the caller found out about it as user attributes. Nothing is
evaluated here. Plans that are enqueued come first; then the sampler proposes. Optuna keeps a parameter's choices fixed
within a study: when the tables have changed, the study's name gets a digest of the choices as its suffix.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrfdse.errors import InputError
from lrfdse.search.workers import is_abandoned, worker

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

METRICS = ("latency_us", "params", "score")
"""Names of the objectives, in order: latency and params are minimised, the score is maximised."""

_SAMPLER = "nsga2"
"""Origin of the plans that NSGA-II proposes."""

_DUPLICATES_IN_A_ROW = 5
"""Proposals of plans already known after which an unknown plan is drawn at random instead."""
_DRAWS = 100
_POPULATION = 20
"""Of NSGA-II: small, so that the enqueued plans are its first generation, not drowned in random ones."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan to evaluate: a running trial of the study."""

    number: int
    """The trial's number."""
    texts: Mapping[str, str]
    """Layer name to factorization text."""
    origin: str
    """What proposed it: what `Study.enqueue` was told, "nsga2" or "random"."""


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


class Study:
    """An open study; made by `lrfdse.search.opening.open_study`.

    Not safe to share between threads: every worker opens its own.
    """

    def __init__(self, study: optuna.Study, choices: Mapping[str, tuple[str, ...]], seed: int) -> None:
        from optuna.distributions import CategoricalDistribution

        self._study = study
        self._choices = choices
        self._seed = seed
        self._running: dict[int, optuna.Trial] = {}
        self._distributions: dict[str, BaseDistribution] = {
            layer: CategoricalDistribution(texts) for layer, texts in choices.items()
        }

    def key(self, texts: Mapping[str, str]) -> tuple[str, ...]:
        """Return a plan as texts in the order of the layers; layers that are left out are dense.

        Raises
        ------
        InputError
            A layer or a choice is not one of the study's.
        """
        if unknown := sorted(set(texts) - set(self._choices)):
            raise InputError(f"the study has no layer {unknown[0]!r}; it has {', '.join(self._choices)}")
        plan = tuple(texts.get(layer, "dense") for layer in self._choices)
        for layer, text in zip(self._choices, plan, strict=True):
            if text not in self._choices[layer]:
                raise InputError(f"layer {layer} has no choice {text!r} in this study")
        return plan

    def enqueue(self, texts: Mapping[str, str], origin: str) -> bool:
        """Put a plan in the queue; return False where it is known already: finished, failed, running or waiting."""
        plan = self.key(texts)
        if plan in self._known():
            return False
        self._enqueue(plan, origin)
        return True

    def next_plan(self) -> Proposal | None:
        """Return the next plan to evaluate, or None when every plan of the space has been.

        The trial is running from here on, until `tell` or `fail`. Plans that are known already are not returned again:
        their values are told to the sampler at once.
        """
        from optuna.trial import TrialState

        for repeat in itertools.count():
            known = self._known()
            waiting = any(trial.state == TrialState.WAITING for trial in known.values())
            unknown = None if waiting else self._unknown_plan(known)
            if unknown is None and not waiting:
                return None
            if unknown is not None and repeat >= _DUPLICATES_IN_A_ROW:
                self._enqueue(unknown, "random")
            self._study.sampler = self._seeded_sampler()
            trial = self._study.ask(self._distributions)
            trial.set_user_attr("worker", worker())
            origin = str(trial.user_attrs.get("origin", _SAMPLER))
            trial.set_user_attr("origin", origin)
            self._running[trial.number] = trial
            plan = tuple(trial.params[layer] for layer in self._choices)
            before = known.get(plan)
            if before is None or before.number == trial.number:
                return Proposal(trial.number, dict(zip(self._choices, plan, strict=True)), origin)
            self._tell_again(trial.number, before)
        return None

    def tell(
        self,
        proposal: Proposal,
        latency_us: float,
        params: int,
        score: float,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        """Finish a plan. A trial that another process has taken over and finished meanwhile is left as it is.

        Parameters
        ----------
        proposal
            What `next_plan` returned.
        latency_us, params, score
            The objectives; finite.
        attrs
            What else was found out; JSON values.
        """
        values = (float(latency_us), float(params), float(score))
        if not all(map(math.isfinite, values)):
            raise InputError(f"finite objectives must hold for trial {proposal.number}, but got {values}")
        self._finish(proposal.number, values, attrs or {})

    def fail(self, proposal: Proposal, reason: str) -> None:
        """Finish a plan that could not be evaluated; it is not proposed again."""
        self._finish(proposal.number, None, {"reason": reason})

    def finished(self) -> dict[tuple[str, ...], Finished]:
        """Return the evaluated plans by `key`, in the order of their trials; of duplicates the one evaluated."""
        from optuna.trial import TrialState

        found: dict[tuple[str, ...], Finished] = {}
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            plan = self._plan_of(trial)
            if plan is None or plan in found or "duplicate_of" in trial.user_attrs:
                continue
            attrs = {k: v for k, v in trial.user_attrs.items() if k not in ("origin", "worker")}
            latency, params, score = trial.values
            texts = dict(zip(self._choices, plan, strict=True))
            origin = str(trial.user_attrs.get("origin", _SAMPLER))
            found[plan] = Finished(trial.number, texts, latency, round(params), score, origin, attrs)
        return found

    def failed(self) -> dict[tuple[str, ...], str]:
        """Return the reasons of the plans that could not be evaluated, by `key`."""
        from optuna.trial import TrialState

        return {
            plan: str(trial.user_attrs.get("reason", "unknown"))
            for plan, trial in self._known().items()
            if trial.state == TrialState.FAIL
        }

    def reclaim(self, stale_after: float, sole: bool = False) -> int:
        """Fail the trials whose process is gone and enqueue their plans again; return how many there were.

        Parameters
        ----------
        stale_after
            Seconds a trial of another machine may be running.
        sole
            Whether this process alone works on the study: every trial that it did not start is then of a process gone.
        """
        from optuna.trial import TrialState

        stale = [
            trial
            for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if trial.number not in self._running and (sole or is_abandoned(trial, stale_after))
        ]
        for trial in stale:
            self._study._storage.set_trial_user_attr(trial._trial_id, "interrupted", True)
            self._study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
        known = self._known()
        for trial in stale:
            plan = self._plan_of(trial)
            if plan is not None and plan not in known:
                self._enqueue(plan, str(trial.user_attrs.get("origin", _SAMPLER)))
        return len(stale)

    def close(self) -> None:
        """Close the connections to the storage."""
        self._study._storage.remove_session()

    def _enqueue(self, plan: tuple[str, ...], origin: str) -> None:
        self._study.enqueue_trial(dict(zip(self._choices, plan, strict=True)), user_attrs={"origin": origin})

    def _finish(self, number: int, values: tuple[float, float, float] | None, attrs: Mapping[str, Any]) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        trial = self._running.pop(number, None)
        if trial is None:
            raise InputError(f"trial {number} is not running in this process")
        try:
            for key, value in attrs.items():
                trial.set_user_attr(key, value)
            state = TrialState.FAIL if values is None else TrialState.COMPLETE
            self._study.tell(trial, values, state=state, skip_if_finished=True)
        except UpdateFinishedTrialError:
            return

    def _tell_again(self, number: int, before: FrozenTrial) -> None:
        """Finish a duplicate with the values of the trial before it; failed where that one has none."""
        values = None if before.values is None else (before.values[0], before.values[1], before.values[2])
        reason = {} if values else {"reason": f"trial {before.number} has the same plan"}
        self._finish(number, values, {"duplicate_of": before.number, **reason})

    def _known(self) -> dict[tuple[str, ...], FrozenTrial]:
        """Return one trial for every plan tried or waiting; an evaluated one where there is one."""
        from optuna.trial import TrialState

        known: dict[tuple[str, ...], FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            if "interrupted" in trial.user_attrs or "duplicate_of" in trial.user_attrs:
                continue
            plan = self._plan_of(trial)
            if plan is not None and (plan not in known or trial.state == TrialState.COMPLETE != known[plan].state):
                known[plan] = trial
        return known

    def _plan_of(self, trial: FrozenTrial) -> tuple[str, ...] | None:
        """Return a trial's plan; None where its process was killed before it had one."""
        texts = {**trial.system_attrs.get("fixed_params", {}), **trial.params}
        if any(layer not in texts for layer in self._choices):
            return None
        return tuple(str(texts[layer]) for layer in self._choices)

    def _unknown_plan(self, known: Mapping[tuple[str, ...], FrozenTrial]) -> tuple[str, ...] | None:
        """Return a plan never tried, drawn at random, or None where there is none."""
        draw = random.Random(self._trial_seed())
        lists = list(self._choices.values())
        for _ in range(_DRAWS):
            plan = tuple(draw.choice(texts) for texts in lists)
            if plan not in known:
                return plan
        return next((plan for plan in itertools.product(*lists) if plan not in known), None)

    def _trial_seed(self) -> int:
        """Return a seed for the next trial: of the trials before it, those that were cut short do not count.

        A run that was killed and resumed then goes on as if it had not been.
        """
        trials = self._study.get_trials(deepcopy=False)
        before = sum("interrupted" not in trial.user_attrs for trial in trials)
        return int.from_bytes(hashlib.sha256(f"{self._seed}:{before}".encode()).digest()[:4], "big")

    def _seeded_sampler(self) -> BaseSampler:
        from optuna import samplers

        return samplers.NSGAIISampler(population_size=_POPULATION, seed=self._trial_seed())
