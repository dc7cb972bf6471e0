"""What one iteration of an inner loop does to its operands: products of floats, or of whole numbers, added up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tvm import tirx

from lrfdse.ir.kernel import StepSchedule
from lrfdse.ir.storage import FLOAT32, INT8, Storage
from lrfdse.kernels.instructions import Instructions
from lrfdse.kernels.tir import RAISED, Expr, Stmt, named, raised, splat, vector_type, widened, zero
from lrfdse.targets.isa.description import Dot


class Arithmetic(Protocol):
    """Vectors of sums, and what is added to them."""

    @property
    def kind(self) -> str:
        """TVM's name of a vector of sums."""

    @property
    def zero(self) -> Expr:
        """A vector of sums that nothing was added to."""

    @property
    def raised(self) -> float:
        """What every weight is multiplied as more than it is, to be taken off the sums: times the sum of the data."""

    def operand(self, read: Expr, side: int, into: list[Stmt]) -> Expr:
        """Return what is multiplied of what was read: of weights (side 0) or of data (side 1), on all lanes."""

    def added(self, total: Expr | None, left: Expr, right: Expr) -> Expr:
        """Return sums with the products of a weight and a datum added; the products alone where there are no sums."""


@dataclass(frozen=True, slots=True)
class Floats:
    """Products of float32, whatever weights are stored in."""

    schedule: StepSchedule
    instructions: Instructions
    storage: Storage = FLOAT32
    """What weights are stored in."""

    @property
    def kind(self) -> str:
        """TVM's name of a vector of sums."""
        return vector_type(self.schedule.lanes)

    @property
    def zero(self) -> Expr:
        """Zeros."""
        return zero(self.schedule.lanes)

    @property
    def raised(self) -> float:
        """Nothing, but of int8 on the lanes where the machine converts slowly."""
        s = self.schedule
        by_bits = self.storage == INT8 and self.instructions.adds_to_convert and s.lanes > 1
        # Where data lie on the lanes, too, taking it off would take as many instructions as it saves.
        return RAISED if by_bits and s.axis == "out" else 0.0

    def operand(self, read: Expr, side: int, into: list[Stmt]) -> Expr:
        """Return a weight or a datum as float32; what is one number is spread over the lanes."""
        lanes = self.schedule.lanes
        elements = 1 if self.schedule.axis == ("columns", "out")[side] else lanes
        if side == 0 and self.raised:
            return named(raised(read, elements), into)
        return splat(named(self._widened(read, elements), into), lanes // elements)

    def _widened(self, read: Expr, lanes: int) -> Expr:
        name = self.instructions.widens.get(lanes)
        if name is not None and str(read.ty.dtype).startswith("float16"):
            return tirx.call_llvm_pure_intrin(vector_type(lanes), name, tirx.reinterpret(_vector("int16", lanes), read))
        return widened(read, lanes, self.instructions.adds_to_convert)

    def added(self, total: Expr | None, left: Expr, right: Expr) -> Expr:
        """Return the sum, by an FMA where the machine can."""
        if total is None:
            return left * right
        if self.instructions.explicit_fma:
            return tirx.call_llvm_pure_intrin(self.kind, "llvm.fma", left, right, total)
        return total + left * right


@dataclass(frozen=True, slots=True)
class Integers:
    """Products of int8, a group of neighbours along the inner axis at once, added up exactly as int32.

    What is read is words, one for each group: on the lanes of weights, and a single one of data.
    """

    lanes: int
    dot: Dot | None
    """The instruction that multiplies groups; None where a group is one number."""

    @property
    def kind(self) -> str:
        """TVM's name of a vector of sums."""
        return _vector("int32", self.lanes)

    @property
    def zero(self) -> Expr:
        """Zeros."""
        return splat(tirx.IntImm("int32", 0), self.lanes)

    @property
    def raised(self) -> float:
        """Nothing."""
        return 0.0

    def operand(self, read: Expr, side: int, into: list[Stmt]) -> Expr:
        """Return the numbers of a group on every lane, as wide as they are multiplied."""
        if self.dot is None:
            lanes = (self.lanes, 1)[side]
            wide = tirx.Cast(_vector("int32", lanes), tirx.Cast(_vector("int16", lanes), read))
            return splat(named(wide, into), self.lanes // lanes)
        elements = self.lanes * self.dot.group
        if side == 1:
            return tirx.reinterpret(_vector(self.dot.element, elements), splat(named(read, into), self.lanes))
        weights = tirx.reinterpret(_vector("int8", elements), read)
        if self.dot.element == "int16":
            weights = tirx.Cast(_vector("int16", elements), weights)
        return named(weights, into)

    def added(self, total: Expr | None, left: Expr, right: Expr) -> Expr:
        """Return the sum of sums and products."""
        if self.dot is None:
            made = left * right
        elif self.dot.adds:
            name = self.dot.names[self.lanes]
            factors = (right, left) if self.dot.element == "uint8" else (left, right)
            return tirx.call_llvm_pure_intrin(self.kind, name, self.zero if total is None else total, *factors)
        else:
            made = tirx.call_llvm_pure_intrin(self.kind, self.dot.names[self.lanes], left, right)
        return made if total is None else total + made


def _vector(element: str, lanes: int) -> str:
    return element if lanes == 1 else f"{element}x{lanes}"
