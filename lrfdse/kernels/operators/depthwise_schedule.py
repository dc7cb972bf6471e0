"""How a depthwise convolution is laid out: what its loops run over, and how its weight lies; nothing here loads TVM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from lrfdse.ir.storage import FLOAT32
from lrfdse.kernels.lines import STREAMS
from lrfdse.kernels.registers import LOAD

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.ir.products import Convolution
    from lrfdse.ir.window import Window
    from lrfdse.targets.target import Target

Layout = Literal["rows", "blocks"]
"""What lies innermost: all channels of a pixel, or all pixels of a row of one vector of channels, in a copy."""

_SHARE = 4
"""One in so many registers is an accumulator: the others hold weights and inputs. Chosen, not measured."""

_SMALL = 9
"""Taps of a window whose rows LLVM keeps in order; of a larger one it loads rows ahead, and spills them (X60)."""

_NEAR = 0.5
"""Share of what a prefetcher brings in that neighbouring pixels may lie apart. Chosen: LLVM loads some of them out of
order, so that of 72 channels at 56x56 most lines are waited for (modelled for the X60)."""

_EPILOGUE = 3
"""Vectors that an epilogue needs beside sums: a mask and two more. Chosen: with fewer LLVM spills in some (X60)."""

_BETWEEN_ROWS = 9
"""The same where rows are pieces of code of their own. Chosen: a 5x5 window with stride 2 takes 725, 808 and 998 us
with 5, 6 and 7 pixels (72 channels, 56x56, modelled for the X60)."""

_BEGIN = 8.0
"""Cycles of a tile's addresses and of its loop. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class DepthwiseSchedule:
    """One way to compute a depthwise convolution."""

    layout: Layout
    lanes: int
    """Channels of a vector, a power of two."""
    width: int
    """Neighbouring output pixels of a row that are computed at once."""

    def __str__(self) -> str:
        return f"{self.layout}:{self.lanes}x{self.width}"

    @classmethod
    def parse(cls, text: str) -> DepthwiseSchedule:
        """Read the text form.

        Raises
        ------
        ValueError
            The text is no schedule of a depthwise convolution.

        Examples
        --------
        >>> DepthwiseSchedule.parse("blocks:16x4")
        DepthwiseSchedule(layout='blocks', lanes=16, width=4)
        """
        layout, _, sizes = text.partition(":")
        lanes, _, width = sizes.partition("x")
        if layout not in ("rows", "blocks") or not (lanes.isdigit() and width.isdigit()):
            raise ValueError(f"{text!r} is no schedule of a depthwise convolution")
        return cls(layout, int(lanes), int(width))  # type: ignore[arg-type]

    def blocks(self, channels: int) -> int:
        """Return how many vectors cover the channels; the last one overlaps where they are no multiple."""
        return -(-channels // self.lanes)

    def first(self, block: int, channels: int) -> int:
        """Return the first channel of a vector."""
        return min(block * self.lanes, channels - self.lanes)

    def packed(self, operator: Convolution, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return a weight of shape (channels, height, width) in the order of use: by taps, or by vectors and taps."""
        taps = weight.reshape(operator.channels, -1).T
        if self.layout == "rows":
            return np.ascontiguousarray(taps).ravel()
        starts = [self.first(block, operator.channels) for block in range(self.blocks(operator.channels))]
        return np.concatenate([taps[:, start : start + self.lanes].ravel() for start in starts])

    def weight_size(self, operator: Convolution) -> int:
        """Return the elements of a packed weight."""
        taps = math.prod(operator.window.kernel)
        return taps * (operator.channels if self.layout == "rows" else self.blocks(operator.channels) * self.lanes)


def depthwise_schedules(operator: Convolution, target: Target, most: int) -> list[DepthwiseSchedule]:
    """Return at most so many schedules of a depthwise convolution, the best estimate first, then the other layout's."""
    found = []
    for group in sorted({1, *target.groups}):
        lanes = _fitting(target.lanes * group, operator.channels)
        layouts: tuple[Layout, ...] = ("rows", "blocks")
        widths = [1, *(w for w in range(2, operator.window.out[1] + 1) if _holds(operator, lanes, w, target))]
        found += [DepthwiseSchedule(layout, lanes, width) for layout in layouts for width in widths]
    ordered = sorted(dict.fromkeys(found), key=lambda each: (_cycles(operator, each, target), str(each)))
    other = next(each for each in ordered if each.layout != ordered[0].layout)
    return list(dict.fromkeys([ordered[0], other, *ordered]))[:most]


def _fitting(lanes: int, channels: int) -> int:
    while lanes > channels:
        lanes //= 2
    return lanes


def _holds(operator: Convolution, lanes: int, width: int, target: Target) -> bool:
    """Return whether the registers hold the sums of so many pixels, with what is multiplied.

    Where loads take nothing but an address, LLVM loads a whole row of a window before it multiplies.
    """
    group = max(1, lanes // target.lanes)
    if not target.vectors.grouped:
        return width <= target.vector_registers // group // _SHARE
    window = operator.window
    if group > 1 and math.prod(window.kernel) > _SMALL and not takes_rows_apart(window):
        return False
    spare = _BETWEEN_ROWS if takes_rows_apart(window) else _EPILOGUE
    held = width + window.kernel[1] + _inputs(operator, width) + spare
    return held * group <= target.vector_registers


def takes_rows_apart(window: Window) -> bool:
    """Return whether every row of a window is a piece of code of its own, where registers form groups.

    A large window with strides spills with any number of pixels else. Without strides it does with groups of registers
    only, and pieces would cost it a third.
    """
    return math.prod(window.kernel) > _SMALL and window.strides[1] > 1


def _inputs(operator: Convolution, width: int) -> int:
    """Return how many pixels of a row of the image so many neighbouring outputs read."""
    w = operator.window
    span = (width - 1) * w.strides[1] + w.dilations[1] * (w.kernel[1] - 1) + 1
    return min(span, width * w.kernel[1])


def _cycles(operator: Convolution, schedule: DepthwiseSchedule, target: Target) -> float:
    """Return the estimated cycles: FMAs beside loads, and the memory that a prefetcher does not see coming."""
    w, channels = operator.window, operator.channels
    slot = target.lanes / target.fma_per_cycle
    registers = max(1, schedule.lanes // target.lanes)
    load = LOAD if target.vectors.grouped else 1.0
    inputs = _inputs(operator, schedule.width)
    arithmetic = registers * math.prod(w.kernel) * schedule.width
    loads = load * registers * w.kernel[0] * (inputs + w.kernel[1])
    tiles = w.batch * w.out[0] * -(-w.out[1] // schedule.width) * schedule.blocks(channels)
    tile = max(arithmetic, loads) + min(arithmetic, loads) / 4 + _BEGIN
    return tiles * tile * slot + _memory(operator, schedule, target, tiles)


def _memory(operator: Convolution, schedule: DepthwiseSchedule, target: Target, tiles: int) -> float:
    """Return the cycles of what a convolution reads beyond the first cache level, and of what it has to wait for."""
    w, near = operator.window, 1024 * target.l1.kib
    image = FLOAT32.bytes_of(w.batch * math.prod(w.image) * operator.channels)
    arrays = 3 if schedule.layout == "blocks" else 2
    is_far = arrays * image > target.last_level.bytes
    read = target.dram_bytes_per_cycle if is_far else target.last_level_bytes_per_cycle
    if schedule.layout == "blocks":
        # Every element is read, written (a line for each vector that is shorter), and read again.
        written = target.dram_copy_bytes_per_cycle if is_far else target.last_level_fill_bytes_per_cycle
        lines = max(1.0, target.line / FLOAT32.bytes_of(schedule.lanes))
        return image * (2 / read + lines / (written or read))
    if image <= near or not target.in_order:
        # An out-of-order core has other work while it waits.
        return 0.0 if image <= near else image / read
    row = FLOAT32.bytes_of(w.image[1] * operator.channels)
    moved = (w.kernel[0] if row * w.kernel[0] > near else 1) * image / read
    # Neighbouring pixels, or taps, that lie within what a prefetcher brings in are one stream.
    apart = FLOAT32.bytes_of(operator.channels) > _NEAR * target.prefetch_lines * target.line
    streams = w.kernel[0] * (_inputs(operator, schedule.width) + w.kernel[1] if apart else 2)
    if streams <= STREAMS:
        return moved
    lines = tiles * streams * FLOAT32.bytes_of(schedule.lanes) / target.line
    return moved + lines * (target.dram_latency if is_far else target.last_level_latency)
