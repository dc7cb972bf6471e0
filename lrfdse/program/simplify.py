"""Arithmetic with numbers in epilogues: two factors or two addends in a row are one, and those that do nothing go."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from lrfdse.ir.epilogue import Epilogue, Function, Instruction, Operand
from lrfdse.ir.operators import Elementwise, Normalization
from lrfdse.ir.products import BatchedProduct, Convolution, FullyConnected, TransposedConvolution
from lrfdse.ir.program import Call
from lrfdse.ir.quantized import QuantizedConvolution, QuantizedProduct

_FUSED = (
    FullyConnected
    | BatchedProduct
    | Convolution
    | TransposedConvolution
    | QuantizedProduct
    | QuantizedConvolution
    | Normalization
    | Elementwise
)


ROUNDING = 2.0**20
"""Addends from which a sum has less than three binary digits behind the point, so that what is added and taken away
again was meant to round. Chosen: 1.5 * 2**23, which rounds to whole numbers, is the usual one."""


def simplified(calls: Sequence[Call]) -> list[Call]:
    """Return the calls with shorter epilogues that compute the same up to rounding."""
    return [_shorter(call) for call in calls]


def _shorter(call: Call) -> Call:
    operator = call.operator
    if not isinstance(operator, _FUSED):
        return call
    epilogue = operator.epilogue
    while (shorter := _once(epilogue)) is not None:
        epilogue = shorter
    if epilogue is operator.epilogue or (isinstance(operator, Elementwise) and not epilogue.instructions):
        return call
    return dataclasses.replace(call, operator=dataclasses.replace(operator, epilogue=epilogue))


def _once(epilogue: Epilogue) -> Epilogue | None:
    """Return the epilogue with one instruction fewer, or None where none can go."""
    readers = Counter(operand for each in epilogue.instructions for operand in set(each.operands))
    for place, instruction in enumerate(epilogue.instructions):
        found = _by_number(instruction)
        if found is None:
            continue
        kind, source, number = found
        if number == (1.0 if kind == "mul" else 0.0):
            if (shorter := _without(epilogue, place, source)) is not None:
                return shorter
            continue
        if source.kind != "result" or readers[source] != 1:
            continue
        before = _by_number(epilogue.instructions[source.place])
        if before is not None and before[0] == kind and (total := _joined(kind, before[2], number)) is not None:
            merged = Instruction(kind, (before[1], Operand("number", number=total)))
            instructions = list(epilogue.instructions)
            instructions[place] = merged
            return _without(Epilogue(tuple(instructions), epilogue.sources), source.place, before[1])
    return None


def _joined(kind: Function, one: float, other: float) -> float | None:
    """Return the number that stands for two in a row, or None where their order counts or float32 does not hold it."""
    if kind == "add":
        return None if max(abs(one), abs(other)) >= ROUNDING else one + other
    total = one * other
    normal = np.finfo(np.float32)
    return total if one == 0 or other == 0 or float(normal.tiny) <= abs(total) <= float(normal.max) else None


def _by_number(instruction: Instruction) -> tuple[Function, Operand, float] | None:
    """Return "mul" or "add", with what and by which number, or None of any other instruction."""
    if len(instruction.operands) != 2:
        return None
    left, right = instruction.operands
    if instruction.function in ("add", "mul"):
        if left.kind == "number":
            left, right = right, left
        return (instruction.function, left, right.number) if right.kind == "number" else None
    if right.kind != "number":
        return None
    if instruction.function == "sub":
        return "add", left, -right.number
    if instruction.function == "div" and right.number:
        return "mul", left, 1 / right.number
    return None


def _without(epilogue: Epilogue, place: int, stand_in: Operand) -> Epilogue | None:
    """Return the epilogue without an instruction, whose readers read what it read; None where it is needed.

    What is stored is the result of the last instruction, or what the operator computed where there is none.
    """
    last = len(epilogue.instructions) - 1
    before = Operand("result", last - 1) if last else Operand("value")
    if place == last and stand_in != before:
        return None
    instructions = []
    for number, instruction in enumerate(epilogue.instructions):
        if number == place:
            continue
        operands = []
        for operand in instruction.operands:
            operand = stand_in if operand == Operand("result", place) else operand
            moves = operand.kind == "result" and operand.place > place
            operands.append(Operand("result", operand.place - 1) if moves else operand)
        instructions.append(Instruction(instruction.function, tuple(operands)))
    return Epilogue(tuple(instructions), epilogue.sources)
