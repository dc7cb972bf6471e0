"""Every operator against float64, over sizes that fill no vector, on every kind of target."""

from __future__ import annotations

import pytest

from lrfdse.targets.catalog import load_target
from tests.kernels.operators.cases import FAMILIES
from tests.plugins.targets import families

LONG = ("axes", "convolutions", "copies", "depthwise", "pools", "products", "transposed")
"""Families of so many operators that compiling them takes seconds."""
EMULATED = [name for name in families() if not load_target(name).is_native]


@pytest.mark.parametrize("family", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in FAMILIES])
def test_operators_on_the_host(family, check_cases):
    check_cases(list(FAMILIES[family]()), load_target("host"))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("target", EMULATED)
def test_operators_under_the_emulator(target, family, check_cases):
    check_cases(list(FAMILIES[family]()), load_target(target))
