"""Code of others made plain: no mathematics library, no memcpy, no memset."""

from __future__ import annotations

from typing import Any

import tvm
import tvm_ffi
from tvm import tirx

from lrfdse.ir.epilogue import Function
from lrfdse.kernels.operators.double import exponential
from lrfdse.kernels.operators.longs import float_to_long, long_to_float
from lrfdse.kernels.operators.machine import Machine
from lrfdse.kernels.tir import Expr, Stmt, sequence

_FUNCTIONS: dict[str, Function] = {
    "tirx.ceil": "ceil",
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
}
"""TIR's functions by ours; ONNX rounds halves to even, and so does what stands for ``tirx.round``."""


def plain(body: Stmt, machine: Machine) -> Stmt:
    """Return statements that call no mathematics library, as far as they store what it computes.

    Numbers and copies that are stored pass through a fence: LLVM must not see loops that only clear or copy.
    """

    def stored(statement: Any) -> Any:
        value = statement.value
        if isinstance(value, tirx.IntImm | tirx.FloatImm | tvm.ir.TensorLoad):
            return tirx.BufferStore(statement.buffer, _fenced(value), statement.indices)
        if _is_guarded(value):
            # What stands behind a condition must not be computed before it.
            return tirx.BufferStore(statement.buffer, _fenced(value), statement.indices)
        made: list[Stmt] = []
        functions = machine.functions(1, made)

        def called(call: Any) -> Any:
            name = _FUNCTIONS.get(getattr(call.op, "name", ""))
            if name == "exp" and str(call.ty.dtype) == "float64":
                return exponential(call.args[0], made)
            if name is None or str(call.ty.dtype) != "float32":
                return call
            return functions.call(name, list(call.args), [None] * len(call.args))

        value = tvm_ffi.structural_map(value, (tvm.ir.Call, called))
        return sequence([*made, tirx.BufferStore(statement.buffer, value, statement.indices)])

    longs = machine.target.instruction_set.converts_longs

    def converted(cast: Any) -> Any:
        kind, given = str(cast.ty.dtype), str(cast.value.ty.dtype)
        if given.startswith("float") and kind in ("int8", "uint8", "int16", "uint16"):
            # QEMU 7.2 ends at RISC-V's instruction that makes 16 bits of floats of 32 (vfncvt.rtz.x.f.w).
            return tirx.Cast(kind, tirx.Cast("int32", cast.value))
        if not longs and given.startswith("float") and kind == "int64":
            return float_to_long(cast.value)
        if not longs and kind.startswith("float") and given == "int64":
            return long_to_float(cast.value, kind)
        return cast

    return tvm_ffi.structural_map(tvm_ffi.structural_map(body, (tirx.Cast, converted)), (tirx.BufferStore, stored))


def _is_guarded(value: Expr) -> bool:
    """Return whether parts of an expression are computed only under a condition."""
    found: list[Any] = []

    def seen(call: Any) -> None:
        if getattr(call.op, "name", "") == "tirx.if_then_else":
            found.append(call)

    tvm_ffi.structural_walk(value, (tvm.ir.Call, seen))
    return bool(found)


def _fenced(value: Expr) -> Expr:
    """Return a value of which LLVM knows nothing."""
    kind = str(value.ty.dtype)
    if kind in ("float32", "float64"):
        return tirx.call_llvm_pure_intrin(kind, "llvm.arithmetic.fence", value)
    zero = tirx.call_llvm_pure_intrin("float32", "llvm.arithmetic.fence", tirx.FloatImm("float32", 0.0))
    nothing = tirx.reinterpret("int32", zero)
    if kind == "bool":
        return tirx.Select(nothing == tirx.IntImm("int32", 0), value, tirx.IntImm("bool", 0))
    return value + (nothing if kind == "int32" else tirx.Cast(kind, nothing))
