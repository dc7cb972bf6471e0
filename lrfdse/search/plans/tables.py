"""What the search reads and gives: per-layer tables of choices, and fronts of plans."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.latency import Regime

PlanKey = tuple[str, ...]
"""A plan by its choices alone: factorization texts in the order of the layers."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One way to store and compute a layer, in one cache regime."""

    text: str
    """The text form; "dense" is the layer as it is."""
    params: int
    """Stored parameters of the layer, its bias included; of a layer that is stored otherwise than in float32, the
    float32 numbers that take as many bytes."""
    latency_us: float
    """Latency over all uses of the layer in one inference."""
    error: float
    """Additive proxy of what is lost, such as the relative squared error of the layer's output."""

    def __post_init__(self) -> None:
        if self.params < 1:
            raise ValueError(f"params must be at least 1 in {self}")
        if not (math.isfinite(self.latency_us) and self.latency_us > 0):
            raise ValueError(f"latency_us must be positive and finite in {self}")
        if not (math.isfinite(self.error) and self.error >= 0):
            raise ValueError(f"error must be finite and not negative in {self}")


@dataclass(frozen=True, slots=True)
class LayerTable:
    """The choices of one layer: distinct texts, the dense layer with error 0 among them.

    >>> LayerTable("fc1", (Choice("dense", 100, 5.0, 0.0), Choice("svd:r=2", 40, 2.0, 0.1))).dense.params
    100
    """

    layer: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        texts = [choice.text for choice in self.choices]
        if len(set(texts)) < len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            raise ValueError(f"choice {twice!r} occurs twice in the table of layer {self.layer}")
        if "dense" not in texts:
            raise ValueError(f"'dense' is missing in the table of layer {self.layer}: {', '.join(texts)}")
        if self.dense.error != 0:
            raise ValueError(f"the error of dense layer {self.layer} must be 0, not {self.dense.error}")

    @property
    def dense(self) -> Choice:
        """The layer as it is."""
        return next(choice for choice in self.choices if choice.text == "dense")

    def find(self, text: str) -> int:
        """Return the position of a choice; raise `ValueError` where the layer has no such choice."""
        for position, choice in enumerate(self.choices):
            if choice.text == text:
                return position
        raise ValueError(f"layer {self.layer} has no choice {text!r}")


@dataclass(frozen=True, slots=True, eq=False)
class PlanFront:
    """Pareto-optimal plans in (params, latency, error), sorted by params, then latency, then error.

    With `gap > 0` the front is approximate: every plan that meets the constraints even when those on params and latency
    are tightened by the factor ``1 + gap`` has a plan here whose params and latency are each at most ``1 + gap`` times
    its own, and whose error is no larger. With ``gap == 0`` it is the exact front.

    Of the front over both cache regimes (`plans_by_regime`) this holds regime by regime, the size of the cache being a
    constraint of either; and where no choice is faster cold, a plan charged cold is left out as well when a plan that
    fits the cache has fewer params, no larger error, and a latency that is no larger but for the rounding to boxes.
    """

    tables: tuple[LayerTable, ...]
    """The tables as given; latencies of `regimes` other than theirs are in `latency_us`."""
    params: NDArray[np.int64]
    """Shape (plans,)."""
    latency_us: NDArray[np.float64]
    """Shape (plans,)."""
    error: NDArray[np.float64]
    """Shape (plans,)."""
    choices: NDArray[np.int32]
    """Shape (plans, layers): positions in `LayerTable.choices`."""
    regimes: tuple[Regime, ...] = ()
    """The cache regime that each plan is charged in; empty where the caller made no difference."""
    gap: float = 0.0

    def __len__(self) -> int:
        return len(self.params)

    def texts(self, plan: int) -> dict[str, str]:
        """Return layer name to factorization text of one plan."""
        row = self.choices[plan]
        return {t.layer: t.choices[int(c)].text for t, c in zip(self.tables, row, strict=True)}

    def taken(self, plans: NDArray[np.intp]) -> PlanFront:
        """Return the front of the given plans, in the given order."""
        regimes = tuple(self.regimes[i] for i in plans) if self.regimes else ()
        return PlanFront(
            self.tables,
            self.params[plans],
            self.latency_us[plans],
            self.error[plans],
            self.choices[plans],
            regimes,
            self.gap,
        )

    def __repr__(self) -> str:
        exact = "exact" if self.gap == 0 else f"gap {self.gap:.2%}"
        head = f"PlanFront({len(self)} plans of {len(self.tables)} layers, {exact}"
        if not len(self):
            return head + ")"
        spans = ", ".join(
            f"{name} {values.min():.4g}..{values.max():.4g}"
            for name, values in (("params", self.params), ("latency_us", self.latency_us), ("error", self.error))
        )
        return f"{head}, {spans})"
