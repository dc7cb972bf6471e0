"""Integers of 64 bits as TIR for machines of 32 bits: conversions from and to floats, and division."""

from __future__ import annotations

from tvm import tirx

from lrfdse.kernels.tir import Expr, Stmt, either, kept, load, over, sequence, store

_WORD = 32
"""Bits that the machine converts at once."""

_BASE = float(2**_WORD)

_BITS = 2 * _WORD
"""Bits of an integer."""

DIVISIONS = (tirx.Div, tirx.Mod, tirx.FloorDiv, tirx.FloorMod)
"""TIR's forms of a division."""


def _number(value: float) -> Expr:
    return tirx.FloatImm("float64", value)


def long_to_float(value: Expr, kind: str) -> Expr:
    """Return an int64 scalar as a float of `kind`.

    Both words are exact in float64, and so is their sum below 2^53; beyond, float32 rounds twice, which may give the
    second nearest number.
    """
    high = tirx.Cast("int32", tirx.shift_right(value, tirx.IntImm("int64", _WORD)))
    whole = tirx.Cast("float64", high) * _number(_BASE) + tirx.Cast("float64", tirx.Cast("uint32", value))
    return whole if kind == "float64" else tirx.Cast(kind, whole)


def float_to_long(value: Expr) -> Expr:
    """Return a float scalar as int64, towards zero; numbers that it cannot hold give any result."""
    exact = value if str(value.ty.dtype) == "float64" else tirx.Cast("float64", value)
    size = tirx.Select(exact < _number(0.0), -exact, exact)
    high = tirx.Cast("uint32", size * _number(1 / _BASE))
    low = tirx.Cast("uint32", size - tirx.Cast("float64", high) * _number(_BASE))
    held = tirx.shift_left(tirx.Cast("int64", high), tirx.IntImm("int64", _WORD)) + tirx.Cast("int64", low)
    return tirx.Select(exact < _number(0.0), -held, held)


def is_conversion(cast: Expr) -> bool:
    """Return whether an expression makes a float of an integer of 64 bits, or such an integer of a float."""
    if not isinstance(cast, tirx.Cast):
        return False
    kind, given = str(cast.ty.dtype), str(cast.value.ty.dtype)
    return (kind == "int64" and given.startswith("float")) or (kind.startswith("float") and given == "int64")


def conversion(cast: Expr, value: Expr) -> Expr:
    """Return the conversion of a value as such a cast says."""
    kind = str(cast.ty.dtype)
    return float_to_long(value) if kind == "int64" else long_to_float(value, kind)


def is_long_division(value: Expr) -> bool:
    """Return whether an expression divides integers of 64 bits by anything but a power of two."""
    if not isinstance(value, DIVISIONS) or str(value.ty.dtype) not in ("int64", "uint64"):
        return False
    divisor = int(value.b.value) if isinstance(value.b, tirx.IntImm) else 0
    return divisor <= 0 or divisor & (divisor - 1) != 0


def divided(value: Expr, into: list[Stmt]) -> Expr:
    """Return what a division of integers of 64 bits gives, its statements in `into`; a divisor of 0 gives anything.

    Numbers of one word are divided by the machine, others bit by bit.
    """
    kind = str(value.ty.dtype)
    left, right = (kept(each, into) for each in (value.a, value.b))
    if kind == "uint64":
        quotient, rest = _unsigned(left, right, into)
        return quotient if isinstance(value, tirx.Div | tirx.FloorDiv) else rest
    zero = tirx.IntImm(kind, 0)
    sizes = [tirx.Cast("uint64", tirx.Select(each < zero, zero - each, each)) for each in (left, right)]
    held = [kept(size, into) for size in sizes]
    quotient, rest = (tirx.Cast(kind, each) for each in _unsigned(held[0], held[1], into))
    rest = kept(tirx.Select(left < zero, zero - rest, rest), into)
    apart = kept(tirx.NE(tirx.Cast("int32", left < zero), tirx.Cast("int32", right < zero)), into)
    quotient = kept(tirx.Select(apart, zero - quotient, quotient), into)
    if isinstance(value, tirx.Div):
        return quotient
    if isinstance(value, tirx.Mod):
        return rest
    # What is rounded down is one less, and leaves the divisor more, where the signs differ and anything is left.
    down = tirx.And(tirx.NE(rest, zero), apart)
    if isinstance(value, tirx.FloorDiv):
        return kept(tirx.Select(down, quotient - tirx.IntImm(kind, 1), quotient), into)
    return kept(tirx.Select(down, rest + right, rest), into)


def _unsigned(left: Expr, right: Expr, into: list[Stmt]) -> tuple[Expr, Expr]:
    """Return quotient and rest of two uint64."""
    kind, word = "uint64", "uint32"
    quotient, rest = (tirx.decl_buffer((1,), kind, name=name) for name in ("quotient", "rest"))
    into += [tirx.AllocBuffer(quotient), tirx.AllocBuffer(rest)]
    low, by = (tirx.Cast(word, each) for each in (left, right))
    short = [store(quotient, tirx.Cast(kind, tirx.Div(low, by)), 0), store(rest, tirx.Cast(kind, tirx.Mod(low, by)), 0)]
    one = tirx.IntImm(kind, 1)

    def bit(_: Expr) -> Stmt:
        highest = tirx.shift_right(load(quotient, 0), tirx.IntImm(kind, _BITS - 1))
        shifted = tirx.bitwise_or(tirx.shift_left(load(rest, 0), one), highest)
        doubled = tirx.shift_left(load(quotient, 0), one)
        fits = sequence([store(rest, load(rest, 0) - right, 0), store(quotient, load(quotient, 0) + one, 0)])
        nothing = tirx.Evaluate(tirx.IntImm("int32", 0))
        return sequence(
            [store(rest, shifted, 0), store(quotient, doubled, 0), either(load(rest, 0) >= right, fits, nothing)]
        )

    long = [store(quotient, left, 0), store(rest, tirx.IntImm(kind, 0), 0), over(_BITS, bit)]
    high = tirx.shift_right(tirx.bitwise_or(left, right), tirx.IntImm(kind, _WORD))
    into.append(either(tirx.EQ(high, tirx.IntImm(kind, 0)), sequence(short), sequence(long)))
    return load(quotient, 0), load(rest, 0)
