"""What bounds kernels, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrfdse.ir.latency import Bound, Regime
    from lrfdse.results.layers import Choice, LayerFacts

_WORDS: dict[Bound, str] = {"compute": "FMA", "cache": "cache", "dram": "DRAM"}
"""Bounds in the words of the people who read them: products are nearly all FMAs and what loads for them; the cache is
the last level, where weights lie when they are warm."""


def bound_text(bound: Bound | None) -> str:
    """Return a bound in words; empty where it is not known.

    >>> bound_text("compute"), bound_text("cache"), bound_text(None)
    ('FMA', 'cache', '')
    """
    return "" if bound is None else _WORDS[bound]


def moved_text(layer: LayerFacts, chosen: Choice | None, regime: Regime) -> str:
    """Return what bounds a layer in a cache regime: as it is, and where that differs as a design has it.

    Parameters
    ----------
    layer
        The layer, with its measured options.
    chosen
        What became of it in the design; None where there is none.
    regime
        Whether weights are in the last-level cache before.
    """
    before = bound_text(layer.options[0].bounds.at(regime)) if layer.options else ""
    option = None if chosen is None else layer.option(chosen)
    after = "" if option is None else bound_text(option.bounds.at(regime))
    return before if not after or after == before else f"{before} -> {after}"
