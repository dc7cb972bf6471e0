#!/usr/bin/env python3
"""The model meter against hardware and against a simulator: writes results/meter.md, meter.json and meter.svg.

The one core at hand is x86-64, so kernels of all kinds, good and bad, are compiled for x86-64-v3. Each is predicted by
the model meter, with the plugin under qemu-x86_64 and LLVM's model of this machine's core, and timed natively in
interleaved rounds. For the targets without hardware the parts of the model are compared with each other, and with
``--rvsim`` its cycles with those of a simulator.

Needs: pip install 'lrfdse[bench-meter]', apt-get install qemu-user llvm-22, an x86-64 core with AVX2 and FMA.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from machine import described, machine
from meterbench import inorder, report, report_inorder, simulate
from meterbench.cases import LAYERS, STREAMING, Case, cases
from meterbench.compare import Row, by_layer
from meterbench.figure import scatter
from meterbench.machine_target import Hierarchy, levels, machine_target
from meterbench.native import Clocked, Native
from meterbench.predict import Model

from lrfdse.errors import LrfdseError
from lrfdse.files import write_atomically
from lrfdse.measure.toolchain import require_emulator, require_llvm

TOP = Path(__file__).resolve().parents[2]
_MEMORY_ROUNDS = 25


def say(text: str, end: str = "\n") -> None:
    """Tell how far the run is."""
    print(text, end=end, file=sys.stderr, flush=True)


def timed(found: Sequence[Case], rounds: int) -> tuple[list[Native], Hierarchy, float]:
    """Time all cases natively, and measure the memory that they ran on."""
    with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as folder:
        clocked = Clocked(found, Path(folder))
        hierarchy = Hierarchy.of(machine_target(), lambda kib: clocked.memory(kib, _MEMORY_ROUNDS))
        native, clock = clocked.kernels(rounds, lambda done: say(f"\rround {done} of {rounds}", end=""))
        say("")
    return native, hierarchy, clock


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=200, help="rounds over all kernels; each times every one twice")
    parser.add_argument("--variants", type=int, default=10, help="kernels of one layer, plain loops in C not counted")
    parser.add_argument("--rvsim", action="store_true", help="compare the modelled cycles of RISC-V targets with rvsim")
    parser.add_argument("--quick", action="store_true", help="three layers only, to see whether everything runs")
    parser.add_argument("--out", type=Path, default=TOP / "results")
    options = parser.parse_args()
    if options.rvsim and not simulate.is_installed():
        sys.exit("rvsim is not installed: run `pip install 'lrfdse[bench-meter]'`")

    target, model = machine_target(), None
    sizes = LAYERS[:1] + LAYERS[7:9] if options.quick else (*LAYERS, *STREAMING)
    found = []
    for case in cases(target, sizes, options.variants):
        found.append(case)
        say(f"\r{len(found)} kernels compiled", end="")
    say("")
    native, hierarchy, clock = timed(found, options.rounds)
    model = Model(target)
    rows = []
    for case, measured in zip(found, native, strict=True):
        rows.append(Row(case, measured, model.predict(case, hierarchy)))
        say(f"\r{len(rows)} kernels modelled", end="")
    say("\nmodels of other cores")
    probes, wholes, engines = inorder.probes(), list(inorder.whole_traces()), list(inorder.both_engines())
    simulated = []
    for each in simulate.simulations() if options.rvsim else ():
        simulated.append(each)
        say(f"rvsim: {each.target} {each.kernel} {each.schedule} {each.cycles}")

    extra = ("apache-tvm", "ziglang", *(("rvsim",) if options.rvsim else ()))
    facts = machine(*extra) | {
        "core_model": target.scheduling_model,
        "clock_ghz": round(clock, 3),
        "qemu": require_emulator(target).version,
        "llvm": require_llvm("llvm-mca").version,
        "rounds": options.rounds,
    }
    caches = ", ".join(f"{level.kib} KiB {level.ways}-way" for level in levels())
    lines = [
        "# The model meter against hardware",
        "",
        f"Written by `scripts/bench/meter.py`. {described(facts)}; caches: {caches}.",
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
        "## Targets without hardware",
        "",
        "No board was at hand. What can be said of these targets is how the parts of the model compare with each other",
        "and with a simulator that rests on guesses of its own.",
        "",
        "### Probes",
        "",
        "Cycles of 8 FMAs, each followed by an independent addition (docs/meter.md).",
        "",
        *report_inorder.probes(probes),
        "",
        "### Pieces against whole traces",
        "",
        "All executed instructions given to the core model as one sequence, against the pieces that the meter weighs.",
        "",
        *report_inorder.wholes(wholes),
        "",
        "### Both engines where both are right",
        "",
        *report_inorder.engines(engines),
        "",
        "### rvsim",
        "",
        *(report_inorder.simulated(simulated) if simulated else ["Not run: needs `--rvsim`."]),
        "",
    ]
    data = {
        "machine": facts,
        "memory": [dataclasses.asdict(found) for found in hierarchy.memory],
        "cases": report.document(rows, hierarchy),
        **report_inorder.document(wholes, engines, simulated),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "meter.svg", scatter(rows, hierarchy))
    write_atomically(options.out / "meter.json", json.dumps(data, indent=1) + "\n")
    write_atomically(options.out / "meter.md", "\n".join(lines))


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

if __name__ == "__main__":
    try:
        main()
    except LrfdseError as error:
        sys.exit(str(error))
