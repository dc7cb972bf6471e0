"""Chains as plain loops in C, compiled by zig's clang: code that our generator would not make."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.kernel import Argument, Artifact, KernelSpec, Schedule
from lrfdse.kernels.layout import step_cores
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_zig

_HEAD = """    for (long p = 0; p < {batch}; p++)
        for (long j = 0; j < {out}; j++)
"""
FORMS = {
    "sums": _HEAD
    + """            for (long q = 0; q < {columns}; q++) {{
                float sum = 0;
                for (long k = 0; k < {inner}; k++)
                    sum += w{core}[j * {inner} + k] * {source}[(p * {inner} + k) * {columns} + q];
                {into}[(p * {out} + j) * {columns} + q] = sum;
            }}
""",
    "products": """    for (long i = 0; i < {batch} * {out} * {columns}; i++) {into}[i] = 0;
"""
    + _HEAD
    + """            for (long k = 0; k < {inner}; k++)
                for (long q = 0; q < {columns}; q++)
                    {into}[(p * {out} + j) * {columns} + q] +=
                        w{core}[j * {inner} + k] * {source}[(p * {inner} + k) * {columns} + q];
""",
}
"""Sums kept in registers, or every product added to the result in memory."""

_FLAGS = ("-O3", "-ffast-math", "-fPIC", "-ffreestanding", "-fno-builtin", "-fno-stack-protector")
_NO_LIBRARY = ("-fno-sanitize=undefined", "-mllvm", "-disable-loop-idiom-all")


def compile_loops(spec: KernelSpec, form: str, target: Target, symbol: str) -> Artifact:
    """Return the chain of `spec` as one of `FORMS`, with the cores as row-major step matrices."""
    f = spec.factorization
    steps, order = f.steps(spec.rows), step_cores(spec)
    body, source, work = [], "x", []
    for i, (core, step) in enumerate(zip(order, steps, strict=True)):
        into = "y" if i == len(steps) - 1 else f"work{i}"
        if into != "y":
            work.append(Argument(into, "work", step.output_size))
        sizes = {"batch": step.batch, "out": step.out, "columns": step.columns, "inner": step.inner}
        body.append(FORMS[form].format(**sizes, core=core, source=source, into=into))
        source = into
    weights = [Argument(f"w{k}", "weight", int(np.prod(shape))) for k, shape in enumerate(f.core_shapes)]
    x, y = Argument("x", "input", spec.rows * f.inputs), Argument("y", "output", spec.rows * f.outputs)
    arguments = (x, *weights, y, *work)
    parameters = ", ".join(f"float *restrict {argument.name}" for argument in arguments)
    code, assembly = _compile(f"void {symbol}({parameters}) {{\n{''.join(body)}}}\n", target)
    return Artifact(spec, Schedule(()), target.name, symbol, arguments, code, assembly)


def loop_arrays(spec: KernelSpec, seed: int) -> tuple[list[NDArray[np.float32]], NDArray[np.float64]]:
    """Return arrays for a kernel of `compile_loops`, and its expected output from the dense matrix in float64."""
    f = spec.factorization
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((spec.rows, f.inputs)).astype(np.float32)
    cores = [(rng.standard_normal(s) * (s[2] * s[3]) ** -0.5).astype(np.float32) for s in f.core_shapes]
    matrices = dict(zip(step_cores(spec), f.step_matrices([core.astype(np.float64) for core in cores]), strict=True))
    dense: NDArray[np.float64] = np.ones((1, 1, 1, 1))
    for core in cores:
        joined = np.einsum("amnb,bpqc->ampnqc", dense, core.astype(np.float64))
        a, m, p, n, q, r = joined.shape
        dense = joined.reshape(a, m * p, n * q, r)
    packed = [matrices[k].astype(np.float32).ravel() for k in range(len(cores))]
    return [x.ravel(), *packed], x.astype(np.float64) @ dense[0, :, :, 0].T


def _compile(text: str, target: Target) -> tuple[bytes, str]:
    cpu = target.cpu.replace("-", "_") + "".join(
        feature[0] + feature[1:].replace("-", "_") for feature in target.features
    )
    command = [require_zig().path, "cc", "-target", target.link, f"-mcpu={cpu}", *_FLAGS, *_NO_LIBRARY, "kernel.c"]
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "kernel.c").write_text(text)
        for kind, made in (("-c", "kernel.o"), ("-S", "kernel.s")):
            environment = {**os.environ, "ZIG_LOCAL_CACHE_DIR": folder}
            subprocess.run([*command, kind, "-o", made], cwd=here, check=True, env=environment)
        return (here / "kernel.o").read_bytes(), (here / "kernel.s").read_text()
