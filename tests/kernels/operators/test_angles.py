"""Acos, Asin and Atan as the formulas that a program has for them, against float64."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from lrfdse.program.lower import program
from lrfdse.targets.catalog import load_target
from tests.plugins.operators import Case, run_cases
from tests.plugins.targets import families
from tests.program.models import Graph

NEAR = 4e-7
"""What a result may be off, as a part of it: 3 to 4 units of float32's last place."""

FUNCTIONS = {"Acos": np.arccos, "Asin": np.arcsin, "Atan": np.arctan}


def arguments(kind: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind != "Atan":
        ends = [1 - 6e-8, -1 + 6e-8, 1, -1, 0, -0.0, 1e-8, 1e-30, 1.5, -np.inf, np.nan]
        return np.concatenate([rng.uniform(-1, 1, 500), ends]).astype(np.float32)
    far = 10.0 ** rng.uniform(-37, 38, 300)
    return np.concatenate([rng.standard_normal(300), far, -far, [0, -0.0, np.inf, -np.inf, np.nan]]).astype(np.float32)


@pytest.mark.parametrize(
    "target", [pytest.param(name, marks=[] if load_target(name).is_native else pytest.mark.slow) for name in families()]
)
def test_angles_are_right_to_the_last_digits(target, tmp_path):
    machine = load_target(target)
    if machine.emulator and not shutil.which(machine.emulator[0]):
        pytest.skip(f"{machine.emulator[0]} is not installed")
    cases, wanted = [], []
    for kind, function in FUNCTIONS.items():
        x = arguments(kind)
        g = Graph()
        (call,) = program(g.model(g.op(kind, g.input("x", [len(x)])))).calls
        cases.append(Case(call.operator, [x]))
        with np.errstate(invalid="ignore"):
            wanted.append(function(x.astype(np.float64)))
    for (made,), want in zip(run_cases(cases, machine, tmp_path), wanted, strict=True):
        np.testing.assert_allclose(made, want, rtol=NEAR, atol=1e-37)
