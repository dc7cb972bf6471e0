"""The epilogue of an operator as TIR."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm import tirx

from lrfdse.ir.epilogue import Epilogue, Operand
from lrfdse.kernels.operators.forms import Forms
from lrfdse.kernels.operators.machine import Machine
from lrfdse.kernels.operators.vectors import Nan
from lrfdse.kernels.tir import Buffer, Expr, Stmt, kept, load, splat, store, strided_load, strided_store

_TOGETHER = 16
"""Vectors that are finished side by side at most."""

_READING = 6
"""Those, of one vector of channels, that read another vector each. What an addition of one adds to a product of 16
terms on the X60, behind 2x12, 3x8 and 4x5 tiles: 4, 4 and 8 cycles for eight results, with four at a time 4, 4, 11."""

_CHAINS = 7
"""Vectors that are finished side by side at most where that is done from memory. With six, SiLU behind tiles of 2x7
takes the X60 8 cycles more for eight results, with eight behind 4x4 one (modelled)."""

_LONG = 16
"""Instructions of an epilogue from which the sums of a tile are stored before they are finished: what that adds on the
X60, 6 to 8 cycles for eight results, is more than what thirteen instructions wait for in registers (modelled)."""

_COSTS = dict.fromkeys(("cos", "erf", "exp", "log", "pow", "sigmoid", "sin", "tanh"), 20)
_COSTS |= dict.fromkeys(("ceil", "floor", "round"), 10)
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
    def apart(self) -> int:
        """Vectors that are finished side by side where the epilogue is long, see `lrfdse.kernels.results.Finish`."""
        if not self.machine.target.vectors.grouped or self._length < _LONG:
            return 0
        return _CHAINS

    @property
    def _length(self) -> int:
        return sum(_COSTS.get(i.function, 1) for i in self.epilogue.instructions)

    def store(self, value: Expr, spot: Spot, lanes: int) -> list[Stmt]:
        """Return the statements that finish a vector and store it."""
        made: list[Stmt] = []
        value = self.finished(value, spot, lanes, made)
        return [*made, self._stored(value, spot, lanes)]

    def store_all(
        self, values: Sequence[Expr], spots: Sequence[Spot], vectors: Sequence[int], lanes: int
    ) -> list[Stmt]:
        """Return the statements that finish vectors and store them; those of one of `vectors` are of the same channels.

        Where registers form groups, what they have in common is read once, and some are finished before the first of
        them is stored, so that they may be side by side: an in-order core would wait for each instruction of a vector
        on its own, and for its store before the next could read.
        """
        made: list[Stmt] = []
        if not self.machine.target.vectors.grouped or not self.epilogue.instructions:
            for value, spot in zip(values, spots, strict=True):
                made += self.store(value, spot, lanes)
            return made
        most = _TOGETHER
        if "same" in self.epilogue.sources and not self.apart:
            # What all of them read would take the registers that the sums hold.
            if len(set(vectors)) > 1:
                for vector in dict.fromkeys(vectors):
                    chosen = [i for i, other in enumerate(vectors) if other == vector]
                    made += self.store_all(
                        [values[i] for i in chosen], [spots[i] for i in chosen], [vector] * len(chosen), lanes
                    )
                return made
            most = -(-len(values) // -(-len(values) // _READING))
        shared: dict[tuple[int, int, int], Expr] = {}
        for vector, spot in dict(zip(vectors, spots, strict=True)).items():
            for place, sign in sorted(self._operands(lanes)):
                if vectors.count(vector) > 1 and self.epilogue.sources[place] in ("channel", "scalar"):
                    shared[vector, place, sign] = kept(self._read(place, spot, lanes, sign), made)
        for first in range(0, len(values), most):
            some = slice(first, first + most)
            found, chains = [], []
            for value, spot, vector in zip(values[some], spots[some], vectors[some], strict=True):
                into: list[Stmt] = []
                known = {key[1:]: read for key, read in shared.items() if key[0] == vector}
                found.append(self.finished(value, spot, lanes, into, known))
                chains.append(into)
            # Step by step, as they are to be executed.
            made += [step for steps in itertools.zip_longest(*chains) for step in steps if step is not None]
            made += [self._stored(value, spot, lanes) for value, spot in zip(found, spots[some], strict=True)]
        return made

    def _operands(self, lanes: int) -> set[tuple[int, int]]:
        """Return the further inputs that the epilogue reads, and with which sign."""
        is_reversed = Forms.of(self.epilogue).reversed if self.machine.functions(lanes, []).by_bits else frozenset()
        return {
            (operand.place, -1 if number in is_reversed else 1)
            for number, step in enumerate(self.epilogue.instructions)
            for operand in step.operands
            if operand.kind == "input"
        }

    def _stored(self, value: Expr, spot: Spot, lanes: int) -> Stmt:
        if spot.stride > 1 and lanes > 1:
            return strided_store(self.output, value, spot.index, spot.stride, lanes)
        return store(self.output, value, spot.index, lanes)

    def finished(
        self,
        value: Expr,
        spot: Spot,
        lanes: int,
        into: list[Stmt],
        shared: Mapping[tuple[int, int], Expr] | None = None,
    ) -> Expr:
        """Return what an epilogue makes of a vector; its statements go to `into`.

        `shared` has further inputs that are read already, by their places and signs.
        """
        if not self.epilogue.instructions:
            return value
        functions = self.machine.functions(lanes, into)
        value = kept(value, into)
        results: list[Expr] = []
        read = dict(shared or {})
        steps = self.epilogue.instructions
        forms = Forms.of(self.epilogue) if functions.by_bits else None
        halves = {c.replaces for c in forms.clamps.values()} if forms else set()

        def given(operand: Operand, sign: int = 1) -> Expr:
            if operand.kind == "value":
                return value
            if operand.kind == "result":
                return results[operand.place]
            if operand.kind == "number":
                return functions.number(sign * operand.number)
            if (operand.place, sign) not in read:
                read[operand.place, sign] = kept(self._read(operand.place, spot, lanes, sign), into)
            return read[operand.place, sign]

        for number, step in enumerate(steps):
            if number in halves:
                # What the other half of a clamp makes of both.
                results.append(None)
                continue
            if forms and number in forms.reversed:
                made = given(step.operands[1], -1) - given(step.operands[0])
            elif forms and (clamp := forms.clamps.get(number)):
                is_reversed = clamp.of.kind == "result" and clamp.of.place in forms.reversed
                quiet = clamp.of.kind == "result" and clamp.of.place in forms.quiet
                nan: Nan = "lost" if number in forms.careless else "positive" if quiet else "any"
                made = functions.limited(given(clamp.of), clamp.least, clamp.most, nan, is_reversed)
            elif forms and number in forms.alike:
                made = functions.outer(step.function, *(given(o) for o in step.operands))
            else:
                constants = [o.number if o.kind == "number" else None for o in step.operands]
                careless = forms is not None and number in forms.careless
                made = functions.call(step.function, [given(o) for o in step.operands], constants, careless)
            results.append(kept(made, into))
        return results[-1]

    def _read(self, place: int, spot: Spot, lanes: int, sign: int = 1) -> Expr:
        if sign < 0:
            return splat(tirx.FloatImm("float32", 0.0), lanes) - self._read(place, spot, lanes)
        buffer, source = self.further[place], self.epilogue.sources[place]
        if source == "same":
            if spot.stride > 1 and lanes > 1:
                return strided_load(buffer, spot.dense, spot.stride, lanes)
            return load(buffer, spot.dense, lanes)
        if source == "channel" and not spot.one_channel:
            return load(buffer, spot.channel, lanes)
        index = {"channel": spot.channel, "row": spot.row, "scalar": 0}[source]
        return splat(load(buffer, index), lanes)
