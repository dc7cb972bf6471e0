"""Loops and micro-kernels of our own writing, shaped like those that were measured, as RISC-V assembly."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.boards.x60 import Gemm
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Argument, Artifact, KernelSpec, Role, Schedule
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_zig

INNER, BLOCKS = 4096, 16
"""Length of the inner axis, as published, and how often the rows of a tile are taken: enough for the panel of columns
to be read from the last level and the rows from DRAM, as in the published product of 4096 rows."""

_VLENB = 32
"""Bytes of a vector register."""

Arrays = list[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Case:
    """A program to model: its text, its arrays, and what it must compute."""

    text: str
    sizes: tuple[tuple[str, Role, int], ...]
    """Name, role and float32 elements of each argument."""

    def arrays(self) -> tuple[Arrays, NDArray[np.float64]]:
        """Return the input arrays and the expected output."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class GemmCase(Case):
    """A product of the published shape."""

    gemm: Gemm

    def arrays(self) -> tuple[Arrays, NDArray[np.float64]]:
        """Return random arrays and their product; zeros for float64, of which the meter checks the words only."""
        g = self.gemm
        if g.bits == 64:
            given = [np.zeros(size, np.float32) for _, role, size in self.sizes if role in ("input", "weight")]
            return given, np.zeros(self.sizes[2][2])
        rng = np.random.default_rng(0)
        rows = rng.standard_normal((BLOCKS, INNER, g.rows)).astype(np.float32)
        columns = rng.standard_normal((INNER, g.columns)).astype(np.float32)
        product = np.einsum("bkr,kc->bcr", rows[..., : g.parts * g.length].astype(np.float64), columns, optimize=True)
        return [rows.ravel(), columns.ravel()], product.ravel()


@dataclass(frozen=True, slots=True)
class StreamCase(Case):
    """A loop over one buffer, or two."""

    kind: str

    def arrays(self) -> tuple[Arrays, NDArray[np.float64]]:
        """Return a random buffer, and what the loop makes of it."""
        given = [np.random.default_rng(0).standard_normal(self.sizes[0][2]).astype(np.float32)]
        if self.kind == "count":
            return given, np.array([np.count_nonzero(given[0].view(np.int8) > -65)], np.float64)
        output = self.sizes[-1][2]
        return given, given[0].astype(np.float64) if self.kind == "copy" else np.zeros(output)


def gemm_case(gemm: Gemm) -> GemmCase:
    """Return the published product as a program: `BLOCKS` tiles of rows times one panel of columns."""
    words = gemm.bits // 32
    sizes: tuple[tuple[str, Role, int], ...] = (
        ("rows", "input", words * BLOCKS * INNER * gemm.rows),
        ("columns", "weight", words * INNER * gemm.columns),
        ("product", "output", words * BLOCKS * gemm.columns * gemm.parts * gemm.length),
        ("stack", "work", gemm.columns * gemm.parts * 8 * _VLENB // 4),
    )
    return GemmCase("\n".join(_Tile(gemm).program()) + "\n", sizes, gemm)


def stream_case(kind: str, lmul: int, kib: int) -> StreamCase:
    """Return a loop over `kib` KiB: "copy", "fill" or "count" (bytes above -65, which reads only)."""
    step = {
        "copy": ["vle8.v v8, (a0)", "add a0, a0, t0", "sub a2, a2, t0", "vse8.v v8, (a1)", "add a1, a1, t0"],
        "fill": ["vse8.v v8, (a1)", "sub a2, a2, t0", "add a1, a1, t0"],
        "count": [
            *("vle8.v v8, (a0)", "vmsgt.vx v16, v8, t1", "vcpop.m t2, v16", "add t3, t3, t2"),
            *("sub a2, a2, t0", "add a0, a0, t0"),
        ],
    }[kind]
    end = ["fcvt.s.l ft0, t3", "fsw ft0, 0(a1)"] if kind == "count" else []
    vtype = f"e8, m{lmul}, ta, ma"
    lines = [
        *_head(),
        *(f"li a2, {1024 * kib}", "li t1, -65", "li t3, 0"),
        *(f"vsetvli t0, zero, {vtype}", "vmv.v.i v8, 0"),
        *("1:", f"vsetvli t0, a2, {vtype}", *step, "bnez a2, 1b", *end, "ret"),
    ]
    floats = 256 * kib
    source, goal = (1 if kind == "fill" else floats), (1 if kind == "count" else floats)
    return StreamCase("\n".join(lines) + "\n", (("from", "input", source), ("to", "output", goal)), kind)


def assembled(case: Case, target: Target) -> Artifact:
    """Return a case as an object with the symbol `kernel`."""
    features = "".join(f.replace("-", "_") for f in target.features if f.startswith("+"))
    command = [require_zig().path, "cc", "-target", target.link, f"-mcpu=generic_rv64{features}", "-c", "kernel.s"]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "kernel.s").write_text(case.text)
        environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": folder}
        subprocess.run([*command, "-o", "kernel.o"], cwd=here, check=True, env=environment)
        code = (here / "kernel.o").read_bytes()
    arguments = tuple(Argument(*size) for size in case.sizes)
    size = next(argument.size for argument in arguments if argument.role == "output")
    spec = KernelSpec(size, 1, Factorization.dense(size, 1), 1, False, False)
    return Artifact(spec, Schedule(()), target.name, "kernel", arguments, code)


def _head() -> list[str]:
    return [".text", ".globl kernel", ".p2align 6", "kernel:"]


@dataclass(frozen=True, slots=True)
class _Tile:
    """The registers of a tile: rows, columns and accumulators; what finds no place lies on the stack."""

    gemm: Gemm

    @property
    def registers(self) -> int:
        """Vector registers of one operand."""
        return 1 if self.gemm.lmul == "mf2" else int(self.gemm.lmul[1:])

    @property
    def accumulators(self) -> int:
        return self.gemm.columns * self.gemm.parts

    @property
    def kept(self) -> int:
        """Accumulators in registers; where there are others, one register is kept free for them."""
        free = 32 // self.registers - self.gemm.parts
        return self.accumulators if self.accumulators <= free else free - 1

    def vector(self, index: int) -> str:
        return f"v{index * self.registers}"

    def accumulator(self, index: int) -> str:
        """Return the register of an accumulator; of one on the stack, the register that is kept free."""
        first = self.gemm.parts + (self.kept < self.accumulators)
        return self.vector(first + index if index < self.kept else self.gemm.parts)

    def program(self) -> Iterator[str]:
        g = self.gemm
        size = g.bits // 8
        yield from _head()
        yield f"vsetivli zero, {g.length}, e{g.bits}, {g.lmul}, ta, ma"
        yield f"li a5, {INNER * g.columns * size}"
        yield from ("add a5, a5, a1", f"li a6, {BLOCKS}", "1:", "mv t6, a1")
        for index in range(self.accumulators):
            yield f"vmv.v.i {self.accumulator(index)}, 0"
            if index >= self.kept:
                yield from (*self.address(index, True), f"{self.whole('s')} {self.accumulator(index)}, (t2)")
        yield "2:"
        accesses = self.accesses()
        for step in range(g.unroll):
            for part in range(g.parts):
                yield f"vle{g.bits}.v {self.vector(part)}, (a0)"
                last = part == g.parts - 1
                yield f"addi a0, a0, {(g.rows - part * g.length if last else g.length) * size}"
            for column in range(g.columns):
                yield f"{'flw' if g.bits == 32 else 'fld'} f{column}, {(step * g.columns + column) * size}(t6)"
            if step == g.unroll - 1:
                yield f"addi t6, t6, {g.unroll * g.columns * size}"
            for index in range(self.accumulators):
                fma = f"vfmacc.vf {self.accumulator(index)}, f{index // g.parts}, {self.vector(index % g.parts)}"
                if index < self.kept:
                    yield fma
                    continue
                yield from (*self.address(index, next(accesses)), f"{self.whole('l')} {self.accumulator(index)}, (t2)")
                yield fma
                if next(accesses):
                    yield from self.address(index, True)
                yield f"{self.whole('s')} {self.accumulator(index)}, (t2)"
        yield "bne t6, a5, 2b"
        for index in range(self.accumulators):
            if index >= self.kept:
                yield from (*self.address(index, True), f"{self.whole('l')} {self.accumulator(index)}, (t2)")
            yield f"vse{g.bits}.v {self.accumulator(index)}, (a2)"
            yield f"addi a2, a2, {g.length * size}"
        yield from ("addi a6, a6, -1", "bnez a6, 1b", "ret")

    def accesses(self) -> Iterator[bool]:
        """Yield for each access to the stack in one pass whether the vector length is read anew for its address.

        As many times as in the published loop, spread evenly over those accesses that there are here.
        """
        count = 2 * self.gemm.unroll * (self.accumulators - self.kept)
        for access in range(count):
            yield (access + 1) * self.gemm.vlenb // count > access * self.gemm.vlenb // count

    def address(self, index: int, anew: bool) -> Iterator[str]:
        """Yield the instructions that put the address of an accumulator on the stack into t2."""
        place = (index - self.kept) * self.registers
        if anew:
            yield "csrr t5, vlenb"
        if place & (place - 1):
            yield from (f"li t3, {place}", "mul t2, t5, t3", "add t2, t2, a3")
        elif place:
            yield from (f"slli t2, t5, {place.bit_length() - 1}", "add t2, t2, a3")
        else:
            yield "mv t2, a3"

    def whole(self, way: str) -> str:
        """Return the instruction that loads or stores whole registers."""
        return f"vl{self.registers}re{self.gemm.bits}.v" if way == "l" else f"vs{self.registers}r.v"
