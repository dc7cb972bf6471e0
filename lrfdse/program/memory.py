"""Where the arrays of a program lie in one arena."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lrfdse.ir.program import MemoryPlan, Program

ALIGNMENT = 64
"""Bytes of a cache line of every target that ships, and of the widest vector register of any of them (AVX-512)."""


_TRIES = 40
"""Times that a plan is mended from each order to begin with: 100 arrays take a millisecond a dozen times. Chosen."""


@dataclass(frozen=True, slots=True)
class _Block:
    """Memory that is in use from one call to another, both included."""

    size: int
    first: int
    last: int
    value: int | None
    """The array, or None for scratch memory of the call `first`."""


def plan(program: Program, work: Sequence[int] = (), alignment: int = ALIGNMENT) -> MemoryPlan:
    """Lay the arrays of kind "memory" into an arena so that those alive at one moment do not overlap.

    Blocks are placed one by one at the lowest offset that is free for as long as they live, in several orders, until
    a plan is as small as any can be. The block that reaches highest goes first in the next try.

    Parameters
    ----------
    program
        Its calls, in the order of execution.
    work
        Bytes of scratch memory of each call; none by default.
    alignment
        Bytes to which every offset is aligned, a power of two.

    Raises
    ------
    ValueError
        `work` has another length than the calls, or `alignment` is no power of two.
    """
    if work and len(work) != len(program.calls):
        raise ValueError(f"{len(program.calls)} calls, but scratch memory of {len(work)}")
    if alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"an alignment is a power of two, not {alignment}")
    blocks = _blocks(program, work, alignment)
    bound = max(
        (sum(b.size for b in blocks if b.first <= place <= b.last) for place in range(len(program.calls))), default=0
    )
    best: dict[_Block, int] = {}
    size = -1
    for order in _orders(blocks):
        for _ in range(_TRIES):
            offsets = _placed(order)
            total = max((offset + block.size for block, offset in offsets.items()), default=0)
            if size < 0 or total < size:
                best, size = offsets, total
            if size == bound:
                break
            highest = max(offsets, key=lambda block: offsets[block] + block.size)
            order.remove(highest)
            order.insert(0, highest)
        if size == bound:
            break
    return MemoryPlan(
        offsets={block.value: offset for block, offset in best.items() if block.value is not None},
        work={block.first: offset for block, offset in best.items() if block.value is None},
        size=size,
        bound=bound,
        alignment=alignment,
    )


def _orders(blocks: Sequence[_Block]) -> Iterator[list[_Block]]:
    """Yield orders to begin with: by size, by size and life together, by life."""
    yield sorted(blocks, key=lambda block: (-block.size, block.first))
    yield sorted(blocks, key=lambda block: (-block.size * (block.last - block.first + 1), block.first))
    yield sorted(blocks, key=lambda block: (block.first - block.last, -block.size, block.first))
    yield sorted(blocks, key=lambda block: (block.first, -block.size))
    yield sorted(blocks, key=lambda block: (-block.last, -block.size))


def _blocks(program: Program, work: Sequence[int], alignment: int) -> list[_Block]:
    lives: dict[int, tuple[int, int]] = {}
    for place, call in enumerate(program.calls):
        for value in call.arguments:
            if program.values[value].kind == "memory":
                lives[value] = lives.get(value, (place, place))[0], place
    blocks = [
        _Block(_up(program.values[value].bytes, alignment), first, last, value)
        for value, (first, last) in lives.items()
    ]
    return blocks + [_Block(_up(size, alignment), place, place, None) for place, size in enumerate(work) if size]


def _up(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _placed(blocks: Sequence[_Block]) -> dict[_Block, int]:
    offsets: dict[_Block, int] = {}
    for block in blocks:
        busy = sorted(
            (offset, offset + other.size)
            for other, offset in offsets.items()
            if other.first <= block.last and block.first <= other.last
        )
        offset = 0
        for begin, end in busy:
            if offset + block.size <= begin:
                break
            offset = max(offset, end)
        offsets[block] = offset
    return offsets
