"""Limits of numbers, and what becomes of NaN between and behind them, against float64 element by element."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from lrfdse.ir.epilogue import VALUE, Epilogue, Function, Instruction, Operand
from lrfdse.ir.factorization import Step
from lrfdse.ir.kernel import StepSchedule
from lrfdse.ir.operators import Elementwise
from lrfdse.ir.products import FullyConnected
from lrfdse.kernels.build import compile_function, instructions_of
from lrfdse.kernels.operators.machine import Machine
from lrfdse.kernels.operators.products import fully_connected
from lrfdse.targets.catalog import load_target, names
from tests.kernels.operators import references
from tests.plugins.operators import Case, run_cases

TINY, HUGE = np.finfo(np.float32).tiny, np.finfo(np.float32).max
LIMITS = (0.0, -0.0, 6.0, -0.4, 1.0, -1.0, 3.0, -3.0, math.inf, -math.inf)
FAST = ("host", "riscv64")
TARGETS = [
    pytest.param(name, marks=[] if name in FAST else pytest.mark.slow)
    for name in names("targets")
    if name == "host" or not load_target(name).is_native
]


def number(value: float) -> Operand:
    return Operand("number", number=value)


def result(place: int) -> Operand:
    return Operand("result", place)


def values() -> NDArray[np.float32]:
    """Return special numbers, limits and their neighbours, NaN of both signs and with other bits, ordinary numbers."""
    rng = np.random.default_rng(0)
    at = np.array([limit for limit in LIMITS if math.isfinite(limit)], np.float32)
    near = [np.nextafter(at, np.float32(side)) for side in (-9, 9)]
    strange = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFFFFFFFF, 0x7FC00001], np.uint32).view(np.float32)
    sizes = np.array([TINY, TINY / 8, 1e-45, HUGE, math.inf], np.float32)
    found = np.concatenate([at, *near, strange, sizes, -sizes, rng.normal(0, 3, 1000).astype(np.float32)])
    return np.concatenate([found, np.zeros(-found.size % 8, np.float32)])


def limits() -> list[Epilogue]:
    """Return one limit of a number, and two in either order, also such that leave no room."""
    made = []
    for kind, limit in itertools.product(("max", "min"), LIMITS):
        made.append(Epilogue((Instruction(kind, (VALUE, number(limit))),)))
        made.append(Epilogue((Instruction(kind, (number(limit), VALUE)),)))
    for least, most in ((0, 6), (-1, 1), (-3, -1), (1, 3), (3, 1), (-math.inf, 0), (0, math.inf), (0, 0)):
        for first, second in ((("max", least), ("min", most)), (("min", most), ("max", least))):
            steps = (
                Instruction(first[0], (VALUE, number(first[1]))),
                Instruction(second[0], (result(0), number(second[1]))),
            )
            made.append(Epilogue(steps))
    return made


def usual() -> list[Epilogue]:
    """Return activations that limit numbers."""
    leaky = Instruction("mul", (VALUE, number(0.2))), Instruction("max", (VALUE, result(0)))
    swish = Instruction("add", (VALUE, number(3.0))), Instruction("max", (result(0), number(0.0)))
    swish += Instruction("min", (result(1), number(6.0))), Instruction("mul", (VALUE, result(2)))
    sigmoid = Instruction("mul", (VALUE, number(1 / 6))), Instruction("add", (result(0), number(0.5)))
    sigmoid += Instruction("max", (result(1), number(0.0))), Instruction("min", (result(2), number(1.0)))
    plain = Instruction("max", (VALUE, number(0.0))), Instruction("min", (VALUE, number(0.0)))
    plain += Instruction("mul", (result(1), number(0.2))), Instruction("add", (result(0), result(2)))
    return [
        Epilogue(steps)
        for steps in (
            leaky,
            (*leaky, Instruction("max", (result(1), number(-0.4)))),
            (*leaky, Instruction("min", (result(1), number(0.4)))),
            (*swish, Instruction("div", (result(3), number(6.0)))),
            sigmoid,
            plain,
            (Instruction("neg", (VALUE,)), Instruction("max", (result(0), number(0.0)))),
            (Instruction("add", (VALUE, number(0.0))), Instruction("min", (result(0), number(1.0)))),
            (Instruction("mul", (VALUE, number(1.0))), Instruction("max", (result(0), number(-1.0)))),
        )
    ]


def drawn() -> list[Epilogue]:
    """Return chains of functions that were drawn at random: who reads a number decides what its NaN must become."""
    rng = np.random.default_rng(1)
    one: list[Function] = ["neg", "abs", "sigmoid", "tanh", "erf", "exp"]
    two: list[Function] = ["add", "mul", "max", "min", "sub"]
    made: list[Epilogue] = []
    while len(made) < 60:
        steps: list[Instruction] = []
        for place in range(rng.integers(2, 7)):
            before = [VALUE, *map(result, range(place))]
            operand = before[-1 - min(len(before) - 1, rng.geometric(0.6) - 1)]
            if rng.random() < 0.25:
                steps.append(Instruction(one[rng.integers(len(one))], (operand,)))
                continue
            other = number(float(rng.choice([0.0, 1.0, -1.0, 0.5, -0.4, 2.0])))
            if rng.random() < 0.4:
                other = before[rng.integers(len(before))]
            steps.append(Instruction(two[rng.choice(5, p=[0.2, 0.2, 0.25, 0.25, 0.1])], (operand, other)))
        with np.errstate(all="ignore"):
            found = references.finished(values().astype(np.float64), Epilogue(tuple(steps)), [])
        # LLVM would make a call of memset of one number everywhere.
        if len(np.unique(found[~np.isnan(found)])) > 1:
            made.append(Epilogue(tuple(steps)))
    return made


def alone(epilogue: Epilogue) -> Case:
    """Return an epilogue of numbers that come from memory."""
    x = values()
    y = references.finished(x.astype(np.float64), epilogue, [])
    return Case(Elementwise(x.size, x.size, epilogue), [x], [y])


def behind(epilogue: Epilogue, schedule: str = "out:8:2x4:u1") -> Case:
    """Return an epilogue of sums: a bias of zero, which the code does not know, is added to each number first."""
    x = values()
    step = Step(x.size, 16, 2, 1)
    weight = np.tile(np.array([1, 0], np.float32), (16, 1))
    data = np.stack([x, np.ones_like(x)], 1)
    sums = np.repeat(x[:, None], 16, 1).astype(np.float64)
    whole, bias = epilogue.after_bias(), np.zeros(16, np.float32)
    y = references.finished(sums, whole, [bias])
    return Case(FullyConnected(step, whole), [data, weight, bias], [y], schedule=schedule)


def check(cases: list[Case], target: str, folder) -> None:
    machine = load_target(target)
    with np.errstate(all="ignore"):
        for case, (found,) in zip(cases, run_cases(cases, machine, folder), strict=True):
            expected = case.expected[0].ravel()
            text = str(case.operator.epilogue.instructions)
            # Denormal numbers may be taken for zero.
            small = np.abs(expected) < 2 * TINY
            large = np.abs(expected) > HUGE / 4
            np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), err_msg=text)
            ordinary = ~small & ~large & ~np.isnan(expected)
            np.testing.assert_allclose(found[ordinary], expected[ordinary], rtol=2e-6, atol=2e-6, err_msg=text)
            assert (np.abs(found[small]) <= 2e-6).all(), text
            endless = np.isinf(expected)
            np.testing.assert_array_equal(found[endless], expected[endless], err_msg=text)


@pytest.mark.parametrize("target", TARGETS)
def test_limits(target, tmp_path):
    with np.errstate(all="ignore"):
        cases = [make(e) for e in (*limits(), *usual()) for make in (alone, behind)]
    check(cases, target, tmp_path)


@pytest.mark.parametrize("target", TARGETS)
def test_chains_that_were_drawn(target, tmp_path):
    with np.errstate(all="ignore"):
        cases = [make(e) for e in drawn() for make in (alone, behind)]
    check(cases, target, tmp_path)


def instructions(epilogue: Epilogue, vectors: int = 2, places: int = 4) -> Counter[str]:
    """Return the instructions of a product of vectors of channels at some places with an epilogue, on the X60."""
    machine = load_target("riscv64")
    operator = FullyConnected(Step(places, 8 * vectors, 16, 1), epilogue.after_bias())
    schedule = StepSchedule("out", 8, vectors, places, 1)
    made = fully_connected(operator, schedule, Machine(machine, instructions_of(machine)))
    _, listing = compile_function(lambda: (made.parameters, made.body), machine, "kernel", "a product", True)
    return Counter(re.findall(r"^\s+([a-z][\w.]*)(?:\s|$)", listing, re.MULTILINE))


def test_x60_limits_take_one_instruction_in_the_integer_unit():
    """Selections take two units twice as long, and sums that are stored before they are finished are read again."""
    plain = instructions(Epilogue())
    steps = usual()
    wanted = {
        steps[0]: {"vfmul.vf": 8, "vfmax.vv": 8},
        steps[1]: {"vfmul.vf": 8, "vfmax.vv": 8, "vminu.vx": 8},
        steps[3]: {"vmax.vx": 8, "vmin.vx": 8, "vfmul.vv": 8, "vfmul.vf": 8, "vfadd.vf": 8},
        # max(min(0.5 + x / 6, 1), 0): an FMA makes the negative of the sum.
        steps[4]: {"vfrsub.vf": 8, "vminu.vx": 8, "vmax.vx": 8},
    }
    for epilogue, more in wanted.items():
        found = instructions(epilogue)
        assert {name: found[name] - plain[name] for name in more} == more, epilogue
        for name in ("vse32.v", "vle32.v"):
            assert found[name] == plain[name], epilogue
        assert not any(name.startswith(("vmf", "vmerge", "vfmerge")) for name in found), epilogue


SILU = Epilogue((Instruction("sigmoid", (VALUE,)), Instruction("mul", (VALUE, result(0)))))
GELU = Epilogue(
    (
        *(Instruction("mul", (VALUE, number(math.sqrt(0.5)))), Instruction("erf", (result(0),))),
        *(Instruction("add", (result(1), number(1.0))), Instruction("mul", (VALUE, result(2)))),
        Instruction("mul", (result(3), number(0.5))),
    )
)
SHAPES = ((1, 16), (2, 7), (2, 12), (2, 14), (3, 8), (4, 4), (4, 5))


@pytest.mark.parametrize("epilogue", [SILU, GELU], ids=["silu", "gelu"])
def test_x60_curves_take_no_quotients_and_few_instructions(epilogue):
    """Some vectors are finished side by side in a loop, without divisions and selections; SiLU's without the stack."""
    for vectors, places in SHAPES:
        found = instructions(epilogue, vectors, places)
        strange = [n for n in found if re.match(r"v(f?r?div|fsqrt|mf|f?merge|fcvt)", n)]
        assert not strange, (vectors, places, strange)
        plain = instructions(Epilogue(), vectors, places)
        # Of up to seven vectors that are finished at once, and what their constants and addresses take.
        assert found.total() - plain.total() < 7 * (65 if epilogue is GELU else 40), (vectors, places)
        assert epilogue is GELU or found["vs1r.v"] <= 1, (vectors, places)


@pytest.mark.parametrize("target", TARGETS)
def test_tiles_of_any_shape_are_finished(target, tmp_path):
    """Chunks of places that do not come out even, vectors of channels that overlap, what is left over at the end."""
    rng = np.random.default_rng(2)
    machine, cases = load_target(target), []
    for (vectors, places), epilogue in itertools.product(SHAPES, (SILU, GELU)):
        lanes = machine.lanes
        for out, batch in ((vectors * lanes, places), (vectors * lanes + 5, 2 * places + 3)):
            x, w = rng.normal(0, 1, (batch, 7)), rng.normal(0, 1, (out, 7))
            x, w, bias = x.astype(np.float32), w.astype(np.float32), rng.normal(0, 1, out).astype(np.float32)
            whole = epilogue.after_bias()
            y = references.finished(x.astype(np.float64) @ w.T.astype(np.float64), whole, [bias])
            schedule = f"out:{lanes}:{vectors}x{places}:u1"
            cases.append(Case(FullyConnected(Step(batch, out, 7, 1), whole), [x, w, bias], [y], schedule=schedule))
    for case, (found,) in zip(cases, run_cases(cases, machine, tmp_path), strict=True):
        expected = case.expected[0]
        largest = np.abs(expected).max()
        np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=0, atol=2e-6 * largest)
