"""The model meter against hardware: writes results/meter.md and meter.svg.

The one core at hand is x86-64, so kernels of all kinds, good and bad, are compiled for x86-64-v3. Each is predicted by
the model meter, with the plugin under qemu-x86_64 and LLVM's model of this machine's core, and timed natively in
interleaved rounds.

For emulated targets ``--cores`` compares the parts of the model with each other, and with ``--rvsim`` its cycles with
those of a simulator: writes results/meter_cores.md instead, which times nothing and needs no idle machine. What boards
say of them is for ``python -m benchmarks.boards``.

Needs: pip install 'lrfdse[bench-meter]', apt-get install qemu-user llvm-22, an x86-64 core with AVX2 and FMA.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.machine import machine
from benchmarks.meter import inorder, report, report_inorder, simulate
from benchmarks.meter.cases import LAYERS, STREAMING, Case, cases
from benchmarks.meter.compare import Row
from benchmarks.meter.figure import scatter
from benchmarks.meter.machine_target import Hierarchy, machine_target
from benchmarks.meter.native import Clocked, Native
from benchmarks.meter.page import cores_page, page_of
from benchmarks.meter.predict import Model
from benchmarks.program import parser
from benchmarks.results import write
from lrfdse.base.files import write_atomically
from lrfdse.errors import LrfdseError
from lrfdse.toolchain.programs import require_emulator, require_llvm

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
    asked = parser("meter", __doc__)
    asked.add_argument("--rounds", type=int, default=200, help="rounds over all kernels; each times every one twice")
    asked.add_argument("--variants", type=int, default=10, help="kernels of one layer, plain loops in C not counted")
    asked.add_argument("--cores", action="store_true", help="the parts of the model on emulated targets instead")
    asked.add_argument("--rvsim", action="store_true", help="with --cores: RISC-V targets beside the simulator rvsim")
    asked.add_argument("--quick", action="store_true", help="three layers only, to see whether everything runs")
    options = asked.parse_args()
    if options.rvsim and not options.cores:
        sys.exit("--rvsim is of the comparison of --cores: give both")
    if options.rvsim and not simulate.is_installed():
        sys.exit("rvsim is not installed: run `pip install 'lrfdse[bench-meter]'`")
    if options.cores:
        cores(options.out, options.rvsim)
    else:
        hardware(options)


def cores(out: Path, rvsim: bool) -> None:
    """Write the page of emulated targets."""
    probes, wholes, engines = inorder.probes(), list(inorder.whole_traces()), list(inorder.both_engines())
    simulated = []
    for each in simulate.simulations() if rvsim else ():
        simulated.append(each)
        say(f"rvsim: {each.target} {each.kernel} {each.schedule} {each.cycles}")
    facts = machine("apache-tvm", "ziglang", *(("rvsim",) if rvsim else ())) | {
        "llvm": require_llvm("llvm-mca").version,
    }
    data = {"machine": facts, **report_inorder.document(wholes, engines, simulated)}
    write(out, "meter_cores", cores_page(facts, probes, wholes, engines, simulated), data)


def hardware(options: argparse.Namespace) -> None:
    """Write the page of the machine at hand."""
    target = machine_target()
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
    say("")
    facts = machine("apache-tvm", "ziglang") | {
        "core_model": target.scheduling_model,
        "clock_ghz": round(clock, 3),
        "qemu": require_emulator(target).version,
        "llvm": require_llvm("llvm-mca").version,
        "rounds": options.rounds,
    }
    data = {
        "machine": facts,
        "memory": [dataclasses.asdict(found) for found in hierarchy.memory],
        "cases": report.document(rows, hierarchy),
    }
    write_atomically(options.out / "meter.svg", scatter(rows, hierarchy))
    write(options.out, "meter", page_of(facts, rows, hierarchy), data)


if __name__ == "__main__":
    try:
        main()
    except LrfdseError as error:
        sys.exit(str(error))
