"""Products of whole numbers as products of words: a word holds the neighbours that one instruction multiplies.

Nothing here loads TVM.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.ir.factorization import Step
from lrfdse.ir.kernel import StepSchedule
from lrfdse.ir.ports import Element
from lrfdse.ir.products import Convolution, FullyConnected
from lrfdse.ir.quantized import QuantizedConvolution, QuantizedProduct
from lrfdse.ir.storage import FLOAT32, INT8, Storage
from lrfdse.ir.window import Window
from lrfdse.kernels.layout import Tiling
from lrfdse.kernels.operators.tilings import step_of
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

Quantized = QuantizedProduct | QuantizedConvolution
"""Operators whose work is a product of whole numbers."""

_WEIGHT_WORDS: dict[int, Element] = {1: "int8", 2: "int16", 4: "int32"}
"""Elements as large as so many weights."""

_UNSIGNED = 128
"""What levels that are kept as uint8 are more than as int8."""


@dataclass(frozen=True, slots=True)
class Words:
    """How a machine reads the operands of such a product."""

    group: int
    """Neighbours along the inner axis in one word: as many as an instruction multiplies and adds up."""
    datum: Element
    """What levels of the input are kept as: int16 where there is no instruction, for loops that fill bytes would
    become calls of memset."""

    @classmethod
    def of(cls, target: Target) -> Words:
        """Return the words of a target."""
        return cls(1, "int16") if target.dot is None else cls(target.dot.group, target.dot.element)

    @property
    def raised(self) -> int:
        """What levels are kept more than as int8.

        What that adds to each sum is taken off again, by a number for each output behind the packed weights.
        """
        return _UNSIGNED if self.datum == "uint8" else 0

    @property
    def weight_word(self) -> Element:
        """An element as large as the weights of a word."""
        return _WEIGHT_WORDS[self.group]

    @property
    def datum_word(self) -> Element:
        """An element as large as the levels of a word."""
        return "int16" if self.group == 1 else "int32"

    @property
    def storage(self) -> Storage:
        """The storage in which weights of float32 products take as long to read: as they are, or to be widened."""
        return FLOAT32 if self.weight_word == "int32" else INT8

    def count(self, size: int) -> int:
        """Return the words of a run of elements."""
        return -(-size // self.group)

    def product(self, operator: Quantized) -> FullyConnected | Convolution:
        """Return the product of words that an operator is, on its input's levels with their padding around them."""
        if isinstance(operator, QuantizedProduct):
            s = operator.step
            return FullyConnected(Step(s.batch, s.out, self.count(s.inner), 1))
        w = operator.window
        image = w.image[0] + w.pads[0] + w.pads[2], w.image[1] + w.pads[1] + w.pads[3]
        window = Window(w.batch, image, w.kernel, w.strides, w.dilations)
        return Convolution(window, self.count(operator.channels), operator.outputs)

    def levels(self, operator: Quantized) -> int:
        """Return the words of all levels of the input."""
        product = self.product(operator)
        if isinstance(product, FullyConnected):
            return product.step.input_size
        return product.window.batch * math.prod(product.window.image) * product.channels

    def tiling(self, operator: Quantized, schedule: StepSchedule) -> Tiling:
        """Return the tiling of an operator's step."""
        return Tiling.of(step_of(self.product(operator)), schedule, self.storage)

    def weight_size(self, operator: Quantized, tiling: Tiling) -> int:
        """Return the words of a packed weight, with what follows it."""
        return tiling.weight_size + (tiling.step.out if self.raised else 0)

    def packed(self, operator: Quantized, schedule: StepSchedule, weight: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return a weight in the order in which its words are read, zeros where a run does not fill its last word.

        Where levels are raised, what is added to the sums of each output to make up for it follows, as int32.
        """
        inner = operator.step.inner if isinstance(operator, QuantizedProduct) else operator.channels
        tiling = self.tiling(operator, schedule)
        runs = weight.reshape(-1, inner)
        filled = np.zeros((len(runs), self.count(inner) * self.group), np.int8)
        filled[:, :inner] = runs
        words = filled.view(np.dtype(self.weight_word)).reshape(tiling.step.out, -1)
        ordered = tiling.ordered(words).view(np.int8)
        if not self.raised:
            return ordered
        sums = weight.reshape(tiling.step.out, -1).sum(axis=1, dtype=np.int32)
        return np.concatenate([ordered, (-self.raised * sums).astype(np.int32).view(np.int8)])


def whole(target: Target) -> Target:
    """Return the machine as it is to whole numbers, which do not become floats."""
    return dataclasses.replace(target, slow_conversions=False)


def admits(schedule: StepSchedule, target: Target) -> bool:
    """Return whether whole numbers can be multiplied by a schedule that fits a step."""
    lanes = target.dot is None or schedule.lanes in target.dot.names
    return schedule.axis == "out" and not schedule.inner_block and lanes
