"""What code generation does on a machine that TIR does not say by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lrfdse.kernels.registers import RegisterFile


@dataclass(frozen=True, slots=True)
class Instructions:
    """What TIR does not say by itself."""

    explicit_fma: bool
    """Whether an FMA must be asked for: LLVM does not fuse on 32-bit ARM by itself."""
    strided: bool
    """Whether one instruction stores a vector's elements with gaps between them."""
    reducing: bool
    """Whether one instruction sums a vector across its lanes."""
    adds_to_convert: bool
    """Whether vectors of int8 become floats by their bits, see `lrfdse.kernels.tir.raised`."""
    widens: Mapping[int, str]
    """LLVM's intrinsics that make so many float32 of the bits of float16, where a plain conversion will not do."""
    ahead: RegisterFile | None
    """Registers for operands that are loaded ahead; None where LLVM or the core orders loads well by itself."""
    line: int
    """Elements of a cache line."""
