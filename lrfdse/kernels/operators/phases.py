"""A transposed convolution as convolutions: outputs whose positions are equal modulo the stride meet the same taps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from lrfdse.ir.factorization import Step
from lrfdse.ir.products import TransposedConvolution
from lrfdse.ir.window import Window


@dataclass(frozen=True, slots=True)
class AxisPhases:
    """Neighbouring phases along one axis that meet equally many taps at the same places."""

    first: int
    """The first phase: outputs at ``phase + stride * m``."""
    count: int
    outputs: int
    """Outputs of each phase."""
    taps: int
    origin: int
    """Where the input of the first tap of output 0 lies; that of output m lies m behind."""
    distance: int
    """Inputs from one tap to the next."""
    kernel: tuple[tuple[int, ...], ...]
    """Position in the kernel of each tap of each phase."""


@dataclass(frozen=True, slots=True)
class Phases:
    """Phases along both axes."""

    rows: AxisPhases
    columns: AxisPhases
    weights_before: int
    """Weight matrices of the phases before, in elements of the tap's channels times outputs."""

    @property
    def taps(self) -> int:
        """Taps that meet in each output."""
        return self.rows.taps * self.columns.taps

    def step(self, operator: TransposedConvolution) -> Step:
        """Return the product that makes one row of outputs of a phase."""
        return Step(self.columns.outputs, operator.outputs, self.taps * operator.channels, 1)


def axis_phases(window: Window, axis: int) -> list[AxisPhases]:
    """Return the phases along an axis, equal neighbours as one."""
    stride, dilation, pad = window.strides[axis], window.dilations[axis], window.pads[axis]
    found: list[AxisPhases] = []
    distance = dilation // math.gcd(stride, dilation)
    for phase in range(min(stride, window.image[axis])):
        # The last tap meets the first input.
        taps = [k for k in reversed(range(window.kernel[axis])) if (phase + pad - k * dilation) % stride == 0]
        origin = (phase + pad - taps[0] * dilation) // stride if taps else 0
        outputs = -(-(window.image[axis] - phase) // stride)
        last = found[-1] if found else None
        if last and (last.outputs, last.taps, last.origin) == (outputs, len(taps), origin):
            kernel = (*last.kernel, tuple(taps))
            found[-1] = AxisPhases(last.first, last.count + 1, outputs, len(taps), origin, distance, kernel)
        else:
            found.append(AxisPhases(phase, 1, outputs, len(taps), origin, distance, (tuple(taps),)))
    return found


def phases(window: Window) -> Iterator[Phases]:
    """Yield the phases along both axes in the order of their weights."""
    before = 0
    for rows, columns in itertools.product(axis_phases(window, 0), axis_phases(window, 1)):
        made = Phases(rows, columns, before)
        yield made
        before += rows.count * columns.count * made.taps


def reach(window: Window, axis: int) -> tuple[int, int]:
    """Return how far inputs of taps lie before and behind the input of a transposed convolution."""
    before = behind = 0
    for each in axis_phases(window, axis):
        if each.taps:
            before = max(before, -each.origin)
            last = each.origin + (each.taps - 1) * each.distance + each.outputs - 1
            behind = max(behind, last - window.out[axis] + 1)
    return before, behind
