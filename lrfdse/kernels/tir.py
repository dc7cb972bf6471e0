"""The few TIR forms that kernels are made of: vector accesses, counted loops, sequences, sums."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx

from lrfdse.ir.storage import FLOAT32

Expr = Any
"""A TIR expression or a Python integer."""

Stmt = Any
"""A TIR statement."""

Buffer = Any
"""A flat buffer, of float32 unless it holds weights that are stored otherwise."""


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


def parted(index: Expr) -> tuple[Expr, int]:
    """Return an index as what varies, and the constant that is added to it.

    Positions of a tile differ by constants. Where an index is one sum and such a constant at its end, LLVM gives all of
    them one address with offsets; else it takes each for a number of its own, and computes them one by one, or outside
    of a loop, and reads them from the stack.

    >>> parted(3)
    (0, 3)
    """
    if isinstance(index, int):
        return 0, index
    if isinstance(index, tirx.IntImm):
        return 0, int(index.value)
    if isinstance(index, tirx.Add):
        (first, one), (second, other) = parted(index.a), parted(index.b)
        return first + second, one + other
    return index, 0


RAISED = 384.0
"""What int8 are more than they are where they become floats by their bits: the middle of the floats from 2^8 to 2^9."""

_RAISED_HALF = 0x8780
"""Its bits without the last 15, all of which are 0: one more of what is left is one more of the float."""

_HALF_STEP = 1 << 15
"""What a number of these 16 bits is multiplied by to be the bits of a float."""


def widened(value: Expr, lanes: int, by_adding: bool = False) -> Expr:
    """Return `lanes` elements as float32, whatever weights are stored in.

    Parameters
    ----------
    value
        The elements.
    lanes
        How many there are.
    by_adding
        Whether a vector of int8 becomes floats by `raised` and a subtraction, in place of the machine's conversion.
    """
    made = vector_type(lanes)
    if str(value.ty.dtype) == made:
        return value
    if not by_adding or lanes == 1 or str(value.ty.dtype).startswith("float"):
        return tirx.Cast(made, value)
    return raised(value, lanes) - splat(tirx.FloatImm("float32", RAISED), lanes)


def raised(value: Expr, lanes: int) -> Expr:
    """Return a vector of int8 as float32 plus `RAISED`, exactly: a widening addition and a widening product of bits."""
    first = tirx.IntImm("int16", _RAISED_HALF - (1 << 16))
    half = tirx.Cast(f"int16x{lanes}", value) + splat(first, lanes)
    whole = tirx.Cast(f"uint32x{lanes}", tirx.reinterpret(f"uint16x{lanes}", half))
    step = splat(tirx.IntImm("uint32", _HALF_STEP), lanes)
    return tirx.reinterpret(vector_type(lanes), whole * step)


def store(buffer: Buffer, value: Expr, index: Expr, lanes: int = 1) -> Stmt:
    """Return the statement that writes `lanes` consecutive elements of `buffer`."""
    return tirx.BufferStore(buffer, value, [ramp(index, lanes)])


def strided_load(buffer: Buffer, index: Expr, stride: int, lanes: int) -> Expr:
    """Return `lanes` elements of `buffer` that lie `stride` apart, by RVV's strided load."""
    return tirx.call_llvm_intrin(
        vector_type(lanes), "llvm.experimental.vp.strided.load", *_strided(buffer, index, stride, lanes)
    )


def strided_store(buffer: Buffer, value: Expr, index: Expr, stride: int, lanes: int) -> Stmt:
    """Return the statement that writes `lanes` elements of `buffer` that lie `stride` apart, by RVV's strided store."""
    where = _strided(buffer, index, stride, lanes)
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.experimental.vp.strided.store", value, *where))


def _strided(buffer: Buffer, index: Expr, stride: int, lanes: int) -> tuple[Expr, ...]:
    """Return first address, stride in bytes, mask and length."""
    first = tirx.address_of(tirx.BufferLoad(buffer, [index]))
    mask = tirx.Broadcast(tirx.IntImm("bool", 1), lanes)
    return first, tirx.IntImm("int64", FLOAT32.bytes_of(stride)), mask, tirx.IntImm("int32", lanes)


def prefetch(buffer: Buffer, index: Expr) -> Stmt:
    """Return the statement that asks for an element of `buffer` to be in the first cache level."""
    where = tirx.address_of(tirx.BufferLoad(buffer, [index]))
    read, keep, data = (tirx.IntImm("int32", value) for value in (0, 3, 1))
    return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.prefetch", where, read, keep, data))


def touch(buffer: Buffer, first: Expr, count: int, line: int) -> Stmt:
    """Return the statement that reads one element of each cache line of `count` elements from `first` on."""

    def read(number: Expr) -> Stmt:
        return tirx.Evaluate(tirx.call_llvm_intrin("void", "llvm.fake.use", load(buffer, first + number * line)))

    rounds, rest = divmod(-(-count // line), 4)
    made = [over(rounds, lambda i: sequence([read(4 * i + place) for place in range(4)]))] if rounds else []
    return sequence([*made, *(read(4 * rounds + place) for place in range(rest))])


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


def opaque(index: Expr, into: list[Stmt]) -> Expr:
    """Return an index that LLVM cannot follow from one iteration to the next.

    Else it may give each address of straight code a counter of its own, and spill them. It costs two moves.
    """
    if isinstance(index, int):
        return index
    number = tirx.reinterpret("float32", index)
    fence = tirx.call_llvm_pure_intrin("float32", "llvm.arithmetic.fence", number)
    return named(tirx.reinterpret("int32", fence), into)


def apart(statements: Sequence[Stmt]) -> list[Stmt]:
    """Return statements that LLVM cannot mix with those before them: a loop of one iteration, which it does not know.

    Else it may put off what came before until its result is read, and spill what that takes. It costs a branch.
    """
    made: list[Stmt] = []
    # The number of its bits would be a float that is denormal: no machine flushes it, for nothing computes with it.
    count = opaque(tirx.IntImm("int32", 1), made)
    counter = tirx.Var("i", "int32")
    return [*made, tirx.For(counter, 0, count, tirx.ForKind.SERIAL, sequence(statements))]


def kept(value: Expr, into: list[Stmt]) -> Expr:
    """Append to `into` the statements that compute `value` once into a register of its own, and return its content.

    Unlike a name, TVM does not put the value in its place when it simplifies: long chains of values, each read twice,
    take it time without end otherwise.
    """
    slot = tirx.decl_buffer((1,), value.ty.dtype, name="kept")
    into += [tirx.AllocBuffer(slot), store(slot, value, 0)]
    return load(slot, 0)


def total(values: Sequence[Expr]) -> Expr:
    """Return the sum of `values` by a balanced tree."""
    while len(values) > 1:
        pairs = [a + b for a, b in zip(values[::2], values[1::2], strict=False)]
        values = [*pairs, *values[2 * len(pairs) :]]
    return values[0]


def reduced(vector: Expr) -> Expr:
    """Return the sum of a vector's elements by one instruction of the machine."""
    return tirx.call_llvm_pure_intrin("float32", "llvm.vector.reduce.fadd", zero(1), vector)


def folded(vector: Expr, lanes: int, into: list[Stmt], left: int = 1) -> Expr:
    """Append to `into` the statements that add the halves of a vector until `left` elements are left; return these."""
    held = named(vector, into)
    while lanes > left:
        lanes //= 2
        held = named(part(held, 0, lanes) + part(held, lanes, lanes), into)
    return held


def either(condition: Expr, met: Stmt, unmet: Stmt) -> Stmt:
    """Return the statement that does one of two things, by a condition that is known at run time only."""
    return tirx.IfThenElse(condition, met, unmet)


def ranged(first: Expr, end: Expr, body: Callable[[Expr], Stmt]) -> Stmt:
    """Return a loop from `first` up to before `end`, which are known at run time only."""
    counter = tirx.Var("i", "int32")
    return tirx.For(counter, 0, end - first, tirx.ForKind.SERIAL, body(first + counter))
