"""Conversions between floats and integers of 64 bits as TIR, for machines that convert 32 bits at a time."""

from __future__ import annotations

from tvm import tirx

from lrfdse.kernels.tir import Expr

_WORD = 32
"""Bits that the machine converts at once."""

_BASE = float(2**_WORD)


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
