"""What gives an emulator away, and what does not."""

from __future__ import annotations

import pytest

from lrfdse.calibrate.emulation import SLOWEST, emulator_sign, slowness
from lrfdse.targets.catalog import load_target

X86 = {"vendor_id": "GenuineIntel", "model name": "Intel(R) Xeon(R) Processor"}
ARM = {"CPU implementer": "0x41", "CPU part": "0xd08", "Features": "fp asimd"}
X60 = {"isa": "rv64imafdcv", "uarch": "spacemit,x60", "mvendorid": "0x710"}


@pytest.mark.parametrize(
    ("target", "processor", "emulator", "said"),
    [
        ("riscv64", X86, None, "that of another architecture than riscv64 (vendor_id: GenuineIntel)"),
        ("riscv64", ARM, None, "that of another architecture than riscv64 (CPU implementer: 0x41)"),
        ("aarch64", X86, None, "that of another architecture than aarch64 (vendor_id: GenuineIntel)"),
        ("armv7", X86, None, "that of another architecture than armv7"),
        ("riscv64", X60 | {"uarch": "qemu"}, None, "calls the core qemu"),
        ("aarch64", ARM, "qemu-aarch64-static", "runs inside qemu-aarch64-static"),
        ("riscv64", {}, "qemu-riscv64\x1b[2J\n", "runs inside qemu-riscv64 [2J"),
    ],
)
def test_emulators(target, processor, emulator, said):
    sign = emulator_sign({"cpuinfo": processor, "emulator": emulator}, load_target(target))
    assert said in sign
    assert sign.isprintable()


@pytest.mark.parametrize(
    ("target", "processor"),
    [
        ("riscv64", X60),
        # What an early kernel said of a SiFive U74.
        ("riscv64-u74", {"isa": "rv64imafdc", "uarch": "sifive,u74-mc"}),
        ("aarch64", ARM),
        # A 32-bit program on a 64-bit kernel, and an old one that names the core.
        ("armv7", ARM | {"model name": "ARMv7 Processor rev 4 (v7l)", "Hardware": "BCM2835"}),
        ("host", X86),
        # A system that says nothing.
        ("riscv64", {}),
        ("riscv64", None),
    ],
)
def test_boards(target, processor):
    assert emulator_sign({"cpuinfo": processor}, load_target(target)) == ""


def test_the_median_decides_what_is_too_slow():
    """One kernel that is modelled badly makes no emulator of a board."""
    assert slowness([1e6, SLOWEST, 1.0], [1.0, 1.0, 1.0]) == ""
    assert "11 times" in slowness([1.1 * SLOWEST] * 3, [1.0, 1.0, 1.0])
    assert slowness([], []) == ""
    assert slowness([5.0], [0.0]) == ""
