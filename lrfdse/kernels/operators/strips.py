"""Loops over runs of elements by whole vectors, and sums and maxima over rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tvm import tirx

from lrfdse.kernels.operators.machine import Machine
from lrfdse.kernels.tir import Buffer, Expr, Stmt, load, named, over, part, sequence, splat, store, vector_type

_CHAINS = 4
"""Accumulators of a row's sum: as many additions are in flight. Chosen, not measured."""

LONG = 64
"""Numbers that one accumulator takes at most before its sum joins others, because rounding grows with each. Chosen: a
softmax of 6,625 scalars by four accumulators was 1.7e-6 off, of which this leaves a tenth."""

Combination = Literal["add", "mul", "max", "min"]
"""How two results become one."""

_IDENTITY: dict[Combination, float] = {"add": 0.0, "mul": 1.0, "max": float("-inf"), "min": float("inf")}
"""What changes no result."""


@dataclass(frozen=True, slots=True)
class Cover:
    """Elements covered by whole vectors: the last one starts earlier and overlaps where the size is no multiple."""

    lanes: int
    count: int
    """Vectors side by side."""
    last: int | None
    """Where the overlapping vector begins, if there is one."""
    fresh: int
    """Its first element that no other vector covers."""


def cover(size: int, lanes: int) -> Cover:
    """Cover `size` elements by vectors of `lanes`, or of the largest smaller power of two.

    >>> cover(19, 8)
    Cover(lanes=8, count=2, last=11, fresh=5)
    >>> cover(6, 8)
    Cover(lanes=4, count=1, last=2, fresh=2)
    """
    while lanes > size:
        lanes //= 2
    count, rest = divmod(size, lanes)
    return Cover(lanes, count, size - lanes if rest else None, lanes - rest if rest else 0)


def strips(size: int, lanes: int, body: Callable[[Expr, int], list[Stmt]], unroll: int = 1) -> Stmt:
    """Return loops over `size` elements: `body` is given the first of a vector, and the vector's elements.

    What overlaps is computed twice, so `body` must not read what it writes. `unroll` vectors make one iteration.
    """
    c = cover(size, lanes)
    width = c.lanes * unroll
    bodies, rest = divmod(c.count, unroll)
    made: list[Stmt] = []
    if bodies:
        made.append(
            over(bodies, lambda b: sequence([s for u in range(unroll) for s in body(b * width + u * c.lanes, c.lanes)]))
        )
    for vector in range(bodies * unroll, bodies * unroll + rest):
        made += body(vector * c.lanes, c.lanes)
    if c.last is not None:
        made += body(c.last, c.lanes)
    return sequence(made)


def clamped(size: int, width: int, body: Callable[[Expr], Stmt]) -> Stmt:
    """Return a loop over `size` elements, `width` at once, the last ones from where just as many are left.

    `body` is given the first element, and is in the code once; what overlaps is computed twice. `width` is at most
    `size`.
    """
    count = -(-size // width)
    if size % width == 0:
        return over(count, lambda i: body(i * width))
    return over(count, lambda i: body(tirx.Min(i * width, tirx.IntImm("int32", size - width))))


def identity(kind: Combination, lanes: int, into: list[Stmt]) -> Expr:
    """Return what changes no result, on every lane.

    LLVM does not know the number: it would clear several accumulators by a call of memset.
    """
    number = tirx.FloatImm("float32", _IDENTITY[kind])
    return splat(named(tirx.call_llvm_pure_intrin("float32", "llvm.arithmetic.fence", number), into), lanes)


def accumulator(lanes: int) -> Buffer:
    """Return a buffer of one vector, which LLVM keeps in a register."""
    return tirx.decl_buffer((1,), vector_type(lanes), name="acc")


def combined(kind: Combination, left: Expr, right: Expr) -> Expr:
    """Return two results as one; NaN where `right` is."""
    if kind == "add":
        return left + right
    if kind == "mul":
        return left * right
    return (tirx.Max if kind == "max" else tirx.Min)(left, right)


def in_parts(count: int, body: Callable[[Expr], Stmt], sums: Sequence[Buffer], nothing: Expr) -> Stmt:
    """Return a loop whose iterations add to accumulators, which begin anew after at most `LONG` of them.

    Parameters
    ----------
    count
        Iterations.
    body
        Returns one of them, which adds once to each accumulator.
    sums
        The accumulators, which are zero before.
    nothing
        Zero.
    """
    if count <= LONG:
        return over(count, body)
    # The code of a last part of another size takes as much room as that of all others.
    size = next((size for size in range(LONG, LONG // 4, -1) if count % size == 0), LONG // 2)
    parts, rest = divmod(count, size)
    wholes = [tirx.decl_buffer((1,), each.dtype, name="whole") for each in sums]

    def joined() -> list[Stmt]:
        pairs = list(zip(wholes, sums, strict=True))
        made = [store(whole, load(whole, 0) + load(each, 0), 0) for whole, each in pairs]
        return [*made, *(store(each, nothing, 0) for each in sums)]

    def part(number: Expr) -> Stmt:
        return sequence([over(size, lambda i: body(number * size + i)), *joined()])

    made: list[Stmt] = [tirx.AllocBuffer(each) for each in wholes]
    made += [store(each, nothing, 0) for each in wholes]
    made.append(over(parts, part))
    if rest:
        made.append(over(rest, lambda i: body(parts * size + i)))
    made += [store(each, load(each, 0) + load(whole, 0), 0) for whole, each in zip(wholes, sums, strict=True)]
    return sequence(made)


def row_result(
    machine: Machine,
    size: int,
    value: Callable[[Expr, int, list[Stmt]], Expr],
    kind: Combination,
    into: list[Stmt],
) -> Expr:
    """Return the sum, product, maximum or minimum over a row.

    Parameters
    ----------
    machine
        What it is emitted for.
    size
        Elements of the row.
    value
        Returns the vector that begins at an index, of so many elements; its statements go to the list.
    kind
        What is computed.
    into
        Takes the statements.
    """
    c = cover(size, machine.lanes)
    chains = min(_CHAINS, c.count)
    sums = [accumulator(c.lanes) for _ in range(chains)]
    nothing = identity(kind, c.lanes, into)
    into += [tirx.AllocBuffer(each) for each in sums]
    into += [store(each, nothing, 0) for each in sums]
    width = chains * c.lanes
    bodies, rest = divmod(c.count, chains)

    def add(chain: Buffer, index: Expr, fresh: int = 0) -> list[Stmt]:
        made: list[Stmt] = []
        found = value(index, c.lanes, made)
        if fresh:
            numbers = tirx.Ramp(tirx.IntImm("int32", 0), 1, c.lanes)
            new = numbers >= splat(tirx.IntImm("int32", fresh), c.lanes)
            found = tirx.Select(new, named(found, made), nothing)
        return [*made, store(chain, combined(kind, load(chain, 0), found), 0)]

    def body(b: Expr) -> Stmt:
        return sequence([s for k, each in enumerate(sums) for s in add(each, b * width + k * c.lanes)])

    into.append(in_parts(bodies, body, sums, nothing) if kind == "add" else over(bodies, body))
    for k in range(rest):
        into += add(sums[k], bodies * width + k * c.lanes)
    if c.last is not None:
        into += add(sums[rest % chains], c.last, c.fresh)
    whole = load(sums[0], 0)
    for each in sums[1:]:
        whole = named(combined(kind, whole, load(each, 0)), into)
    return across(machine, whole, c.lanes, kind, into)


def across(machine: Machine, vector: Expr, lanes: int, kind: Combination, into: list[Stmt]) -> Expr:
    """Return the elements of a vector as one; `lanes` is a power of two."""
    if kind == "add":
        return machine.sum_of(vector, lanes, into)
    held = named(vector, into)
    while lanes > 1:
        lanes //= 2
        held = named(combined(kind, part(held, 0, lanes), part(held, lanes, lanes)), into)
    return held
