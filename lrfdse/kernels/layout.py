"""Register tiles over the axes of a step, and the order in which a kernel reads its packed weights.

Every axis is covered by whole vectors. Where the size is no multiple of the vector length, the last vector starts
earlier and overlaps its neighbour, so that kernels need neither masks nor padded outputs: the overlapped outputs are
computed twice and stored twice with equal values, and overlapped terms of a sum meet a zero weight.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lrfdse.errors import KernelError
from lrfdse.ir.factorization import Step
from lrfdse.ir.kernel import KernelSpec, Schedule, StepSchedule
from lrfdse.ir.storage import FLOAT32, Storage

Number = TypeVar("Number", bound=np.generic)
"""What a packed array consists of."""

FMAS_IN_FLIGHT = 8
"""Vector registers of sums whose FMAs hide the latency of one: 4 to 5 cycles on the shipped cores, two FMAs a cycle.

Chosen, not measured: the product of the two, rounded to a power of two."""

RESIDENT = 6 * 1024
"""Weights of a step (24 KiB) that stay in a first-level cache while the step runs, beside its other data.

Chosen, not measured: three quarters of the 32 KiB that all shipped targets have."""


_TWICE = 0.025
"""Positions that may be computed twice, as a share of all, so that the last tile needs no code of its own: 96 positions
in tiles of 14 are 98."""


def register_group(lanes: int, register_lanes: int) -> int:
    """Return the registers of `register_lanes` elements that a vector of `lanes` occupies; a group is a power of two.

    >>> [register_group(lanes, 8) for lanes in (3, 8, 9, 20)]
    [1, 1, 2, 4]
    """
    return 1 << (-(-lanes // register_lanes) - 1).bit_length()


@dataclass(frozen=True, slots=True)
class Span:
    """A run of equal register tiles along one axis: tile `b` starts at ``start + b * stride``, or at `last` before."""

    start: int
    count: int
    stride: int
    offsets: tuple[int, ...]
    """Start of each vector of the tile, relative to the tile."""
    valid: int
    """Elements of each vector that exist; fewer than the vector's length only where the whole axis is shorter."""
    last: int | None = None
    """Where the last tile starts if it overlaps the one before it."""


def cover(size: int, lanes: int, vectors: int, twice: float | None = None) -> tuple[Span, ...]:
    """Cover `size` elements by tiles of `vectors` vectors of `lanes` elements: whole tiles, then a smaller one.

    The last tile, which has code of its own, is a whole one that overlaps its neighbour where that makes at most so
    many vectors more, as a share of all: `twice`; never if that is None.

    >>> [(s.start, s.count, s.offsets) for s in cover(300, 8, 16)]
    [(0, 2, (0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120)), (256, 1, (0, 8, 16, 24, 32, 36))]
    >>> cover(5, 8, 4)
    (Span(start=0, count=1, stride=5, offsets=(0,), valid=5, last=None),)
    >>> [(s.start, s.count, s.last) for size in (33, 32) for s in cover(size, 8, 3, twice=0.0)]
    [(0, 1, None), (24, 1, None), (0, 1, None), (24, 1, None)]
    >>> [(s.start, s.count, s.last) for size in (33, 41) for s in cover(size, 8, 3, twice=0.2)]
    [(0, 2, 9), (0, 2, 17)]
    """
    if size < lanes:
        return (Span(0, 1, size, (0,), size),)
    width = vectors * lanes
    count, rest = divmod(size, width)
    if count and rest and twice is not None:
        all_vectors = -(-size // lanes)
        if (count + 1) * vectors - all_vectors <= twice * all_vectors:
            return (Span(0, count + 1, width, tuple(range(0, width, lanes)), lanes, size - width),)
    spans = [Span(0, count, width, tuple(range(0, width, lanes)), lanes)] if count else []
    if rest:
        whole = range(0, rest - lanes + 1, lanes)
        last = () if rest % lanes == 0 else (rest - lanes,)
        spans.append(Span(size - rest, 1, rest, (*whole, *last), lanes))
    return tuple(spans)


@dataclass(frozen=True, slots=True)
class Tiling:
    """How one scheduled step is cut up: the spans of each axis of ``out[p, j, q] = sum_k W[j, k] in[p, k, q]``."""

    step: Step
    schedule: StepSchedule
    batch: tuple[Span, ...]
    out: tuple[Span, ...]
    inner: tuple[Span, ...]
    columns: tuple[Span, ...]
    storage: Storage = FLOAT32
    """What the weights are stored in."""

    @classmethod
    def of(cls, step: Step, schedule: StepSchedule, storage: Storage = FLOAT32) -> Tiling:
        """Cut `step` up as `schedule` says.

        Raises
        ------
        KernelError
            The schedule cannot lay this step out.
        """
        s = schedule
        if min(s.lanes, s.out_tile, s.column_tile, s.unroll) < 1:
            raise KernelError(f"schedule {s}: lanes, tiles and unroll must be positive")
        if s.axis == "inner" and step.columns != 1:
            raise KernelError(f"schedule {s}: axis 'inner' needs a step of one column, but got {step}")
        if s.inner_block and (min(s.out_block, s.batch_block) < 1 or s.axis != "out" or step.columns != 1):
            raise KernelError(f"schedule {s}: blocks need axis 'out' and a step of one column")
        extent = {"out": s.lanes, "inner": step.inner, "columns": step.columns}[s.axis]
        if s.lanes > extent:
            raise KernelError(f"schedule {s}: at most {extent} lanes fit along axis {s.axis!r} of {step}")
        lanes = s.lanes if s.axis == "columns" else 1
        vectors = -(-step.columns // lanes)
        across = min(s.column_tile, vectors)
        return cls(
            step,
            s,
            # Sums of positions in blocks wait for the next part: none may be added to twice.
            cover(step.batch, 1, max(1, s.column_tile // vectors), None if s.inner_block else _TWICE),
            cover(step.out, s.lanes if s.axis == "out" else 1, s.out_tile, 0.0),
            cover(step.inner, s.lanes if s.axis == "inner" else 1, 1),
            cover(step.columns, lanes, across),
            storage,
        )

    @property
    def chains(self) -> int:
        """Accumulator sets: small tiles sum unrolled iterations apart, because one FMA may not wait for the other."""
        tile = self.schedule.out_tile * self.schedule.column_tile
        return min(self.schedule.unroll, max(1, FMAS_IN_FLIGHT // tile))

    @property
    def depth(self) -> int:
        """Iterations of the inner loop; vectors of the inner axis where that is the vector axis."""
        return sum(span.count * len(span.offsets) for span in self.inner)

    def panel_width(self, span: Span) -> int:
        """Return the weights that one iteration reads for a tile of `span` along the out axis."""
        return len(span.offsets) * (1 if self.schedule.axis == "columns" else self.schedule.lanes)

    @property
    def weight_size(self) -> int:
        """Elements of the packed weight."""
        return sum(span.count * self.depth * self.panel_width(span) for span in self.out)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the packed weight."""
        return self.storage.bytes_of(self.weight_size)

    @property
    def by_positions(self) -> bool:
        """Whether all weight panels meet a group of positions before the next; otherwise a panel meets all of them."""
        return self.schedule.axis == "columns" or self.weight_bytes <= FLOAT32.bytes_of(RESIDENT)

    def pack(self, matrix: NDArray[np.float64]) -> NDArray[Any]:
        """Return ``matrix`` (out, inner) in the order that the kernel reads it, zeros where it reads too much.

        Elements are float32, or what the storage has, which the matrix then consists of.
        """
        return self.ordered(matrix).astype(self.storage.element)

    def ordered(self, matrix: NDArray[Number]) -> NDArray[Number]:
        """Return what `pack` does, in the matrix's own element type."""
        lanes, zero = np.arange(self.schedule.lanes), matrix.dtype.type(0)
        panels = []
        for start, span in _tiles(self.out):
            offsets = np.array(span.offsets)
            if self.schedule.axis == "out":
                rows = (start + offsets[:, None] + lanes).ravel()
                panel = np.where(rows[:, None] < self.step.out, matrix[np.minimum(rows, self.step.out - 1)], zero).T
            elif self.schedule.axis == "columns":
                panel = matrix[start + offsets].T
            else:
                columns = np.array([s + o for s, inner in _tiles(self.inner) for o in inner.offsets])
                done = np.concatenate(([0], columns[:-1] + self.schedule.lanes))
                index = columns[:, None] + lanes
                panel = np.where(index >= done[:, None], matrix[(start + offsets)[:, None, None], index], zero)
                panel = panel.transpose(1, 0, 2)
            panels.append(panel.ravel())
        return np.concatenate(panels)


def tilings(spec: KernelSpec, schedule: Schedule) -> tuple[Tiling, ...]:
    """Return the tiling of every step of `spec` under `schedule`.

    Raises
    ------
    KernelError
        The schedule does not fit the kernel.
    """
    steps = spec.factorization.steps(spec.rows)
    if len(steps) != len(schedule.steps):
        raise KernelError(
            f"schedule {schedule} is for a chain of {len(schedule.steps)}, but {spec} has {len(steps)} steps"
        )
    return tuple(Tiling.of(step, s, spec.storage) for step, s in zip(steps, schedule.steps, strict=True))


def step_cores(spec: KernelSpec) -> tuple[int, ...]:
    """Return the core that each step multiplies by, in execution order."""
    order = tuple(range(len(spec.factorization.out_modes)))
    return order[::-1] if spec.factorization.direction == "rl" else order


def _tiles(spans: tuple[Span, ...]) -> Iterator[tuple[int, Span]]:
    for span in spans:
        for block in range(span.count):
            start = span.start + block * span.stride
            yield (start if span.last is None else min(start, span.last)), span
