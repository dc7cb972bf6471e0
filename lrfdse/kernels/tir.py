"""The few TIR forms that kernels are made of: vector accesses, counted loops, sequences, sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

Expr = Any
"""A TIR expression or a Python integer."""

Stmt = Any
"""A TIR statement."""

Buffer = Any
"""A flat float32 buffer."""


def vector_type(lanes: int) -> str:
    """Return TVM's name of a float32 vector of `lanes` elements.

    >>> vector_type(1), vector_type(8)
    ('float32', 'float32x8')
    """
    return "float32" if lanes == 1 else f"float32x{lanes}"


def ramp(index: Expr, lanes: int) -> Expr:
    """Return the indices of `lanes` consecutive elements."""
    return index if lanes == 1 else tirx.Ramp(index, 1, lanes)


def load(buffer: Buffer, index: Expr, lanes: int = 1) -> Expr:
    """Return `lanes` consecutive elements of `buffer`."""
    return tirx.BufferLoad(buffer, [ramp(index, lanes)])


def store(buffer: Buffer, value: Expr, index: Expr, lanes: int = 1) -> Stmt:
    """Return the statement that writes `lanes` consecutive elements of `buffer`."""
    return tirx.BufferStore(buffer, value, [ramp(index, lanes)])


def splat(value: Expr, lanes: int) -> Expr:
    """Return `value` on every lane."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def zero(lanes: int) -> Expr:
    """Return a vector of zeros."""
    return splat(tirx.FloatImm("float32", 0.0), lanes)


def part(vector: Expr, first: int, lanes: int) -> Expr:
    """Return `lanes` elements of `vector` from `first` on."""
    return tirx.Shuffle([vector], list(range(first, first + lanes)))


def sequence(statements: Sequence[Stmt]) -> Stmt:
    """Return the statements one after the other; TVM refuses a sequence of one."""
    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)


def over(count: int, body: Callable[[Expr], Stmt]) -> Stmt:
    """Return a loop of `count` iterations; none around a single one."""
    if count == 1:
        return body(0)
    # TVM's arithmetic analyser refuses one variable in two loops.
    counter = tirx.Var("i", "int32")
    return tirx.For(counter, 0, count, tirx.ForKind.SERIAL, body(counter))


def named(value: Expr, into: list[Stmt]) -> Expr:
    """Append to `into` the statement that computes `value` once, and return its name."""
    held = tirx.Var("v", value.ty)
    into.append(tirx.Bind(held, value))
    return held


def total(values: Sequence[Expr]) -> Expr:
    """Return the sum of `values` by a balanced tree."""
    while len(values) > 1:
        pairs = [a + b for a, b in zip(values[::2], values[1::2], strict=False)]
        values = [*pairs, *values[2 * len(pairs) :]]
    return values[0]


def folded(vector: Expr, lanes: int, into: list[Stmt]) -> Expr:
    """Append to `into` the statements that add the halves of a vector until one element is left, and return that."""
    held = named(vector, into)
    while lanes > 1:
        lanes //= 2
        held = named(part(held, 0, lanes) + part(held, lanes, lanes), into)
    return held
