"""What fits leave, apart from the factors; and how many fits of a layer are made at once."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lrfdse.ir.factors import Factors
    from lrfdse.ir.layer import Layer

STORED = 32_000_000
"""Elements up to which cores are worth keeping on disk. Chosen."""

_ALONE = 1 << 23
"""Weights of a layer from which its fits are made one after the other: each holds some ten arrays of that size. Chosen,
not measured."""


SHORT_SWEEPS = 1
"""Sweeps of a fit that only orders candidates: it leaves 3 to 9 % more error than one to the end (results/als.md)."""


class Errors(NamedTuple):
    """What a fit leaves; see `lrfdse.ir.factors.Factors`."""

    weight_error: float
    output_error: float | None
    loss: float | None

    @classmethod
    def of(cls, factors: Factors) -> Errors:
        """Return those of factors."""
        return cls(factors.weight_error, factors.output_error, factors.loss)


def read_errors(stored: Any) -> Errors:
    """Return errors as the cache keeps them."""
    found = Errors(stored["weight_error"], stored["output_error"], stored["loss"])
    if not all(each is None or (type(each) in (int, float) and 0 <= each < math.inf) for each in found):
        raise ValueError(f"{stored!r} are no errors")
    return found


def fit_threads(layer: Layer, threads: int) -> int:
    """Return how many fits of a layer are made side by side: of a large one, one."""
    return threads if layer.outputs * layer.inputs < _ALONE else 1
