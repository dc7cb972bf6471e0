"""Operators that differ in numbers of their epilogues only become one: what differs is read from constants."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.epilogue import Epilogue, Instruction, Operand, Source
from lrfdse.ir.products import Convolution, FullyConnected
from lrfdse.program.build import Builder

if TYPE_CHECKING:
    from lrfdse.ir.program import Call

_Product = FullyConnected | Convolution

_Spot = tuple[int, int]
"""A number of an epilogue: the place of its instruction, and that among the operands of it."""

_READ = frozenset(("add", "sub", "mul"))
"""Functions whose code is no shorter and no faster where a number is known."""


def alike(calls: Sequence[Call], build: Builder) -> list[Call]:
    """Return the calls with products of one shape that differ in factors and addends only as one operator.

    Models that learn the constants of their activations repeat a layer with other numbers; each would have code of its
    own. A number that all of them have stays one, and so do limits, which may take fewer instructions where they are
    known.
    """
    kinds: dict[_Product, set[_Product]] = {}
    for call in calls:
        if isinstance(call.operator, _Product):
            kinds.setdefault(_without_numbers(call.operator), set()).add(call.operator)
    spots = {kind: _different(each) for kind, each in kinds.items()}
    return [
        _reading(call, spots[_without_numbers(call.operator)], build) if isinstance(call.operator, _Product) else call
        for call in calls
    ]


def _without_numbers(operator: _Product) -> _Product:
    epilogue = operator.epilogue
    blank = {
        (i, o): Operand("number")
        for i, instruction in enumerate(epilogue.instructions)
        for o, operand in enumerate(instruction.operands)
        if operand.kind == "number"
    }
    return dataclasses.replace(operator, epilogue=_replaced(epilogue, blank))


def _different(operators: Iterable[_Product]) -> list[_Spot]:
    """Return where operators have different numbers; none where other functions than a few do."""
    epilogues = [operator.epilogue for operator in operators]
    found: list[_Spot] = []
    for i, instruction in enumerate(epilogues[0].instructions):
        for o in range(len(instruction.operands)):
            if len({epilogue.instructions[i].operands[o].number for epilogue in epilogues}) > 1:
                if instruction.function not in _READ:
                    return []
                found.append((i, o))
    return found


def _reading(call: Call, spots: Sequence[_Spot], build: Builder) -> Call:
    """Return a call that reads some numbers of its epilogue from constants."""
    operator = call.operator
    if not spots or not isinstance(operator, _Product):
        return call
    epilogue = operator.epilogue
    numbers = [epilogue.instructions[i].operands[o].number for i, o in spots]
    read = [build.constant(np.array([number], np.float32)).value for number in numbers]
    inputs = {spot: Operand("input", len(epilogue.sources) + j) for j, spot in enumerate(spots)}
    scalar: Source = "scalar"
    made = _replaced(Epilogue(epilogue.instructions, (*epilogue.sources, *(scalar for _ in spots))), inputs)
    return dataclasses.replace(
        call,
        operator=dataclasses.replace(operator, epilogue=made),
        arguments=(*call.arguments[:-1], *read, call.arguments[-1]),
    )


def _replaced(epilogue: Epilogue, operands: dict[_Spot, Operand]) -> Epilogue:
    """Return an epilogue with other operands at some places."""
    instructions = [
        Instruction(each.function, tuple(operands.get((i, o), operand) for o, operand in enumerate(each.operands)))
        for i, each in enumerate(epilogue.instructions)
    ]
    return Epilogue(tuple(instructions), epilogue.sources)
