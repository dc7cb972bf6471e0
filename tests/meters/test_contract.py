"""What every meter must do, on every kind of target."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lrfdse.errors import KernelError
from lrfdse.meters.meter import open_meter

pytestmark = pytest.mark.slow

TARGETS = ["riscv64", "riscv64-u74", "riscv64-p670", "aarch64", "aarch64-a55", "armv7", "x86-64-v3", "host"]
every_target = pytest.mark.parametrize("name", TARGETS)
every_set = pytest.mark.parametrize("name", ["riscv64", "aarch64", "armv7", "x86-64-v3", "host"])
"""What runs and judges a kernel is one program an instruction set, and another on the host, whatever the core."""


@pytest.fixture
def meter(name, measured_target):
    return open_meter("auto", measured_target(name), timeout=600)


@every_target
def test_a_right_kernel_gives_a_number(name, meter, measured_target, matvec):
    case = matvec(measured_target(name))
    measured = meter.measure(*case)
    assert measured.meter == meter.name == ("host" if name == "host" else "model")
    assert 0 <= measured.max_error < 1e-5
    for latency in (measured.warm, measured.cold):
        assert 0 < latency.low_us <= latency.us <= latency.high_us < 1e4
    if meter.name == "model":
        assert measured.cold.us > measured.warm.us
        assert measured.details["skipped"] == 0


def test_the_host_meter_says_how_much_it_wrote_to_empty_the_caches(measured_target, matvec):
    target = measured_target("host")
    small = dataclasses.replace(target, last_level=dataclasses.replace(target.last_level, kib=64))
    for each in (target, small):
        details = open_meter("host", each).measure(*matvec(each)).details
        largest, evicted = details["largest_cache_bytes"], details["evicted_bytes"]
        # Twice the machine's own cache, within the target's and eight times it.
        assert evicted == 2 * min(max(largest, 1024 * each.last_level.kib), 8 * 1024 * each.last_level.kib)


@every_set
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"after": "y[3] += 1e-2f;"}, "wrong output.*first at element 3"),
        ({"after": "y[0] = 0.0f / (x[0] - x[0]);"}, "wrong output"),
        ({"before": "y += 1;"}, "beyond argument y"),
        ({"after": "x[1] = 0;"}, "changed its argument x"),
        ({"before": "*(volatile float *)8 = 1;"}, "crashed"),
    ],
    ids=["wrong", "nan", "overrun", "changed-input", "crash"],
)
def test_a_faulty_kernel_never_gives_a_number(name, meter, measured_target, matvec, fault, reason):
    with pytest.raises(KernelError, match=reason) as caught:
        meter.measure(*matvec(measured_target(name), **fault))
    assert "16x64 dense" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["riscv64", "armv7", "host"])
def test_an_illegal_instruction_is_refused(name, meter, measured_target, matvec):
    word = ".word 0xe7f000f0" if name == "armv7" else ".byte 0x0f, 0x0b" if name == "host" else ".word 0"
    with pytest.raises(KernelError, match="illegal instruction"):
        meter.measure(*matvec(measured_target(name), before=f'__asm__ volatile("{word}");'))


@pytest.mark.parametrize("name", ["riscv64", "aarch64", "host"])
def test_a_hanging_kernel_is_refused(name, measured_target, matvec):
    meter = open_meter("auto", measured_target(name), timeout=1.5)
    with pytest.raises(KernelError, match=r"no result after 1\.5 s"):
        meter.measure(*matvec(measured_target(name), before="for (volatile int i = 1; i;) i = 1;"))


@every_set
def test_a_result_that_is_only_added_to_is_wrong(name, meter, measured_target, matvec, compile_c):
    _, arrays, expected = matvec(measured_target(name))
    adds = "void kernel(float *x, float *w, float *y) { for (int i = 0; i < 1024; i++) y[i / 64] += w[i] * x[i % 64]; }"
    with pytest.raises(KernelError, match="wrong output"):
        meter.measure(compile_c(adds, measured_target(name), (64, 1024, 16)), arrays, expected)


@pytest.mark.parametrize("name", ["riscv64", "host"])
def test_arrays_must_fit_the_arguments(name, meter, measured_target, matvec):
    artifact, (x, w), expected = matvec(measured_target(name))
    with pytest.raises(ValueError, match=r"takes x\[64\], w\[1024\]"):
        meter.measure(artifact, [x, w[:1]], expected)
    with pytest.raises(ValueError, match="reference elements"):
        meter.measure(artifact, [x, w], expected[:-1])


@pytest.mark.parametrize("name", ["riscv64", "host"])
def test_an_object_for_another_machine_is_one_failed_kernel(name, meter, measured_target, matvec):
    other = "aarch64"
    with pytest.raises(KernelError, match="linking failed"):
        meter.measure(*matvec(measured_target(other)))


@every_target
def test_the_key_repeats_and_tells_targets_apart(name, meter, measured_target):
    assert meter.key() == open_meter("auto", measured_target(name)).key()
    others = {open_meter("auto", measured_target(other)).key() for other in TARGETS if other != name}
    assert meter.key() not in others
    assert all(meter.versions().values())


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "host"])
def test_modelled_numbers_repeat_exactly(name, meter, measured_target, matvec):
    case = matvec(measured_target(name))
    assert meter.measure(*case) == meter.measure(*case)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in TARGETS if name != "host"])
def test_modelled_numbers_do_not_depend_on_the_surroundings(name, measured_target, matvec, request):
    target = measured_target(name)
    case = matvec(target)
    here = open_meter("model", target).measure(*case)
    request.getfixturevalue("elsewhere")
    assert open_meter("model", target).measure(*case) == here


@pytest.mark.parametrize("name", ["riscv64", "riscv64-u74", "aarch64"])
def test_more_work_takes_longer(name, meter, measured_target, matvec):
    small = meter.measure(*matvec(measured_target(name), outputs=16))
    large = meter.measure(*matvec(measured_target(name), outputs=64))
    assert 3 < large.details["compute_cycles"] / small.details["compute_cycles"] < 4.5


def test_an_array_of_another_layout_is_laid_out(measured_target, matvec):
    target = measured_target("riscv64")
    artifact, (x, w), expected = matvec(target)
    measured = open_meter("auto", target).measure(artifact, [x, np.asfortranarray(w)], expected)
    assert measured.max_error < 1e-5
