"""Programs made by hand, whose operators are plain C, and emulators that run what is made of them."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrfdse.ir.compiled import CompiledOperator
from lrfdse.ir.epilogue import VALUE, Epilogue, Instruction, Operand
from lrfdse.ir.factorization import Step
from lrfdse.ir.indexed import Gather
from lrfdse.ir.operators import Elementwise, Operator, Softmax
from lrfdse.ir.products import FullyConnected
from lrfdse.ir.program import Call, Interface, MemoryPlan, Program, Value
from lrfdse.library.layout import Layout, lay_out
from lrfdse.library.make import Library, Origin, make_library
from lrfdse.library.vectors import Vectors
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_zig

TARGETS = ("riscv64", "riscv64-u74", "aarch64", "armv7", "host")
ROWS, WORDS, SIZE, OUT = 3, 7, 5, 6

LOOKUP = Gather(1, WORDS, SIZE, ROWS)
PRODUCT = FullyConnected(
    Step(batch=ROWS, out=OUT, inner=SIZE, columns=1),
    Epilogue((Instruction("add", (VALUE, Operand("input"))),), ("channel",)),
)
DOUBLED = Elementwise(ROWS * OUT, OUT, Epilogue((Instruction("add", (VALUE, VALUE)),)))
SOFTMAX = Softmax(ROWS, OUT)

SOURCES: dict[Operator, tuple[str, int]] = {
    LOOKUP: (
        f"""(const float *x, const long long *index, float *y)
        {{
            for (int c = 0; c < {ROWS}; c++) {{
                long long i = index[c] < 0 ? index[c] + {WORDS} : index[c];
                i = i < 0 ? 0 : i >= {WORDS} ? {WORDS - 1} : i;
                for (int k = 0; k < {SIZE}; k++) y[c * {SIZE} + k] = x[i * {SIZE} + k];
            }}
        }}""",
        0,
    ),
    # Its weight is read in reversed order, and its scratch memory holds a row.
    PRODUCT: (
        f"""(const float *x, const float *w, const float *b, float *y, float *work)
        {{
            for (int p = 0; p < {ROWS}; p++) {{
                for (int j = 0; j < {OUT}; j++) {{
                    work[j] = b[j];
                    for (int k = 0; k < {SIZE}; k++)
                        work[j] += w[{OUT * SIZE - 1} - j * {SIZE} - k] * x[p * {SIZE} + k];
                }}
                for (int j = 0; j < {OUT}; j++) y[p * {OUT} + j] = work[j];
            }}
        }}""",
        4 * OUT,
    ),
    DOUBLED: (f"(const float *x, float *y) {{ for (int i = 0; i < {ROWS * OUT}; i++) y[i] = x[i] + x[i]; }}", 0),
    SOFTMAX: (f"(const float *x, float *y) {{ for (int i = 0; i < {ROWS * OUT}; i++) y[i] = x[i] * x[i]; }}", 0),
}
"""The C of each operator, after the name of its function, and its scratch bytes. The last one squares."""


@dataclass(frozen=True)
class Made:
    """A program by hand with what it computes."""

    program: Program
    plan: MemoryPlan
    vectors: Vectors


def lookup_program() -> Made:
    """Rows of a table, times a matrix, plus a bias; twice that four times over is one output, its square another."""
    rng = np.random.default_rng(0)
    table, weight, bias = (
        rng.standard_normal(shape).astype(np.float32) for shape in ((WORDS, SIZE), (OUT, SIZE), (OUT,))
    )
    size = ROWS * OUT
    values = (
        Value("input", ROWS, "int64", "ids"),
        Value("constant", table.size, name="table"),
        Value("memory", ROWS * SIZE, name="rows"),
        Value("constant", weight.size, name="w"),
        Value("constant", OUT, name="b"),
        Value("memory", size, name="h"),
        Value("memory", size, name="h2"),
        Value("output", size, name="y"),
        Value("output", size, name="z"),
    )
    calls = (
        Call(LOOKUP, (1, 0, 2), ("Gather_0",)),
        Call(PRODUCT, (2, 3, 4, 5), ("MatMul_1", "Add_2")),
        Call(DOUBLED, (5, 6), ("Add_3",)),
        Call(DOUBLED, (6, 7), ("Add_4",)),
        Call(SOFTMAX, (7, 8), ("Mul_5",)),
    )
    program = Program(
        values,
        calls,
        (Interface("ids */ of\nwords", 0, (ROWS,)),),
        (Interface("y", 7, (1, ROWS, OUT)), Interface("z", 8, (ROWS, OUT))),
        {1: table.ravel(), 3: weight.ravel(), 4: bias},
    )
    # Rows and their product live at the same time, with the scratch memory behind; h2 takes the place of the rows.
    plan = MemoryPlan({2: 0, 5: 64, 6: 0}, 256, 256, 64, {1: 192})
    ids = np.array([2, -1, 6])
    y = 4 * (table[ids] @ weight.T + bias)
    return Made(program, plan, Vectors((ids,), (y[None], y * y)))


def compile_operators(made: Made, target: Target, name: str, folder: Path) -> list[CompiledOperator]:
    """Compile the C of every call; equal operators share a function."""
    compiled: dict[Operator, CompiledOperator] = {}
    for call in made.program.calls:
        if call.operator not in compiled:
            source, work = SOURCES[call.operator]
            symbol = f"{name}_{len(compiled):03d}"
            content = compile_c(f"void {symbol}{source}", target, folder)
            compiled[call.operator] = CompiledOperator(call.operator, "c", target.name, symbol, content, work)
    return [compiled[call.operator] for call in made.program.calls]


def compile_c(source: str, target: Target, folder: Path) -> bytes:
    text, made = folder / "operator.c", folder / "operator.o"
    text.write_text(source)
    options = ("-target", target.link or target.instruction_set.zig, "-O2", "-fPIC", "-ffreestanding", "-fno-builtin")
    plain = ("-fno-sanitize=undefined", "-fno-stack-protector", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables")
    cache = {"ZIG_GLOBAL_CACHE_DIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder)}
    command = [require_zig().path, "cc", *options, *plain, "-c", str(text), "-o", str(made)]
    subprocess.run(command, check=True, env={**os.environ, **cache})
    return made.read_bytes()


def reversed_weight(compiled: CompiledOperator, array: Any) -> Any:
    """The order in which the C above reads its weight."""
    return array[::-1]


@pytest.fixture
def native():
    """The shipped target of a name; "host" is skipped where the machine is another."""

    def load(name: str) -> Target:
        target = load_target(name)
        if target.is_native and platform.machine() != target.isa:
            pytest.skip(f"this machine is no {target.isa}")
        return target

    return load


@pytest.fixture(scope="session")
def c_layout(tmp_path_factory) -> Callable[..., tuple[Made, Layout]]:
    """The program above, compiled for a target and laid out."""
    folder = tmp_path_factory.mktemp("operators")

    def made(target: Target, name: str = "net") -> tuple[Made, Layout]:
        program = lookup_program()
        compiled = compile_operators(program, target, name, folder)
        return program, lay_out(program.program, program.plan, compiled, reversed_weight)

    return made


@pytest.fixture(scope="session")
def c_library(c_layout) -> Callable[..., Library]:
    """The program above as a library, without latencies unless asked for."""

    def made(target: Target, name: str = "net", *, meter: str = "none", weights_file: bool = False) -> Library:
        program, layout = c_layout(target, name)
        origin = Origin("lookup.onnx", "0" * 64)
        return make_library(
            name,
            program.program,
            program.plan,
            layout,
            program.vectors,
            target,
            origin,
            weights_file=weights_file,
            meter=meter,
        )

    return made
