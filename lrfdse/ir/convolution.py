"""A convolution as a matrix over patches, and its chains of cores as convolutions one after the other.

W of shape (outputs, inputs) has the inputs of a patch in the order (kernel width, kernel height, channels), channels
innermost. A chain whose output modes are ``(M, 1, ..., 1)`` and whose cuts through the inputs lie between these axes is
a sequence of convolutions: every core takes the axes that are its own. So the truncated SVD is a convolution with r
filters and a 1x1 convolution, ``n = (1, kw kh, C)`` the Tucker-2 form (1x1, core, 1x1), ``n = (kw, kh C)`` the
separable one (column filters, then row filters).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

from lrfdse.ir.factorization import Factorization, Step
from lrfdse.ir.window import Window


@dataclass(frozen=True, slots=True)
class Filter:
    """One convolution of a chain, all channels of its input to all of its output."""

    core: int
    """Index of the core that holds its weights."""
    window: Window
    inputs: int
    """Channels that it reads."""
    outputs: int
    """Channels that it makes."""
    rows: bool
    """Whether it slides along the height: takes the kernel's height, its strides and its pads."""
    columns: bool
    """Whether it slides along the width."""

    @property
    def step(self) -> Step:
        """The product over patches that it computes."""
        w = self.window
        return Step(w.batch * math.prod(w.out), self.outputs, self.inputs * math.prod(w.kernel), 1)

    @property
    def elements(self) -> int:
        """Elements that it reads and makes."""
        w = self.window
        return w.batch * (math.prod(w.image) * self.inputs + math.prod(w.out) * self.outputs)


def cuts(window: Window, channels: int) -> tuple[int, ...]:
    """Return the sizes to which input modes may multiply, from the first core on: what a chain may be cut at.

    >>> cuts(Window(1, (8, 8), (3, 5)), 16), cuts(Window(1, (8, 8), (1, 1)), 16)
    ((1, 5, 15), (1,))
    """
    height, width = window.kernel
    # Behind the last axis that is longer than one nothing is left to cut off.
    return tuple(sorted({size for size in (1, width, width * height) if size < width * height * channels}))


def filters(factorization: Factorization, window: Window, channels: int) -> tuple[Filter, ...]:
    """Return the convolutions of a chain in the order in which they run: from the last core to the first.

    An axis of size one, which may still have a stride or pads, belongs to the convolution that runs first.

    Raises
    ------
    ValueError
        The chain is no sequence of convolutions.
    """
    height, width = window.kernel
    f = factorization
    ends = list(itertools.accumulate(f.in_modes, initial=1, func=lambda a, b: a * b))
    allowed = {*cuts(window, channels), width * height * channels}
    if set(f.out_modes[1:]) - {1} or f.direction != "rl" or ends[-1] != max(allowed) or set(ends[1:]) - allowed:
        raise ValueError(f"{f} is no sequence of convolutions of a {height}x{width} kernel over {channels} channels")
    starts = {"columns": 1, "rows": width, "channels": width * height}
    owners = {axis: max(k for k, begin in enumerate(ends[:-1]) if begin <= start) for axis, start in starts.items()}
    found: list[Filter] = []
    image, made = window.image, channels
    for core in reversed(range(len(f.in_modes))):
        along = owners["rows"] == core, owners["columns"] == core
        part = replace(_along(window, *along), image=image)
        outputs = f.bonds[core] * f.out_modes[core]
        found.append(Filter(core, part, made, outputs, *along))
        image, made = part.out, outputs
    return tuple(found)


def _along(window: Window, rows: bool, columns: bool) -> Window:
    """Return the window with only some of its axes; the other is one pixel."""
    keep = (rows, columns)
    kernel, strides, dilations = (
        (pair[0] if rows else 1, pair[1] if columns else 1)
        for pair in (window.kernel, window.strides, window.dilations)
    )
    pads = tuple(pad if keep[axis % 2] else 0 for axis, pad in enumerate(window.pads))
    return Window(window.batch, window.image, kernel, strides, dilations, (pads[0], pads[1], pads[2], pads[3]))
