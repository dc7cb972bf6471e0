"""Products of whole numbers of 8 bits: what reads float32 is rounded first, sums are exact."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lrfdse.ir.epilogue import NO_EPILOGUE, Epilogue
from lrfdse.ir.factorization import Step
from lrfdse.ir.ports import Port, further_ports
from lrfdse.ir.window import Window

LEVELS = 256
"""Numbers that 8 bits tell apart."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """How float32 becomes whole numbers of 8 bits: the level of x is ``min(max(rint(x * (1 / scale)), least), most)``.

    Halves are rounded to even. A level is what ONNX's QuantizeLinear gives, less its zero point.

    Raises
    ------
    ValueError
        The scale is not finite and above 0, or there is no level of 0.
    """

    scale: float
    """What one level is worth, a float32."""
    least: int
    """The lowest level; the highest is 255 above it."""

    def __post_init__(self) -> None:
        if not (0 < self.scale < math.inf) or not -LEVELS < self.least <= 0:
            raise ValueError(f"no rounding to 8 bits: {self}")

    @property
    def most(self) -> int:
        """The highest level."""
        return self.least + LEVELS - 1

    @property
    def shift(self) -> int:
        """What levels are more than they are as int8: the lowest one is kept as -128."""
        return self.least + LEVELS // 2


@dataclass(frozen=True, slots=True)
class QuantizedProduct:
    """``y[p, j] = epilogue(sum_k w[j, k] * level(x[p, k]))``, a fully-connected layer in whole numbers.

    The weight is int8 of shape (out, inner). The sums are exact as int32, and become float32 for the epilogue, which
    begins with their scale. Levels are kept as int8, and so what their shift adds to each sum,
    ``rounding.shift * sum_k w[j, k]``, is an input of its own.
    """

    step: Step
    """Of one column."""
    rounding: Rounding
    epilogue: Epilogue = NO_EPILOGUE

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, weight w, what is added to the sums, the epilogue's inputs, y."""
        s = self.step
        return (
            Port("input", s.input_size),
            Port("weight", s.out * s.inner, "int8"),
            Port("input", s.out, "int32"),
            *further_ports(self.epilogue, s.output_size, s.out),
            Port("output", s.output_size),
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.step.macs


@dataclass(frozen=True, slots=True)
class QuantizedConvolution:
    """A convolution in whole numbers, NHWC to NHWC, as `QuantizedProduct` is a product; padding has level 0.

    The weight is int8 of shape (outputs, kernel height, width, channels).
    """

    window: Window
    channels: int
    outputs: int
    rounding: Rounding
    epilogue: Epilogue = NO_EPILOGUE

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, weight w, what is added to the sums, the epilogue's inputs, y."""
        w = self.window
        x = w.batch * math.prod(w.image) * self.channels
        y = w.batch * math.prod(w.out) * self.outputs
        return (
            Port("input", x),
            Port("weight", self.outputs * math.prod(w.kernel) * self.channels, "int8"),
            Port("input", self.outputs, "int32"),
            *further_ports(self.epilogue, y, self.outputs),
            Port("output", y),
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those with padding included."""
        w = self.window
        return w.batch * math.prod(w.out) * self.outputs * math.prod(w.kernel) * self.channels
