"""Elementwise operators become the epilogue of the operator whose result they read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

from lrfdse.ir.epilogue import Epilogue, Instruction, Operand, Source
from lrfdse.ir.operators import Elementwise, Normalization, Operator
from lrfdse.ir.products import BatchedProduct, Convolution, FullyConnected, TransposedConvolution
from lrfdse.ir.program import Call, Value
from lrfdse.ir.quantized import QuantizedConvolution, QuantizedProduct
from lrfdse.program.calls import reads

Producer = (
    FullyConnected
    | BatchedProduct
    | Convolution
    | TransposedConvolution
    | QuantizedProduct
    | QuantizedConvolution
    | Normalization
    | Elementwise
)
"""Operators with an epilogue."""


def fused(calls: Sequence[Call], values: Sequence[Value]) -> list[Call]:
    """Return the calls with the largest elementwise graph behind each operator in its epilogue.

    A graph can be fused where just one of its values is read by others: that one is stored, the others never are. The
    fused call stands where the last of its graph stood, so that all that it reads is there.
    """
    left = list(calls)
    place = 0
    while place < len(left):
        grown = _grown(left, place, values) if isinstance(left[place].operator, Producer) else None
        if grown is None:
            place += 1
            continue
        call, absorbed = grown
        left = [each for number, each in enumerate(left) if number not in absorbed[:-1]]
        left[absorbed[-1] - len(absorbed) + 1] = call
        # What stands at this place now has not been looked at.
    return left


@dataclass
class _Group:
    """An operator with the elementwise graph behind it, as far as it has been followed."""

    operator: Producer
    arguments: list[int]
    """The operator's own, without further inputs and result."""
    channels: int
    """Positions along the innermost axis that further inputs are read by; 0 while nothing fixes that."""
    held: dict[int, Operand]
    """Values of the group: where an instruction finds them."""
    instructions: list[Instruction]
    further: list[int]
    sources: list[Source]
    nodes: list[str]
    members: list[int] = field(default_factory=list)

    def copy(self) -> _Group:
        return dataclasses.replace(
            self,
            held=dict(self.held),
            instructions=list(self.instructions),
            further=list(self.further),
            sources=list(self.sources),
            nodes=list(self.nodes),
            members=list(self.members),
        )

    def call(self, result: int) -> Call:
        """Return the fused call."""
        epilogue = Epilogue(tuple(self.instructions), tuple(self.sources))
        operator: Operator
        if isinstance(self.operator, Elementwise):
            size = self.operator.size
            operator = Elementwise(size, self.channels or size, epilogue)
        else:
            operator = dataclasses.replace(self.operator, epilogue=epilogue)
        return Call(operator, (*self.arguments, *self.further, result), tuple(dict.fromkeys(self.nodes)))


def _grown(calls: Sequence[Call], start: int, values: Sequence[Value]) -> tuple[Call, list[int]] | None:
    """Return the fused call that begins at a place and the places that it stands for, or None where nothing fuses."""
    call = calls[start]
    group = _begun(call, start)
    size = values[call.arguments[-1]].size
    best: tuple[Call, list[int]] | None = None
    for place in range(start + 1, len(calls)):
        after = calls[place]
        if not isinstance(after.operator, Elementwise) or after.operator.size != size:
            continue
        if not any(value in group.held for value in reads(after)):
            continue
        wider = _absorbed(group, after, place, values)
        if wider is None:
            continue
        group = wider
        result = after.arguments[-1]
        if _escaping(calls, group, values) == {result}:
            best = group.call(result), list(group.members)
    return best


def _begun(call: Call, place: int) -> _Group:
    operator = call.operator
    assert isinstance(operator, Producer)
    epilogue = operator.epilogue
    own = len(call.arguments) - 1 - len(epilogue.sources)
    last = len(epilogue.instructions)
    return _Group(
        operator=operator,
        arguments=list(call.arguments[:own]),
        channels=_channels(operator),
        held={call.arguments[-1]: Operand("result", last - 1) if last else Operand("value")},
        instructions=list(epilogue.instructions),
        further=list(call.arguments[own:-1]),
        sources=list(epilogue.sources),
        nodes=list(call.nodes),
        members=[place],
    )


def _channels(operator: Producer) -> int:
    if isinstance(operator, FullyConnected | QuantizedProduct):
        return operator.step.out
    if isinstance(operator, BatchedProduct):
        return operator.columns
    if isinstance(operator, Normalization):
        return operator.size
    if isinstance(operator, Elementwise):
        return operator.channels if {"channel", "row"} & set(operator.epilogue.sources) else 0
    return operator.outputs


def _absorbed(group: _Group, call: Call, place: int, values: Sequence[Value]) -> _Group | None:
    """Return the group with one elementwise call more, or None where its epilogue cannot say what that reads."""
    elementwise = call.operator
    assert isinstance(elementwise, Elementwise)
    wider = group.copy()
    epilogue = elementwise.epilogue
    sources: list[Source] = ["same", *epilogue.sources]
    found: list[Operand] = []
    for value, source in zip(call.arguments[:-1], sources, strict=True):
        if value in group.held:
            if source != "same":
                return None
            found.append(group.held[value])
            continue
        read = _source(wider, source, elementwise)
        if read is None:
            return None
        if read in ("channel", "row") and isinstance(group.operator, Elementwise):
            wider.channels = elementwise.channels
        key = (value, read)
        known = list(zip(wider.further, wider.sources, strict=True))
        if key not in known:
            wider.further.append(value)
            wider.sources.append(read)
            known.append(key)
        found.append(Operand("input", known.index(key)))
    before = len(wider.instructions)
    for instruction in epilogue.instructions:
        operands = []
        for operand in instruction.operands:
            if operand.kind == "value":
                operands.append(found[0])
            elif operand.kind == "input":
                operands.append(found[1 + operand.place])
            elif operand.kind == "result":
                operands.append(Operand("result", before + operand.place))
            else:
                operands.append(operand)
        wider.instructions.append(Instruction(instruction.function, tuple(operands)))
    wider.held[call.arguments[-1]] = Operand("result", len(wider.instructions) - 1)
    wider.nodes.extend(call.nodes)
    wider.members.append(place)
    return wider


def _source(group: _Group, source: Source, read: Elementwise) -> Source | None:
    """Return how the group's operator reads what an elementwise operator reads as `source`, or None if it cannot."""
    operator = group.operator
    if isinstance(operator, BatchedProduct) and not _is_dense(operator):
        # Further inputs are dense where the result is not.
        return source if source == "scalar" or (source == "channel" and read.channels == operator.columns) else None
    if source == "scalar":
        return source
    if source == "same":
        # An array of as many elements as there are channels is read by channel.
        return "channel" if group.channels == read.size and not isinstance(operator, Elementwise) else source
    if isinstance(operator, FullyConnected) and operator.step.columns > 1:
        # A position of the step lies outside of its columns: a row of the elementwise operator.
        columns = operator.step.columns
        return "channel" if source == "row" and operator.step.batch == 1 and read.channels == columns else None
    return source if group.channels in (0, read.channels) else None


def _is_dense(operator: BatchedProduct) -> bool:
    row, batch = operator.result.row, operator.result.batch
    return row == operator.columns and (operator.batch == 1 or batch == row * operator.rows)


def _escaping(calls: Sequence[Call], group: _Group, values: Sequence[Value]) -> set[int]:
    """Return the values of a group that something outside of it reads, and those that are outputs."""
    members = set(group.members)
    escaping = {value for value in group.held if values[value].kind == "output"}
    for place, call in enumerate(calls):
        if place not in members:
            escaping.update(value for value in reads(call) if value in group.held)
    return escaping
