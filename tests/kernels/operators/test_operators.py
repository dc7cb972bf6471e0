"""Every operator against float64, over sizes that fill no vector, on every kind of target."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.ir.indexed import TopK
from lrfdse.targets.catalog import load_target
from tests.kernels.operators.cases import FAMILIES
from tests.plugins.operators import Case, run_cases
from tests.plugins.targets import families

LONG = ("axes", "convolutions", "copies", "depthwise", "pools", "products", "transposed")
"""Families of so many operators that compiling them takes seconds."""
EMULATED = [name for name in families() if not load_target(name).is_native]


@pytest.mark.parametrize("family", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in FAMILIES])
def test_operators_on_the_host(family, check_cases):
    check_cases(list(FAMILIES[family]()), load_target("host"))


def test_the_first_of_what_is_not_a_number_are_as_many_different_elements(tmp_path):
    x = np.random.default_rng(0).standard_normal(300).astype(np.float32)
    x[::3] = np.nan
    cases = [Case(TopK(1, 300, 1, count), [x]) for count in (1, 50, 300)]
    for case, (values, indices) in zip(cases, run_cases(cases, load_target("host"), tmp_path), strict=True):
        assert len(set(indices)) == case.operator.count and 0 <= indices.min() <= indices.max() < 300
        np.testing.assert_array_equal(values, x[indices])


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", EMULATED)
def test_operators_under_the_emulator(target, family, check_cases):
    check_cases(list(FAMILIES[family]()), load_target(target))
