"""A plan that loses too much, relaxed layer by layer until it does not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lrfdse.search.plans.tables import Choice, LayerTable

_LEAST_SHARE, _MOST_SHARE = 0.4, 0.8
"""A step leaves at least and at most this share of the predicted error: losses are only roughly proportional to it.
Chosen, not measured."""

_ROUNDING = 1e-9
"""Slack of the loss allowed: a difference of two scores rounds."""


@dataclass(frozen=True, slots=True)
class Relaxation:
    """One step of a relaxation: what was changed, and what the plan then lost."""

    changes: tuple[tuple[str, str, str], ...]
    """Layer, its choice before, its choice after."""
    loss: float | None
    """Loss of the plan after the changes (a fraction); None where it could not be evaluated."""

    def __str__(self) -> str:
        changed = ", ".join(f"{layer} {before} -> {after}" for layer, before, after in self.changes)
        return f"{changed}: " + ("cannot be evaluated" if self.loss is None else f"loss {100 * self.loss:.2f} points")


def relax(
    plan: Mapping[str, str],
    tables: Sequence[LayerTable],
    evaluate: Callable[[Mapping[str, str]], float | None],
    limit: float,
    most: int = 12,
) -> tuple[dict[str, str], tuple[Relaxation, ...]]:
    """Return the first plan on the way from `plan` to the dense model that loses at most `limit`, and the way.

    In a step the layer with the largest predicted error gets the next choice up its front, the cheapest one (least
    geometric mean of params and latency) with a smaller error, in the end the dense layer, and so on until the
    predicted error has fallen as far as the measured loss has to, were it proportional; then the plan is evaluated.

    Parameters
    ----------
    plan
        Layer name to the text of its choice; layers that are left out are dense.
    tables
        One table a layer, with the predicted errors.
    evaluate
        Returns the loss of a plan against the original model, or None where it cannot be evaluated.
    limit
        The largest loss allowed.
    most
        Plans evaluated beside the first, at most; the last of them is the dense model.

    Raises
    ------
    ValueError
        The plan has a choice that its layer's table does not have.
    """
    chosen = {table.layer: table.choices[table.find(plan.get(table.layer, "dense"))] for table in tables}
    fronts = {table.layer: table.choices for table in tables}
    loss = evaluate(_texts(chosen))
    steps: list[Relaxation] = []
    while (loss is None or loss > limit + _ROUNDING) and any(choice.text != "dense" for choice in chosen.values()):
        before = dict(chosen)
        if len(steps) + 1 >= most:
            chosen = {table.layer: table.dense for table in tables}
        else:
            wanted = limit / loss if loss is not None else 0.0
            share = min(max(wanted, _LEAST_SHARE), _MOST_SHARE)
            _relax_to(share * sum(choice.error for choice in chosen.values()), chosen, fronts)
        changes = tuple((name, before[name].text, now.text) for name, now in chosen.items() if now != before[name])
        loss = evaluate(_texts(chosen))
        steps.append(Relaxation(changes, loss))
    return _texts(chosen), tuple(steps)


def _relax_to(total: float, chosen: dict[str, Choice], fronts: Mapping[str, Sequence[Choice]]) -> None:
    """Relax the worst layer, at least once, until the sum of errors is at most `total` or every layer is dense."""
    while True:
        compressed = [name for name, choice in chosen.items() if choice.text != "dense"]
        if not compressed:
            return
        worst = max(compressed, key=lambda name: chosen[name].error)
        chosen[worst] = _next_up(chosen[worst], fronts[worst])
        if sum(choice.error for choice in chosen.values()) <= total:
            return


def _next_up(current: Choice, choices: Sequence[Choice]) -> Choice:
    """Return the cheapest choice with a smaller error; the dense one where there is none."""
    better = [choice for choice in choices if choice.error < current.error]
    dense = next(choice for choice in choices if choice.text == "dense")
    return min(better, key=lambda c: (math.log(c.params) + math.log(c.latency_us), c.error, c.text), default=dense)


def _texts(chosen: Mapping[str, Choice]) -> dict[str, str]:
    return {name: choice.text for name, choice in chosen.items()}
