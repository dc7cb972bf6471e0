from __future__ import annotations

import dataclasses
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Argument, Artifact, KernelSpec, Schedule
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_zig

CPU = {
    "riscv64": "generic_rv64+m+a+f+d+c+v+zvl256b",
    "riscv64-u74": "sifive_u74",
    "riscv64-p550": "sifive_p550",
    "riscv64-c908": "generic_rv64+m+a+f+d+c+v+zvl128b",
    "riscv64-x100": "generic_rv64+m+a+f+d+c+v+zvl256b",
    "riscv64-p670": "generic_rv64+m+a+f+d+c+v+zvl128b",
    "riscv64-x280": "generic_rv64+m+a+f+d+c+v+zvl512b",
    "aarch64": "cortex_a72",
    "aarch64-a53": "cortex_a53",
    "aarch64-a55": "cortex_a55",
    "aarch64-a76": "cortex_a76",
    "armv7": "cortex_a7",
    "x86-64-v3": "x86_64_v3",
    "host": "native",
}
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "meter" / "x86-64-v3.toml"
OUTPUTS, INPUTS = 16, 64

Case = tuple[Artifact, list[NDArray[np.float32]], NDArray[np.float64]]
Compile = Callable[..., Artifact]


@pytest.fixture(scope="session")
def measured_target() -> Callable[[str], Target]:
    """The shipped target of a name, or the benchmark's; "host" follows the machine that runs the tests."""

    def load(name: str) -> Target:
        target = load_target(str(BENCHMARK) if name == BENCHMARK.stem else name)
        return dataclasses.replace(target, isa=platform.machine()) if target.is_native else target

    return load


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile C to an artifact with the arguments x, w and y of the given sizes."""
    folder = tmp_path_factory.mktemp("kernels")

    def compiled(source: str, target: Target, sizes: tuple[int, int, int], options: tuple[str, ...] = ()) -> Artifact:
        text, made = folder / "kernel.c", folder / "kernel.o"
        text.write_text(source)
        where = () if target.is_native else ("-target", target.link)
        flags = ("-O3", "-ffast-math", "-fPIC", "-fno-sanitize=undefined", "-ffreestanding", "-fno-stack-protector")
        cpu = f"-mcpu={CPU[target.name]}"
        command = [require_zig().path, "cc", *where, cpu, *flags, *options, "-c", str(text), "-o", str(made)]
        cache = {"ZIG_GLOBAL_CACHE_DIR": str(folder), "ZIG_LOCAL_CACHE_DIR": str(folder)}
        subprocess.run(command, check=True, env={**os.environ, **cache})
        names = ("x", "input"), ("w", "weight"), ("y", "output")
        arguments = tuple(Argument(name, role, size) for (name, role), size in zip(names, sizes, strict=True))
        spec = KernelSpec(sizes[2], sizes[0], Factorization.dense(sizes[2], sizes[0]), 1, False, False)
        return Artifact(spec, Schedule(()), target.name, "kernel", arguments, made.read_bytes(), "")

    return compiled


@pytest.fixture(scope="session")
def matvec(compile_c: Compile) -> Callable[..., Case]:
    """A matrix-vector product in C with a statement before it, its arrays and its expected output."""

    def make(target: Target, before: str = "", after: str = "", outputs: int = OUTPUTS, inputs: int = INPUTS) -> Case:
        source = f"""
        void kernel(float *restrict x, float *restrict w, float *restrict y) {{
            {before}
            for (int i = 0; i < {outputs}; i++) {{
                float sum = 0;
                for (int j = 0; j < {inputs}; j++) sum += w[i * {inputs} + j] * x[j];
                y[i] = sum;
            }}
            {after}
        }}
        """
        artifact = compile_c(source, target, (inputs, outputs * inputs, outputs))
        rng = np.random.default_rng(0)
        x = rng.standard_normal(inputs).astype(np.float32)
        w = rng.standard_normal((outputs, inputs)).astype(np.float32)
        return artifact, [x, w], w.astype(np.float64) @ x.astype(np.float64)

    return make


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another working directory, temporary folder and environment."""
    away = tmp_path / ("a-longer-name-than-usual" * 4)
    away.mkdir()
    monkeypatch.chdir(away)
    monkeypatch.setenv("TMPDIR", str(away))
    monkeypatch.setenv("LRFDSE_SOMETHING", "x" * 3000)
    monkeypatch.setattr("tempfile.tempdir", None)
    yield
