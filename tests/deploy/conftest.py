"""Small programs for boards, and emulators as boards."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrfdse.deploy.bench_data import BenchKernel
from lrfdse.deploy.bench_program import bench_kernel, build_program
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Argument, Artifact, KernelSpec, Schedule
from lrfdse.ir.storage import FLOAT32, INT8
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_zig

SHAPES = (
    (60, 84, "svd:r=5", 1, True, True),
    (30, 60, "tt:m=6x5,n=10x6,r=7", 1, True, False),
    (30, 60, "tt:m=5x6,n=6x10,r=3,lr", 4, False, True),
    (10, 33, "dense", 3, False, False),
)
QUICK = ("--repeats", "3", "--min-time", "0")


@dataclass(frozen=True)
class Answer:
    """What a program printed, parsed, and its exit code."""

    code: int
    document: dict[str, Any]


@pytest.fixture(scope="session")
def make_kernels():
    """Compile the shapes above for a target; layers are called fc0, fc1, ... unless names are given."""

    def made(target: Target, names: tuple[str, ...] = ()) -> list[BenchKernel]:
        from lrfdse.kernels.build import compile_kernel
        from lrfdse.kernels.data import pack
        from lrfdse.kernels.schedules import schedules

        rng, kernels = np.random.default_rng(1), []
        for number, (outputs, inputs, text, rows, bias, relu) in enumerate(SHAPES):
            shape = Factorization.parse(text, outputs, inputs)
            storage = INT8 if number == 1 else FLOAT32
            spec = KernelSpec(outputs, inputs, shape, rows, bias, relu, storage)
            artifact = compile_kernel(spec, schedules(spec, target, 1)[0], target, f"lrf_k{number}")
            cores, scales = [rng.standard_normal(size) for size in shape.core_shapes], []
            if storage == INT8:
                matrices = [np.rint(30 * matrix).clip(-127, 127) / 30 for matrix in shape.step_matrices(cores)]
                cores = shape.step_cores(matrices)
                scales = [np.full(len(m), 1 / 30) for m in (matrices if shape.direction == "lr" else matrices[::-1])]
            added = rng.standard_normal(outputs) if bias else None
            name = names[number] if names else f"fc{number}"
            kernels.append(bench_kernel(name, number, artifact, pack(artifact, cores, added, scales), cores, added))
        return kernels

    return made


@pytest.fixture
def run_program(tmp_path):
    """Run a program's bytes on its target's emulator, or natively, and parse what it prints with a JSON parser."""

    def run(program: bytes, target: Target, *arguments: str, emulator: tuple[str, ...] | None = None) -> Answer:
        path = tmp_path / "a program"
        path.write_bytes(program)
        path.chmod(0o755)
        command = [*(target.emulator if emulator is None else emulator), str(path), *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
        assert ended.stdout.count("\n") == 1, ended
        return Answer(ended.returncode, json.loads(ended.stdout))

    return run


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory):
    """A program of one kernel y[8] = x[8] * w[8], followed by what is given in C."""
    folder: Path = tmp_path_factory.mktemp("c kernels")

    def compiled(body: str, target: Target, layer: str = "fc", symbol: str = "kernel") -> bytes:
        source, made = folder / "kernel.c", folder / "kernel.o"
        right = "for (int i = 0; i < 8; i++) y[i] = x[i] * w[i];"
        source.write_text(f"void {symbol}(float *x, float *w, float *y) {{ {right} {body} }}")
        options = ("-target", target.link, "-O1", "-ffreestanding", "-fno-sanitize=undefined", "-fno-stack-protector")
        cache = {"ZIG_GLOBAL_CACHE_DIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder)}
        command = [require_zig().path, "cc", *options, "-c", str(source), "-o", str(made)]
        subprocess.run(command, check=True, env={**os.environ, **cache})
        arguments = tuple(Argument(name, role, 8) for name, role in (("x", "input"), ("w", "weight"), ("y", "output")))
        spec = KernelSpec(8, 8, Factorization.dense(8, 8), 1, False, False)
        artifact = Artifact(spec, Schedule(()), target.name, symbol, arguments, made.read_bytes(), "")
        x, w = np.arange(1, 9, dtype=np.float32), np.linspace(-2, 2, 8, dtype=np.float32)
        expected = x.astype(np.float64) * w
        return build_program([BenchKernel(layer, 0, artifact, [x, w], expected)], target, "0123abcd")

    return compiled


@pytest.fixture
def board_target():
    """The shipped target of a name; "host" is skipped where the machine is another."""

    def load(name: str) -> Target:
        target = load_target(name)
        if target.is_native and platform.machine() != target.isa:
            pytest.skip(f"this machine is no {target.isa}")
        return target

    return load
