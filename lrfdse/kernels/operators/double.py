"""Functions of float64 numbers as TIR, without a mathematics library, for single nodes in double precision."""

from __future__ import annotations

import math

from tvm import tirx

from lrfdse.ir.epilogue import Function
from lrfdse.kernels.operators.longs import long_to_float
from lrfdse.kernels.tir import Expr, Stmt, kept

_LEAST = -708.0
"""Arguments below it give 0: float64's normal numbers end at exp(-708.4), and what follows need not be exact."""

_MOST = 709.782712893384
"""The largest float64 whose exponential is finite, log(2^1024)."""

_ROUNDING = 6755399441055744.0
"""1.5 * 2^52: float64 around it are whole numbers, so that adding it rounds, and the low bits hold the result."""

_ROUNDING_BITS = 0x4338000000000000
"""Its bits."""

_LN2_HIGH, _LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10
"""ln(2) in two parts, the first with zero bits at its end, so that its multiples are exact (fdlibm, e_exp.c)."""

_TERMS = 13
"""Terms of the series of exp: on [-ln2/2, ln2/2] what is left out is below 1e-17 of the result."""

_WHOLE = 4503599627370496.0
"""2^52: float64 from there on are whole numbers, and the low bits of those up to twice as large count them."""

_WHOLE_BITS = 0x4330000000000000
"""Its bits."""

_BIAS, _MANTISSA = 1023, 52
"""What float64 adds to exponents of two, and the bits of its mantissa."""


def _number(value: float) -> Expr:
    return tirx.FloatImm("float64", value)


def exponential(x: Expr, into: list[Stmt]) -> Expr:
    """Return exp of a float64 scalar, its statements in `into`: off by at most 1e-15 of it; NaN gives NaN.

    Where LLVM may reassociate, the two parts of ln(2) become one, which costs as many bits as the exponent has.
    """
    clipped = kept(tirx.Max(tirx.Min(x, _number(_MOST)), _number(_LEAST)), into)
    shifted = kept(clipped * _number(1 / math.log(2)) + _number(_ROUNDING), into)
    # From the bits: LLVM may take the addition and its inverse away together.
    bits = tirx.reinterpret("int64", shifted) - tirx.IntImm("int64", _ROUNDING_BITS)
    power = kept(tirx.Cast("int32", bits), into)
    times = kept(tirx.Cast("float64", power), into)
    left = kept((clipped - times * _number(_LN2_HIGH)) - times * _number(_LN2_LOW), into)
    value = _number(1 / math.factorial(_TERMS))
    for n in reversed(range(_TERMS)):
        value = kept(value * left + _number(1 / math.factorial(n)), into)
    half = kept(tirx.shift_right(power, tirx.IntImm("int32", 1)), into)
    whole = kept(value * _power(half) * _power(power - half), into)
    finite = tirx.Select(x < _number(_LEAST), _number(0.0), tirx.Select(x > _number(_MOST), _number(math.inf), whole))
    # Only NaN differs from itself.
    return kept(tirx.Select(x == x, finite, x), into)


def rounded(function: Function, x: Expr, into: list[Stmt]) -> Expr:
    """Return the floor or the ceil of a float64 scalar, or the nearest whole number, halves to even ("round")."""
    x = kept(x, into)
    size = kept(tirx.Select(x < _number(0.0), x * _number(-1.0), x), into)
    # From the bits: LLVM may take the addition and its inverse away together.
    bits = tirx.reinterpret("int64", kept(size + _number(_WHOLE), into)) - tirx.IntImm("int64", _WHOLE_BITS)
    near = kept(long_to_float(kept(bits, into), "float64"), into)
    near = kept(tirx.Select(x < _number(0.0), near * _number(-1.0), near), into)
    if function == "floor":
        near = kept(near - tirx.Select(near > x, _number(1.0), _number(0.0)), into)
    elif function == "ceil":
        near = kept(near + tirx.Select(near < x, _number(1.0), _number(0.0)), into)
    return kept(tirx.Select(size < _number(_WHOLE), near, x), into)


def _power(exponent: Expr) -> Expr:
    """Return two to the power of a small whole number."""
    bits = tirx.Cast("int64", exponent + tirx.IntImm("int32", _BIAS))
    return tirx.reinterpret("float64", tirx.shift_left(bits, tirx.IntImm("int64", _MANTISSA)))
