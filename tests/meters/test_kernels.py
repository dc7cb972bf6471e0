"""The project's own kernels on every shipped target."""

from __future__ import annotations

import platform

import pytest

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.meters.meter import open_meter
from lrfdse.targets.catalog import load_target


@pytest.mark.slow
@pytest.mark.parametrize("name", ["riscv64", "riscv64-u74", "aarch64", "aarch64-a55", "armv7", "host"])
@pytest.mark.parametrize("text", ["dense", "svd:r=16", "tt:m=300x1,n=4x196,r=9", "tt:m=12x25,n=28x28,r=8,lr"])
def test_a_kernel_is_right_and_within_reach_of_its_bound(name, text):
    from lrfdse.kernels.build import compile_kernel
    from lrfdse.kernels.data import example
    from lrfdse.kernels.schedules import schedules

    target = load_target(name)
    if target.is_native and target.isa != platform.machine():
        target = load_target("aarch64")
    spec = KernelSpec(300, 784, Factorization.parse(text, 300, 784), 1, bias=True, relu=True)
    artifact = compile_kernel(spec, schedules(spec, target, 1)[0], target, "kernel")
    measured = open_meter("auto", target).measure(artifact, *example(artifact, 0))
    assert measured.max_error < 1e-5
    if measured.meter == "model":
        peak = spec.factorization.macs() / target.fma_per_cycle
        assert peak <= measured.details["compute_cycles"] < 12 * peak
