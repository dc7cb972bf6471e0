"""The static program of a design that runs on a board: kernels, weights, inputs and expected outputs in one file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.folders import data_folder
from lrfdse.base.temporary import temporary_folder
from lrfdse.base.version import __version__
from lrfdse.deploy.bench_data import BenchKernel, program_data
from lrfdse.errors import ToolError
from lrfdse.ir.kernel import Artifact
from lrfdse.kernels.data import reference
from lrfdse.targets.target import Target
from lrfdse.toolchain import zig
from lrfdse.toolchain.programs import require_zig

MOST_BYTES = 512 << 20
"""A design with more data than this gets no program: the board would need twice as much memory.

Chosen, not measured."""

_SOURCES = ("bench.c", "bench_system.c")
_SEED = 0
"""Latency does not depend on the input; it only has to be the same every time."""


def bench_kernel(
    layer: str,
    use: int,
    artifact: Artifact,
    packed: Sequence[NDArray[Any]],
    cores: Sequence[NDArray[np.float64]],
    bias: NDArray[np.float64] | None,
) -> BenchKernel:
    """Return a kernel of a design with an input and its reference output.

    Parameters
    ----------
    layer, use
        The layer whose kernel it is, and the number of its use.
    artifact
        The compiled kernel.
    packed
        The arrays of the arguments of role weight, scale and bias, as `lrfdse.kernels.data.pack` gives them.
    cores, bias
        What they were packed from; core k has shape (r_{k-1}, m_k, n_k, r_k).
    """
    spec = artifact.spec
    x = np.random.default_rng(_SEED).standard_normal((spec.rows, spec.inputs)).astype(np.float32)
    # Levels times scales are what the kernel multiplies, unrounded.
    stored = cores if spec.storage.scaled else [core.astype(spec.storage.element) for core in cores]
    exact = [core.astype(np.float64) for core in stored]
    added = None if bias is None else bias.astype(np.float32).astype(np.float64)
    expected = reference(spec, x.astype(np.float64), exact, added)
    return BenchKernel(layer, use, artifact, [x.ravel(), *packed], expected.ravel())


def build_program(kernels: Sequence[BenchKernel], target: Target, design: str) -> bytes:
    """Return the program for `target`; without kernels it only describes the board.

    Raises
    ------
    ToolError
        zig is missing or failed, or the data are larger than `MOST_BYTES`.
    ValueError
        Arrays do not fit a kernel.
    """
    head = {"version": __version__, "target": target.name, "design": design}
    size = sum(array.nbytes for kernel in kernels for array in kernel.arrays)
    if size > MOST_BYTES:
        raise ToolError(f"{size >> 20} MiB of weights, but a bench program holds at most {MOST_BYTES >> 20} MiB")
    data = program_data(kernels, target, head)
    compiler = require_zig().path
    link = target.link or target.instruction_set.zig
    with temporary_folder() as here:
        block, table, program = here / "data", here / "table.c", here / "program"
        block.write_bytes(data)
        table.write_text(_table(kernels), encoding="ascii")
        objects = [here / f"kernel{number}.o" for number in range(len(kernels))]
        for path, kernel in zip(objects, kernels, strict=True):
            path.write_bytes(kernel.artifact.object_code)
        compiled = []
        for source in (*(data_folder("qemu") / name for name in _SOURCES), table):
            made = here / f"{source.stem}.o"
            options = ("-target", link, *zig.COMMON, *zig.FREESTANDING, *zig.CONSTANTS)
            # zig's own cache knows what a file includes.
            zig.run_zig([compiler, "cc", *options, str(source), "-o", str(made)], f"compiling {source.name}")
            compiled.append(made)
        names = f"--defsym=bench_data=_binary_{re.sub('[^A-Za-z0-9]', '_', str(block))}_start"
        parts = [*map(str, (*compiled, *objects)), "--format=binary", str(block)]
        command = [compiler, "ld.lld", "-static", "--gc-sections", "--strip-all", names, *parts, "-o", str(program)]
        zig.run_zig(command, f"linking the bench program of {design}")
        return program.read_bytes()


def _table(kernels: Sequence[BenchKernel]) -> str:
    """Return C that calls every kernel with its own number of arguments; symbols are C identifiers."""
    lines, names = [], []
    for number, kernel in enumerate(kernels):
        count = len(kernel.artifact.arguments)
        symbol = kernel.artifact.symbol
        given = ", ".join(f"a[{place}]" for place in range(count))
        lines.append(f"void {symbol}({', '.join(['float *'] * count)});")
        lines.append(f"static void call_{number}(float *const *a) {{ {symbol}({given}); }}")
        names.append(f"call_{number}")
    listed = ", ".join((*names, "0"))
    return "\n".join((*lines, f"void (*const bench_calls[])(float *const *) = {{{listed}}};", ""))
