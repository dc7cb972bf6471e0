"""Both layouts of depthwise convolutions: which is chosen where, how a weight lies, and that all give the same."""

from __future__ import annotations

import dataclasses
import re
import subprocess

import numpy as np
import pytest

from lrfdse.ir.epilogue import Epilogue, Instruction, Operand
from lrfdse.ir.products import Convolution
from lrfdse.kernels.operators.build import compile_operator, packed_weight, schedules_of
from lrfdse.kernels.operators.depthwise_schedule import DepthwiseSchedule
from lrfdse.targets.catalog import load_target
from lrfdse.toolchain.programs import find_llvm
from tests.kernels.operators import cases

WIDE = Convolution(cases.window((12, 80), 5, 2), 240, 240, 240)
"""A layer whose window reads 60 runs of memory side by side, from an image beyond the first cache level."""


@pytest.mark.parametrize("text", ["rows:8x4", "blocks:16x5"])
def test_the_text_form_is_read_back(text):
    assert str(DepthwiseSchedule.parse(text)) == text


@pytest.mark.parametrize("text", ["", "rows", "rows:8", "columns:8x4", "rows:-8x4", "rows:8xa"])
def test_other_texts_are_refused(text):
    with pytest.raises(ValueError, match="no schedule of a depthwise convolution"):
        DepthwiseSchedule.parse(text)


def test_an_in_order_core_copies_what_no_prefetcher_follows_and_the_meter_can_choose_either():
    emulated, host = (schedules_of(WIDE, load_target(name)) for name in ("riscv64", "host"))
    assert emulated[0].startswith("blocks:") and host[0].startswith("rows:")
    for listed in (emulated, host):
        assert len(listed) == 4 == len(set(listed))
        assert {text.partition(":")[0] for text in listed} == {"rows", "blocks"}
    small = schedules_of(Convolution(cases.window(8, 3, 1), 16, 16, 16), load_target("riscv64"))
    assert small[0].startswith("rows:")


def test_every_tap_of_every_channel_is_in_its_block():
    operator = Convolution(cases.window(9, (2, 3)), 21, 21, 21)
    weight = np.arange(21 * 6, dtype=np.float32).reshape(21, 6)
    found = packed_weight(operator, "blocks:8x4", load_target("host"), weight).reshape(3, 6, 8)
    for block, first in enumerate((0, 8, 13)):
        assert np.array_equal(found[block], weight[first : first + 8].T)
    plain = packed_weight(operator, "rows:8x4", load_target("host"), weight).reshape(6, 21)
    assert np.array_equal(plain, weight.T)


HARD_SWISH = Epilogue(
    (
        Instruction("add", (Operand("value"), Operand("input", 0))),
        Instruction("add", (Operand("result", 0), Operand("number", number=3.0))),
        Instruction("max", (Operand("result", 1), Operand("number", number=0.0))),
        Instruction("min", (Operand("result", 2), Operand("number", number=6.0))),
        Instruction("mul", (Operand("result", 0), Operand("result", 3))),
    ),
    ("channel",),
)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_a_long_epilogue_spills_next_to_nothing_on_rvv(kernel, stride, tmp_path):
    objdump = find_llvm("llvm-objdump")
    if objdump is None:
        pytest.skip("needs llvm-objdump")
    machine = load_target("riscv64")
    operator = Convolution(
        cases.window((12, 80), kernel, kernel // 2, strides=(stride, stride)), 240, 240, 240, HARD_SWISH
    )
    for text in schedules_of(operator, machine)[:2]:
        (tmp_path / "k.o").write_bytes(compile_operator(operator, text, machine, "k").object_code)
        command = [objdump.path, "-d", "--no-show-raw-insn", f"--mattr={','.join(machine.features)}", "k.o"]
        code = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        assert len(re.findall(r"vfma(cc|dd)", code)) > kernel
        # There were 236 where products were put off until their results were stored.
        assert len(re.findall(r"\bvl[124]re?\d*\.v\b", code)) <= 8, text


@pytest.mark.slow
@pytest.mark.parametrize("target", ["riscv64", "riscv64-u74"])
def test_both_layouts_are_right_under_the_emulator(target, check_cases):
    machine = load_target(target)
    made = [
        cases.convolution(
            cases.window((6, 21), (3, 5), pads=(1, 2, 0, 1), batch=2, strides=(2, 1)), 21, 21, 21, cases.ALL
        ),
        cases.convolution(cases.window((9, 20), 3), 16, 16, 16, cases.BIAS),
        cases.convolution(cases.window((11, 21), 5, 2, strides=(2, 2)), 21, 21, 21, cases.ALL),
    ]
    every = [dataclasses.replace(each, schedule=text) for each in made for text in schedules_of(each.operator, machine)]
    assert {each.schedule.partition(":")[0] for each in every} == {"rows", "blocks"}
    check_cases(every, machine)
