"""The operators that a whole model is lowered to: what each computes, with every size, and nothing about how.

An operator is compiled to one C function whose parameters are its ports, in their order. All tensors are dense and
C-contiguous in the layout that the operator names; images have their channels innermost (NHWC). Operators that do the
same compare equal, whatever node they come from, so that they are compiled and measured once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lrfdse.ir.epilogue import NO_EPILOGUE, Epilogue
from lrfdse.ir.indexed import Gather, OneHot, ScatterElements, ScatterND, TopK
from lrfdse.ir.ports import Element, Port, further_ports
from lrfdse.ir.products import BatchedProduct, Convolution, FullyConnected, Recurrence, TransposedConvolution
from lrfdse.ir.quantized import QuantizedConvolution, QuantizedProduct
from lrfdse.ir.window import Window


@dataclass(frozen=True, slots=True)
class Elementwise:
    """``y = epilogue(x)``, element by element, `channels` of them innermost."""

    size: int
    channels: int
    epilogue: Epilogue

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, the epilogue's inputs, y."""
        further = further_ports(self.epilogue, self.size, self.channels)
        return Port("input", self.size), *further, Port("output", self.size)

    macs = 0


@dataclass(frozen=True, slots=True)
class Softmax:
    """The softmax of every row of `size` elements, or its logarithm."""

    rows: int
    size: int
    log: bool = False

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, output y."""
        return Port("input", self.rows * self.size), Port("output", self.rows * self.size)

    macs = 0


@dataclass(frozen=True, slots=True)
class Normalization:
    """Every row of `size` elements less its mean, over the root of its variance plus epsilon; then the epilogue.

    Not centred, it is divided by the root of its mean square only (RMS normalization). Scale and shift are part of the
    epilogue.
    """

    rows: int
    size: int
    epsilon: float
    centred: bool = True
    epilogue: Epilogue = NO_EPILOGUE

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, the epilogue's inputs, y."""
        size = self.rows * self.size
        return Port("input", size), *further_ports(self.epilogue, size, self.size), Port("output", size)

    macs = 0


@dataclass(frozen=True, slots=True)
class Pool:
    """The largest or the mean element of a window of each channel, NHWC to NHWC."""

    window: Window
    channels: int
    kind: Literal["max", "mean"]
    counts_pads: bool = False
    """Whether a mean is taken over the padding, too."""

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, output y."""
        w = self.window
        x, y = (w.batch * math.prod(sizes) * self.channels for sizes in (w.image, w.out))
        return Port("input", x), Port("output", y)

    macs = 0


@dataclass(frozen=True, slots=True)
class Reduction:
    """``y[o, i] = f(x[o, :, i])`` over the middle axis."""

    outer: int
    size: int
    inner: int
    kind: Literal["sum", "mean", "max", "min", "prod", "l1", "l2", "sumsquare"]

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, output y."""
        return Port("input", self.outer * self.size * self.inner), Port("output", self.outer * self.inner)

    macs = 0


@dataclass(frozen=True, slots=True)
class Copy:
    """``y[to + i * to_strides] = x[source + i * strides]`` for every index i below `shape`: any rearrangement.

    Transposition, slices (negative strides too), concatenation (several copies into one tensor), broadcasting (stride
    0), padding (`fill` everywhere first).
    """

    shape: tuple[int, ...]
    source: int
    strides: tuple[int, ...]
    to: int
    to_strides: tuple[int, ...]
    source_size: int
    """Elements of x."""
    size: int
    """Elements of y."""
    fill: float | int | None = None
    """What all of y is set to before; None where y keeps what it holds."""
    element: Element = "float32"

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, output y."""
        return Port("input", self.source_size, self.element), Port("output", self.size, self.element)

    macs = 0


@dataclass(frozen=True, slots=True)
class RunningSum:
    """``y[o, s, i]`` is the sum of ``x[o, :s + 1, i]``.

    Without the last of these where `exclusive`; from the end of the axis on where `reverse`.
    """

    outer: int
    size: int
    inner: int
    exclusive: bool = False
    reverse: bool = False
    element: Element = "float32"

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, output y."""
        size = self.outer * self.size * self.inner
        return Port("input", size, self.element), Port("output", size, self.element)

    macs = 0


@dataclass(frozen=True, slots=True)
class Interpolation:
    """A resized image, NHWC to NHWC, linear along both axes.

    Output row r is ``(1 - fraction) * row low + fraction * row high``, columns likewise; nearest neighbours have
    fraction 0.
    """

    batch: int
    image: tuple[int, int]
    channels: int
    rows: tuple[tuple[int, int, float], ...]
    """Low, high and fraction of each output row."""
    columns: tuple[tuple[int, int, float], ...]

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, output y."""
        x = self.batch * math.prod(self.image) * self.channels
        return Port("input", x), Port("output", self.batch * len(self.rows) * len(self.columns) * self.channels)

    macs = 0


@dataclass(frozen=True, slots=True)
class Foreign:
    """One node of ONNX that no other operator stands for, compiled by TVM's Relax without a schedule."""

    model: bytes
    """A serialized ONNX model of that one node: constants as initializers, shapes static."""
    name: str
    """The ONNX operator, such as ``TopK``."""
    inputs: tuple[tuple[int, Element], ...]
    """Elements and element type of each input of the model's graph."""
    outputs: tuple[tuple[int, Element], ...]

    @property
    def ports(self) -> tuple[Port, ...]:
        """The graph's inputs, then its outputs."""
        inputs = (Port("input", size, element) for size, element in self.inputs)
        return *inputs, *(Port("output", size, element) for size, element in self.outputs)

    macs = 0


Operator = (
    FullyConnected
    | BatchedProduct
    | Convolution
    | TransposedConvolution
    | Elementwise
    | Softmax
    | Normalization
    | Pool
    | Reduction
    | Copy
    | Gather
    | TopK
    | RunningSum
    | OneHot
    | ScatterND
    | ScatterElements
    | Interpolation
    | Recurrence
    | QuantizedProduct
    | QuantizedConvolution
    | Foreign
)
"""Any of them."""
