"""Modelled latency of plans' fully-connected layers, from the tool's meter; kernels come from its cache where known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy.cases import open_case
from benchmarks.accuracy.columns import Row
from lrfdse.base.events import Event
from lrfdse.base.store import Store
from lrfdse.explore.layers.latencies import KernelRequest, MeasuredKernel, measure_kernels
from lrfdse.explore.plans.assemble import regime_of
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec, kernel_spec
from lrfdse.ir.layer import Layer
from lrfdse.meters.meter import open_meter
from lrfdse.targets.catalog import load_target

Latencies = dict[str, dict[str, float]]
"""Row key to layer name to microseconds; "" is their sum."""


def latencies(rows: Sequence[Row], trained: Path, target_name: str, cache: Store, jobs: int) -> Latencies:
    """Return the latency of every row's fully-connected layers, in the cache regime of the plan as a whole.

    A row of which a kernel fails is left out.
    """
    target = load_target(target_name)
    meter = open_meter("model" if not target.is_native else "host", target)
    layers = {name: open_case(name, seed, trained).model.layers for name, seed in {(r.model, r.seed) for r in rows}}
    specs = {row.key: {x.name: _specs(x, row.plan.get(x.name, "dense")) for x in layers[row.model]} for row in rows}
    wanted = [spec for each in specs.values() for found in each.values() for spec in found]
    measured = measure_kernels(wanted, KernelRequest(target, meter, jobs), cache, _told)
    found: Latencies = {}
    for row in rows:
        regime = regime_of(row.costs["all_params"], target)
        parts: dict[str, float] = {}
        for name, kernels in specs[row.key].items():
            times = [_us(measured[spec], regime == "warm") for spec in kernels]
            parts[name] = sum(time for time in times if time is not None)
            if None in times:
                break
        else:
            found[row.key] = {**parts, "": sum(parts.values())}
    return found


def _specs(layer: Layer, text: str) -> list[KernelSpec]:
    """Return the kernel of each use; every factorized layer counts as corrected."""
    factorization = Factorization.parse(text, layer.outputs, layer.inputs)
    return [kernel_spec(layer, use, Choice(factorization), corrected=True) for use in layer.uses]


def _us(kernel: MeasuredKernel, warm: bool) -> float | None:
    if kernel.measurement is None:
        return None
    return (kernel.measurement.warm if warm else kernel.measurement.cold).us


def _told(event: Event) -> None:
    if event.done is not None and (event.done % 20 == 0 or event.done == event.total):
        print(f"{event.stage} {event.done}/{event.total}", flush=True)
