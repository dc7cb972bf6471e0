"""The epilogue of an operator as TIR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrfdse.ir.epilogue import Epilogue, Instruction, Operand
from lrfdse.kernels.operators.machine import Machine
from lrfdse.kernels.tir import Buffer, Expr, Stmt, kept, load, splat, store, strided_load, strided_store

_TOGETHER = 16
"""Vectors that are finished side by side at most."""

_LONG = 5
"""Instructions of an epilogue from which the sums of a tile are stored before they are finished."""

_HOISTED = frozenset(("cos", "log", "pow", "sin"))
"""Functions whose constants LLVM 22 computes outside of all loops, so that it spills sums: with a logarithm a tile of
3x8 took the X60 four times as long as finished in registers (modelled)."""

_LONGEST = 16
"""Those from which one place is finished after the other: with SiLU two places take the X60 4 % longer than one, with
GELU 12 %, with a hard swish 4 to 12 % less (16 terms, modelled)."""

_COSTS = dict.fromkeys(("cos", "erf", "exp", "log", "pow", "sigmoid", "sin", "tanh"), 20)
"""Instructions of a function, where it is more than one or two."""


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a vector of results lies."""

    index: Expr
    """Its first element in the output."""
    dense: Expr
    """Its first element in further inputs that have one element for each of the output."""
    channel: Expr
    row: Expr
    """The run of channels that it is in; read only where an input has one element a row."""
    stride: int = 1
    """Elements from one of its elements to the next."""
    one_channel: bool = False
    """Whether all its elements are of one channel; else they are of consecutive ones."""


@dataclass(frozen=True, slots=True)
class Finish:
    """Computes an epilogue and stores its result."""

    machine: Machine
    epilogue: Epilogue
    further: tuple[Buffer, ...]
    output: Buffer

    @property
    def groups(self) -> tuple[int, ...]:
        """Registers that are finished as one where the epilogue is long, the most first; none where it is not."""
        target = self.machine.target
        if not target.vectors.grouped or self._length < _LONG:
            return ()
        if any(instruction.function in _HOISTED for instruction in self.epilogue.instructions):
            return ()
        return tuple(range(max(target.groups), 0, -1))

    @property
    def places(self) -> int:
        """Places that are finished side by side then: of the longest epilogues one takes all registers."""
        return 2 if self._length < _LONGEST else 1

    @property
    def _length(self) -> int:
        return sum(_COSTS.get(i.function, 1) for i in self.epilogue.instructions)

    def store(self, value: Expr, spot: Spot, lanes: int) -> list[Stmt]:
        """Return the statements that finish a vector and store it."""
        made: list[Stmt] = []
        value = self.finished(value, spot, lanes, made)
        return [*made, self._stored(value, spot, lanes)]

    def store_all(self, values: Sequence[Expr], spots: Sequence[Spot], lanes: int) -> list[Stmt]:
        """Return the statements that finish vectors of the same channels and store them.

        Where registers form groups, what they have in common is read once, and some are finished before the first of
        them is stored, so that they may be side by side: an in-order core would wait for each instruction of a vector
        on its own, and for its store before the next could read.
        """
        made: list[Stmt] = []
        if not self.machine.target.vectors.grouped or not self.epilogue.instructions:
            for value, spot in zip(values, spots, strict=True):
                made += self.store(value, spot, lanes)
            return made
        shared: dict[int, Expr] = {}
        if len(values) > 1:
            for place, source in enumerate(self.epilogue.sources):
                if source in ("channel", "scalar"):
                    shared[place] = kept(self._read(place, spots[0], lanes), made)
        for first in range(0, len(values), _TOGETHER):
            some = slice(first, first + _TOGETHER)
            found = [
                self.finished(value, spot, lanes, made, shared)
                for value, spot in zip(values[some], spots[some], strict=True)
            ]
            made += [self._stored(value, spot, lanes) for value, spot in zip(found, spots[some], strict=True)]
        return made

    def _stored(self, value: Expr, spot: Spot, lanes: int) -> Stmt:
        if spot.stride > 1 and lanes > 1:
            return strided_store(self.output, value, spot.index, spot.stride, lanes)
        return store(self.output, value, spot.index, lanes)

    def finished(
        self, value: Expr, spot: Spot, lanes: int, into: list[Stmt], shared: Mapping[int, Expr] | None = None
    ) -> Expr:
        """Return what an epilogue makes of a vector; its statements go to `into`.

        `shared` has further inputs that are read already, by their places.
        """
        if not self.epilogue.instructions:
            return value
        functions = self.machine.functions(lanes, into)
        value = kept(value, into)
        results: list[Expr] = []
        read = dict(shared or {})

        def given(operand: Operand) -> Expr:
            if operand.kind == "value":
                return value
            if operand.kind == "result":
                return results[operand.place]
            if operand.kind == "number":
                return functions.number(operand.number)
            if operand.place not in read:
                read[operand.place] = kept(self._read(operand.place, spot, lanes), into)
            return read[operand.place]

        for instruction in self.epilogue.instructions:
            if self._is_positive_sum(instruction):
                results.append(kept(functions.positive(given(instruction.operands[0])), into))
                continue
            constants = [o.number if o.kind == "number" else None for o in instruction.operands]
            made = functions.call(instruction.function, [given(o) for o in instruction.operands], constants)
            results.append(kept(made, into))
        return results[-1]

    def _is_positive_sum(self, instruction: Instruction) -> bool:
        """Return whether an instruction takes the larger of zero and what one before it added."""
        if instruction.function != "max" or len(instruction.operands) != 2:
            return False
        left, right = instruction.operands
        is_sum = left.kind == "result" and self.epilogue.instructions[left.place].function == "add"
        return is_sum and right.kind == "number" and right.number == 0.0

    def _read(self, place: int, spot: Spot, lanes: int) -> Expr:
        buffer, source = self.further[place], self.epilogue.sources[place]
        if source == "same":
            if spot.stride > 1 and lanes > 1:
                return strided_load(buffer, spot.dense, spot.stride, lanes)
            return load(buffer, spot.dense, lanes)
        if source == "channel" and not spot.one_channel:
            return load(buffer, spot.channel, lanes)
        index = {"channel": spot.channel, "row": spot.row, "scalar": 0}[source]
        return splat(load(buffer, index), lanes)
