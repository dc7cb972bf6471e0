"""Read-only tables inside of an object file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import tirx
from tvm.ir import PointerType, PrimType

from lrfdse.ir.ports import Element
from lrfdse.kernels.operators.machine import flat
from lrfdse.kernels.tir import Buffer, Stmt, sequence

_INTEGERS = {1: "i8", 2: "i16", 4: "i32", 8: "i64"}
"""LLVM's integers by size: tables hold the bits of what they are."""


@dataclass(frozen=True, slots=True)
class Constants:
    """Tables of one function.

    TIR has no constants, but it can import LLVM's text: each table is a constant there, and a function that returns
    where it lies, which LLVM puts in the place of its call.
    """

    symbol: str
    """Name of the function, with which names of tables begin; they are not visible outside of the object."""
    _texts: list[str] = field(default_factory=list)
    _statements: list[Stmt] = field(default_factory=list)

    def table(self, values: NDArray[Any]) -> Buffer:
        """Return a flat buffer that holds an array."""
        dense = np.ascontiguousarray(values).ravel()
        element: Element = str(dense.dtype)  # type: ignore[assignment]
        name = f"{self.symbol}_table{len(self._texts)}"
        kind = _INTEGERS[dense.itemsize]
        bits = dense.view(f"i{dense.itemsize}")
        listed = ", ".join(f"{kind} {value}" for value in bits.tolist())
        self._texts.append(
            f"@{name} = internal unnamed_addr constant [{dense.size} x {kind}] [{listed}], align 64\n"
            f"define ptr @{name}_place() alwaysinline {{ ret ptr @{name} }}\n"
        )
        held = flat(dense.size, name, element)
        pointer = tirx.Var(name, PointerType(PrimType(str(held.dtype))))
        buffer = flat(dense.size, name, element, pointer)
        self._statements.append(tirx.Bind(pointer, tirx.call_extern(pointer.ty, f"{name}_place")))
        self._statements.append(tirx.DeclBuffer(buffer, data=pointer))
        return buffer

    def around(self, body: Stmt) -> Stmt:
        """Return a function's body with its tables."""
        if not self._texts:
            return body
        text = tvm.ir.StringImm("".join(self._texts))
        inner = sequence([*self._statements, body])
        return tirx.AttrStmt(tirx.IntImm("int32", 0), "pragma_import_llvm", text, inner)
