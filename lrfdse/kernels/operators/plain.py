"""Code of others made plain: no mathematics library, no memcpy, no memset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from lrfdse.ir.epilogue import Function
from lrfdse.kernels.operators.double import exponential, rounded
from lrfdse.kernels.operators.longs import DIVISIONS, conversion, divided, is_conversion, is_long_division
from lrfdse.kernels.operators.machine import Machine
from lrfdse.kernels.operators.runs import fenced
from lrfdse.kernels.tir import Expr, Stmt, either, kept, load, sequence, store

_FUNCTIONS: dict[str, Function] = {
    "tirx.cos": "cos",
    "tirx.erf": "erf",
    "tirx.exp": "exp",
    "tirx.floor": "floor",
    "tirx.log": "log",
    "tirx.nearbyint": "round",
    "tirx.pow": "pow",
    "tirx.round": "round",
    "tirx.sigmoid": "sigmoid",
    "tirx.sin": "sin",
    "tirx.tanh": "tanh",
    "prim.ceil": "ceil",
}
"""TIR's functions by ours; ONNX rounds halves to even, and so does what stands for ``tirx.round``."""


_GUARD = "prim.if_then_else"
"""TIR's choice between two values of which only one is computed."""


def plain(body: Stmt, machine: Machine) -> Stmt:
    """Return statements that call no mathematics library, as far as they store what it computes.

    Numbers and copies that are stored pass through a fence, and so do whole numbers, of which LLVM may find out that
    all are one: it must not see loops that only fill or copy.
    """

    def stored(statement: Any) -> Any:
        made: list[Stmt] = []
        value = _computed(statement.value, machine, made)
        is_plain = isinstance(value, tirx.FloatImm | tvm.ir.TensorLoad)
        if is_plain or not _is_real(value) or _holds(value, _is_guard):
            value = fenced(value, statement.indices[0])
        return sequence([*made, tirx.BufferStore(statement.buffer, value, statement.indices)])

    def narrowed(cast: Any) -> Any:
        if _is_real(cast.value) and str(cast.ty.dtype) in ("int8", "uint8", "int16", "uint16"):
            # QEMU 7.2 ends at RISC-V's instruction that makes 16 bits of floats of 32 (vfncvt.rtz.x.f.w).
            return tirx.Cast(str(cast.ty.dtype), tirx.Cast("int32", cast.value))
        return cast

    body = tvm_ffi.structural_map(tvm_ffi.structural_map(body, (tirx.Cast, narrowed)), (tirx.BufferStore, stored))

    if machine.target.instruction_set.converts_longs:
        return body
    # What is left is in indices and conditions.
    return tvm_ffi.structural_map(
        body, (tirx.Cast, lambda cast: conversion(cast, cast.value) if is_conversion(cast) else cast)
    )


def _computed(value: Expr, machine: Machine, into: list[Stmt]) -> Expr:
    """Return a value without what would be calls of a library; the statements that compute it go to `into`.

    What stands behind a condition must not be computed before it, so that such statements stand in branches.
    """
    longs = machine.target.instruction_set.converts_longs

    def is_called(each: Any) -> bool:
        return _function(each) is not None or (not longs and (is_conversion(each) or is_long_division(each)))

    if not _holds(value, is_called):
        return value

    def parted(call: Any) -> Any:
        if not _is_guard(call) or not _holds(call, is_called):
            return call
        condition, *choices = call.args
        condition = _computed(condition, machine, into)
        slot = tirx.decl_buffer((1,), call.ty.dtype, name="chosen")
        into.append(tirx.AllocBuffer(slot))
        branches = []
        for choice in choices:
            made: list[Stmt] = []
            made.append(store(slot, _computed(choice, machine, made), 0))
            branches.append(sequence(made))
        into.append(either(condition, *branches))
        return load(slot, 0)

    value = tvm_ffi.structural_map(value, (tvm.ir.Call, parted), order="pre")
    functions = machine.functions(1, into)

    def called(call: Any) -> Any:
        name = _function(call)
        if name is None:
            return call
        if str(call.ty.dtype) == "float16":
            wide = [tirx.Cast("float32", argument) for argument in call.args]
            return tirx.Cast("float16", functions.call(name, wide, [None] * len(wide)))
        if str(call.ty.dtype) == "float32":
            return functions.call(name, list(call.args), [None] * len(call.args))
        return exponential(call.args[0], into) if name == "exp" else rounded(name, call.args[0], into)

    def converted(cast: Any) -> Any:
        # What a conversion is made of reads the value several times.
        return kept(conversion(cast, kept(cast.value, into)), into) if is_called(cast) else cast

    def parts(division: Any) -> Any:
        return divided(division, into) if is_called(division) else division

    return tvm_ffi.structural_map(value, [(tvm.ir.Call, called), (tirx.Cast, converted), (DIVISIONS, parts)])


def _function(call: Any) -> Function | None:
    """Return which of our functions stands for a call, if any."""
    if not isinstance(call, tvm.ir.Call):
        return None
    name = _FUNCTIONS.get(getattr(call.op, "name", ""))
    if str(call.ty.dtype) == "float16":
        return name
    if str(call.ty.dtype) == "float64":
        return name if name in ("ceil", "exp", "floor", "round") else None
    return name if str(call.ty.dtype) == "float32" else None


def _is_real(value: Expr) -> bool:
    return str(value.ty.dtype).startswith("float")


def _is_guard(call: Any) -> bool:
    return isinstance(call, tvm.ir.Call) and getattr(call.op, "name", "") == _GUARD


def _holds(value: Expr, wanted: Callable[[Any], bool]) -> bool:
    """Return whether an expression is, or holds, a call or a conversion of some kind."""
    found: list[bool] = []
    tvm_ffi.structural_walk(value, ((tvm.ir.Call, tirx.Cast, *DIVISIONS), lambda each: found.append(wanted(each))))
    return any(found)
