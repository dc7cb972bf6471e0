"""Parts of tables: numbers as text, and what operators of some kinds take together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.records import Record

PRODUCTS = "FullyConnected"
"""The kind of operator that 1x1 convolutions become, too."""


DENSE = ("FullyConnected", "Convolution")
"""Kinds of operators that are dense products: fully-connected layers (1x1 convolutions among them), and convolutions
that are not depthwise. Their latency is held against the least that it can be."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """Operators of some kinds in a row."""

    us: float
    """What they take together."""
    share: float
    """Of all operators' time."""
    bound: float | None
    """The least that they can take, as a share of what they take; None where there are none."""


def kinds(row: Record, *names: str) -> Kinds:
    """Return what operators of some kinds take; a name that ends in a blank stands for all that begin with it."""
    parts = row["parts"]
    chosen = [
        each
        for each in parts
        if each["kind"] in names or any(name.endswith(" ") and each["kind"].startswith(name) for name in names)
    ]
    taken, least = (math.fsum(each[name] for each in chosen) for name in ("us", "least_us"))
    return Kinds(taken, taken / math.fsum(each["us"] for each in parts), least / taken if taken else None)


def slowest(row: Record, most: int) -> list[Record]:
    """Return the slowest operators of a row."""
    return sorted(row["parts"], key=lambda each: -float(each["us"]))[:most]


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean; not a number of nothing.

    >>> geometric_mean([0.5, 2.0])
    1.0
    """
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"
