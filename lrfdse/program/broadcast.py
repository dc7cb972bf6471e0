"""Elementwise operators on tensors that broadcast against each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrfdse.ir.epilogue import Epilogue, Function, Instruction, Operand, Source
from lrfdse.ir.operators import Elementwise
from lrfdse.program.build import Builder, Tensor
from lrfdse.program.layout import Part, View, together


@dataclass(frozen=True, slots=True)
class Formula:
    """Instructions on the operands that `Operand("input", k)` names, all of them broadcast to one shape."""

    instructions: tuple[Instruction, ...]


class Writer:
    """Writes a formula instruction by instruction.

    >>> write = Writer()
    >>> relu = write("max", write.input(0), 0.0)
    >>> write.formula.instructions[0].function, relu
    ('max', Operand(kind='result', place=0, number=0.0))
    """

    def __init__(self) -> None:
        self._instructions: list[Instruction] = []

    def __call__(self, function: Function, *operands: Operand | float) -> Operand:
        """Add an instruction and return its result."""
        self._instructions.append(
            Instruction(function, tuple(o if isinstance(o, Operand) else Operand("number", number=o) for o in operands))
        )
        return Operand("result", len(self._instructions) - 1)

    @staticmethod
    def input(place: int) -> Operand:
        """Return one of the formula's inputs."""
        return Operand("input", place)

    @property
    def formula(self) -> Formula:
        """What was written."""
        return Formula(tuple(self._instructions))


def elementwise(build: Builder, formula: Formula, inputs: Sequence[Tensor]) -> Tensor:
    """Add one elementwise operator and return its result, which lies as the largest input does.

    Parameters
    ----------
    build
        Takes the call.
    formula
        At least one instruction, the last of which is the result.
    inputs
        Float32 tensors, broadcast against each other.
    """
    shape = np.broadcast_shapes(*(each.shape for each in inputs))
    main = _main(build, inputs, shape)
    base = build.compacted(inputs[main])
    if base.shape != shape:
        wide = base.view.expand(shape)
        base = build.compacted(base.seen(wide)) if base.view.size != math.prod(shape) else base.seen(wide)
    size = base.view.size
    places: dict[int, Operand] = {main: Operand("value")}
    read = [_read(build, each, base.view) if place != main else None for place, each in enumerate(inputs)]
    channels = next((each.channels for each in read if each and each.channels), size)
    arguments: list[int] = []
    sources: list[Source] = []
    for place, each in enumerate(read):
        if each is None:
            continue
        if each.number is not None:
            places[place] = Operand("number", number=each.number)
            continue
        if each.channels not in (0, channels):
            each = _Read("same", build.laid(inputs[place].seen(inputs[place].view.expand(shape)), base.view).value)
        places[place] = Operand("input", len(arguments))
        arguments.append(each.value)
        sources.append(each.source)
    instructions = (
        Instruction(each.function, tuple(places[o.place] if o.kind == "input" else o for o in each.operands))
        for each in formula.instructions
    )
    result = build.new(base.view)
    operator = Elementwise(size, channels, Epilogue(tuple(instructions), tuple(sources)))
    build.call(operator, base.value, *arguments, result.value)
    return result


@dataclass(frozen=True, slots=True)
class _Read:
    """How an input is read."""

    source: Source
    value: int = 0
    channels: int = 0
    """Positions along the innermost axis, where the source depends on that."""
    number: float | None = None
    """The number that stands for a constant of one element."""


def _main(build: Builder, inputs: Sequence[Tensor], shape: Sequence[int]) -> int:
    """Return which input the others follow: one of full shape, computed rather than constant, dense if possible."""
    size = math.prod(shape)

    def worth(place: int) -> tuple[bool, bool, int, bool, int]:
        each = inputs[place]
        computed = build.values[each.value].kind != "constant"
        return each.view.size == size, computed, each.view.size, each.view.is_dense, -place

    return max(range(len(inputs)), key=worth)


def _read(build: Builder, tensor: Tensor, base: View) -> _Read:
    content = build.content(tensor)
    if content is not None and content.size == 1:
        return _Read("scalar", number=float(content.reshape(-1)[0]))
    wide = tensor.view.expand(base.shape)
    if tensor.view.size == 1:
        return _Read("scalar", build.compacted(tensor).value)
    if tensor.view.size == base.size:
        return _Read("same", build.laid(tensor.seen(wide), base).value)
    steps = together(wide, base)
    if steps is None:
        return _Read("same", build.laid(tensor.seen(wide), base).value)
    used = [place for place, step in enumerate(steps) if step.one]
    channel, row = steps[used[0] :], steps[: used[-1] + 1]
    inner, outer = (math.prod(step.size for step in each) for each in (channel, row))
    # What varies along axes in the middle alone is repeated along those inside, or those outside, of them.
    chosen = channel if inner <= outer else row
    view = View(tuple((Part(step.size, step.one),) for step in chosen), wide.offset)
    value = build.ordered(tensor.seen(view)).value
    if min(inner, outer) == base.size:
        return _Read("same", value)
    return _Read("channel", value, inner) if chosen is channel else _Read("row", value, base.size // outer)
