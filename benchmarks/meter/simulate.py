"""Kernels on rvsim, a cycle-level RISC-V simulator (PyPI `rvsim`): bare metal, each called twice, cold then warm."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.meter.cases import SYMBOL, Size, name_of, spec_of
from lrfdse.errors import KernelError, ToolError
from lrfdse.ir.kernel import Artifact, Schedule, StepSchedule
from lrfdse.ir.latency import Measurement
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.data import example
from lrfdse.kernels.schedules import schedules
from lrfdse.kernels.spills import spills
from lrfdse.meters.image import Image
from lrfdse.meters.meter import open_meter
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_zig

TARGETS = {
    "riscv64-u74": "in order, two-wide, scalar",
    "riscv64": "out of order with 16 instructions in flight: rvsim's in-order pipeline runs one vector instruction "
    "at a time (12 cycles each), which no core with vectors does",
}
"""Target to the pipeline that stands for it."""

PREFETCHERS = {
    "lines": "after a miss the next 2 lines into L1, streams of lines into L2",
    "strides": "by the load's address in the program, 4 lines ahead into L1 and 8 into L2",
}

KERNELS: tuple[Size, ...] = (
    (64, 100, "dense", 1),
    (128, 512, "dense", 1),
    (300, 784, "svd:r=16", 1),
    (300, 784, "tt:m=15x20,n=28x28,r=8", 1),
    (300, 784, "tt:m=10x6x5,n=7x7x16,r=8x8", 1),
)
_LIMIT = 3_000_000
"""Simulated cycles."""

_TIMEOUT = 400.0
_REGISTERS = 8
"""Arguments that the start-up code passes."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """One kernel by both."""

    target: str
    kernel: str
    schedule: str
    lanes: int
    """Most lanes of a vector operation, in units of the target's registers: LMUL."""
    spills: int
    modelled: Measurement
    cycles: dict[str, tuple[int, int] | str]
    """By prefetcher: cold and warm cycles, or why it cannot be simulated."""


def is_installed() -> bool:
    """Return whether rvsim can be imported."""
    return importlib.util.find_spec("rvsim") is not None


def simulations() -> Iterator[Simulated]:
    """Yield the tuner's schedule, one at LMUL 1 where that is another, and one with a single accumulator."""
    for name in TARGETS:
        target = load_target(name)
        meter = open_meter("model", target, timeout=600.0)
        for size in KERNELS:
            spec = spec_of(size)
            for schedule in _schedules(spec_of(size), target):
                artifact = compile_kernel(spec, schedule, target, SYMBOL, assembly=True)
                arrays, expected = example(artifact, 0)
                modelled = meter.measure(artifact, arrays, expected)
                cycles = {
                    kind: _simulate(artifact, Image(artifact, arrays, expected), target, kind) for kind in PREFETCHERS
                }
                widest = max(step.lanes for step in schedule.steps)
                group = max(1, widest // target.lanes)
                yield Simulated(name, name_of(size), str(schedule), group, spills(artifact, target), modelled, cycles)


def _schedules(spec: Any, target: Target) -> list[Schedule]:
    tuned = schedules(spec, target, 12)
    narrow = [s for s in tuned if all(step.lanes <= target.lanes for step in s.steps)]
    one = Schedule(
        tuple(
            StepSchedule("out", target.lanes if step.out >= target.lanes else 1, 1, 1, 1)
            for step in spec.factorization.steps(spec.rows)
        )
    )
    return list(dict.fromkeys((*tuned[:1], *narrow[:1], one)))


def _simulate(artifact: Artifact, image: Image, target: Target, prefetcher: str) -> tuple[int, int] | str:
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        image.write(here / "image")
        _, size, *offsets = (int(number) for number in np.fromfile(here / "image", "<u8", 2 + len(artifact.arguments)))
        if len(offsets) > _REGISTERS:
            return f"not simulable: {len(offsets)} arguments do not fit the registers"
        _link(artifact, offsets, here)
        (here / "machine.json").write_text(json.dumps(_machine(target, prefetcher)))
        program = Path(__file__).with_name("simulate_run.py")
        command = [sys.executable, str(program), str(_LIMIT), str(size)]
        try:
            ended = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            return f"not simulable: no end after {_TIMEOUT:g} s"
        if ended.returncode:
            raise ToolError(f"rvsim failed: {ended.stderr.strip().splitlines()[-1:]}")
        result = json.loads(ended.stdout.splitlines()[-1])
        if result["failed"]:
            return f"not simulable: {result['failed']}"
        try:
            image.check(here / "after")
        except KernelError as wrong:
            return f"not simulable: {re.sub('^.*?: ', '', str(wrong))}"
        cold, warm = result["cycles"]
        return cold, warm


def _link(artifact: Artifact, offsets: list[int], here: Path) -> None:
    loads = "\n".join(f"    la a{i}, image + {offset}" for i, offset in enumerate(offsets))
    (here / "start.S").write_text(_START.replace("LOADS", loads))
    (here / "layout.ld").write_text(_LAYOUT)
    (here / "kernel.o").write_bytes(artifact.object_code)
    zig = require_zig().path
    compile_start = ["cc", "-target", "riscv64-freestanding", "-mcpu=generic_rv64+m+a+f+d+c+v", "-c", "start.S"]
    link = ["ld.lld", "-static", "-T", "layout.ld", f"--defsym=lrf_kernel={artifact.symbol}", "start.o", "kernel.o"]
    for command in ([*compile_start, "-o", "start.o"], [*link, "-o", "program"]):
        subprocess.run([zig, *command], cwd=here, check=True, capture_output=True)


def _machine(target: Target, prefetcher: str) -> dict[str, Any]:
    """Return rvsim's configuration of a target: its caches and memory, and latencies as in LLVM's model of X60."""
    from rvsim import Backend, BranchPredictor, Cache, Config, Fu, LoadPrefetcher, PageBoundary, Prefetcher

    units = Fu(
        [
            *(Fu.IntAlu(2, 1), Fu.IntMul(1, 5), Fu.IntDiv(1, 20), Fu.Branch(1, 1), Fu.Mem(2, 1)),
            *(Fu.FpAdd(1, 4), Fu.FpMul(1, 4), Fu.FpFma(1, 5), Fu.FpDivSqrt(1, 15)),
            *(Fu.VecIntAlu(1, 4), Fu.VecIntMul(1, 5), Fu.VecIntDiv(1, 20), Fu.VecMem(1, 1), Fu.VecPermute(1, 4)),
            *(Fu.VecFpAlu(1, 4), Fu.VecFpFma(1, 5), Fu.VecFpDivSqrt(1, 20)),
        ]
    )
    narrow = {"rob_size": 16, "store_buffer_size": 8, "issue_queue_size": 4, "load_queue_size": 8}
    ports = {"load_ports": 1, "store_ports": 1, "prf_gpr_size": 64, "prf_fpr_size": 64, "prf_vpr_size": 64}
    lines = prefetcher == "lines"
    vectors = {"vlen": 32 * target.lanes, "num_vec_lanes": target.lanes, "vector_mem_width": 32}
    strides = LoadPrefetcher.Stride(table_size=32, l1_lines=4, l2_lines=8, page_boundary=PageBoundary.CrossWithTlb())
    machine = Config(
        width=2,
        backend=Backend.OutOfOrder(fu_config=units, **narrow, **ports),
        console="quiet",
        branch_predictor=BranchPredictor.TAGE(),
        l1i=Cache("32KB", ways=4, latency=1, prefetcher=Prefetcher.NextLine(degree=2)),
        l1d=Cache(
            f"{target.l1.kib}KB",
            ways=target.l1.ways,
            latency=2,
            mshr_count=8,
            prefetcher=Prefetcher.NextLine(degree=2) if lines else Prefetcher.Off(),
        ),
        l2=Cache(
            f"{target.last_level.kib}KB",
            ways=target.last_level.ways,
            latency=round(target.last_level_latency) - 3,
            mshr_count=16,
            prefetcher=Prefetcher.Stream(degree=4) if lines else Prefetcher.Off(),
        ),
        load_prefetcher=None if lines else strides,
        cpu_clock_mhz=round(target.clock_mhz),
        **(vectors if target.lanes > 1 else {}),
    ).to_dict()
    machine["memory"]["simple_latency"] = round(target.dram_latency - target.last_level_latency)
    machine["memory"]["simple_bandwidth_gib_s"] = target.dram_bytes_per_cycle * target.clock_mhz * 1e6 / 2**30
    if target.lanes == 1:
        machine["pipeline"]["backend"] = "InOrder"
    return dict(machine)


_LAYOUT = """ENTRY(_start)
SECTIONS {
    . = 0x80000000;
    .text : { *(.text.start) *(.text*) }
    .rodata : { *(.rodata* .srodata*) }
    . = ALIGN(4096);
    .data : { *(.data* .sdata* .bss* .sbss*) }
    /DISCARD/ : { *(.comment .note* .eh_frame*) }
}
"""

_START = """
.section .text.start, "ax"
.globl _start
_start:
    la t0, trap
    csrw mtvec, t0
    li t0, 0x6600 /* floats and vectors on */
    csrs mstatus, t0
    la sp, stack_end
    la s0, result
    addi s1, s0, 16
again:
LOADS
    csrr s2, mcycle
    call lrf_kernel
    csrr t0, mcycle
    sub t0, t0, s2
    sd t0, 0(s0)
    addi s0, s0, 8
    bne s0, s1, again
    li t0, 1
    j done
.balign 4
trap:
    la s1, result + 16
    csrr t0, mcause
    sd t0, 8(s1)
    csrr t0, mtval
    sd t0, 16(s1)
    li t0, 2
done:
    sd t0, 0(s1)
    fence
    li t0, 0x100000 /* powers the simulated machine off */
    li t1, 0x5555
    sw t1, 0(t0)
1:  j 1b
.section .data
.balign 4096
.globl image
image:
    .incbin "image"
.balign 64
.globl result
result:
    .space 64
    .space 65536
stack_end:
"""
