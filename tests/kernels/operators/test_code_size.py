"""How much code operators take: register tiles and loops that differ in a number only share it."""

from __future__ import annotations

import dataclasses
import shutil
from typing import TYPE_CHECKING

import pytest

from lrfdse.ir.epilogue import Epilogue, Function, Instruction, Operand
from lrfdse.ir.factorization import Step
from lrfdse.ir.products import Convolution, FullyConnected
from lrfdse.ir.window import Window
from lrfdse.kernels.operators.build import compile_operator
from lrfdse.library.elf import loaded_bytes
from lrfdse.targets.catalog import load_target
from tests.kernels.operators import cases

if TYPE_CHECKING:
    from lrfdse.ir.operators import Operator

X60 = load_target("riscv64")

WHOLE = "out:8:2x14:u2"
BLOCKS = "out:8:2x4:u4:b144x1x384"


def code(operator: Operator, schedule: str) -> int:
    """Return the bytes of an operator's code."""
    return loaded_bytes(compile_operator(operator, schedule, X60, "made").object_code)


def image(width: int, channels: int, outputs: int) -> Convolution:
    window = Window(1, (8, width), (3, 3), pads=(1, 1, 1, 1))
    return Convolution(window, channels, outputs, 1, cases.BIAS)


def test_a_last_tile_of_fewer_positions_shares_the_code_of_the_others() -> None:
    # 96 columns are 7 tiles of 14 that overlap in two; of 90 the last tile is of 6, with code of its own.
    even, overlapping, apart = (code(image(width, 16, 16), WHOLE) for width in (98, 96, 90))
    assert overlapping <= 1.1 * even
    assert apart >= 1.3 * even


def test_a_last_tile_of_outputs_shares_the_code_of_the_others() -> None:
    def bytes_of(outputs: int) -> int:
        return code(FullyConnected(Step(8, outputs, 512, 1), cases.BIAS), "out:8:3x8:u2")

    even = bytes_of(240)
    assert bytes_of(233) <= 1.1 * even
    assert bytes_of(225) >= 1.2 * even, "a tile of one vector has code of its own"


def test_parts_of_the_inner_axis_share_code() -> None:
    one, four = code(image(96, 16, 32), BLOCKS), code(image(96, 64, 32), BLOCKS)
    assert four <= 1.4 * one, "sums that wait are loaded and stored, and nothing else is there again"


def test_parts_before_a_smaller_last_one_share_code() -> None:
    def bytes_of(inner: int) -> int:
        return code(FullyConnected(Step(24, 48, inner, 1), cases.BIAS), "out:8:2x8:u2:b48x1x24")

    assert bytes_of(180) <= 1.15 * bytes_of(84), "three parts and a smaller one have the code of one and a smaller one"


def test_loops_have_two_copies_of_a_body_at_most() -> None:
    short, long = (code(image(98, 16, 16), f"out:8:2x14:u{unroll}") for unroll in (1, 2))
    # An FMA is 4 bytes; an iteration has 28, and loads of 2 vectors and 14 numbers of 4 to 8 bytes.
    iteration = 28 * 4 + 16 * 8
    assert long - short <= 2 * iteration


@pytest.mark.parametrize("function", ["cos", "log", "sin"])
def test_a_long_epilogue_is_in_the_code_once_for_all_places_of_a_tile(function) -> None:
    few, many = (code(FullyConnected(Step(40, 240, 64, 1), of(function)), f"out:8:3x{n}:u1") for n in (4, 8))
    assert many - few <= 600, "12 sums more: each is cleared, added to and stored; 12 logarithms take 2 kB"


def of(function: Function) -> Epilogue:
    """Return an epilogue that takes a function of sums made positive."""
    positive = Instruction("abs", (Operand("value"),)), Instruction("add", (Operand("result", 0), HALF))
    return Epilogue((*positive, Instruction(function, (Operand("result", 1),))))


HALF = Operand("number", number=0.5)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("qemu-riscv64"), reason="needs qemu-riscv64")
def test_what_shares_code_is_right(check_cases) -> None:
    def on(case: cases.Case, schedule: str) -> cases.Case:
        return dataclasses.replace(case, schedule=schedule)

    def picture(width: int, channels: int, outputs: int) -> cases.Case:
        return cases.convolution(cases.window((5, width), 3, 1), channels, outputs, 1, cases.ALL)

    check_cases(
        [
            on(picture(96, 5, 16), WHOLE),
            on(picture(96, 6, 16), "out:8:2x14:u1"),
            on(picture(55, 3, 23), "out:8:3x7:u4"),
            on(picture(24, 64, 17), BLOCKS),
            on(picture(24, 64, 32), "out:8:2x4:u2:b288x2x24"),
            on(picture(24, 64, 8), "out:8:1x4:u4:b72x1x48"),
            *(on(cases.fully_connected(13, 30, 40, 1, of(name)), "out:8:3x8:u2") for name in ("cos", "log", "sin")),
            on(cases.fully_connected(24, 45, 192, 1, cases.ALL), "out:8:4x4:u4:b48x1x16"),
            *(on(cases.fully_connected(24, 45, n, 1, cases.ALL), "out:8:4x4:u4:b48x1x16") for n in (84, 132, 180)),
            on(cases.fully_connected(24, 45, 192, 1, cases.BIAS), "out:8:3x4:u2:b64x1x24i"),
            *(
                on(cases.fully_connected(41, 233, inner, 1, cases.ALL), f"out:8:3x8:u{unroll}")
                for inner in (7, 12, 13, 14, 15, 24)
                for unroll in (1, 2, 4)
            ),
            *(
                on(cases.fully_connected(41, 40, inner, 1, cases.BIAS), f"out:8:{tile}:u4")
                for inner in (12, 13, 14, 15)
                for tile in ("4x4", "1x1", "2x2")
            ),
        ],
        X60,
    )
