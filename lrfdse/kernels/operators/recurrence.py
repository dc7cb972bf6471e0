"""Recurrent cells: a product with the packed recurrent weight a step, or with its factors, and the gates on that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm import tirx

from lrfdse.kernels.emit import Access, StepEmitter
from lrfdse.kernels.operators.machine import Emission, Machine, buffers, flat
from lrfdse.kernels.operators.runs import copied
from lrfdse.kernels.operators.strips import strips
from lrfdse.kernels.operators.tilings import recurrent_tilings
from lrfdse.kernels.results import Place, one_by_one
from lrfdse.kernels.tir import Buffer, Expr, Stmt, kept, load, over, sequence, store

if TYPE_CHECKING:
    from lrfdse.ir.kernel import StepSchedule
    from lrfdse.ir.products import Recurrence
    from lrfdse.kernels.layout import Tiling


@dataclass(frozen=True, slots=True)
class _Stored:
    """Results of a step from an index of a buffer on."""

    buffer: Buffer
    first: int
    rows: int

    @property
    def apart(self) -> int:
        """Vectors that are finished side by side, see `lrfdse.kernels.results.Finish`."""
        return 0

    def results(self, value: Expr, batch: Expr, row: Expr, column: Expr, lanes: int, stride: int) -> list[Stmt]:
        """Return the statement that stores a vector, see `lrfdse.kernels.results.Finish`."""
        return [store(self.buffer, value, self.first + batch * self.rows + row, lanes)]

    def together(self, values: Sequence[Expr], places: Sequence[Place], lanes: int) -> list[Stmt]:
        """Return the statements that finish and store vectors side by side, see `lrfdse.kernels.results.Finish`."""
        return one_by_one(self, values, places, lanes)


def recurrence(operator: Recurrence, schedule: StepSchedule, machine: Machine) -> Emission:
    """Return all steps of a cell in one direction.

    States alternate between two places, so that no step reads what it writes.
    """
    tilings = recurrent_tilings(operator, schedule)
    parameters = buffers(operator.ports, sum(tiling.weight_size for tiling in tilings))
    cell = _Cell(operator, machine, tilings, parameters)
    return Emission(parameters, cell.statement(), cell.work)


class _Cell:
    """Emits a recurrent cell."""

    def __init__(
        self, operator: Recurrence, machine: Machine, tilings: tuple[Tiling, ...], parameters: tuple[Buffer, ...]
    ) -> None:
        self._operator, self._machine, self._tilings = operator, machine, tilings
        self._x, self._weight, self._bias = parameters[:3]
        states = 2 if operator.cell == "lstm" else 1
        self._initial, self._y, self._last = (
            parameters[3 : 3 + states],
            parameters[3 + states],
            parameters[4 + states :],
        )
        self._state = operator.batch * operator.hidden
        # Both places of each state, then the products, then states times the reset gate or the first factor.
        self._products = 2 * states * self._state
        self._behind = self._products + operator.gates * self._state
        """Where the state times the reset gate begins, or times the first factor."""
        between = operator.batch * operator.rank if operator.rank else self._state
        self.work = flat(self._behind + (between if len(tilings) > 1 else 0), "work")

    def statement(self) -> Stmt:
        """Return the first states, the steps and the last states."""
        o, machine, size = self._operator, self._machine, self._state
        made = [
            copied(initial, 0, self.work, self._place(number, 0), size, machine)
            for number, initial in enumerate(self._initial)
        ]
        made.append(over(o.steps, self._step))
        made += [
            copied(self.work, self._place(number, o.steps % 2), last, 0, size, machine)
            for number, last in enumerate(self._last)
        ]
        return sequence(made)

    def _place(self, number: int, parity: Expr) -> Expr:
        """Return where a state lies after an even or an odd number of steps."""
        return 2 * number * self._state + parity * self._state

    def _step(self, t: Expr) -> Stmt:
        o = self._operator
        now = tirx.floormod(t, 2) if not isinstance(t, int) else t % 2
        place = (o.steps - 1 - t) if o.reverse else t
        if o.rank:
            inner, outer = self._tilings
            first = sequence(
                [
                    self._product(inner, self._place(0, now), self._behind, 0),
                    self._product(outer, self._behind, self._products, inner.weight_size),
                ]
            )
        else:
            first = self._product(self._tilings[0], self._place(0, now), self._products, 0)
        if o.cell == "lstm":
            return sequence([first, self._gates(lambda b, i, lanes: self._lstm(place, now, b, i, lanes))])
        if o.reset_after:
            return sequence([first, self._gates(lambda b, i, lanes: self._gru(place, now, b, i, lanes))])
        return sequence(
            [
                first,
                self._gates(lambda b, i, lanes: self._reset_state(place, now, b, i, lanes)),
                self._product(
                    self._tilings[1], self._behind, self._products + 2 * self._state, self._tilings[0].weight_size
                ),
                self._gates(lambda b, i, lanes: self._gru(place, now, b, i, lanes)),
            ]
        )

    def _product(self, tiling: Tiling, source: Expr, target: int, before: int) -> Stmt:
        width = tiling.step.inner

        def data(_: tuple[Expr, ...], k: Expr, batch: Expr, column: Expr) -> Expr:
            return source + batch * width + k

        stored = _Stored(self.work, target, tiling.step.out)
        access = Access(data, weights_before=before)
        return StepEmitter(tiling, self.work, self._weight, stored, self._machine.instructions, access).statement()

    def _gates(self, body: Callable[[Expr, Expr, int], list[Stmt]]) -> Stmt:
        o = self._operator
        return over(o.batch, lambda b: strips(o.hidden, self._machine.lanes, lambda i, lanes: body(b, i, lanes)))

    def _sum(self, gate: int, place: Expr, b: Expr, i: Expr, lanes: int, into: list[Stmt]) -> tuple[Expr, Expr]:
        """Return what the input gives a gate, and the recurrent product with its bias."""
        o = self._operator
        given = load(self._x, ((place * o.batch + b) * o.gates + gate) * o.hidden + i, lanes)
        product = load(self.work, self._product_at(gate, b) + i, lanes)
        return given, kept(product + load(self._bias, gate * o.hidden + i, lanes), into)

    def _product_at(self, gate: int, b: Expr) -> Expr:
        """Return where the product of a gate begins; those of a second product lie behind the first."""
        o = self._operator
        if len(self._tilings) == 1 or o.rank:
            return self._products + (b * o.gates + gate) * o.hidden
        if gate == 2:
            return self._products + 2 * self._state + b * o.hidden
        return self._products + (b * 2 + gate) * o.hidden

    def _lstm(self, place: Expr, now: Expr, b: Expr, i: Expr, lanes: int) -> list[Stmt]:
        made: list[Stmt] = []
        f = self._machine.functions(lanes, made)
        enter, leave, forget, new = (kept(sum(self._sum(gate, place, b, i, lanes, made)), made) for gate in range(4))
        at = b * self._operator.hidden + i
        cell = load(self.work, self._place(1, now) + at, lanes)
        cell = kept(f.sigmoid(forget) * cell + f.sigmoid(enter) * f.tanh(new), made)
        made.append(store(self.work, cell, self._place(1, 1 - now) + at, lanes))
        state = kept(f.sigmoid(leave) * f.tanh(cell), made)
        return [*made, *self._state_is(state, place, now, at, lanes)]

    def _gru(self, place: Expr, now: Expr, b: Expr, i: Expr, lanes: int) -> list[Stmt]:
        made: list[Stmt] = []
        f = self._machine.functions(lanes, made)
        update = f.sigmoid(kept(sum(self._sum(0, place, b, i, lanes, made)), made))
        given, product = self._sum(2, place, b, i, lanes, made)
        if self._operator.reset_after:
            product = kept(f.sigmoid(kept(sum(self._sum(1, place, b, i, lanes, made)), made)) * product, made)
        new = f.tanh(kept(given + product, made))
        at = b * self._operator.hidden + i
        old = load(self.work, self._place(0, now) + at, lanes)
        state = kept(new + update * (old - new), made)
        return [*made, *self._state_is(state, place, now, at, lanes)]

    def _reset_state(self, place: Expr, now: Expr, b: Expr, i: Expr, lanes: int) -> list[Stmt]:
        """Return the statements that store the state times the reset gate."""
        made: list[Stmt] = []
        f = self._machine.functions(lanes, made)
        reset = f.sigmoid(kept(sum(self._sum(1, place, b, i, lanes, made)), made))
        at = b * self._operator.hidden + i
        value = reset * load(self.work, self._place(0, now) + at, lanes)
        return [*made, store(self.work, value, self._behind + at, lanes)]

    def _state_is(self, state: Expr, place: Expr, now: Expr, at: Expr, lanes: int) -> list[Stmt]:
        return [
            store(self.work, state, self._place(0, 1 - now) + at, lanes),
            store(self._y, state, place * self._state + at, lanes),
        ]
