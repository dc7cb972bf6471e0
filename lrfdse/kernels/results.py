"""What happens to the sums of a register tile: finished in their registers, or from memory in larger groups."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from tvm import tirx

from lrfdse.kernels.tir import Expr, Stmt, apart, load, over, sequence, store

_WAIT = 6
"""What a step of a few vectors takes at least, in those that one vector takes, on a core that waits for each result.
Chosen: 4 or 5 cycles on the X60."""


class Place(NamedTuple):
    """Where a vector of sums lies along the axes of a step."""

    batch: Expr
    row: Expr
    """Its first row."""
    column: Expr
    vector: int
    """Which of the tile's vectors along the rows it is; those of one have their rows in common."""


class Finish(Protocol):
    """What is done to a step's results, and where they go."""

    @property
    def apart(self) -> int:
        """Vectors that are finished side by side, at most, when all sums of a tile have been stored.

        0 where each is finished in its register.
        """

    def results(self, value: Expr, batch: Expr, row: Expr, column: Expr, lanes: int, stride: int) -> list[Stmt]:
        """Return the statements that finish and store a vector.

        Parameters
        ----------
        value
            The sums, a vector of `lanes` elements.
        batch, row, column
            Positions along the step's axes of its first element.
        lanes
            Elements: along the columns where the schedule has these on the lanes, else along the rows.
        stride
            How far two of the elements lie apart in an output of shape (batch, rows, columns).
        """

    def together(self, values: Sequence[Expr], places: Sequence[Place], lanes: int) -> list[Stmt]:
        """Return the statements that finish and store vectors whose elements lie side by side, at a place each."""


def one_by_one(finish: Finish, values: Sequence[Expr], places: Sequence[Place], lanes: int) -> list[Stmt]:
    """Return the statements that finish and store one vector after the other, see `Finish.together`."""
    made: list[Stmt] = []
    for value, place in zip(values, places, strict=True):
        made += finish.results(value, place.batch, place.row, place.column, lanes, 1)
    return made


def finished_apart(
    finish: Finish,
    sums: Sequence[Sequence[Expr]],
    starts: Sequence[Expr],
    offsets: Sequence[int],
    first: Expr,
    lanes: int,
) -> list[Stmt]:
    """Return the statements that store the sums of a tile near by, and loops over them that finish some at once.

    Long epilogues take registers that the sums hold: LLVM would spill most of them. Of vectors of one register some are
    finished side by side, because an in-order core would wait for each instruction of a single one; what their
    functions have for constants stays in the other registers.

    Parameters
    ----------
    finish
        What finishes them.
    sums
        By vector along the out axis, and by position along the batch axis.
    starts
        First element of each vector along the out axis.
    offsets
        How far these lie behind that of the first vector.
    first
        The first of the positions, which lie side by side.
    lanes
        Elements of a vector.
    """
    rows, count = len(sums), len(sums[0])
    # Sums of whole numbers become floats when they are finished.
    kind = str(sums[0][0].ty.dtype).partition("x")[0]
    near = tirx.decl_buffer((rows * count * lanes,), kind, name="near")
    stores = [
        store(near, value, (c * rows + i) * lanes, lanes)
        for i, of_row in enumerate(sums)
        for c, value in enumerate(of_row)
    ]
    high, wide = _at_once(rows, count, finish.apart)

    def some(vector: Expr, before: Expr) -> Stmt:
        values, places = [], []
        for i, number in itertools.product(range(high), range(wide)):
            at = starts[0] + (vector + i) * lanes if is_even else starts[vector + i]
            values.append(load(near, ((before + number) * rows + vector + i) * lanes, lanes))
            places.append(Place(first + before + number, at, 0, i))
        return sequence(finish.together(values, places, lanes))

    def vectors(vector: Expr) -> Stmt:
        # LLVM would take registers for what a loop and a shorter piece behind it have in common, and spill.
        last = tirx.IntImm("int32", count - wide)
        return over(-(-count // wide), lambda i: some(vector, tirx.Min(i * wide, last) if count % wide else i * wide))

    is_even = list(offsets) == [i * lanes for i in range(rows)]
    made = [over(rows // high, lambda i: vectors(i * high))] if is_even else map(vectors, range(0, rows, high))
    return [tirx.AllocBuffer(near), *apart(stores), *made]


def _at_once(rows: int, count: int, most: int) -> tuple[int, int]:
    """Return how many vectors of how many places are finished at once: what takes least time and, of such, least code.

    >>> [_at_once(rows, count, 7) for rows, count in ((3, 8), (2, 12), (4, 5), (2, 7), (1, 16), (1, 1))]
    [(3, 2), (1, 6), (1, 5), (1, 7), (1, 6), (1, 1)]
    """
    found = []
    for high in range(1, min(rows, most) + 1):
        if rows % high == 0:
            loops = -(-count // (most // high))
            wide = -(-count // loops)
            found.append((rows // high * loops * max(_WAIT, high * wide), high * wide, high, wide))
    return min(found)[2:]
