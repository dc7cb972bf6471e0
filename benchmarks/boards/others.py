"""Copies, fills and reads of memory on other cores than the X60, as tinymembench measured them, and as modelled."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Argument, Artifact, KernelSpec, Schedule
from lrfdse.meters.model_meter import ModelMeter
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_zig

SOURCE = "ThomasKaiser, sbc-bench results: tinymembench"
_CACHES = 4
"""Buffers are so many times as large as the last-level cache; tinymembench's are of 32 MiB."""
_TIMEOUT = 300.0
"""Seconds, far more than the emulator takes for 16 MiB."""


@dataclass(frozen=True, slots=True)
class Stream:
    """One published rate."""

    target: str
    kind: str
    """"copy", "fill" or "read"."""
    gigabytes: float
    """Bytes copied, stored or read in a second, over 1e9."""
    board: str


STREAMS = (
    Stream("riscv64-u74", "copy", 0.86, "VisionFive 2, Linux 6.12"),
    Stream("riscv64-u74", "fill", 0.83, "VisionFive 2, Linux 6.12"),
    Stream("riscv64-u74", "read", 1.38, "VisionFive 2"),
    Stream("aarch64", "copy", 2.56, "Raspberry Pi 4B, 1.5 GHz"),
    Stream("aarch64", "fill", 3.44, "Raspberry Pi 4B, 1.5 GHz"),
    Stream("aarch64", "read", 4.31, "Raspberry Pi 4B, 1.5 GHz"),
    Stream("aarch64-a55", "copy", 3.32, "ODROID-M1, RK3568"),
    Stream("aarch64-a55", "fill", 5.96, "ODROID-M1, RK3568"),
    Stream("aarch64-a55", "read", 5.62, "Quartz64-A, RK3566"),
    Stream("armv7", "copy", 0.94, "Raspberry Pi 2B"),
    Stream("armv7", "fill", 1.18, "Raspberry Pi 2B"),
    Stream("armv7", "read", 1.31, "Raspberry Pi 2B"),
    Stream("aarch64-a53", "copy", 1.20, "Raspberry Pi 3B+"),
    Stream("aarch64-a53", "fill", 1.64, "Raspberry Pi 3B+"),
    Stream("aarch64-a53", "read", 2.15, "Raspberry Pi 3B+"),
    Stream("aarch64-a76", "copy", 6.01, "Raspberry Pi 5B, 2.4 GHz"),
    Stream("aarch64-a76", "fill", 10.0, "Raspberry Pi 5B, 2.4 GHz"),
    Stream("aarch64-a76", "read", 14.9, "Raspberry Pi 5B, 2.4 GHz"),
    Stream("riscv64-p550", "copy", 4.59, "EIC7700X, 1.4 GHz"),
    Stream("riscv64-p550", "fill", 8.70, "EIC7700X, 1.4 GHz"),
)
"""The rates to which the targets' bandwidths were set, where a loop's own time does not hide them: agreement says that
the rules of the model put them together as boards do, not that it predicts them."""

_LOOPS = {
    "riscv64": {
        "start": ["li a2, {bytes}", "sw zero, 0(a1)"],
        "copy": [f"{way}d t{i}, {8 * i}(a{to})" for way, to in (("l", 0), ("s", 1)) for i in range(7)]
        + ["ld a4, 56(a0)", "sd a4, 56(a1)"],
        "fill": [f"sd zero, {8 * i}(a1)" for i in range(8)],
        "read": [f"ld t{i % 7}, {8 * i}(a0)" for i in range(8)],
        "step": ["addi a0, a0, 64", "addi a1, a1, 64", "addi a2, a2, -64", "bnez a2, 1b", "ret"],
    },
    "aarch64": {
        "start": ["ldr x2, ={bytes}", "movi v4.4s, #0", "str wzr, [x1]"],
        "copy": ["ldp q0, q1, [x0]", "ldp q2, q3, [x0, #32]", "stp q0, q1, [x1]", "stp q2, q3, [x1, #32]"],
        "fill": ["stp q4, q4, [x1]", "stp q4, q4, [x1, #32]"],
        "read": ["ldp q0, q1, [x0]", "ldp q2, q3, [x0, #32]"],
        "step": ["add x0, x0, #64", "add x1, x1, #64", "subs x2, x2, #64", "b.ne 1b", "ret"],
    },
    "armv7": {
        "start": ["ldr r2, ={bytes}", "vmov.i32 q8, #0", "vmov.i32 q9, #0", "mov r3, #0", "str r3, [r1]"],
        "copy": [f"v{way}1.64 {{{{d{i}-d{i + 3}}}}}, [r{to}]!" for way, to in (("ld", 0), ("st", 1)) for i in (0, 4)],
        "fill": 2 * ["vst1.64 {{d16-d19}}, [r1]!"],
        "read": ["vld1.64 {{d0-d3}}, [r0]!", "vld1.64 {{d4-d7}}, [r0]!"],
        "step": ["subs r2, r2, #64", "bne 1b", "bx lr"],
    },
}
"""A cache line at a time, in the largest pieces that a core's registers take."""


@dataclass(frozen=True, slots=True)
class Modelled:
    """A published rate beside the modelled one, in bytes a cycle."""

    stream: Stream
    published: float
    modelled: float

    @property
    def error(self) -> float:
        """How much faster the model is than the board: 0.2 for a fifth, negative where it is slower."""
        return self.modelled / self.published - 1


def modelled(stream: Stream) -> Modelled:
    """Return the rate of one loop over buffers that no cache holds, each call after another."""
    target = load_target(stream.target)
    size = 1024 * _CACHES * target.last_level.kib
    floats = size // 4
    source, goal = (1 if stream.kind == "fill" else floats), (1 if stream.kind == "read" else floats)
    given = np.random.default_rng(0).standard_normal(source).astype(np.float32)
    expected = given.astype(np.float64) if stream.kind == "copy" else np.zeros(goal)
    artifact = _artifact(stream.kind, target, size, source, goal)
    measured = ModelMeter(target, _TIMEOUT).measure(artifact, [given], expected)
    cycles = measured.warm.us * target.clock_mhz
    return Modelled(stream, 1e3 * stream.gigabytes / target.clock_mhz, size / cycles)


def _artifact(kind: str, target: Target, size: int, source: int, goal: int) -> Artifact:
    loops = _LOOPS[target.isa]
    lines = [*loops["start"], "1:", *loops[kind], *loops["step"]]
    text = "\n".join([".text", ".globl kernel", "kernel:", *(line.format(bytes=size) for line in lines)]) + "\n"
    command = [require_zig().path, "cc", "-target", target.link, "-c", "kernel.s", "-o", "kernel.o"]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "kernel.s").write_text(text, encoding="ascii")
        environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": folder}
        subprocess.run(command, cwd=here, check=True, env=environment, capture_output=True)
        code = (here / "kernel.o").read_bytes()
    arguments = (Argument("from", "input", source), Argument("to", "output", goal))
    spec = KernelSpec(goal, source, Factorization.dense(goal, source), 1, False, False)
    return Artifact(spec, Schedule(()), target.name, "kernel", arguments, code)
