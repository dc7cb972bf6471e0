"""How well the estimate of a step orders its schedules, and its constants fitted anew: writes results/estimate.md.

Steps of the layers that the benchmark of kernels compresses and of a Kronecker product, dense, at one row and at eight.
Of every step the schedules of the best estimates and others drawn at random are compiled and counted by the model
meter. On the vector extension of RISC-V the constants of `lrfdse.kernels.estimate` are fitted to their compute cycles
by least squares of relative errors, good schedules weighing more; what the page says of the fit it says of the numbers
that it was fitted to. Schedules that spill are left out.
"""

from __future__ import annotations

import dataclasses
import math
import random
from dataclasses import dataclass

import numpy as np

from benchmarks.machine import described, machine
from benchmarks.program import parser
from benchmarks.results import table, write
from lrfdse.errors import KernelError
from lrfdse.ir.factorization import Factorization, Step
from lrfdse.ir.kernel import Argument, Artifact, KernelSpec, Role, Schedule, StepSchedule
from lrfdse.kernels.build import compile_function, instructions_of
from lrfdse.kernels.emit import Epilogue, StepEmitter, dense
from lrfdse.kernels.estimate import FITTED, Costs, cycles
from lrfdse.kernels.layout import Tiling
from lrfdse.kernels.schedules import alternatives, candidates
from lrfdse.kernels.spills import spills
from lrfdse.meters.counts import Counter
from lrfdse.meters.memory import memory_cycles
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import Target

STEPS = (
    *(Step(1, 54, 784, 1), Step(1, 128, 26, 1), Step(1, 18, 300, 1), Step(1, 100, 18, 1), Step(2, 54, 392, 1)),
    *(Step(1, 150, 54, 2), Step(1, 80, 196, 4), Step(2, 80, 80, 2), Step(4, 75, 80, 1), Step(1, 24, 75, 4)),
    *(Step(10, 10, 24, 1), Step(1, 53, 26, 60), Step(1, 5, 18, 300), Step(4, 42, 160, 1), Step(1, 32, 42, 4)),
    *(Step(1, 22, 48, 8), Step(8, 18, 300, 1), Step(8, 100, 18, 1), Step(8, 29, 120, 1), Step(8, 64, 26, 2)),
    *(Step(8, 45, 15, 1), Step(80, 10, 24, 1), Step(28, 20, 28, 1), Step(1, 15, 28, 20)),
)
"""At one row: both steps of SVDs, and chains of two and three cores; at eight rows the same; a Kronecker product."""
LIKELY, DRAWN = 5, 9
"""Schedules of a step: of the best estimates, and drawn from the rest."""
WORST = 2.5
"""Schedules that take so many times as long as the best of their step are not fitted to."""
TRIES = 4
"""Schedules that a kernel is given by default."""
SEED = 1


@dataclass(frozen=True, slots=True)
class Counted:
    """One schedule of a step, compiled and counted."""

    tiling: Tiling
    compute: float
    """Cycles with all data in the first cache level."""
    warm: float
    """Cycles of a call that finds the caches as the one before left them."""


def counted(step: Step, schedule: StepSchedule, target: Target, counter: Counter) -> Counted | None:
    """Compile and count one schedule; None where it spills or does not work."""
    from tvm import tirx

    tiling = Tiling.of(step, schedule)
    sizes = {"x": step.input_size, "w0": tiling.weight_size, "y": step.output_size}
    buffers = [tirx.decl_buffer((size,), "float32", name, data_alignment=4) for name, size in sizes.items()]
    x, w, y = buffers
    body = StepEmitter(
        tiling, x, w, Epilogue(step, y, None, 1, False), instructions_of(target), dense(step)
    ).statement()
    try:
        code, listing = compile_function(lambda: (buffers, body), target, "kernel", f"{step} as {schedule}", True)
        roles: tuple[Role, ...] = ("input", "weight", "output")
        arguments = tuple(Argument(name, role, size) for (name, size), role in zip(sizes.items(), roles, strict=True))
        spec = KernelSpec(step.out, step.inner, Factorization.dense(step.out, step.inner), 1, False, False)
        made = Artifact(spec, Schedule((schedule,)), target.name, "kernel", arguments, code, listing)
        if spills(made, target):
            return None
        rng = np.random.default_rng(SEED)
        weight = rng.standard_normal((step.out, step.inner)).astype(np.float32).astype(np.float64)
        data = rng.standard_normal((step.batch, step.inner, step.columns)).astype(np.float32)
        expected = np.einsum("jk,pkq->pjq", weight, data.astype(np.float64)).reshape(1, -1)
        counts = counter.count(made, [data.ravel(), tiling.pack(weight)], expected)
    except KernelError:
        return None
    return Counted(tiling, counts.core.cycles, memory_cycles(counts.warm, target).low(counts.core.cycles))


def tried(step: Step, target: Target, counter: Counter, rng: random.Random) -> list[Counted]:
    """Return what was counted of a step."""
    likely = [schedule for _, schedule in alternatives(step, target, LIKELY)]
    rest = [schedule for schedule in candidates(step, target) if schedule not in likely]
    chosen = [*likely, *rng.sample(rest, min(DRAWN, len(rest)))]
    return [one for schedule in chosen if (one := counted(step, schedule, target, counter))]


def fitted(found: dict[Step, list[Counted]], target: Target) -> tuple[Costs, float]:
    """Return the costs of least squares, and the weighed relative error that is left (RMS)."""
    from scipy.optimize import least_squares

    near = dataclasses.replace(target, in_order=False)
    rows = []
    for counts in found.values():
        best = min(one.compute for one in counts)
        rows += [(one, best / one.compute) for one in counts if one.compute < WORST * best]
    names = [field.name for field in dataclasses.fields(Costs)]
    start = np.array([getattr(FITTED, name) for name in names])

    def residuals(values: np.ndarray) -> np.ndarray:
        costs = Costs(*map(float, values))
        return np.array([weight * math.log(cycles(one.tiling, near, costs) / one.compute) for one, weight in rows])

    ended = least_squares(residuals, start, bounds=(0, np.inf), loss="soft_l1", f_scale=0.1, x_scale=start)
    return Costs(*map(float, ended.x)), float(np.sqrt(np.mean(residuals(ended.x) ** 2)))


def losses(counts: list[Counted], target: Target) -> tuple[float, float, float]:
    """Return the rank correlation of estimate and warm cycles, and what the order of the estimates loses.

    The latter as factors over the best schedule: of the first in this order, and of the best of the first `TRIES`.
    """
    from scipy.stats import spearmanr

    ordered = sorted(counts, key=lambda one: cycles(one.tiling, target))
    warm = [one.warm for one in ordered]
    rank = spearmanr([cycles(one.tiling, target) for one in ordered], warm).statistic
    return float(rank), warm[0] / min(warm), min(warm[:TRIES]) / min(warm)


def section(target: Target, found: dict[Step, list[Counted]]) -> list[str]:
    """Return the lines about one target."""
    lines = ["", f"## {target.name}", ""]
    made = {step: losses(counts, target) for step, counts in found.items()}
    ranks, first, four = zip(*made.values(), strict=True)
    lines += [
        f"{sum(map(len, found.values()))} schedules of {len(found)} steps. Spearman: median {np.median(ranks):.2f}, "
        f"least {min(ranks):.2f}. The schedule of the best estimate takes {np.exp(np.mean(np.log(first))) - 1:.1%} "
        f"longer than the best that was counted, the best of {TRIES} {np.exp(np.mean(np.log(four))) - 1:.1%} "
        "(geometric means).",
    ]
    if target.vectors.grouped:
        costs, error = fitted(found, target)
        lines += ["", f"Weighed relative error of the fit to compute cycles: {error:.1%} (RMS).", ""]
        lines += table(
            ["constant", "in lrfdse.kernels.estimate", "by this fit"],
            [
                [f"`{field.name}`", getattr(FITTED, field.name), f"{getattr(costs, field.name):.3g}"]
                for field in dataclasses.fields(Costs)
            ],
        )
    rows = []
    for step, counts in found.items():
        best = min(counts, key=lambda one: one.warm)
        rank, one, several = made[step]
        size = f"{step.batch} x {step.out} x {step.inner} x {step.columns}"
        bound = step.macs / target.fma_per_cycle
        rows.append(
            [
                *(size, len(counts), f"{bound:.0f}", f"{best.compute:.0f}", f"{best.warm:.0f}"),
                *(f"`{best.tiling.schedule}`", f"{rank:.2f}", f"{one:.2f}", f"{several:.2f}"),
            ]
        )
    heads = ["batch x out x inner x columns", "schedules", "FMAs", "computing", "warm", "best"]
    return [*lines, "", *table([*heads, "Spearman", "first / best", f"best of {TRIES} / best"], rows)]


def main() -> None:
    asked = parser("estimate", __doc__)
    asked.add_argument("--target", action="append", help="instead of riscv64 (repeatable)")
    options = asked.parse_args()
    lines = [
        "# The estimate that orders schedules",
        "",
        "Written by `python -m benchmarks.estimate`, see its docstring. Cycles are modelled (docs/meter.md): *FMAs* at",
        "the peak rate, *computing* and *warm* those of the best schedule that was counted.",
        "",
        described(machine("apache-tvm", "scipy")),
    ]
    numbers = {}
    for name in options.target or ["riscv64"]:
        target = load_target(name)
        counter, rng = Counter(target, 60.0), random.Random(SEED)
        found = {}
        for step in STEPS:
            found[step] = tried(step, target, counter, rng)
            print(name, step, len(found[step]), flush=True)
        lines += section(target, found)
        numbers[name] = [
            [dataclasses.astuple(step), str(one.tiling.schedule), one.compute, one.warm]
            for step, counts in found.items()
            for one in counts
        ]
    write(options.out, "estimate", lines, numbers)


if __name__ == "__main__":
    main()
