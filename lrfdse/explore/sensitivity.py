"""Which assumption of the target carries a speed-up: the same kernels, counted and timed for other machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lrfdse.calibrate.terms import counted_terms
from lrfdse.explore.plans.assemble import regime_of
from lrfdse.ir.kernel import kernel_spec
from lrfdse.ir.latency import Latency, Regime
from lrfdse.results.layers import Latencies
from lrfdse.results.sensitivity import AssumedDesign, SensitivityCase

if TYPE_CHECKING:
    from lrfdse.base.events import Listener
    from lrfdse.base.store import Store
    from lrfdse.calibrate.record import Kernel
    from lrfdse.ir.plan import Design
    from lrfdse.results.exploration import LayerResult
    from lrfdse.targets.target import Target

SHARED_BY = 4
"""Cores that share a last-level cache in one of the cases: as many as a cluster has on the boards that targets name."""

_DRAM_RATES = ("dram_bytes_per_cycle", "dram_fill_bytes_per_cycle", "dram_copy_bytes_per_cycle")


def sensitivity_of(
    designs: Sequence[Design], layers: Sequence[LayerResult], target: Target, cache: Store, progress: Listener
) -> tuple[SensitivityCase, ...]:
    """Return what the model meter says of designs if one assumption about the target were another.

    Bandwidths turn what was counted into time; with another share of the cache the kernels are counted again, because
    other lines move.

    Parameters
    ----------
    designs
        The original first.
    layers
        The layers with their measured options.
    target
        The target as it is: the first case.
    cache
        Where terms of kernels are kept.
    progress
        Told of every kernel that is counted.
    """
    kernels = {design.id: _kernels(design, layers) for design in designs}
    return tuple(
        _case(words, designs, kernels, assumed, counted, cache, progress)
        for words, assumed, counted in assumptions(target)
    )


def assumptions(target: Target) -> list[tuple[str, Target, Target]]:
    """Return what is assumed, in words, as the target that turns counts into time, and as the one that counts."""
    cache = target.last_level
    shared = cache.share > 1 / SHARED_BY
    other = dataclasses.replace(target, last_level=dataclasses.replace(cache, share=1 / SHARED_BY if shared else 1.0))
    whose = f"a last-level cache shared by {SHARED_BY}" if shared else "a last-level cache of its own"
    return [
        ("as the target says", target, target),
        ("half the DRAM bandwidth", _with_dram(target, 0.5), target),
        ("twice the DRAM bandwidth", _with_dram(target, 2.0), target),
        (whose, other, other),
    ]


def _with_dram(target: Target, factor: float) -> Target:
    rates = {name: getattr(target, name) for name in _DRAM_RATES}
    return dataclasses.replace(target, **{name: factor * rate for name, rate in rates.items() if rate is not None})


def _kernels(design: Design, layers: Sequence[LayerResult]) -> list[Kernel]:
    """Return the kernels of a design, one for each use of a layer."""
    found = []
    for result in layers:
        option = result.option(design.plan[result.layer.name])
        # Where the output error is known, factors were fitted on data.
        corrected = option.output_error is not None
        for use, schedule in zip(result.layer.uses, option.schedules, strict=True):
            found.append((kernel_spec(result.layer, use, option.choice, corrected), schedule))
    return found


def _case(
    words: str,
    designs: Sequence[Design],
    kernels: Mapping[str, Sequence[Kernel]],
    assumed: Target,
    counted: Target,
    cache: Store,
    progress: Listener,
) -> SensitivityCase:
    from lrfdse.calibrate.prediction import predicted
    from lrfdse.meters.meter import open_meter

    wanted = [kernel for design in designs for kernel in kernels[design.id]]
    terms = counted_terms(wanted, counted, open_meter("model", counted).key(), cache, progress)

    def latency(design: Design, regime: Regime) -> Latency:
        parts = [predicted(terms[kernel], assumed, regime) for kernel in kernels[design.id]]
        ends = ((part.us, part.low_us, part.high_us) for part in parts)
        return Latency(*(float(f"{sum(values):.7g}") for values in zip(*ends, strict=True)))

    found = {design.id: (latency(design, "warm"), latency(design, "cold")) for design in designs}
    before = found[designs[0].id]
    return SensitivityCase(
        assumption=words,
        designs=tuple(
            AssumedDesign(
                id=design.id,
                cache_regime=regime_of(design.words, assumed),
                latency=Latencies(warm=found[design.id][0], cold=found[design.id][1]),
                speed_up_warm=float(f"{before[0].us / found[design.id][0].us:.4g}"),
                speed_up_cold=float(f"{before[1].us / found[design.id][1].us:.4g}"),
            )
            for design in designs
        ),
    )
