"""Operators that multiply and accumulate: matrix products, convolutions, recurrent cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lrfdse.ir.epilogue import NO_EPILOGUE, Epilogue
from lrfdse.ir.factorization import Step
from lrfdse.ir.ports import Element, Port, further_ports
from lrfdse.ir.window import Window


@dataclass(frozen=True, slots=True)
class FullyConnected:
    """``y[p, j, q] = epilogue(sum_k w[j, k] * x[p, k, q])`` with a constant weight of shape (out, inner).

    With one column that is a fully-connected layer of `step.batch` rows, or a 1x1 convolution of as many pixels. A
    channel of the epilogue is a position j; with several columns a row is not defined.
    """

    step: Step
    epilogue: Epilogue = NO_EPILOGUE
    weight: Element = "float32"
    """What the weight consists of: float32, float16, or int8, whose scales are part of the epilogue then."""

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, weight w, the epilogue's inputs, y."""
        s = self.step
        further = further_ports(self.epilogue, s.output_size, s.out)
        weight = Port("weight", s.out * s.inner, self.weight)
        return Port("input", s.input_size), weight, *further, Port("output", s.output_size)

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.step.macs


@dataclass(frozen=True, slots=True)
class Place:
    """Where the matrices of a batch lie: matrix b begins at ``b * batch``, its row r at ``r * row``; in elements."""

    batch: int
    row: int


@dataclass(frozen=True, slots=True)
class BatchedProduct:
    """``y[b] = epilogue(left[b] @ right[b])``, all three computed at run time, rows contiguous.

    A channel of the epilogue is a column of the result; its further inputs are dense of shape (batch, rows, columns).
    """

    batch: int
    rows: int
    inner: int
    columns: int
    left: Place
    """Of matrices (rows, inner)."""
    right: Place
    """Of matrices (inner, columns)."""
    result: Place
    """Of matrices (rows, columns)."""
    epilogue: Epilogue = NO_EPILOGUE

    @property
    def ports(self) -> tuple[Port, ...]:
        """Left, right, the epilogue's inputs, y; each size is the extent from the first to the last element used."""
        size = self.batch * self.rows * self.columns
        return (
            Port("input", self._extent(self.left, self.rows, self.inner)),
            Port("input", self._extent(self.right, self.inner, self.columns)),
            *further_ports(self.epilogue, size, self.columns),
            Port("output", self._extent(self.result, self.rows, self.columns)),
        )

    def _extent(self, place: Place, rows: int, columns: int) -> int:
        return (self.batch - 1) * place.batch + (rows - 1) * place.row + columns

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.batch * self.rows * self.inner * self.columns


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution, NHWC to NHWC, with a constant weight of shape (outputs, kernel height, width, channels / groups).

    Depthwise where there are as many groups as channels.
    """

    window: Window
    channels: int
    outputs: int
    groups: int = 1
    epilogue: Epilogue = NO_EPILOGUE

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, weight w, the epilogue's inputs, y."""
        w = self.window
        x = w.batch * math.prod(w.image) * self.channels
        y = w.batch * math.prod(w.out) * self.outputs
        weight = self.outputs * math.prod(w.kernel) * (self.channels // self.groups)
        return (
            Port("input", x),
            Port("weight", weight),
            *further_ports(self.epilogue, y, self.outputs),
            Port("output", y),
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those with padding included."""
        w = self.window
        each = math.prod(w.kernel) * (self.channels // self.groups)
        return w.batch * math.prod(w.out) * self.outputs * each


@dataclass(frozen=True, slots=True)
class TransposedConvolution:
    """A transposed convolution, NHWC to NHWC.

    The constant weight has shape (channels, kernel height, width, outputs). `window` is that of the convolution whose
    gradient it is: its `image` is the output, its `out` the input.
    """

    window: Window
    channels: int
    outputs: int
    epilogue: Epilogue = NO_EPILOGUE

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, weight w, the epilogue's inputs, y."""
        w = self.window
        x = w.batch * math.prod(w.out) * self.channels
        y = w.batch * math.prod(w.image) * self.outputs
        weight = self.channels * math.prod(w.kernel) * self.outputs
        return (
            Port("input", x),
            Port("weight", weight),
            *further_ports(self.epilogue, y, self.outputs),
            Port("output", y),
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates, those that fall outside of the output included."""
        w = self.window
        return w.batch * math.prod(w.out) * self.channels * math.prod(w.kernel) * self.outputs


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The recurrent half of an LSTM or GRU in one direction; the inputs' products with their weights are its input.

    Input x has shape (steps, batch, gates, hidden), biases of the inputs included; the recurrent weight is (gates,
    hidden, hidden) and its bias (gates, hidden), in ONNX's order of gates (i, o, f, c of an LSTM; z, r, h of a GRU).
    The initial state has shape (batch, hidden), that of an LSTM's cell too. Output y has shape (steps, batch, hidden),
    and the last states follow it as outputs of their own. Sigmoid and tanh are the activations.

    Of a weight of low rank, the product of its factors A of (gates, hidden, rank) and B of (rank, hidden), B is stored
    first, then A: a step multiplies the state by B and what comes of that by A. A GRU that resets the state before its
    product has none.
    """

    cell: Literal["lstm", "gru"]
    steps: int
    batch: int
    hidden: int
    reverse: bool = False
    reset_after: bool = False
    """GRU only: whether the reset gate multiplies the recurrent product with its bias (ONNX's linear_before_reset)."""
    rank: int = 0
    """Rank of the recurrent weight where that is two factors, else 0."""

    def __post_init__(self) -> None:
        if self.rank and self.cell == "gru" and not self.reset_after:
            raise ValueError("a GRU that resets the state before its product has no recurrent weight of low rank")

    @property
    def gates(self) -> int:
        """Gates of the cell."""
        return 4 if self.cell == "lstm" else 3

    @property
    def ports(self) -> tuple[Port, ...]:
        """Input x, weight, bias, initial state(s), y, last state(s)."""
        state = self.batch * self.hidden
        states = 2 if self.cell == "lstm" else 1
        return (
            Port("input", self.steps * self.gates * state),
            Port("weight", self._weights),
            Port("input", self.gates * self.hidden),
            *(Port("input", state) for _ in range(states)),
            Port("output", self.steps * state),
            *(Port("output", state) for _ in range(states)),
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.steps * self.batch * self._weights

    @property
    def _weights(self) -> int:
        rows = self.gates * self.hidden
        return self.rank * (self.hidden + rows) if self.rank else rows * self.hidden
