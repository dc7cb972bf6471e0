"""Copies and fills of runs of elements, in a form that LLVM does not take for a call of memcpy or memset."""

from __future__ import annotations

from tvm import tirx

from lrfdse.kernels.operators.machine import Machine
from lrfdse.kernels.operators.strips import cover, strips
from lrfdse.kernels.tir import Buffer, Expr, Stmt, load, named, over, sequence, splat, store

_UNROLLED = 2
"""Vectors that one iteration copies: LLVM takes a loop of one for memcpy."""

_UNROLLED_SCALARS = 4
"""Elements that one iteration copies where there are no vectors. Chosen, not measured."""


_ONE_BITS = 0x3F800000
"""The bits of 1 as float32."""


def unknown_zero(into: list[Stmt] | None = None) -> Expr:
    """Return an int32 that is 0, which LLVM does not know; its statements go to `into` where there is one.

    It is made of the bits of 1: of a number of class zero LLVM knows all bits, fence or not.
    """
    one = _fence(1.0) if into is None else named(_fence(1.0), into)
    zero = tirx.reinterpret("int32", one) - tirx.IntImm("int32", _ONE_BITS)
    return zero if into is None else named(zero, into)


def _fence(number: float) -> Expr:
    return tirx.call_llvm_pure_intrin("float32", "llvm.arithmetic.fence", tirx.FloatImm("float32", number))


def fenced(value: Expr, index: Expr = 0) -> Expr:
    """Return a scalar of which LLVM knows nothing, so that a loop that stores it is no memcpy or memset.

    A loop that fills bytes with one number, known or not, is a memset: what bytes are to be seems to depend on the
    index at which they are stored.
    """
    kind = str(value.ty.dtype)
    if kind in ("float32", "float64"):
        return tirx.call_llvm_pure_intrin(kind, "llvm.arithmetic.fence", value)
    if kind == "float16":
        return tirx.reinterpret(kind, fenced(tirx.reinterpret("int16", value)))
    zero = unknown_zero()
    if kind in ("bool", "int8", "uint8") and not isinstance(index, int):
        zero = tirx.bitwise_and(zero, tirx.Cast("int32", index))
    if kind == "bool":
        return tirx.Select(zero == tirx.IntImm("int32", 0), value, tirx.IntImm("bool", 0))
    return value + (zero if kind == "int32" else tirx.Cast(kind, zero))


def nothing() -> Stmt:
    """Return a statement that does nothing."""
    return tirx.Evaluate(tirx.IntImm("int32", 0))


def copied(source: Buffer, at: Expr, target: Buffer, to: Expr, size: int, machine: Machine) -> Stmt:
    """Return the loop that copies `size` elements from index `at` of one buffer to index `to` of another."""
    if size == 0:
        return nothing()
    unroll = _UNROLLED_SCALARS if machine.lanes == 1 else _UNROLLED

    def copy(i: Expr, lanes: int) -> list[Stmt]:
        return [store(target, load(source, at + i, lanes), to + i, lanes)]

    return strips(size, machine.lanes, copy, unroll)


def filled(target: Buffer, to: Expr, size: int, bits: int, machine: Machine) -> Stmt:
    """Return the loop that sets `size` elements from index `to` on to the number with these bits; floats to zero only.

    LLVM must not know the number, or it would call memset.
    """
    if size == 0:
        return nothing()
    made: list[Stmt] = []
    kind = str(target.dtype)
    if kind == "float32":
        number = named(_fence(0.0), made)
    else:
        zeros = unknown_zero(made)
        number = named(tirx.IntImm(kind, bits) + (zeros if kind == "int32" else tirx.Cast(kind, zeros)), made)
    return sequence([*made, spread(target, to, size, number, machine)])


def spread(target: Buffer, to: Expr, size: int, number: Expr, machine: Machine) -> Stmt:
    """Return the loop that sets `size` elements from index `to` on to a number that LLVM does not know.

    Bytes on a machine without vectors are set in two loops, or LLVM would call memset: even ones before odd ones.
    """
    c = cover(size, machine.lanes)

    def put(index: Expr) -> Stmt:
        return store(target, splat(number, c.lanes), to + index, c.lanes)

    if c.lanes == 1 and size > 1 and str(target.dtype) in ("int8", "uint8"):
        return sequence([over(-(-size // 2), lambda i: put(i * 2)), over(size // 2, lambda i: put(i * 2 + 1))])
    made = [over(c.count, lambda i: put(i * c.lanes))]
    if c.last is not None:
        made.append(put(c.last))
    return sequence(made)
