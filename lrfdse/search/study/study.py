"""The Optuna study: every evaluated plan is a trial, whatever proposed it.

One categorical parameter a layer, named after the layer, whose values are factorization texts (``fc1 = "svd:r=32"``);
three objectives, `OBJECTIVES`; the plan's origin and what the caller found out about it as user attributes. One process
decides which plans are evaluated and puts them into the queue; it and any number of others take them from there
(`lrfdse.search.study.queue`). Optuna keeps a parameter's choices fixed within a study: when the tables have changed,
the study's name gets a digest of the choices as its suffix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lrfdse.search.plans.tables import PlanKey
from lrfdse.search.study.queue import FINISHED, RUNNING, STATE, Finished, Queue, Snapshot

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage

OBJECTIVES = ("latency_us", "params", "score")
"""Names of the objectives, in order: latency and params are minimised, the score is maximised."""


class Study(Queue):
    """An open study as those see it who propose; made by `lrfdse.search.study.opening.open_study`.

    Parameters
    ----------
    study, storage, grace
        As for `Queue`.
    choices
        Layer name to factorization texts, in the order of the layers.
    """

    def __init__(
        self, study: optuna.Study, storage: BaseStorage, choices: Mapping[str, tuple[str, ...]], grace: float
    ) -> None:
        from optuna.distributions import CategoricalDistribution

        super().__init__(study, storage, tuple(choices), grace)
        self._choices = choices
        self._distributions: dict[str, BaseDistribution] = {
            layer: CategoricalDistribution(texts) for layer, texts in choices.items()
        }

    def key(self, texts: Mapping[str, str]) -> PlanKey:
        """Return a plan as texts in the order of the layers; layers that are left out are dense.

        Raises
        ------
        ValueError
            A layer or a choice is not one of the study's.
        """
        if unknown := sorted(set(texts) - set(self._choices)):
            raise ValueError(f"the study has no layer {unknown[0]!r}; it has {', '.join(self._choices)}")
        plan = tuple(texts.get(layer, "dense") for layer in self._choices)
        for layer, text in zip(self._choices, plan, strict=True):
            if text not in self._choices[layer]:
                raise ValueError(f"layer {layer} has no choice {text!r} in this study")
        return plan

    def enqueue(self, texts: Mapping[str, str], origin: str, known: Snapshot | None = None) -> bool:
        """Put a plan in the queue; return False where it is known already: finished, failed, running or waiting.

        `known` saves reading the study again, where it was read just before.
        """
        from optuna.trial import TrialState, create_trial

        plan = self.key(texts)
        if plan in (known or self.snapshot()):
            return False
        # Whole from the start: whoever takes the trial need not write (and cannot lose) any of its parameters.
        self._study.add_trial(
            create_trial(
                state=TrialState.WAITING,
                params=dict(zip(self._choices, plan, strict=True)),
                distributions=self._distributions,
                user_attrs={"origin": origin},
            )
        )
        return True

    def finished(self) -> Mapping[PlanKey, Finished]:
        """Return the evaluated plans by `key`, in the order of their trials."""
        return self.snapshot().finished

    def failed(self) -> Mapping[PlanKey, str]:
        """Return the reasons of the plans that could not be evaluated, by `key`."""
        return self.snapshot().failed

    def open_queue(self) -> None:
        """Say that plans are being proposed; `is_over` is False from here on."""
        if self.facts().get(STATE) != RUNNING:
            self.note(STATE, RUNNING)

    def close_queue(self) -> None:
        """Say that no more plans are proposed; `is_over` is True from here on."""
        self.note(STATE, FINISHED)
