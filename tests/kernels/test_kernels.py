"""Every way to lay out a step, run on the host and compared with float64, without a byte read or written outside."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrfdse.errors import KernelError
from lrfdse.ir.factorization import Factorization, Step
from lrfdse.ir.kernel import Artifact, KernelSpec, Schedule, StepSchedule
from lrfdse.ir.storage import FLOAT16, FLOAT32, INT8
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.data import example, pack
from lrfdse.kernels.layout import tilings
from lrfdse.kernels.schedules import schedules
from lrfdse.targets.catalog import load_target

HOST = load_target("host")


def check(run, artifact: Artifact, seed: int = 0) -> None:
    arrays, expected = example(artifact, seed)
    for output in run(artifact, arrays):
        deviation = np.abs(output - expected.ravel()).max()
        assert deviation <= 2e-6 * max(1.0, np.abs(expected).max()), f"{artifact.spec} as {artifact.schedule}"


@st.composite
def step_schedules(draw, step: Step) -> StepSchedule:
    axes = ["out"] + (["columns"] if step.columns > 1 else ["inner"])
    axis = draw(st.sampled_from(axes))
    extent = {"out": 16, "columns": min(16, step.columns), "inner": min(16, step.inner)}[axis]
    lengths = [n for n in (1, 2, 3, 4, 5, 8, 16) if n <= extent and (axis != "inner" or n & (n - 1) == 0)]
    blocks = (0, 0, 0)
    if axis == "out" and step.columns == 1 and draw(st.booleans()):
        blocks = draw(st.integers(1, 70)), draw(st.integers(1, 3)), draw(st.integers(1, 6))
    return StepSchedule(
        axis,
        draw(st.sampled_from(lengths)),
        draw(st.integers(1, 5)),
        draw(st.integers(1, 5)),
        draw(st.sampled_from([1, 2, 4])),
        *blocks,
    )


@st.composite
def kernels(draw) -> tuple[KernelSpec, Schedule]:
    cores = draw(st.integers(1, 3))
    modes = st.lists(st.integers(1, 13 if cores > 1 else 60), min_size=cores, max_size=cores)
    ranks = draw(st.lists(st.integers(1, 9), min_size=cores - 1, max_size=cores - 1))
    direction = draw(st.sampled_from(["rl", "lr"])) if cores > 1 else "rl"
    f = Factorization(tuple(draw(modes)), tuple(draw(modes)), tuple(ranks), direction)
    spec = KernelSpec(
        draw(st.integers(max(1, f.outputs - 11), f.outputs)) if cores > 1 else f.outputs,
        draw(st.integers(max(1, f.inputs - 11), f.inputs)) if cores > 1 else f.inputs,
        f,
        draw(st.integers(1, 5)),
        draw(st.booleans()),
        draw(st.booleans()),
        draw(st.sampled_from([FLOAT32, FLOAT16, INT8])),
    )
    return spec, Schedule(tuple(draw(step_schedules(step)) for step in f.steps(spec.rows)))


SHARED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.mark.slow
@settings(max_examples=12, deadline=None, suppress_health_check=SHARED)
@given(kernels(), st.integers(0, 99))
def test_any_schedule_computes_the_layer(run_on_host, kernel, seed) -> None:
    spec, schedule = kernel
    check(run_on_host, compile_kernel(spec, schedule, HOST, "kernel"), seed)


@pytest.mark.slow
@settings(max_examples=80, deadline=None, suppress_health_check=SHARED)
@given(kernels(), st.integers(0, 99))
def test_any_schedule_computes_the_layer_at_length(run_on_host, kernel, seed) -> None:
    spec, schedule = kernel
    check(run_on_host, compile_kernel(spec, schedule, HOST, "kernel"), seed)


SIZES = [
    (1, 1, "dense", 1),
    (5, 13, "dense", 3),
    (331, 127, "dense", 1),
    (6625, 24, "dense", 3),
    (300, 784, "svd:r=5", 3),
    (300, 784, "svd:r=33", 1),
    (300, 784, "tt:m=15x20,n=28x28,r=8", 2),
    (300, 784, "tt:m=5x6x10,n=7x16x7,r=5x11,lr", 1),
    (300, 784, "tt:m=300x1,n=4x196,r=9", 1),
    (1, 97, "tt:m=1x1,n=97x1,r=1,lr", 3),
]


@pytest.mark.slow
@pytest.mark.parametrize(("outputs", "inputs", "text", "rows"), SIZES)
def test_proposed_schedules_compute_the_layer(run_on_host, outputs, inputs, text, rows) -> None:
    spec = KernelSpec(outputs, inputs, Factorization.parse(text, outputs, inputs), rows, bias=True, relu=True)
    for schedule in schedules(spec, HOST, 2):
        check(run_on_host, compile_kernel(spec, schedule, HOST, "kernel"))


BLOCKS = [
    (37, 53, "dense", 5, "out:8:2x3:u2:b16x1x3"),
    (37, 53, "dense", 5, "out:8:1x2:u4:b20x2x4"),
    (67, 41, "dense", 7, "out:8:3x2:u1:b41x1x4"),
    (19, 64, "svd:r=11", 6, "out:8:1x3:u2:b24x1x6|out:8:2x2:u2:b5x1x2"),
    (37, 53, "dense", 5, "out:8:1x2:u4:b20x2x4i"),
    (19, 64, "svd:r=11", 6, "out:8:1x3:u2:b24x1x6i|out:8:2x2:u2:b11x1x2i"),
]
"""Parts of the inner axis that are all alike or not, two of them or more; groups of panels and rows, whole or not."""


@pytest.mark.parametrize("storage", [FLOAT32, FLOAT16, INT8])
@pytest.mark.parametrize(("outputs", "inputs", "text", "rows", "schedule"), BLOCKS)
def test_steps_in_blocks(run_on_host, outputs, inputs, text, rows, schedule, storage) -> None:
    spec = KernelSpec(outputs, inputs, Factorization.parse(text, outputs, inputs), rows, True, True, storage)
    chosen = Schedule.parse(schedule)
    assert str(chosen) == schedule
    check(run_on_host, compile_kernel(spec, chosen, HOST, "kernel"))


RAISING = dataclasses.replace(HOST, slow_conversions=True)
"""As the X60 makes floats of int8; with plain loops, those that load ahead run under the emulator."""

RAISED = [
    (37, 53, "dense", 1, "out:8:2x1:u4"),
    (37, 53, "dense", 5, "out:8:2x3:u8"),
    (16, 5, "dense", 2, "out:8:2x2:u1"),
    (37, 53, "dense", 1, "inner:8:5x1:u2"),
    (37, 53, "dense", 5, "out:8:2x3:u2:b16x1x3"),
    (30, 98, "tt:m=5x6,n=14x7,r=5", 2, "out:4:5x2:u2|columns:4:2x2:u4"),
]


@pytest.mark.parametrize(("outputs", "inputs", "text", "rows", "schedule"), RAISED)
def test_int8_that_become_floats_by_their_bits(run_on_host, outputs, inputs, text, rows, schedule) -> None:
    spec = KernelSpec(outputs, inputs, Factorization.parse(text, outputs, inputs), rows, True, True, INT8)
    check(run_on_host, compile_kernel(spec, Schedule.parse(schedule), RAISING, "kernel"))


@pytest.mark.parametrize("schedule", ["out:8:4x1:u8", "out:16:1x1:u4", "out:8:3x2:u1"])
def test_int8_that_become_floats_by_their_bits_lose_nothing_on_inputs_of_one_sign(run_on_host, schedule) -> None:
    """What weights are raised by is added up with the inputs, and taken off before it outgrows the sums."""
    spec = KernelSpec(40, 2048, Factorization.dense(40, 2048), 2, False, False, INT8)
    made = {}
    for machine in (HOST, RAISING):
        artifact = compile_kernel(spec, Schedule.parse(schedule), machine, "kernel")
        arrays, _ = example(artifact, 0)
        arrays[0] = (100 + np.random.default_rng(0).random(arrays[0].size)).astype(np.float32)
        levels, worth = (np.asarray(each, np.float64) for each in arrays[1:3])
        tile = tilings(spec, artifact.schedule)[0]
        # Ones give the sums of weights: what multiplies 100.
        rows = tile.ordered(np.arange(40)[:, None].repeat(2048, 1)).astype(int)
        places = tile.ordered(np.arange(2048)[None].repeat(40, 0)).astype(int)
        matrix = np.zeros((40, 2048))
        matrix[rows, places] = levels
        x = arrays[0].astype(np.float64).reshape(2, 2048)
        expected = ((x @ matrix.T) * worth).ravel()
        size = (np.abs(x) @ np.abs(matrix.T) * worth).max()
        made[machine.slow_conversions] = max(np.abs(y - expected).max() for y in run_on_host(artifact, arrays)) / size
    assert made[True] <= max(4 * made[False], 1.5e-7), made


def test_every_float16_becomes_the_float32_that_it_is(run_on_host) -> None:
    numbers = np.arange(2**16, dtype=np.uint16).view(np.float16)
    numbers = np.where(np.isfinite(numbers), numbers, np.float16(0)).reshape(256, 256)
    spec = KernelSpec(256, 256, Factorization.dense(256, 256), 256, False, False, FLOAT16)
    artifact = compile_kernel(spec, schedules(spec, HOST, 1)[0], HOST, "kernel")
    packed = pack(artifact, [numbers.astype(np.float64)[None, :, :, None]], None)
    for found in run_on_host(artifact, [np.eye(256, dtype=np.float32).ravel(), *packed]):
        np.testing.assert_array_equal(found.reshape(256, 256).T, numbers.astype(np.float32))


def test_a_layer_of_one_weight_in_int8(run_on_host) -> None:
    spec = KernelSpec(1, 1, Factorization.dense(1, 1), 1, False, False, INT8)
    check(run_on_host, compile_kernel(spec, schedules(spec, HOST, 1)[0], HOST, "kernel"))


@pytest.mark.parametrize("direction", ["rl", "lr"])
@pytest.mark.parametrize("bias", [False, True])
def test_padding_is_cut_off(run_on_host, direction, bias) -> None:
    """Modes that multiply to far more than the layer: copies and clears long enough for LLVM to call memcpy, memset."""
    f = Factorization((32, 33), (40, 41), (3,), direction)
    spec = KernelSpec(601, 803, f, 2, bias, True)
    check(run_on_host, compile_kernel(spec, schedules(spec, HOST, 1)[0], HOST, "kernel"))


def test_the_guards_catch_a_kernel_that_reads_too_far(run_on_host) -> None:
    spec = KernelSpec(8, 64, Factorization.dense(8, 64), 1, False, False)
    artifact = compile_kernel(spec, Schedule((StepSchedule("out", 8, 1, 1),)), HOST, "kernel")
    arrays, _ = example(artifact, 0)
    shorter = [type(a)(a.name, a.role, 63 if a.role == "input" else a.size) for a in artifact.arguments]
    broken = dataclasses.replace(artifact, arguments=tuple(shorter))
    with pytest.raises(AssertionError, match="died"):
        run_on_host(broken, [arrays[0][:63], *arrays[1:]])


@pytest.mark.parametrize(
    "schedule",
    [
        StepSchedule("inner", 8, 1, 1),
        StepSchedule("columns", 8, 1, 1),
        StepSchedule("out", 0, 1, 1),
        StepSchedule("out", 8, 1, 1, 0),
        StepSchedule("out", 1, 1, 1, 1, 2, 0, 1),
        StepSchedule("out", 1, 1, 1, 1, 2, 1, 1),
    ],
)
def test_schedules_that_do_not_fit_are_refused(schedule) -> None:
    f = Factorization((3, 5), (7, 2), (2,))
    spec = KernelSpec(15, 14, f, 1, False, False)
    with pytest.raises(
        KernelError,
        match=r"^schedule .*: (lanes, tiles and unroll must|axis 'inner' needs|at most \d+ lanes|blocks need axis)"
        r"|is for a chain of",
    ):
        compile_kernel(spec, Schedule((StepSchedule("out", 1, 1, 1), schedule)), HOST, "kernel")


def test_one_schedule_a_step() -> None:
    spec = KernelSpec(15, 14, Factorization((3, 5), (7, 2), (2,)), 1, False, False)
    with pytest.raises(KernelError, match="2 steps"):
        compile_kernel(spec, Schedule((StepSchedule("out", 1, 1, 1),)), HOST, "kernel")


def test_the_symbol_is_a_c_identifier() -> None:
    spec = KernelSpec(8, 8, Factorization.dense(8, 8), 1, False, False)
    with pytest.raises(KernelError, match="C identifier"):
        compile_kernel(spec, Schedule((StepSchedule("out", 8, 1, 1),)), HOST, "two words")


def test_arguments_say_what_the_kernel_touches() -> None:
    f = Factorization((3, 5), (7, 2), (2,))
    artifact = compile_kernel(
        KernelSpec(14, 13, f, 2, True, False), Schedule((StepSchedule("out", 4, 1, 1),) * 2), HOST, "kernel"
    )
    roles = [(a.name, a.role) for a in artifact.arguments]
    assert roles == [
        ("x", "input"),
        ("w0", "weight"),
        ("w1", "weight"),
        ("bias", "bias"),
        ("y", "output"),
        ("work0", "work"),
        ("work1", "work"),
    ]
    sizes = {a.name: a.size for a in artifact.arguments}
    assert (sizes["x"], sizes["bias"], sizes["y"]) == (26, 14, 28)
    assert sizes["w1"] >= math.prod(f.core_shapes[1])
