"""An operator of a whole model after compilation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrfdse.ir.operators import Operator


@dataclass(frozen=True, slots=True)
class CompiledOperator:
    """An object file with one plain C function, ``void symbol(port 0, port 1, ..., [void *work])``.

    Ports are pointers in the order of the operator's ports. The function calls nothing, keeps nothing, and writes only
    its outputs and its work buffer.
    """

    operator: Operator
    schedule: str
    """How it is laid out, in the text form that its emitter reads and writes."""
    target: str
    symbol: str
    object_code: bytes
    work: int = 0
    """Bytes of scratch memory that the function takes as its last parameter; without any it has no such parameter."""
    spills: int = 0
    """Instructions that move a vector or a float between a register and the stack, where they were counted."""
