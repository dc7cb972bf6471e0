"""No speed-up is bought with a bad baseline: the dense kernel runs near what its core can do."""

from __future__ import annotations

import pytest

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.kernels.bounds import lower_bound_cycles
from lrfdse.meters.meter import open_meter
from lrfdse.targets.catalog import load_target
from lrfdse.tune import best_kernel

LEAST = {"aarch64-a55": 0.45}
"""Shares of other cores: a load of 128 bits takes the A55 two cycles, which are not in the bound."""


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(300, 784), (100, 300), (1000, 1024)])
@pytest.mark.parametrize("name", ["riscv64", "riscv64-u74", "aarch64", "aarch64-a55", "armv7"])
def test_dense_reaches_60_percent_of_its_bound(name, sizes):
    """The bound is FMAs at peak and weight bytes at full bandwidth, overlapped as far as the core overlaps them.

    It is held against the end of the modelled bracket at which memory traffic hides behind computation.
    """
    target = load_target(name)
    spec = KernelSpec(*sizes, Factorization.dense(*sizes), 1, True, True)
    _, measurement = best_kernel(spec, target, open_meter("model", target))
    for regime in ("warm", "cold"):
        bound = lower_bound_cycles(spec, target, regime) / target.clock_mhz
        assert bound / measurement.at(regime).low_us >= LEAST.get(name, 0.6), (
            f"{regime}: {measurement.at(regime)}, bound {bound} us"
        )
