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
    c = cover(size, machine.lanes)
    made: list[Stmt] = []
    kind = str(target.dtype)
    # Of a number of class zero LLVM knows all bits, of other classes it does not.
    known = 0.0 if kind == "float32" else 1.0
    fence = tirx.call_llvm_pure_intrin("float32", "llvm.arithmetic.fence", tirx.FloatImm("float32", known))
    number = named(fence, made)
    if kind != "float32":
        zeros = named(tirx.reinterpret("int32", number) - tirx.IntImm("int32", _ONE_BITS), made)
        number = named(tirx.IntImm(kind, bits) + (zeros if kind == "int32" else tirx.Cast(kind, zeros)), made)

    def put(index: Expr) -> Stmt:
        return store(target, splat(number, c.lanes), to + index, c.lanes)

    made.append(over(c.count, lambda i: put(i * c.lanes)))
    if c.last is not None:
        made.append(put(c.last))
    return sequence(made)
