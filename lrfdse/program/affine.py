"""Constant factors and addends behind a product become part of its weight and its bias."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.epilogue import VALUE, Epilogue, Instruction, Operand, Source
from lrfdse.ir.products import Convolution, FullyConnected, TransposedConvolution
from lrfdse.ir.program import Call
from lrfdse.program.build import Builder
from lrfdse.program.simplify import ROUNDING

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Vector = NDArray[np.float64]


def absorbed(calls: Sequence[Call], build: Builder) -> list[Call]:
    """Return the calls with what begins an epilogue as ``scale * y + shift`` in the weight and in one bias.

    Batch normalization behind a convolution, and the constants of activations such as hard-swish in models that learn
    them, cost nothing then. A weight that several calls share stays as it is.
    """
    uses = Counter(value for call in calls for value in call.arguments)
    return [_absorbed(call, build, uses) for call in calls]


@dataclass(frozen=True, slots=True)
class _Affine:
    """What the first instructions of an epilogue compute."""

    count: int
    scale: Vector
    shift: Vector


def _absorbed(call: Call, build: Builder, uses: Counter[int]) -> Call:
    operator = call.operator
    if not isinstance(operator, FullyConnected | Convolution | TransposedConvolution):
        return call
    if isinstance(operator, FullyConnected) and operator.weight != "float32":
        return call
    channels = operator.step.out if isinstance(operator, FullyConnected) else operator.outputs
    found = _affine(operator.epilogue, call.arguments[2:-1], channels, build)
    first = operator.epilogue.instructions[:1]
    if not found.count or (found.count == 1 and first[0].function == "add"):
        return call
    weight = call.arguments[1]
    if (found.scale != 1).any():
        if uses[weight] > 1:
            return call
        content = build.constants[weight].astype(np.float64)
        inner = isinstance(operator, TransposedConvolution)
        factor = found.scale[None, :] if inner else found.scale[:, None]
        shape = (-1, channels) if inner else (channels, -1)
        with np.errstate(over="ignore"):
            scaled = (content.reshape(shape) * factor).astype(np.float32)
        if not np.isfinite(scaled).all():
            return call
        weight = build.constant(scaled, build.values[weight].name).value
    epilogue, further = _without(operator.epilogue, call.arguments[2:-1], found, build)
    return dataclasses.replace(
        call,
        operator=dataclasses.replace(operator, epilogue=epilogue),
        arguments=(call.arguments[0], weight, *further, call.arguments[-1]),
    )


def _affine(epilogue: Epilogue, further: Sequence[int], channels: int, build: Builder) -> _Affine:
    """Return as many of the first instructions as only scale and shift, each the only reader of the one before it."""
    readers = Counter(operand for each in epilogue.instructions for operand in set(each.operands))
    scale, shift = np.ones(channels), np.zeros(channels)
    last, count = VALUE, 0
    for number, instruction in enumerate(epilogue.instructions):
        operands = list(instruction.operands)
        if operands.count(last) != 1 or readers[last] != 1:
            break
        place = operands.index(last)
        other = None if len(operands) == 1 else _constant(operands[1 - place], epilogue, further, channels, build)
        step = _step(instruction.function, place, other)
        if step is None or np.max(np.abs(step[1])) >= ROUNDING:
            break
        scale, shift = scale * step[0], shift * step[0] + step[1]
        last, count = Operand("result", number), number + 1
    return _Affine(count, scale, shift)


def _step(function: str, place: int, other: Vector | None) -> tuple[Vector | float, Vector | float] | None:
    """Return scale and shift of one instruction, or None where it is another function."""
    if function == "neg":
        return -1.0, 0.0
    if other is None:
        return None
    if function == "add":
        return 1.0, other
    if function == "sub":
        return (1.0, -other) if place == 0 else (-1.0, other)
    if function == "mul":
        return other, 0.0
    if function == "div" and place == 0 and (other != 0).all():
        return 1 / other, 0.0
    return None


def _constant(
    operand: Operand, epilogue: Epilogue, further: Sequence[int], channels: int, build: Builder
) -> Vector | None:
    """Return the value of an operand for each channel, or None where it is computed."""
    if operand.kind == "number":
        return np.full(channels, operand.number)
    if operand.kind != "input" or epilogue.sources[operand.place] != "channel":
        return None
    content = build.constants.get(further[operand.place])
    return None if content is None else content[:channels].astype(np.float64)


def _without(
    epilogue: Epilogue, further: Sequence[int], found: _Affine, build: Builder
) -> tuple[Epilogue, tuple[int, ...]]:
    """Return the epilogue with one bias instead of its first instructions, and its further inputs."""
    instructions: list[Instruction] = []
    arguments: list[int] = []
    sources: list[Source] = []
    shift = found.shift.astype(np.float32)
    base = VALUE
    if shift.any():
        arguments.append(build.constant(shift).value)
        sources.append("channel")
        instructions.append(Instruction("add", (VALUE, Operand("input"))))
        base = Operand("result")
    moved: dict[int, int] = {}
    for instruction in epilogue.instructions[found.count :]:
        operands = []
        for operand in instruction.operands:
            if operand.kind == "result":
                later = operand.place - found.count
                operands.append(base if later < 0 else Operand("result", later + bool(shift.any())))
            elif operand.kind == "input":
                if operand.place not in moved:
                    moved[operand.place] = len(arguments)
                    arguments.append(further[operand.place])
                    sources.append(epilogue.sources[operand.place])
                operands.append(Operand("input", moved[operand.place]))
            else:
                operands.append(operand)
        instructions.append(Instruction(instruction.function, tuple(operands)))
    return Epilogue(tuple(instructions), tuple(sources)), tuple(arguments)
