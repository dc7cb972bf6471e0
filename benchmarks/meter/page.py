"""The text of results/meter.md around its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.machine import described
from benchmarks.meter import report, report_inorder
from benchmarks.meter.compare import Row, by_layer
from benchmarks.meter.inorder import Engines, Whole
from benchmarks.meter.machine_target import Hierarchy, levels
from benchmarks.meter.simulate import Simulated
from lrfdse.meters.scheduling import SelfTest


def page_of(facts: dict[str, object], rows: Sequence[Row], hierarchy: Hierarchy) -> list[str]:
    """Return the page of the machine at hand."""
    caches = ", ".join(f"{level.kib} KiB {level.ways}-way" for level in levels())
    return [
        "# The model meter against hardware",
        "",
        f"Written by `python -m benchmarks.meter`. {described(facts)}; caches: {caches}.",
        "",
        *_METHOD,
        "## What came out",
        "",
        f"{len(rows)} kernels of {len(by_layer(rows))} layers; warm calls.",
        "",
        *report.summary(rows, hierarchy),
        "",
        "![modelled over measured cycles](meter.svg)",
        "",
        "Lines: equal, and 25 % apart.",
        "",
        "## Layer by layer",
        "",
        *report.layers(rows, hierarchy),
        "",
        "## Where the model is right, and where it is not",
        "",
        *report.kinds(rows, hierarchy),
        "",
        "The kernels that it is most wrong about:",
        "",
        *report.worst(rows, hierarchy),
        "",
        *_CAUSES,
        "## What the parts are worth",
        "",
        "The first line is a model without either.",
        "",
        *report.parts(rows, hierarchy),
        "",
        "## Which memory rule",
        "",
        *_RULES,
        *report.rules(rows, hierarchy),
        "",
        "What the machine's memory delivered to simple loops, and so what the rules were given:",
        "",
        *report.memory(hierarchy),
        "",
    ]


def cores_page(
    facts: dict[str, object],
    probes: Mapping[str, tuple[str, SelfTest]],
    wholes: Sequence[Whole],
    engines: Sequence[Engines],
    simulated: Sequence[Simulated],
) -> list[str]:
    """Return the page of emulated targets."""
    return [
        "# The parts of the model on emulated targets",
        "",
        f"Written by `python -m benchmarks.meter --cores`. {described(facts)}.",
        "",
        "How the parts of the model agree with each other. What boards say of the cores is in [boards.md](boards.md).",
        "",
        "## Probes",
        "",
        "Cycles of 8 FMAs, each followed by an independent addition (docs/meter.md).",
        "",
        *report_inorder.probes(probes),
        "",
        "## Pieces against whole traces",
        "",
        "All executed instructions given to the core model as one sequence, against the pieces that the meter weighs.",
        "",
        *report_inorder.wholes(wholes),
        "",
        "## Both engines where both are right",
        "",
        *report_inorder.engines(engines),
        "",
        *(["## rvsim", "", *report_inorder.simulated(simulated), ""] if simulated else []),
    ]


_METHOD = [
    "Kernels are compiled for x86-64-v3: what the tuner would try, one accumulator, tiles that spill, random tiles,",
    "and the same chains as plain loops in C. The model meter predicts each from its execution under qemu-x86_64 and",
    "LLVM's model of the core. Natively all are timed in interleaved rounds, each twice a round; the lower quartile",
    "over the rounds counts, in cycles of the clock that a chain of dependent additions shows next to each sample.",
    "The stack begins at another multiple of 16 from round to round, and the best of the four counts (see below).",
    "Arrays lie in huge pages. *Warm* calls repeat; before a *cold* one all lines of the kernel's arrays are flushed",
    "from the caches. Nothing in the model is fitted to these kernels: sizes of caches come from Linux, bandwidths and",
    "latencies from simple loops over buffers on this machine, and the rest from LLVM.",
    "",
]
_CAUSES = [
    "Known causes:",
    "",
    "- llvm-mca sees no dependence through memory: sums that are spilled and reloaded in every iteration, or kept in",
    "  memory by the source, wait for the store to be forwarded, and the model does not (too fast).",
    "- LLVM's models hold fewer waiting instructions than real cores, whose queues in front of the schedulers they",
    "  leave out: long chains of which several could run side by side come out too slow.",
    "- The model takes for granted that no spilled vector crosses a line. Callers give a stack at any multiple of 16,",
    "  and then kernels that spill take longer (last column of this section's first table).",
    "- Computing and streaming of about equal length do not overlap perfectly (too fast by up to a fifth).",
    "- Weights larger than the second level: what the third delivers depends on the other tenants of the machine.",
    "",
]
_RULES = [
    "Overlap: the longer of computing and streaming; sum: both; midpoint: between. To each is added what is waited",
    "for. An out-of-order core is taken to wait for DRAM once for all misses within its window, and never for the",
    "caches; *every miss* charges each that no prefetcher sees coming, as on an in-order core.",
    "",
]
