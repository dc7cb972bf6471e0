"""What happens to the sums of a register tile: finished in their registers, or from memory in larger groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tvm import tirx

from lrfdse.kernels.tir import Expr, Stmt, apart, load, over, sequence, store


class Finish(Protocol):
    """What is done to a step's results, and where they go."""

    @property
    def groups(self) -> tuple[int, ...]:
        """Vectors of one place that are finished as one, the most first, when all sums of a tile have been stored.

        None where each is finished in its register.
        """

    @property
    def places(self) -> int:
        """Places whose vectors are finished side by side then."""

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

    def together(
        self, values: Sequence[Expr], places: Sequence[tuple[Expr, Expr]], row: Expr, lanes: int
    ) -> list[Stmt]:
        """Return the statements that finish and store vectors of the same rows, whose elements lie side by side.

        `places` has the positions of each along batch and columns.
        """


def one_by_one(
    finish: Finish, values: Sequence[Expr], places: Sequence[tuple[Expr, Expr]], row: Expr, lanes: int
) -> list[Stmt]:
    """Return the statements that finish and store one vector after the other, see `Finish.together`."""
    made: list[Stmt] = []
    for value, (batch, column) in zip(values, places, strict=True):
        made += finish.results(value, batch, row, column, lanes, 1)
    return made


def finished_apart(
    finish: Finish,
    sums: Sequence[Sequence[Expr]],
    starts: Sequence[Expr],
    offsets: Sequence[int],
    first: Expr,
    lanes: int,
) -> list[Stmt]:
    """Return the statements that store the sums of a tile near by, and a loop over its places that finishes them.

    Long epilogues take registers that the sums hold: LLVM would spill most of them, and an in-order core would wait for
    each instruction of a short vector.

    Parameters
    ----------
    finish
        What finishes groups of vectors.
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
    made = [tirx.AllocBuffer(near), *apart(stores)]

    def some(before: Expr, together: int) -> Stmt:
        found: list[Stmt] = []
        for vector, size in _runs(offsets, lanes, finish.groups):
            numbers = [before + i for i in range(together)]
            values = [load(near, (number * rows + vector) * lanes, size * lanes) for number in numbers]
            positions = [(first + number, 0) for number in numbers]
            found += finish.together(values, positions, starts[vector], size * lanes)
        return sequence(found)

    whole, rest = divmod(count, finish.places)
    made += [over(whole, lambda i: some(finish.places * i, finish.places))] if whole else []
    return [*made, *([some(count - rest, rest)] if rest else [])]


def _runs(offsets: Sequence[int], lanes: int, groups: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first vector and the number of those that are finished as one: they lie side by side.

    >>> _runs((0, 8, 16, 24, 32, 37), 8, (4, 2, 1))
    [(0, 4), (4, 1), (5, 1)]
    """
    made: list[tuple[int, int]] = []
    vector = 0
    while vector < len(offsets):
        end = vector + 1
        while end < len(offsets) and offsets[end] == offsets[end - 1] + lanes:
            end += 1
        size = next(group for group in groups if group <= end - vector)
        made.append((vector, size))
        vector += size
    return made
