"""What emitters of operators need to know of a target, and what they hand back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx

from lrfdse.ir.ports import ELEMENT_SIZE, Element, Port
from lrfdse.kernels.instructions import Instructions
from lrfdse.kernels.operators.functions import Functions
from lrfdse.kernels.tir import Buffer, Expr, Stmt, folded, named, reduced, vector_type
from lrfdse.targets.target import Target

_GROUP = 2
"""Registers of one vector of a streaming operator where registers form groups: fewer instructions, at no cost.

Chosen, not measured."""

_FLOAT_ALIGNMENT = 4
"""Bytes to which a caller's arrays are aligned: a float's."""


@dataclass(frozen=True, slots=True)
class Emission:
    """An operator as TIR."""

    parameters: tuple[Buffer, ...]
    """One for each port."""
    body: Stmt
    work: Buffer | None = None
    """Scratch memory, the last parameter."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A target as emitters see it."""

    target: Target
    instructions: Instructions

    @property
    def lanes(self) -> int:
        """Elements of a vector of a streaming operator; a power of two."""
        return self.target.lanes * (_GROUP if _GROUP in self.target.groups else 1)

    @property
    def registers(self) -> int:
        """Vectors of so many lanes that the registers hold."""
        return self.target.vector_registers * self.target.lanes // self.lanes

    def functions(self, lanes: int, into: list[Stmt]) -> Functions:
        """Return the functions of vectors of so many elements, whose statements go to `into`."""
        fma = "llvm.fma" if self.instructions.explicit_fma else "llvm.fmuladd"
        return Functions(lanes, fma, into, self.target.instruction_set.reassociates, self.target.vectors.grouped)

    def multiplied(self, left: Expr, right: Expr, addend: Expr, lanes: int) -> Expr:
        """Return ``left * right + addend``, fused where the machine can."""
        if self.instructions.explicit_fma:
            return tirx.call_llvm_pure_intrin(vector_type(lanes), "llvm.fma", left, right, addend)
        return addend + left * right

    def sum_of(self, vector: Expr, lanes: int, into: list[Stmt]) -> Expr:
        """Return the sum of a vector's elements; `lanes` is a power of two."""
        if self.instructions.reducing and lanes > 1:
            left = min(lanes, self.target.lanes)
            return named(reduced(folded(vector, lanes, into, left)), into)
        return folded(vector, lanes, into)


def buffers(ports: Sequence[Port], weight: int = 0) -> tuple[Buffer, ...]:
    """Return a flat buffer for each port; a weight port has `weight` elements, as packed."""
    made = []
    for number, port in enumerate(ports):
        size = weight if port.role == "weight" else port.size
        made.append(flat(size, f"p{number}", port.element))
    return tuple(made)


def flat(size: int, name: str, element: Element = "float32", data: Expr | None = None) -> Buffer:
    """Return a flat buffer that is only as aligned as a float, or as its element where that is smaller."""
    kind = "int8" if element == "bool" else element
    alignment = min(_FLOAT_ALIGNMENT, ELEMENT_SIZE[element])
    return tirx.decl_buffer((max(1, size),), kind, name, data=data, data_alignment=alignment)
