"""What functions of float32 vectors are made of, as TIR: numbers, FMAs, polynomials, limits, bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from tvm import tirx

from lrfdse.ir.epilogue import Function
from lrfdse.kernels.tir import Expr, Stmt, kept, splat, vector_type

Nan = Literal["any", "positive", "lost"]
"""What NaN a function is given and must give: any that it is given; the positive one that arithmetic makes; none."""


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors of `lanes` elements; statements that they need go to `into`."""

    lanes: int
    fma: str
    """LLVM's intrinsic for an FMA."""
    into: list[Stmt]
    reassociates: bool = False
    """Whether LLVM may change the order of additions."""
    slow_quotients: bool = False
    """Whether a quotient of vectors takes longer than a product with a reciprocal (40 and 12 cycles on the X60), and
    sums that are no number have no sign: so it is with the vector extension of RISC-V."""

    def number(self, value: float) -> Expr:
        """Return a number on every lane."""
        return splat(tirx.FloatImm("float32", value), self.lanes)

    def whole(self, value: int) -> Expr:
        """Return an int32 on every lane."""
        return splat(tirx.IntImm("int32", value), self.lanes)

    @property
    def by_bits(self) -> bool:
        """Whether limits compare bits as whole numbers: in a unit of its own, a quarter as long as a selection."""
        return self.slow_quotients and self.lanes > 1

    def limited(
        self, x: Expr, least: float | None, most: float | None, nan: Nan = "any", is_reversed: bool = False
    ) -> Expr:
        """Return a number kept at or above one and at or below another, where `by_bits`.

        Floats of one sign are in the order of their bits, and NaN that arithmetic made is above all positive ones. So
        it stays where a number is limited from below. One that is limited from above is limited from below with its
        sign reversed: the differences on both sides of that make NaN as arithmetic does.

        Parameters
        ----------
        x
            The number.
        least, most
            The limits; None where there is none.
        nan
            What NaN may come in: of any bits, only as arithmetic makes it, or any, but it need not come out.
        is_reversed
            Whether `x` is the number with its sign reversed. Only where NaN stays and `most` is a number.
        """
        zero = self.number(0.0)
        if nan == "lost":
            made = x if least is None else self._at_least(x, least)
            return made if most is None else self._at_most(self._held(made), most)
        if least is not None and most is None:
            return self._at_least(x, least) if nan == "positive" else tirx.Max(self.number(least), x)
        if most is None:
            return x
        below = self._held(self._at_least(x if is_reversed else self._held(zero - x), -most))
        made = zero - below
        return made if least is None else self._at_least(self._held(made), least)

    def outer(self, function: Function, left: Expr, right: Expr) -> Expr:
        """Return the larger or the smaller of numbers that are NaN at the same time."""
        if not self.by_bits:
            return (tirx.Max if function == "max" else tirx.Min)(left, right)
        return tirx.call_llvm_pure_intrin(vector_type(self.lanes), f"llvm.{function}num", left, right)

    def _at_least(self, x: Expr, least: float) -> Expr:
        """Return the larger of two numbers by their bits; positive NaN stays."""
        if least < 0:
            return self._compared(tirx.Min, "uint32", x, least)
        return self._compared(tirx.Max, "int32", x, abs(least))

    def _at_most(self, x: Expr, most: float) -> Expr:
        """Return the smaller of two numbers by their bits; of NaN, any number."""
        if most < 0:
            return self._compared(tirx.Max, "uint32", x, most)
        return self._compared(tirx.Min, "int32", x, abs(most))

    def _compared(self, choice: Callable[[Expr, Expr], Expr], kind: str, x: Expr, number: float) -> Expr:
        bits = splat(tirx.IntImm(kind, int(np.float32(number).view(kind))), self.lanes)
        whole = self._held(tirx.reinterpret(kind if self.lanes == 1 else f"{kind}x{self.lanes}", x))
        return self._as_float(self._held(choice(whole, bits)))

    def _polynomial(self, coefficients: Sequence[float], x: Expr) -> Expr:
        """Return a polynomial by Horner's rule, the constant term first."""
        made = self.number(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            made = self._fused(made, x, self.number(coefficient))
        return made

    def _fused(self, left: Expr, right: Expr, addend: Expr) -> Expr:
        return self._held(tirx.call_llvm_pure_intrin(vector_type(self.lanes), self.fma, left, right, addend))

    def _clamped(self, x: Expr, least: float, most: float, careless: bool = False) -> Expr:
        if self.by_bits:
            return self.limited(x, least, most, "lost" if careless else "any")
        return tirx.Max(self.number(least), self._held(tirx.Min(self.number(most), x)))

    def _fenced(self, value: Expr) -> Expr:
        """Return a number that LLVM knows nothing of."""
        return tirx.call_llvm_pure_intrin(vector_type(self.lanes), "llvm.arithmetic.fence", value)

    def _held(self, value: Expr) -> Expr:
        return kept(value, self.into)

    def _cast(self, value: Expr, kind: str) -> Expr:
        return tirx.Cast(kind if self.lanes == 1 else f"{kind}x{self.lanes}", value)

    def _as_int(self, value: Expr) -> Expr:
        return tirx.reinterpret("int32" if self.lanes == 1 else f"int32x{self.lanes}", value)

    def _as_float(self, value: Expr) -> Expr:
        return tirx.reinterpret(vector_type(self.lanes), value)
