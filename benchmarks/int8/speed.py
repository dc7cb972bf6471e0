"""Kernels with int8 weights against those with float32 weights, modelled.

The layers of results/kernels.md at one row, each dense and factorized, as kernels with float32 weights and as kernels
with int8 weights of the same factorization. Both are compiled, run on the target's instruction set and held against
float64 of the same weights. A table says in which level the weights of the float32 kernel lie, and whether at peak
rates its FMAs or the reading of its weights take longer.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.kernels.layers import Case, Layer, cases
from benchmarks.results import table
from lrfdse.base.events import Event
from lrfdse.base.store import Store
from lrfdse.explore.layers.latencies import KernelRequest, MeasuredKernel, measure_kernels
from lrfdse.ir.kernel import KernelSpec, Spec
from lrfdse.ir.storage import INT8
from lrfdse.meters.meter import open_meter
from lrfdse.targets.target import Target

PLACES = ("L1", "L2", "DRAM")


@dataclass(frozen=True, slots=True)
class Pair:
    """A case with its latencies, warm, in microseconds."""

    case: Case
    place: str
    """Where the float32 weights lie."""
    by: str
    """What takes longer of the float32 kernel at the target's peak rates: "FMAs", or "reading" its weights from the
    last-level cache."""
    float32: float
    int8: float

    @property
    def gain(self) -> float:
        """How many times as long the float32 kernel takes."""
        return self.float32 / self.int8


def place(case: Case, target: Target) -> str:
    """Return the nearest cache level that holds the float32 weights of a case.

    >>> from benchmarks.kernels.layers import LAYERS
    >>> from lrfdse.targets.catalog import load_target
    >>> [place(case, load_target("riscv64")) for case in cases(LAYERS[:1], 1)]
    ['DRAM', 'L2', 'L2', 'L2']
    """
    if case.weight_bytes <= 1024 * target.l1.kib:
        return "L1"
    return "L2" if case.weight_bytes <= target.last_level.bytes else "DRAM"


def longer(case: Case, target: Target) -> str:
    """Return what takes longer of the float32 kernel, see `Pair.by`."""
    reading = case.weight_bytes / target.last_level_bytes_per_cycle
    return "reading" if reading > case.macs / target.fma_per_cycle else "FMAs"


def in_int8(spec: KernelSpec) -> KernelSpec:
    """Return the kernel of the same factorization with int8 weights."""
    return replace(spec, storage=INT8)


def pairs(listed: Iterable[Case], target: Target, measured: Mapping[Spec, MeasuredKernel]) -> list[Pair]:
    """Return the cases of which both kernels were measured."""
    found = []
    for case in listed:
        both = [measured[spec].measurement for spec in (case.spec, in_int8(case.spec))]
        if both[0] is not None and both[1] is not None:
            found.append(Pair(case, place(case, target), longer(case, target), both[0].warm.us, both[1].warm.us))
    return found


def mean(gains: Sequence[float]) -> str:
    """Return the geometric mean of ratios, as text; a dash where there are none."""
    return f"{math.exp(sum(map(math.log, gains)) / len(gains)):.2f}" if gains else "–"


def speed(
    target: Target, layers: Sequence[Layer], cache: Store, jobs: int
) -> tuple[list[str], list[list[str | float]]]:
    """Measure all forms of layers on a target; return the lines of the page, and the numbers."""

    def tell(event: Event) -> None:
        print(f"{event.done}/{event.total} {event.text}", file=sys.stderr)

    listed = list(cases(layers, 1))
    specs = [spec for case in listed for spec in (case.spec, in_int8(case.spec))]
    request = KernelRequest(target, open_meter("model", target), jobs)
    found = pairs(listed, target, measure_kernels(specs, request, cache, tell))
    return section(target, found), [[str(pair.case), pair.place, pair.by, pair.float32, pair.int8] for pair in found]


def section(target: Target, found: Sequence[Pair]) -> list[str]:
    """Return the lines of one target."""
    by_place = {name: [pair.gain for pair in found if pair.place == name] for name in PLACES}
    memory = [pair for pair in found if pair.by == "reading" and pair.place != "L1"]
    by_place |= {
        f"{name}, reading takes longer": [pair.gain for pair in memory if pair.place == name] for name in PLACES[1:]
    }
    heads = ("float32 weights in", "cases", "float32 / int8, geometric mean", "least", "most")
    groups = by_place | {"L2 or DRAM, reading takes longer": [pair.gain for pair in memory]}
    rows = [(name, len(g), mean(g), f"{min(g):.2f}", f"{max(g):.2f}") for name, g in groups.items() if g]
    each = [
        (
            f"{pair.case.layer.inputs}→{pair.case.layer.outputs}",
            str(pair.case.factorization),
            f"{pair.case.weight_bytes / 1024:,.0f}",
            f"{in_int8(pair.case.spec).choice.bytes / 1024:,.0f}",
            pair.place,
            pair.by,
            f"{pair.float32:.3g}",
            f"{pair.int8:.3g}",
            f"{pair.gain:.2f}",
        )
        for pair in found
    ]
    return [
        f"### {target.name}: modelled",
        "",
        f"{target.summary}.",
        "",
        *table(heads, rows),
        "",
        *table(("layer", "form", "KiB", "KiB int8", "float32 in", "longer", "us", "us int8", "gain"), each),
        "",
    ]
