"""The loop over the inner axis of one register tile: outer products of weights and data, added up in registers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from lrfdse.kernels.arithmetic import Arithmetic
from lrfdse.kernels.instructions import Instructions
from lrfdse.kernels.layout import Span, Tiling, cover
from lrfdse.kernels.registers import PIPELINED_FROM, Body
from lrfdse.kernels.tir import (
    Buffer,
    Expr,
    Stmt,
    apart,
    either,
    load,
    named,
    over,
    prefetch,
    sequence,
    splat,
    store,
    total,
)

_WIDE = 16
"""Sums from which iterations that stand alone are kept apart, which takes a branch each: with 12 they take a tenth
longer so, with 24 up to two fifths less time (kernels of low ranks with 40 rows on the X60, by the model meter)."""


@dataclass(frozen=True, slots=True)
class Operands:
    """What one iteration multiplies: expressions, or buffers of one element that hold them."""

    weights: list[Expr]
    data: list[Expr]
    in_slots: bool = False

    @property
    def sides(self) -> tuple[list[Expr], list[Expr]]:
        """Weights and data."""
        return self.weights, self.data

    @property
    def all(self) -> list[Expr]:
        """Weights, then data."""
        return [*self.weights, *self.data]

    def slots(self, weight: str | None) -> Operands:
        """Return a buffer for each operand; LLVM promotes them to registers.

        Weights are of a type of their own where `weight` names it.
        """
        sides = zip(self.sides, (weight, None), strict=True)
        kinds = [[kind or v.ty.dtype for v in side] for side, kind in sides]
        weights, data = ([tirx.decl_buffer((1,), kind, name="next") for kind in side] for side in kinds)
        return Operands(weights, data, True)


@dataclass(frozen=True, slots=True)
class Sums:
    """A set of accumulators of a tile."""

    each: list[list[Buffer]]
    """By row and column."""
    data: list[Buffer]
    """The sum of the data of each column since what weights are raised by was taken off; empty where they are not."""


@dataclass(frozen=True, slots=True)
class InnerLoop:
    """Sums of `rows` x `columns` products over the inner axis of a tile."""

    tiling: Tiling
    instructions: Instructions
    arithmetic: Arithmetic
    weight: Buffer
    rows: int
    columns: int
    operands: Callable[[tuple[Expr, ...], Expr, Expr], Operands]
    """Operands by section, the number of an iteration in it, and its place along the inner axis of the section."""
    sections: tuple[int, ...] = ()
    """Equal parts of the inner axis, one factor a loop around that over one part; see `lrfdse.kernels.emit.Access`."""
    start: Callable[[int, int], Expr] | None = None
    """The sum of each row and column that the products are added to; None where there is none."""
    begins: Expr = False
    """Whether there is no such sum after all, where that is known at run time only."""

    def sums(self) -> tuple[list[list[Expr]], list[Stmt]]:
        """Return the sums, and the statements that compute them."""
        t, raised = self.tiling, self.arithmetic.raised != 0
        registers = self.instructions.ahead
        if registers is not None:
            body = registers.body(t.schedule, self.rows, self.columns, t.storage)
        else:
            body = Body(t.schedule.unroll, t.chains, 0, False)
        ahead = registers is not None and (body.carried > 0 or registers.apart)
        sets = [
            Sums(
                [
                    [tirx.decl_buffer((1,), self.arithmetic.kind, name="acc") for _ in range(self.columns)]
                    for _ in range(self.rows)
                ],
                [tirx.decl_buffer((1,), "float32", name="data") for _ in range(self.columns if raised else 0)],
            )
            for _ in range(min(body.sets, t.depth))
        ]
        buffers = [buffer for chain in sets for row in chain.each for buffer in row]
        statements = [tirx.AllocBuffer(b) for chain in sets for b in chain.data]
        statements += [tirx.AllocBuffer(b) for b in buffers]
        if self.start is not None:
            first, *others = sets
            places = [(b, i, c) for i, row in enumerate(first.each) for c, b in enumerate(row)]
            begun = [store(b, self.start(i, c), 0) for b, i, c in places]
            if self.begins is False:
                statements += begun
            else:
                zeros = [store(b, self.arithmetic.zero, 0) for b, _, _ in places]
                statements.append(either(self.begins, sequence(zeros), sequence(begun)))
            buffers = [buffer for chain in others for row in chain.each for buffer in row]
        if not ahead or self.sections or self.start is not None:
            statements += [store(b, self.arithmetic.zero, 0) for b in buffers]

        def section(numbers: tuple[Expr, ...]) -> list[Stmt]:
            made: list[Stmt] = []
            done = 0
            for span in self._spans:
                if ahead:
                    made += self._ahead(sets, span, numbers, done, body)
                else:
                    made += self._plain(sets, span, numbers, done, body.unroll)
                done += span.count
            return made

        def nest(numbers: tuple[Expr, ...]) -> list[Stmt]:
            if len(numbers) == len(self.sections):
                return section(numbers)
            return [over(self.sections[len(numbers)], lambda number: sequence(nest((*numbers, number))))]

        statements += nest(())
        held = [[total([load(s.each[i][c], 0) for s in sets]) for c in range(self.columns)] for i in range(self.rows)]
        return held, statements

    @property
    def _spans(self) -> tuple[Span, ...]:
        """Spans of the inner axis, or of one section of it."""
        t = self.tiling
        return cover(t.step.inner // math.prod(self.sections), 1, 1) if self.sections else t.inner

    def _at(self, span: Span, section: tuple[Expr, ...], done: int, number: Expr) -> Operands:
        return self.operands(section, done + number, span.start + number * span.stride + span.offsets[0])

    def _plain(self, sets: list[Sums], span: Span, section: tuple[Expr, ...], done: int, unroll: int) -> list[Stmt]:
        """Return loops that load what an iteration multiplies at its beginning."""

        def loop(first: int, count: int, width: int) -> Stmt:
            def body(block: Expr) -> Stmt:
                made: list[Stmt] = []
                for u in range(width):
                    now = self._at(span, section, done, first + block * width + u)
                    made += self._iteration(sets[u % len(sets)], now, begins=u < len(sets))
                return sequence([*made, *self._lowered(sets[:width])])

            return over(count, body)

        bodies, rest = divmod(span.count, unroll)
        return ([loop(0, bodies, unroll)] if bodies else []) + ([loop(bodies * unroll, rest, 1)] if rest else [])

    def _ahead(
        self,
        sets: list[Sums],
        span: Span,
        section: tuple[Expr, ...],
        done: int,
        body: Body,
    ) -> list[Stmt]:
        """Return a loop that loads what the next body multiplies while it computes, its ends outside of it.

        The first iterations multiply only, so that sums need no zeros; with sections or a start they add to what is
        there.
        """

        def at(number: Expr) -> Operands:
            return self._at(span, section, done, number)

        unroll, carried = body.unroll, body.carried

        def renewed(slots: Operands, values: Operands) -> list[Stmt]:
            """Return the loads of an iteration; what it holds throughout before what passes by."""
            made: list[Stmt] = []
            for side in sorted((0, 1), key=lambda side: len(slots.sides[side])):
                for slot, value in zip(slots.sides[side], values.sides[side], strict=True):
                    made.append(store(slot, self._held(value, slot, side, made), 0))
            return made

        def straight(
            first: Expr, count: int, slots: list[Operands], more: bool, *, fresh: bool = False, turn: int = 0
        ) -> list[Stmt]:
            """Return some iterations, and whether more come; the operands of the first one are in slot `turn`."""
            made: list[Stmt] = []
            for u in range(count):
                ahead = None
                if slots and body.rotates:
                    now, last = slots[(turn + u) % carried], slots[(turn + u - 1) % carried]
                    if more or u <= count - carried:
                        made += renewed(last, at(first + u - 1 + carried))
                elif u < len(slots):
                    now, ahead = slots[u], at(first + u + count) if more else None
                else:
                    now = at(first + u)
                begins = u < len(sets)
                made += self._iteration(sets[u % len(sets)], now, ahead, fresh=fresh and begins, begins=begins)
            return [*made, *self._lowered(sets[:count])]

        fresh = done == 0 and not self.sections and self.start is None
        if fresh and self._is_wide and span.count < max(PIPELINED_FROM + 1, PIPELINED_FROM * unroll):
            made = straight(0, 1, [], False, fresh=True)
            for number in range(1, span.count):
                made += apart(straight(number, 1, [], False))
            return made
        if span.count // unroll < PIPELINED_FROM:
            return straight(0, span.count, [], False, fresh=fresh)
        # What the first iteration multiplies is made ahead, for what makes it takes long; the others are only loaded.
        ready = self.arithmetic.kind if self.arithmetic.raised else None
        slots = [at(u).slots(ready if u == 0 else None) for u in range(carried)]
        made = [tirx.AllocBuffer(slot) for operand in slots for slot in operand.all]
        for u, operand in enumerate(slots[:-1] if body.rotates else slots):
            made += renewed(operand, at(u))
        # Those at the ends of the loop are as few as whole bodies between them allow.
        before = 0
        if fresh:
            before = unroll if self.arithmetic.raised else max(len(sets), 1 if body.rotates else carried)
            made += straight(0, before, slots, True, fresh=True)
        least = max(min(1, carried), carried - 1 if body.rotates else carried)
        behind = least + (span.count - before - least) % unroll
        # LLVM would move loads that it finds both before and at the end of a loop to the loop's beginning, but none
        # across a prefetch, for which these cores have no instruction.
        made.append(prefetch(self.weight, 0))
        turn = before % max(1, carried)
        bodies = (span.count - before - behind) // unroll
        made.append(over(bodies, lambda b: sequence(straight(before + b * unroll, unroll, slots, True, turn=turn))))
        return [*made, *straight(span.count - behind, behind, slots, False, turn=turn)]

    @property
    def _is_wide(self) -> bool:
        """Whether LLVM must not order iterations that are all there is: it adds up one sum after the other.

        Each addition waits for the one before it then, where those of all other sums could come between. On the X60, by
        the model meter, 24 sums of 3 to 8 products took 1.6 to 2.5 times as long. Parts of vectors are left alone.
        """
        registers, schedule = self.instructions.ahead, self.tiling.schedule
        if registers is None or not registers.apart or self.arithmetic.raised or schedule.axis != "out":
            return False
        return schedule.lanes >= registers.lanes and self.rows * self.columns >= _WIDE

    def _held(self, read: Expr, slot: Buffer, side: int, into: list[Stmt]) -> Expr:
        """Return what a slot holds of an operand: what was read, or what is made of it."""
        return read if read.ty.dtype == slot.dtype else self.arithmetic.operand(read, side, into)

    def _lowered(self, sets: list[Sums]) -> list[Stmt]:
        """Return what takes off sums what weights were raised by, after each body: sums that grow lose digits."""
        made: list[Stmt] = []
        for sums in sets:
            for column, data in enumerate(sums.data):
                less = named(load(data, 0) * tirx.FloatImm("float32", -self.arithmetic.raised), made)
                off = splat(less, self.tiling.schedule.lanes)
                made += [store(row[column], load(row[column], 0) + off, 0) for row in sums.each]
        return made

    def _iteration(
        self, sums: Sums, now: Operands, ahead: Operands | None = None, *, fresh: bool = False, begins: bool = False
    ) -> list[Stmt]:
        """Return one iteration: the outer product of weights and data added to the sums, or where `fresh`, stored.

        Operands in slots are loaded for a later iteration, `ahead`, as soon as they are used. The sums of data begin
        anew where the iteration `begins` a body.
        """
        statements: list[Stmt] = []

        def value(side: int, i: int) -> Expr:
            operand = now.sides[side][i]
            read = load(operand, 0) if now.in_slots else operand
            if side == 1 and sums.data:
                read = named(read, statements)
                more = read if begins else load(sums.data[i], 0) + read
                statements.append(store(sums.data[i], more, 0))
            if side == 0 and sums.data and read.ty.dtype == self.arithmetic.kind:
                return read
            return self.arithmetic.operand(read, side, statements)

        def renew(side: int, i: int) -> None:
            if ahead is not None:
                slot = now.sides[side][i]
                statements.append(store(slot, self._held(ahead.sides[side][i], slot, side, statements), 0))

        # The shorter side stays in registers, the longer passes by one operand at a time.
        held, passing = (0, 1) if len(now.weights) <= len(now.data) else (1, 0)
        stays = [value(held, i) for i in range(len(now.sides[held]))]
        last = len(now.sides[passing]) - 1
        for p in range(last + 1):
            one = value(passing, p)
            for h, other in enumerate(stays):
                total = sums.each[h][p] if held == 0 else sums.each[p][h]
                pair = (other, one) if held == 0 else (one, other)
                statements.append(store(total, self.arithmetic.added(None if fresh else load(total, 0), *pair), 0))
                if p == last:
                    renew(held, h)
            renew(passing, p)
        return statements
