"""The kernels that the meter is validated on: layers of all kinds, each in good and bad variants."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.meter.loops import FORMS, compile_loops, loop_arrays
from lrfdse.errors import KernelError
from lrfdse.ir.factorization import Factorization, Step
from lrfdse.ir.kernel import Artifact, Axis, KernelSpec, Schedule, StepSchedule
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.data import example
from lrfdse.kernels.schedules import schedules
from lrfdse.kernels.spills import spills
from lrfdse.targets.target import Target

SYMBOL = "lrfdse_kernel"
Size = tuple[int, int, str, int]

LAYERS: tuple[Size, ...] = (
    (64, 100, "dense", 1),
    (300, 784, "dense", 1),
    (128, 256, "dense", 8),
    (1024, 1024, "dense", 1),
    (300, 784, "svd:r=16", 1),
    (1024, 1024, "svd:r=64", 1),
    (300, 784, "tt:m=300x1,n=4x196,r=9", 1),
    (300, 784, "tt:m=15x20,n=28x28,r=8", 1),
    (300, 784, "tt:m=10x6x5,n=7x7x16,r=8x8", 1),
    (1024, 1024, "tt:m=32x32,n=32x32,r=8", 1),
    (1024, 1024, "tt:m=16x8x8,n=8x8x16,r=12x12", 1),
    (256, 512, "tt:m=16x16,n=16x32,r=5,lr", 8),
    (1000, 4096, "tt:m=25x40,n=64x64,r=8", 1),
    (512, 512, "tt:m=4x4x4x8,n=8x4x4x4,r=4x6x4", 1),
)
"""Outputs, inputs, factorization, rows."""

STREAMING: tuple[Size, ...] = ((1000, 4096, "dense", 1), (4096, 4096, "dense", 1))
"""Layers whose weights exceed the second and the third level: bandwidth decides, so there are few variants."""

FEW = 4
_SEED = 0


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel to be predicted and timed, with its arrays and its expected output."""

    layer: str
    variant: str
    artifact: Artifact
    arrays: Sequence[NDArray[np.float32]]
    expected: NDArray[np.float64]
    spills: int

    @property
    def flops(self) -> int:
        """FLOPs of one call."""
        spec = self.artifact.spec
        return 2 * spec.factorization.macs(spec.rows)

    @property
    def bytes(self) -> int:
        """What one call reads and writes, each element once."""
        return 4 * sum(argument.size for argument in self.artifact.arguments)


def spec_of(size: Size) -> KernelSpec:
    """Return a layer's kernel, without bias and activation."""
    outputs, inputs, text, rows = size
    return KernelSpec(outputs, inputs, Factorization.parse(text, outputs, inputs), rows, False, False)


def name_of(size: Size) -> str:
    """Return a layer's name in tables."""
    outputs, inputs, text, rows = size
    return f"{outputs}x{inputs} {text}" + (f" rows={rows}" if rows > 1 else "")


def cases(target: Target, layers: Sequence[Size], variants: int) -> Iterator[Case]:
    """Yield `variants` kernels of every layer that differ in their code, and the chain as plain loops in C."""
    for size in layers:
        spec, wanted = spec_of(size), FEW if size in STREAMING else variants
        seen: set[bytes] = set()
        for schedule in _schedules(spec, target):
            if len(seen) == wanted:
                break
            try:
                artifact = compile_kernel(spec, schedule, target, SYMBOL, assembly=True)
            except KernelError:
                continue
            if artifact.object_code not in seen:
                seen.add(artifact.object_code)
                yield Case(name_of(size), str(schedule), artifact, *example(artifact, _SEED), spills(artifact, target))
        for form in FORMS if size not in STREAMING else ():
            artifact = compile_loops(spec, form, target, SYMBOL)
            yield Case(name_of(size), f"C {form}", artifact, *loop_arrays(spec, _SEED), spills(artifact, target))


def _schedules(spec: KernelSpec, target: Target) -> Iterator[Schedule]:
    """Yield the tuner's schedules, then one accumulator, then tiles that spill, then random tiles."""
    steps = spec.factorization.steps(spec.rows)
    yield from schedules(spec, target, 4)
    for tile in ((1, 1, 1), (8, 4, 1), (2, 1, 2)):
        yield Schedule(tuple(_tile(step, target, *tile) for step in steps))
    rng = random.Random(f"{_SEED} {spec}")
    for _ in range(60):
        yield Schedule(tuple(_random(step, target, rng) for step in steps))


def _axes(step: Step, lanes: int) -> list[tuple[Axis, int]]:
    sizes: tuple[tuple[Axis, int], ...] = (
        ("out", step.out),
        ("columns", step.columns),
        ("inner", step.inner if step.columns == 1 else 0),
    )
    widths = [width for width in (lanes, lanes // 2) if width > 1]
    found = [(axis, width) for (axis, size), width in itertools.product(sizes, widths) if width <= size]
    return found or [("out", 1)]


def _tile(step: Step, target: Target, rows: int, columns: int, unroll: int) -> StepSchedule:
    axis, lanes = _axes(step, target.lanes)[0]
    return StepSchedule(axis, lanes, rows, columns, unroll)


def _random(step: Step, target: Target, rng: random.Random) -> StepSchedule:
    axis, lanes = rng.choice(_axes(step, target.lanes))
    while True:
        rows, columns = rng.choice((1, 2, 3, 4, 6, 8, 12)), rng.choice((1, 2, 3, 4, 6, 8))
        unroll = rng.choice((1, 1, 2, 4))
        if rows * columns * unroll <= 64:
            return StepSchedule(axis, lanes, rows, columns, unroll)
