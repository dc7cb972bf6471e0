"""Functions of float32 over their whole range, against float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

from lrfdse.ir.epilogue import ARITY, VALUE, Epilogue, Function, Instruction, Operand
from lrfdse.ir.operators import Elementwise
from lrfdse.targets.catalog import load_target, names
from tests.plugins.operators import Case, run_cases

TINY, HUGE = np.finfo(np.float32).tiny, np.finfo(np.float32).max
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, TINY, -TINY, TINY / 8, -TINY / 8, HUGE, -HUGE]
SPECIAL += [
    math.inf,
    -math.inf,
    math.nan,
    88.72283,
    88.72284,
    88.73,
    89.0,
    -86.9,
    -87.4,
    -104.0,
    2.0**23,
    -(2.0**23),
    2.0**23 - 0.5,
]

REFERENCES = {
    "abs": np.abs,
    "ceil": np.ceil,
    "cos": np.cos,
    "erf": special.erf,
    "exp": np.exp,
    "floor": np.floor,
    "log": np.log,
    "neg": np.negative,
    "round": np.rint,
    "sigmoid": special.expit,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
}
ULPS = {"exp": 2, "log": 2, "sigmoid": 5, "tanh": 5, "erf": 6, "sqrt": 0.5}
"""Largest errors that `lrfdse.kernels.operators.functions` states, in ulp."""


def numbers(limit: float = HUGE) -> NDArray[np.float32]:
    """Return numbers of all magnitudes, special ones among them."""
    rng = np.random.default_rng(0)
    size = np.exp(rng.uniform(np.log(1e-45), np.log(limit), 4000))
    near = rng.normal(0, 4, 8000)
    wide = rng.uniform(-110, 110, 4000)
    x = np.concatenate([SPECIAL, size, -size, near, wide]).astype(np.float32)
    return x[~(np.abs(x) > limit) | ~np.isfinite(x)]


def case(function: Function, *inputs: NDArray[np.float32], constant: float | None = None) -> Case:
    operands = [VALUE, *([Operand("input")] * (ARITY[function] - 1))]
    if constant is not None:
        operands[1:] = [Operand("number", number=constant)]
    sources = ("same",) if any(operand.kind == "input" for operand in operands) else ()
    epilogue = Epilogue((Instruction(function, tuple(operands)),), sources)
    return Case(Elementwise(inputs[0].size, inputs[0].size, epilogue), inputs[: 1 + len(sources)])


def check(function: Function, x: NDArray[np.float32], y: NDArray[np.float32], flushes: bool = False) -> None:
    """Compare with float64; `flushes` says that the machine's vectors take denormal numbers for 0."""
    if flushes:
        seen = np.abs(x) >= TINY
        x, y = x[seen | ~np.isfinite(x) | (x == 0)], y[seen | ~np.isfinite(x) | (x == 0)]
    with np.errstate(all="ignore"):
        exact = REFERENCES[function](x.astype(np.float64))
        nearest = exact.astype(np.float32)
    assert (np.isnan(y) == np.isnan(nearest)).all(), x[np.isnan(y) != np.isnan(nearest)][:5]
    endless = np.isinf(nearest)
    assert (y[endless] == nearest[endless]).all()
    ordinary = np.isfinite(nearest) & (np.abs(exact) >= 2 * TINY)
    if function in ULPS:
        ulp = np.spacing(np.maximum(np.abs(nearest), TINY)).astype(np.float64)
        error = np.abs(y.astype(np.float64) - exact)[ordinary] / ulp[ordinary]
        assert error.max() <= ULPS[function], (error.max(), x[ordinary][error.argmax()])
    elif function in ("sin", "cos"):
        error = np.abs(y - exact)
        assert error[ordinary & (np.abs(x) < 1e6)].max() <= 1e-7
        assert error[ordinary].max() <= 2e-7
    else:
        assert (y == nearest)[ordinary].all(), x[ordinary & (y != nearest)][:5]
    assert (np.abs(y[np.isfinite(nearest) & ~ordinary]) <= 2 * TINY).all()


def check_all(target: str, tmp_path) -> None:
    found = {f: numbers(2.0**22 if f in ("sin", "cos") else HUGE) for f in REFERENCES}
    # Denormal inputs may be taken for 0 where the result would be denormal, too; log and sqrt see them.
    made = run_cases([case(f, x) for f, x in found.items()], load_target(target), tmp_path)
    for (function, x), (y,) in zip(found.items(), made, strict=True):
        # NEON of 32 bits always flushes.
        check(function, x, y, target == "armv7")


def test_functions_of_one_number(tmp_path):
    check_all("host", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("target", [name for name in names("targets") if not load_target(name).is_native])
def test_functions_of_one_number_under_the_emulator(target, tmp_path):
    check_all(target, tmp_path)


def test_functions_of_two_numbers(tmp_path):
    rng = np.random.default_rng(1)
    x = np.concatenate([np.repeat(SPECIAL, len(SPECIAL)), rng.normal(0, 3, 3000)]).astype(np.float32)
    y = np.concatenate([np.tile(SPECIAL, len(SPECIAL)), rng.normal(0, 3, 3000)]).astype(np.float32)
    functions = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
    functions |= {"max": np.maximum, "min": np.minimum}
    made = run_cases([case(f, x, y) for f in functions], load_target("host"), tmp_path)
    for reference, (found,) in zip(functions.values(), made, strict=True):
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(found, reference(x, y))


def test_powers(tmp_path):
    rng = np.random.default_rng(2)
    bases = [*SPECIAL, 2.0, -3.0, 10.0]
    powers = [0.0, 1.0, -1.0, 2.0, 3.0, -3.0, 0.5, -0.5, 0.3, 7.0, 15.0, 2.0**24, math.inf, -math.inf]
    x = np.concatenate([np.repeat(bases, len(powers)), np.exp(rng.normal(0, 4, 5000))]).astype(np.float32)
    y = np.concatenate([np.tile(powers, len(bases)), rng.normal(0, 3, 5000)]).astype(np.float32)
    cases = [case("pow", x, y), *(case("pow", x, constant=p) for p in (2.0, 0.5, 3.0, -1.0, 1.7))]
    made = run_cases(cases, load_target("host"), tmp_path)
    for power, (found,) in zip((y, 2.0, 0.5, 3.0, -1.0, 1.7), made, strict=True):
        with np.errstate(all="ignore"):
            exact = np.power(x.astype(np.float64), np.float64(np.float32(power)))
            allowed = (2 + np.abs(np.float64(power) * np.log(np.abs(x.astype(np.float64))))) * 2.0**-22
        nearest = exact.astype(np.float32)
        ordinary = np.isfinite(nearest) & (np.abs(exact) >= 4 * TINY) & (np.abs(exact) < HUGE / 2)
        strange = np.isnan(found) != np.isnan(nearest)
        assert not strange.any(), (power, x[strange][:5], y[strange][:5])
        assert (np.abs(found - exact) <= np.fmax(allowed, 1e-6) * np.abs(exact))[ordinary].all()
