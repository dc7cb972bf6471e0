"""Kernels of every emulated target run on their instruction set, all of a target in one program."""

from __future__ import annotations

import importlib.util
import itertools
import shutil
import subprocess
import sys

import numpy as np
import pytest

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import GIVEN, Artifact, KernelSpec, Schedule, StepSchedule
from lrfdse.ir.storage import FLOAT16, FLOAT32, INT8
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.data import example, pack
from lrfdse.kernels.header import c_header
from lrfdse.kernels.schedules import schedules
from lrfdse.targets.catalog import load_target, names
from lrfdse.toolchain.programs import emulated

TARGETS = [name for name in names("targets") if not load_target(name).is_native]

LAYERS = [
    (37, 53, "dense", 3),
    (37, 53, "svd:r=3", 1),
    (30, 28, "tt:m=5x6,n=4x7,r=5", 2),
    (29, 27, "tt:m=3x2x5,n=2x7x2,r=5x4,lr", 2),
]

LOOPS = [
    (31, 45, "dense", 1, "out:8:2x1:u2"),
    (31, 45, "dense", 3, "out:8:1x3:u8"),
    (31, 45, "dense", 3, "out:4:7x2:u1"),
    (7, 77, "dense", 2, "inner:8:3x2:u1"),
    (7, 77, "dense", 1, "inner:4:2x1:u4"),
    (33, 45, "dense", 4, "out:8:4x4:u4"),
    (33, 46, "dense", 5, "out:4:2x5:u8"),
    (30, 98, "tt:m=5x6,n=14x7,r=5", 1, "out:8:2x2:u1|out:4:1x3:u4"),
    (30, 98, "tt:m=5x6,n=14x7,r=5", 1, "inner:4:5x1:u1|columns:4:5x2:u2"),
    (30, 98, "tt:m=5x6,n=14x7,r=5", 2, "out:4:9x1:u1|columns:6:2x1:u4"),
]
"""Inner loops with and without operands loaded ahead or in turns, of one body or several, with and without a rest; two
in blocks."""


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_kernels_compute_the_layer_under_the_emulator(tmp_path, target) -> None:
    machine = load_target(target)
    if not shutil.which(machine.emulator[0]) or not importlib.util.find_spec("ziglang"):
        pytest.skip(f"{machine.emulator[0]} or ziglang is not installed")
    artifacts = []
    stored = (FLOAT32, INT8, FLOAT16) if machine.widens_halves else (FLOAT32, INT8)
    for (outputs, inputs, text, rows), storage in itertools.product(LAYERS, stored):
        spec = KernelSpec(outputs, inputs, Factorization.parse(text, outputs, inputs), rows, True, True, storage)
        for schedule in schedules(spec, machine, 3 if storage == FLOAT32 else 1):
            artifacts.append(compile_kernel(spec, schedule, machine, f"kernel{len(artifacts)}"))
    if machine.lanes > 1:
        cases = [(*case, FLOAT32) for case in LOOPS] + [(*case, INT8) for case in LOOPS[::2]]
        cases += [(*case, FLOAT16) for case in LOOPS if machine.widens_halves]
        for outputs, inputs, text, rows, schedule, storage in cases:
            spec = KernelSpec(outputs, inputs, Factorization.parse(text, outputs, inputs), rows, True, True, storage)
            steps = Schedule(tuple(StepSchedule.parse(step) for step in schedule.split("|")))
            artifacts.append(compile_kernel(spec, steps, machine, f"kernel{len(artifacts)}"))
    tiny = int(machine.widens_halves)
    if tiny:
        spec = KernelSpec(40, 24, Factorization.dense(40, 24), 2, False, False, FLOAT16)
        artifacts.append(compile_kernel(spec, schedules(spec, machine, 1)[0], machine, f"kernel{len(artifacts)}"))
    sources = []
    for artifact in artifacts:
        (tmp_path / f"{artifact.symbol}.h").write_text(c_header(artifact, machine))
        (tmp_path / f"{artifact.symbol}.o").write_bytes(artifact.object_code)
        sources.append(str(tmp_path / f"{artifact.symbol}.o"))
    (tmp_path / "main.c").write_text(_program(artifacts))
    command = [sys.executable, "-m", "ziglang", "cc", "-target", machine.link, "-static", "-O1"]
    program = str(tmp_path / "program")
    subprocess.run(
        [*command, str(tmp_path / "main.c"), *sources, "-o", program], check=True, capture_output=True, timeout=600
    )
    examples = [example(artifact, seed) for seed, artifact in enumerate(artifacts[: len(artifacts) - tiny])]
    examples += [_subnormal(artifact) for artifact in artifacts[len(artifacts) - tiny :]]
    given = b"".join(array.tobytes() for arrays, _ in examples for array in arrays)
    ran = subprocess.run(
        [*emulated(machine.reading(stored[-1])), program], input=given, capture_output=True, timeout=600
    )
    assert ran.returncode == 0, ran.stderr.decode()
    outputs = np.frombuffer(ran.stdout, dtype=np.float32)
    for artifact, (_, expected) in zip(artifacts, examples, strict=True):
        output, outputs = outputs[: expected.size], outputs[expected.size :]
        where = f"{artifact.spec} as {artifact.schedule}"
        np.testing.assert_allclose(output, expected.ravel(), atol=2e-6 * np.abs(expected).max(), err_msg=where)
    assert outputs.size == 0


def _subnormal(artifact: Artifact) -> tuple[list[np.ndarray], np.ndarray]:
    """Return arrays and output of a kernel whose float16 weights are all below the least normal one."""
    rng = np.random.default_rng(7)
    weight = rng.integers(-1023, 1024, (40, 24)) * 2.0**-24
    x = rng.standard_normal((2, 24)).astype(np.float32)
    return [x.ravel(), *pack(artifact, [weight[None, :, :, None]], None)], x.astype(np.float64) @ weight.T


_TYPES = {FLOAT32: ("float", 4), FLOAT16: ("unsigned short", 2), INT8: ("signed char", 1)}


def _program(artifacts: list[Artifact]) -> str:
    lines = ["#include <stdio.h>"] + [f'#include "{artifact.symbol}.h"' for artifact in artifacts]
    body = []
    for artifact in artifacts:
        names_of = [f"{artifact.symbol}_{a.name}" for a in artifact.arguments]
        for argument, name in zip(artifact.arguments, names_of, strict=True):
            kind, size = _TYPES[argument.storage]
            lines.append(f"static {kind} {name}[{argument.size}];")
            if argument.role in GIVEN:
                body.append(f"if (fread({name}, {size}, {argument.size}, stdin) != {argument.size}) return 2;")
        body.append(f"{artifact.symbol}({', '.join(names_of)});")
        size = next(a.size for a in artifact.arguments if a.role == "output")
        body.append(f"if (fwrite({artifact.symbol}_y, 4, {size}, stdout) != {size}) return 3;")
    return "\n".join([*lines, "int main(void) {", *body, "return 0;", "}", ""])
