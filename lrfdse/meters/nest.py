"""The executed sequence of runs as nested loops, and how it is cut into pieces whose cycles a core model can give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrfdse.targets.isa.code import Sequence


@dataclass(frozen=True, slots=True)
class Loop:
    """A sequence of items that was executed several times in succession."""

    count: int
    body: Nest


Nest = tuple[int | Loop, ...]
"""Runs by their ids, and loops over them, in the order of execution."""


def parse_nest(items: Iterable[Any]) -> Nest:
    """Read the plugin's form: a run is its id, a loop the list of its count and its items.

    >>> parse_nest([1, [3, 2, 4]])
    (1, Loop(count=3, body=(2, 4)))
    """
    return tuple(item if isinstance(item, int) else Loop(item[0], parse_nest(item[1:])) for item in items)


def flatten(nest: Nest) -> list[int]:
    """Return the ids of the runs as they were executed.

    >>> flatten((1, Loop(2, (2, Loop(2, (3,))))))
    [1, 2, 3, 3, 2, 3, 3]
    """
    runs: list[int] = []
    for item in nest:
        runs += [item] if isinstance(item, int) else flatten(item.body) * item.count
    return runs


@dataclass(frozen=True, slots=True)
class Pieces:
    """What an execution is made of, and how often."""

    pairs: Counter[tuple[Sequence, Sequence]] = field(default_factory=Counter)
    """A sequence of instructions, and one that was executed after it: what the second adds is to be charged."""
    loops: Counter[Sequence] = field(default_factory=Counter)
    """Loop bodies, and how many of their iterations are to be charged in the steady state."""


def cut(nest: Nest, sequences: Mapping[int, Sequence], context: int) -> Pieces:
    """Cut an execution into pieces that add up to it; the first run is only context.

    Loops of at most twice `context` instructions in all are written out, so that what overlaps across their ends is
    seen. A longer loop whose body is short is written out until `context` instructions of it were executed, and goes
    on in its steady state; one whose body is long is cut within, the first iteration by itself.

    Parameters
    ----------
    nest
        What was executed.
    sequences
        The instructions of every run.
    context
        How many instructions back the core's state depends on what was executed.
    """
    cutter = _Cutter(sequences, context)
    first = flatten(nest[:1])[0]
    cutter.cut(nest[1:], sequences[first][-context:], 1)
    return cutter.pieces


class _Cutter:
    def __init__(self, sequences: Mapping[int, Sequence], context: int) -> None:
        self.pieces = Pieces()
        self._sequences = sequences
        self._context = context
        self._longest = 2 * context

    def cut(self, nest: Nest, before: Sequence, times: int) -> Sequence:
        """Cut `nest`, executed `times` times after `before`; return the instructions at its end."""
        pending: list[Sequence] = []
        size = 0
        for item in nest:
            if size + (length := self._length(item)) > self._longest:
                before, pending, size = self._add(before, pending, times), [], 0
            if length <= self._longest or isinstance(item, int):
                pending.append(self._written_out(item))
                size += length
            elif (once := length // item.count) <= self._longest:
                body = self._written_out(Loop(1, item.body))
                shown = min(item.count, -(-self._context // once))
                before = self._add(before, [body] * shown, times)
                if item.count > shown:
                    self.pieces.loops[body] += times * (item.count - shown)
            else:
                before = self.cut(item.body, before, times)
                before = self.cut(item.body, before, times * (item.count - 1))
        return self._add(before, pending, times)

    def _add(self, before: Sequence, executed: list[Sequence], times: int) -> Sequence:
        if not executed:
            return before
        sequence = tuple(instruction for part in executed for instruction in part)
        self.pieces.pairs[before, sequence] += times
        return (before + sequence)[-self._context :]

    def _length(self, item: int | Loop) -> int:
        if isinstance(item, int):
            return len(self._sequences[item])
        return item.count * sum(map(self._length, item.body))

    def _written_out(self, item: int | Loop) -> Sequence:
        runs = flatten((item,))
        return tuple(instruction for run in runs for instruction in self._sequences[run])
