"""Blocks of a step: weights that stay in the first cache level while many positions pass by them.

A block is a part of the inner axis and a few neighbouring weight panels. The inputs of every register tile of positions
come from the last cache level once for all of them. Sums wait between parts of the inner axis in scratch memory, tile
by tile; so that they do not fill the last level, positions run in groups.
"""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.kernels.layout import Span, Tiling, cover


@dataclass(frozen=True, slots=True)
class Runs:
    """Where positions and inputs of a step lie; the default is a dense step."""

    lines: int = 0
    """Equal runs of positions that lie apart, such as the rows of an image; 0 of a dense step, which has one."""
    sections: tuple[int, ...] = ()
    """Equal sections of the inner axis that lie apart, one factor a loop, without blocks; see
    `lrfdse.kernels.emit.Access`."""
    block_sections: tuple[int, ...] = ()
    """Those of each part of the inner axis in blocks."""
    taps: int = 1
    """A part is so many times a divisor of the rest of the inner axis."""
    covered: int = 0
    """Inputs that all positions of a line meet."""
    fresh: int = 0
    """Those of them that no line before has met."""
    alive: int = 0
    """Inputs from the first that a line meets to the last: what lies between two uses of one by different lines."""
    copied: int = 0
    """Inputs of all lines that are copied for blocks only."""
    image: int = 0
    """Elements of the image that windows slide over, of all groups of channels."""

    def part(self, inner: int, most: int) -> int:
        """Return the largest part of an inner axis that has at most so many iterations, 0 where none is as small.

        >>> Runs(28, taps=9).part(9 * 64, 200)
        144
        """
        whole = inner // self.taps
        return self.taps * next((n for n in range(min(whole, most // self.taps), 0, -1) if whole % n == 0), 0)


DENSE = Runs()
"""The runs of a dense step."""


@dataclass(frozen=True, slots=True)
class Panels:
    """Neighbouring panels of one group along the out axis: from panel `first` of a span on."""

    span: Span
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Blocks:
    """How a step is cut into blocks."""

    sections: tuple[int, ...]
    """Equal sections of a part that lie apart, one factor a loop; see `lrfdse.kernels.emit.Access`."""
    inner: int
    """Inner iterations of a part."""
    parts: int
    """Parts of the inner axis."""
    rest: int
    """Inner iterations of the last part."""
    whole: tuple[Panels, int] | None
    """Panels of each of several equal groups, and how many groups there are."""
    others: tuple[Panels, ...]
    """Panels of the last group; none where all are equal."""
    lines: tuple[Span, ...]
    """Groups of equal runs of positions that lie apart, such as the rows of an image; of a dense step one."""
    positions: tuple[Span, ...]
    """Groups of the positions of a line; several only where a group has one line."""
    sums: int
    """Sums of a group that wait in scratch memory."""
    dense: bool
    """Whether the step has no lines of its own, so that an input's place follows from its position and iteration."""
    copy: int
    """Elements of a copy of all inputs in the order in which tiles read them; 0 where they are read as they lie."""

    @classmethod
    def of(cls, tiling: Tiling, runs: Runs = DENSE) -> Blocks:
        """Return the blocks of a step whose schedule has some.

        Parameters
        ----------
        tiling
            Tiles of the positions of one line.
        runs
            How many lines there are, and how the inner axis is divided.
        """
        dense, lines = runs.lines == 0, max(1, runs.lines)
        s, batch = tiling.schedule, tiling.step.batch
        inner = min(tiling.step.inner, s.inner_block)
        parts = -(-tiling.step.inner // inner)
        first, panels = tiling.out[0], s.out_block
        groups, left = divmod(first.count, panels)
        others = [Panels(first, groups * panels, left)] if left else []
        others += [Panels(span, 0, span.count) for span in tiling.out[1:]]
        together = max(1, min(lines, s.batch_block // batch))
        # Tiles of a group are tiles of the whole.
        whole_tiles = max(1, s.batch_block // s.column_tile) * s.column_tile
        positions = batch if together > 1 else min(batch, whole_tiles)
        widths = [tiling.panel_width(first) * panels] if groups else []
        widths.append(sum(tiling.panel_width(each.span) * each.count for each in others))
        return cls(
            runs.block_sections,
            inner,
            parts,
            tiling.step.inner - (parts - 1) * inner,
            (Panels(first, 0, panels), groups) if groups else None,
            tuple(others),
            cover(lines, 1, together),
            cover(batch, 1, positions),
            together * positions * max(widths) if parts > 1 else 0,
            dense,
            parts * batch * inner if dense and parts > 1 and not s.in_place else 0,
        )

    @property
    def scratch(self) -> int:
        """Elements of scratch memory."""
        return self.copy + self.sums

    @property
    def groups_of_a_line(self) -> float:
        """Groups of positions, for each line."""
        lines = sum(span.count * len(span.offsets) for span in self.lines)
        return sum(span.count for span in self.lines) * sum(span.count for span in self.positions) / lines
