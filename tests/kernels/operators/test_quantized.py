"""Products of whole numbers on every kind of target, bit for bit against NumPy's integers."""

from __future__ import annotations

import dataclasses
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lrfdse.ir.factorization import Step
from lrfdse.ir.products import FullyConnected
from lrfdse.ir.quantized import QuantizedConvolution, QuantizedProduct, Rounding
from lrfdse.ir.window import Window
from lrfdse.kernels.operators.build import compile_operator, schedules_of
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import find_llvm
from tests.kernels.operators import references
from tests.kernels.operators.cases import BIAS, RNG, draw, exact, further
from tests.plugins.operators import Case
from tests.plugins.targets import families
from tests.program.interpreter import levels

SIGNED = Rounding(2.0**-5, -128)
"""Of int8 whose zero point is 0; halves of a level are exact."""
UNSIGNED = Rounding(float(np.float32(0.03)), 0)
"""Of uint8 behind a ReLU."""
CROOKED = Rounding(float(np.float32(0.0271)), -100)


def numbers(*shape: int) -> np.ndarray:
    """Return inputs that reach beyond both ends of all levels, some of them halfway between two."""
    x = draw(*shape, scale=4)
    x.reshape(-1)[::3] = np.rint(x.reshape(-1)[::3]) + np.float32(2.0**-6)
    return x


def product(rows: int, out: int, inner: int, rounding: Rounding) -> Case:
    x, w = numbers(rows, inner), RNG.integers(-128, 127, (out, inner), np.int8, endpoint=True)
    w.reshape(-1)[:: max(1, w.size // 3)] = -128
    start = rounding.shift * w.astype(int).sum(1)
    y = levels(x, rounding) @ w.astype(int).T
    return Case(
        QuantizedProduct(Step(rows, out, inner, 1), rounding), [x, w, start.astype(np.int32)], [y.astype(np.float32)], 0
    )


def convolution(window: Window, channels: int, outputs: int, rounding: Rounding) -> Case:
    x = numbers(window.batch, *window.image, channels)
    w = RNG.integers(-128, 127, (outputs, *window.kernel, channels), np.int8, endpoint=True)
    start = rounding.shift * w.astype(int).reshape(outputs, -1).sum(1)
    y = references.convolved(levels(x, rounding).astype(float), w.astype(float), window, 1)
    operator = QuantizedConvolution(window, channels, outputs, rounding)
    return Case(operator, [x, w, start.astype(np.int32)], [y.astype(np.float32)], 0)


def finished(case: Case) -> Case:
    """Return a case with an epilogue that brings its sums to about 1 first."""
    size, channels = case.expected[0].size, case.expected[0].shape[-1]
    more = further(BIAS, size, channels)
    small = references.finished(exact(case.expected[0], -1, channels) * 1e-4, BIAS, more)
    first = BIAS.instructions[0]
    scaled = dataclasses.replace(first.operands[1], number=first.operands[1].number * 1e-4)
    steps = (dataclasses.replace(first, operands=(first.operands[0], scaled)), *BIAS.instructions[1:])
    operator = dataclasses.replace(case.operator, epilogue=dataclasses.replace(BIAS, instructions=steps))
    return Case(operator, [*case.arrays, *more], [small])


def cases() -> Iterator[Case]:
    for rounding, sizes in (
        (SIGNED, (1, 1, 1)),
        (UNSIGNED, (7, 13, 5)),
        (CROOKED, (3, 70, 67)),
        (UNSIGNED, (1, 40, 300)),
    ):
        yield product(*sizes, rounding)
    yield finished(product(5, 21, 130, CROOKED))
    yield convolution(Window(1, (5, 5), (3, 3)), 3, 4, SIGNED)
    yield convolution(Window(2, (7, 9), (3, 5), (2, 3), pads=(1, 0, 2, 3)), 8, 21, UNSIGNED)
    yield convolution(Window(1, (9, 9), (3, 3), dilations=(2, 3), pads=(2,) * 4), 5, 6, CROOKED)
    yield finished(convolution(Window(1, (8, 6), (1, 1), (2, 2)), 6, 17, UNSIGNED))
    yield widened(3, 37, 50)
    yield widened(1, 5, 9)


def widened(rows: int, out: int, inner: int) -> Case:
    """Return a product of floats with an int8 weight."""
    x, w = draw(rows, inner), RNG.integers(-127, 127, (out, inner), np.int8, endpoint=True)
    y = x.astype(np.float64) @ w.astype(np.float64).T
    return Case(FullyConnected(Step(rows, out, inner, 1), weight="int8"), [x, w], [y])


X86 = {
    "avx2": ("host", (), {"avx2"}),
    "avxvnni": ("host", ("+avxvnni",), {"avx2", "avx_vnni"}),
    "avx512": ("host-avx512", (), {"avx512vl", "avx512bw", "avx512dq"}),
    "avx512vnni": ("host-avx512", ("+avx512vnni",), {"avx512vl", "avx512bw", "avx512dq", "avx512_vnni"}),
}
"""Targets with the features of a processor, and what Linux says of one that can run them."""


def x86(name: str) -> Target:
    target, features, _ = X86[name]
    return dataclasses.replace(load_target(target), features=features)


@pytest.mark.parametrize("name", X86)
def test_whole_numbers_on_this_machine(name, check_cases):
    if missing := X86[name][2] - _flags():
        pytest.skip(f"this machine has no {', '.join(sorted(missing))}")
    check_cases(list(cases()), x86(name))


def _flags() -> set[str]:
    path = Path("/proc/cpuinfo")
    return set(path.read_text().partition("\nflags")[2].partition("\n")[0].split()) if path.is_file() else set()


@pytest.mark.slow
@pytest.mark.parametrize("target", [*(name for name in families() if load_target(name).emulator), "aarch64-a55"])
def test_whole_numbers_under_the_emulator(target, check_cases):
    check_cases(list(cases()), load_target(target))


@pytest.mark.slow
def test_every_schedule_of_whole_numbers_gives_the_same(check_cases):
    host = load_target("host")
    made = [product(9, 70, 67, CROOKED), convolution(Window(1, (6, 7), (3, 3), pads=(1,) * 4), 6, 20, UNSIGNED)]
    every = [
        dataclasses.replace(case, schedule=schedule) for case in made for schedule in schedules_of(case.operator, host)
    ]
    assert len(every) > len(made)
    check_cases(every, host)


MULTIPLIES = {
    "riscv64": r"vwmacc\.vx",
    "aarch64": r"smlal2?\s+v\d+\.4s",
    "aarch64-a55": r"sdot\s+v\d+\.[24]s",
    "avx2": r"vpmaddwd\s.*%ymm",
    "avxvnni": r"vpdpbusd\s.*%ymm",
    "avx512": r"vpmaddwd\s.*%zmm",
    "avx512vnni": r"vpdpbusd\s.*%zmm",
}


@pytest.mark.parametrize("name", MULTIPLIES)
def test_the_instruction_of_the_machine_multiplies(name, tmp_path):
    tool = find_llvm("llvm-objdump")
    if tool is None:
        pytest.skip("llvm-objdump is not installed")
    target = x86(name) if name in X86 else load_target(name)
    operator = product(1, 64, 64, SIGNED).operator
    (tmp_path / "op.o").write_bytes(
        compile_operator(operator, schedules_of(operator, target)[0], target, "op").object_code
    )
    command = [tool.path, "-d", "--no-show-raw-insn", f"--mattr={','.join(target.features)}", str(tmp_path / "op.o")]
    listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(MULTIPLIES[name], listing), listing
