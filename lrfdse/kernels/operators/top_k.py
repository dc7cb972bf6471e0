"""The first elements of a sorted axis: a heap of the best found so far, the last of them on top."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm import tirx

from lrfdse.kernels.operators.machine import Emission, Machine, buffers
from lrfdse.kernels.operators.runs import fenced, nothing
from lrfdse.kernels.tir import Buffer, Expr, Stmt, either, load, named, over, sequence, store

if TYPE_CHECKING:
    from lrfdse.ir.indexed import TopK

_Item = tuple[Expr, Expr]
"""An element and its index."""


def top_k(operator: TopK, machine: Machine) -> Emission:
    """Return the loops that keep the best elements of each run in a heap, where they belong, and sort it at the end.

    Most elements take one comparison, with the last of the best; log2 of `count` of them where they are better.
    """
    x, values, indices = parameters = buffers(operator.ports)
    size, inner, count = operator.size, operator.inner, operator.count

    def run(o: Expr, i: Expr) -> Stmt:
        heap = _Heap(values, indices, o * count * inner + i, inner, operator.largest)

        def read(s: Expr) -> _Item:
            return load(x, (o * size + s) * inner + i), tirx.Cast("int64", s)

        def first(s: Expr) -> Stmt:
            value, number = read(_index(s))
            return heap.put(s, (fenced(value), number))

        def ordered(place: Expr) -> Stmt:
            made: list[Stmt] = []
            item = heap.held(place, made)
            return sequence([*made, heap.sunk(item, place, count)])

        def tried(s: Expr) -> Stmt:
            made: list[Stmt] = []
            value, number = read(s)
            value = named(value, made)
            last, _ = heap.item(0)
            return sequence([*made, either(heap.beats(value, last), heap.sunk((value, number), 0, count), nothing())])

        def ended(end: Expr) -> Stmt:
            """Move the last of those before `end` behind the others."""
            made: list[Stmt] = []
            end = named(end, made)
            item = heap.held(end, made)
            return sequence([*made, heap.put(end, heap.item(0)), heap.sunk(item, 0, end)])

        made = [over(count, first)]
        if count > 1:
            made.append(over(count // 2, lambda b: ordered(_index(count // 2 - 1 - b))))
        if size > count:
            made.append(over(size - count, lambda s: tried(_index(s + count))))
        if count > 1:
            made.append(over(count - 1, lambda b: ended(_index(count - 1 - b))))
        return sequence(made)

    return Emission(parameters, over(operator.outer, lambda o: over(inner, lambda i: run(o, i))))


@dataclass(frozen=True, slots=True)
class _Heap:
    """Items in two arrays; each stands behind its two children in the order that is wanted in the end."""

    values: Buffer
    indices: Buffer
    first: Expr
    """Where the arrays' elements of the run begin."""
    stride: int
    """How far they are apart."""
    largest: bool

    def item(self, place: Expr) -> _Item:
        at = self.first + place * self.stride
        return load(self.values, at), load(self.indices, at)

    def held(self, place: Expr, into: list[Stmt]) -> _Item:
        value, number = self.item(place)
        return named(value, into), named(number, into)

    def put(self, place: Expr, item: _Item) -> Stmt:
        at = self.first + place * self.stride
        return sequence([store(self.values, item[0], at), store(self.indices, item[1], at)])

    def beats(self, one: Expr, other: Expr) -> Expr:
        return one > other if self.largest else one < other

    def precedes(self, one: _Item, other: _Item) -> Expr:
        """Return whether an item stands before another one in the end."""
        earlier = tirx.And(one[0] == other[0], one[1] < other[1])
        return tirx.Or(self.beats(one[0], other[0]), earlier)

    def sunk(self, item: _Item, place: Expr, end: Expr) -> Stmt:
        """Return the loop that puts an item where later ones below a place, all before `end`, have moved up."""
        hole, child = (tirx.decl_buffer((1,), "int32", name=name) for name in ("hole", "child"))
        made: list[Stmt] = [tirx.AllocBuffer(hole), tirx.AllocBuffer(child)]
        made += [store(hole, _index(place), 0), store(child, _index(2 * place + 1), 0)]

        inside: list[Stmt] = []
        left = named(load(child, 0), inside)
        right = left + 1
        taken = either(self.precedes(self.item(left), self.item(right)), store(child, right, 0), nothing())
        inside.append(either(right < end, taken, nothing()))
        below = named(load(child, 0), inside)
        later = self.held(below, inside)
        up = [self.put(load(hole, 0), later), store(hole, below, 0), store(child, 2 * below + 1, 0)]
        inside.append(either(self.precedes(item, later), sequence(up), store(child, _index(end), 0)))

        made.append(tirx.While(load(child, 0) < end, sequence(inside)))
        return sequence([*made, self.put(load(hole, 0), item)])


def _index(number: Expr) -> Expr:
    return tirx.IntImm("int32", number) if isinstance(number, int) else number
