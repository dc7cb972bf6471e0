"""The working memory of emitted kernels against what the design space counts before anything is compiled."""

from __future__ import annotations

import itertools
import re

import pytest

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.schedules import schedules
from lrfdse.targets.catalog import load_target

SAVED_REGISTERS = 640
"""Bytes of stack that RISC-V's callee-saved registers (208), pointers that find no register, and alignment may take."""


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(
    "text",
    [
        "dense",
        "svd:r=7",
        "tt:m=6x8,n=5x12,r=4",
        "tt:m=6x8,n=5x12,r=4,lr",
        "tt:m=2x4x6,n=5x3x4,r=3x9",
        "tt:m=48x1x1,n=1x5x12,r=9x3,lr",
    ],
)
def test_the_buffers_of_a_kernel_are_the_counted_peak(text, rows):
    factorization = Factorization.parse(text, 48, 60)
    spec = KernelSpec(48, 60, factorization, rows, bias=True, relu=True)
    target = load_target("riscv64")
    artifact = compile_kernel(spec, schedules(spec, target)[0], target, "kernel", assembly=True)
    size = {argument.name: argument.size for argument in artifact.arguments}
    work = sorted(name for name in size if name.startswith("work"))
    held = [size[name] for name in ("x", *work, "y")]
    assert max(a + b for a, b in itertools.pairwise(held)) == factorization.peak(rows)
    # Nothing is held elsewhere: the stack has the registers that a function saves, and there are no static variables.
    frames = re.findall(r"addi\s+sp, sp, -(\d+)", artifact.assembly)
    assert sum(map(int, frames)) <= SAVED_REGISTERS
    assert not re.search(r"\.l?comm\b|\.bss\b", artifact.assembly)
