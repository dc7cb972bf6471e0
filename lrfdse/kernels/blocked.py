"""A step in blocks as TIR: see `lrfdse.kernels.blocks`."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from lrfdse.kernels.blocks import Blocks, Panels
from lrfdse.kernels.emit import StepEmitter, Tile, passed, tiles
from lrfdse.kernels.inner import InnerLoop, Operands
from lrfdse.kernels.layout import Tiling, cover
from lrfdse.kernels.tir import Buffer, Expr, Stmt, either, load, opaque, over, sequence, store, strided_store


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the inner axis."""

    tiling: Tiling
    """Tiles of the step whose inner axis is this part alone."""
    number: Expr
    before: Expr
    """Inner iterations before it."""
    is_first: Expr
    """Whether there are no sums before it: known, or where one loop runs over all parts, a condition."""
    is_last: Expr
    """Whether its sums are results; see `is_first`."""


@dataclass(frozen=True, slots=True)
class _Spot:
    """A register tile of a group: where it is, and where its sums wait in scratch memory."""

    emitter: StepEmitter
    """Emits tiles of its line."""
    out: Tile
    places: list[Expr]
    """Positions along the line."""
    sums: Expr
    """The first of its sums; those of a place lie side by side."""


@dataclass(frozen=True, slots=True)
class BlockedEmitter:
    """Emits a step block by block: all panels of a block meet a tile of positions before the next tile comes."""

    blocks: Blocks
    emitter: Callable[[Expr], StepEmitter]
    """Emits the tiles of a line, given its number."""
    scratch: Buffer | None
    """Scratch memory; None where the blocks need none."""
    at: int = 0
    """Where the part of it begins that is free."""

    def statement(self) -> Stmt:
        """Return the loops over all blocks."""
        b = self.blocks
        made: list[Stmt] = []
        if b.whole is not None:
            panels, groups = b.whole
            made.append(over(groups, lambda i: self._panels(((panels, i * panels.count),))))
        if b.others:
            made.append(self._panels(tuple((panels, panels.first) for panels in b.others)))
        return sequence([self._copy(), *made] if b.copy else made)

    def _copy(self) -> Stmt:
        """Return the loops that copy all inputs to the order in which tiles read them: part, tile, inner axis, row."""
        b, t = self.blocks, self.emitter(0).tiling

        def tile(rows: Tile) -> Stmt:
            first, count = rows.starts[0], len(rows.span.offsets)

            def part(r: Expr, number: Expr, size: int) -> Stmt:
                to = self._copied_at(number, first, size)
                return self._copy_row(number * b.inner, first + r, to + r, size, count)

            def row(r: Expr) -> Stmt:
                # A row as a whole, for no prefetcher sees where the next part of another one begins.
                return sequence(
                    [over(b.parts - 1, lambda number: part(r, number, b.inner)), part(r, b.parts - 1, b.rest)]
                )

            return over(count, row)

        return tiles(cover(t.step.batch, 1, t.schedule.column_tile), tile)

    def _copy_row(self, k: Expr, row: Expr, to: Expr, size: int, stride: int) -> Stmt:
        """Return the loops that copy `size` elements of a row from place `k` on to elements that lie `stride` apart."""
        emitter = self.emitter(0)
        source = emitter.access.data((), k, row, 0)
        lanes = emitter.tiling.schedule.lanes if emitter.instructions.strided or stride == 1 else 1

        def moved(first: Expr, width: int) -> Stmt:
            value, index = load(emitter.data, source + first, width), to + first * stride
            if stride == 1 or width == 1:
                return store(self.scratch, value, index, width)
            return strided_store(self.scratch, value, index, stride, width)

        # LLVM would turn a loop of one vector an iteration into a call of memcpy.
        pairs, rest = divmod(size, 2 * lanes)
        made = [over(pairs, lambda i: sequence([moved((2 * i + half) * lanes, lanes) for half in (0, 1)]))]
        made = made if pairs else []
        return sequence([*made, *(moved(size - rest + i, 1) for i in range(rest))])

    def _copied_at(self, number: Expr, row: Expr, size: int) -> Expr:
        """Return where a part of `size` of the tile that begins with a row lies in the copy."""
        return self.at + number * (self.emitter(0).tiling.step.batch * self.blocks.inner) + row * size

    def _panels(self, panels: tuple[tuple[Panels, Expr], ...]) -> Stmt:
        """Return the loops over all positions and parts of one group of panels, each given with its first one."""
        b = self.blocks

        def group(lines: Tile, positions: Tile) -> Stmt:
            def part(number: Expr, is_first: Expr, is_last: Expr) -> Stmt:
                return self._part(panels, lines, positions, self._place(number, is_first, is_last))

            if b.parts == 1:
                return part(0, True, True)
            # One copy of the code for all parts of a size: a branch at each end of a tile costs next to nothing.
            if b.rest == b.inner:
                return over(b.parts, lambda number: part(number, number == 0, number == b.parts - 1))
            if b.parts == 2:
                return sequence([part(0, True, False), part(1, False, True)])
            others = over(b.parts - 1, lambda number: part(number, number == 0, False))
            return sequence([others, part(b.parts - 1, False, True)])

        return tiles(b.lines, lambda lines: tiles(b.positions, lambda positions: group(lines, positions)))

    def _place(self, number: Expr, is_first: Expr, is_last: Expr) -> _Part:
        """Return a part of the inner axis by its number."""
        b, t = self.blocks, self.emitter(0).tiling
        inner = b.rest if is_last is True else b.inner
        step = dataclasses.replace(t.step, inner=inner)
        tiling = dataclasses.replace(t, step=step, inner=cover(inner, 1, 1))
        return _Part(tiling, number, number * b.inner, is_first, is_last)

    def _part(self, panels: tuple[tuple[Panels, Expr], ...], lines: Tile, positions: Tile, part: _Part) -> Stmt:
        """Return the loops over the tiles of a block."""
        t = part.tiling
        length = len(positions.span.offsets)
        count = len(lines.span.offsets) * length

        def panel(line: Expr, p: Tile, each: Panels, number: Expr, before: Expr) -> Stmt:
            """Return the tile of a panel, before whose sums there are so many at one position."""
            width = t.panel_width(each.span)
            sums = self.at + self.blocks.copy + before * count + (line * length + p.starts[0]) * width
            places = [positions.starts[0] + place for place in p.starts]
            emitter = self.emitter(lines.starts[0] + line)
            return self._tile(part, _Spot(emitter, Tile(each.span, number), places, sums))

        def row(line: Expr, p: Tile, each: Panels, first: Expr, before: int) -> Stmt:
            width = t.panel_width(each.span)
            return over(each.count, lambda i: panel(line, p, each, first + i, before + i * width))

        def tile(line: Expr, p: Tile) -> Stmt:
            made: list[Stmt] = []
            before = 0
            for each, first in panels:
                made.append(row(line, p, each, first, before))
                before += each.count * t.panel_width(each.span)
            return sequence(made)

        across = cover(length, 1, t.schedule.column_tile)
        return over(len(lines.span.offsets), lambda line: tiles(across, lambda p: tile(line, p)))

    def _tile(self, part: _Part, spot: _Spot) -> Stmt:
        """Return the code of one register tile: begin with the sums so far, accumulate over the part, store."""
        t, emitter, rows = part.tiling, spot.emitter, spot.out.starts
        lanes, width = t.schedule.lanes, t.panel_width(spot.out.span)
        made: list[Stmt] = []
        start = opaque(spot.sums, made)
        panel = emitter.panel_at(spot.out) + part.before * width
        places: list[Expr] = []
        if self.blocks.dense:
            # Else LLVM would compute the addresses of weights outside of the loop over positions, and spill them.
            panel = panel + (start - spot.sums)
            if not self.blocks.copy:
                places = [opaque(emitter.access.data((), part.before, place, 0), made) for place in spot.places]
        length = t.step.inner // math.prod(self.blocks.sections)
        # Parts of rows lie apart, so that nothing sees the next one coming, in whatever order lines are read.
        if emitter.access.touched and not (self.blocks.dense and self.blocks.parts > 1):
            first = () if self.blocks.dense else (part.number,)
            line = emitter.instructions.line
            made.append(emitter.access.touches(emitter.data, first, spot.places[0], len(spot.places), length, line))

        def operands(section: tuple[Expr, ...], iteration: Expr, k: Expr) -> Operands:
            at = panel + (passed(section, self.blocks.sections) * length + iteration) * width
            weights = [load(emitter.weight, at + i * lanes, lanes) for i in range(len(rows))]
            return Operands(weights, self._data(part, spot, places, section, k))

        def held(i: int, c: int) -> Expr:
            return start + c * width + i * lanes

        def before(i: int, c: int) -> Expr:
            return load(self.scratch, held(i, c), lanes)

        loop = InnerLoop(
            t,
            emitter.instructions,
            emitter.sums,
            emitter.weight,
            len(rows),
            len(spot.places),
            operands,
            self.blocks.sections,
            None if part.is_first is True else before,
            part.is_first,
        )
        sums, statements = loop.sums()
        ends: list[Stmt] = []
        if part.is_last is not False:
            ends.append(sequence(emitter.stores(sums, spot.out, [(place, 0) for place in spot.places])))
        if part.is_last is not True:
            each = itertools.product(range(len(rows)), range(len(spot.places)))
            ends.append(sequence([store(self.scratch, sums[i][c], held(i, c), lanes) for i, c in each]))
        return sequence([*made, *statements, ends[0] if len(ends) == 1 else either(part.is_last, *ends)])

    def _data(self, part: _Part, spot: _Spot, places: list[Expr], section: tuple[Expr, ...], k: Expr) -> list[Expr]:
        """Return the inputs of one iteration; those of dense steps that are not copied begin at `places`."""
        size, count = part.tiling.step.inner, len(spot.places)
        if self.blocks.copy:
            first = self._copied_at(part.number, spot.places[0], size) + k * count
            return [load(self.scratch, first + i) for i in range(count)]
        data, access = spot.emitter.data, spot.emitter.access
        if places:
            return [load(data, first + k) for first in places]
        return [load(data, access.data((part.number, *section), k, place, 0)) for place in spot.places]
