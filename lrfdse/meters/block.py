"""The memory of a whole program as one block: what a run finds there, and what it must have left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.errors import KernelError
from lrfdse.ir.kernel import MOST_ARGUMENTS
from lrfdse.ir.latency import TOLERANCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAGIC = 0x4C524631
"""What the file begins with, so that harness and timer refuse any other: "LRF1" (qemu/harness.c)."""

_HEADER = 2 + MOST_ARGUMENTS
"""Words before the block: magic, total bytes, the offset of each argument, of which there is one (qemu/harness.c)."""


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """An array that a program writes."""

    name: str
    start: int
    """Bytes from the beginning of the block."""
    content: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Whole:
    """A program that is timed: its code, its memory, and what it computes."""

    name: str
    object_code: bytes
    """A relocatable object with ``void lrf_whole(unsigned char *block)``, which calls ``lrf_mark()`` between its parts.
    The 32 bits that the block begins with are its status afterwards, 0 where all went well."""
    parts: int
    """Parts of a run: what comes before the first mark is one."""
    block: NDArray[np.uint8]
    """The memory that a run works in, at a multiple of 64 bytes."""
    scratch: tuple[int, int]
    """The bytes of the block that a run may leave as it likes."""
    outputs: tuple[Expected, ...]
    tolerance: float = TOLERANCE
    """Largest error of an output that counts as right, relative to its largest element."""

    def write(self, path: Path) -> None:
        """Write the file that the harness and the timer map."""
        header = np.zeros(_HEADER, dtype="<u8")
        header[:3] = MAGIC, header.nbytes + self.block.nbytes, header.nbytes
        with path.open("wb") as file:
            file.write(header.tobytes())
            file.write(self.block.tobytes())

    def check(self, path: Path) -> float:
        """Return the largest relative error of an output in the file that a run has left.

        Raises
        ------
        KernelError
            The run failed, an output deviates by more than the tolerance, or something else was written.
        """
        found = np.fromfile(path, dtype=np.uint8)[8 * _HEADER :]
        if status := int(found[:4].view("<i4")[0]):
            raise KernelError(f"{self.name}: the run returned error {status}")
        same = self.block.copy()
        start, end = self.scratch
        written = [(0, 4), (start, end), *((o.start, o.start + o.content.nbytes) for o in self.outputs)]
        for begin, stop in written:
            same[begin:stop] = found[begin:stop]
        if not np.array_equal(same, found):
            where = int(np.argmax(same != found))
            raise KernelError(f"{self.name}: wrote outside of its outputs and its arena, at byte {where} of the block")
        return max((self._error(output, found) for output in self.outputs), default=0.0)

    def _error(self, output: Expected, found: NDArray[np.uint8]) -> float:
        raw = found[output.start : output.start + output.content.nbytes]
        got = raw.view(output.content.dtype.newbyteorder("<")).reshape(output.content.shape)
        error = relative_error(got, output.content)
        if not error <= self.tolerance:
            raise KernelError(
                f"{self.name}: output {output.name!r} is wrong: its relative error is {error:.3g}, "
                f"above {self.tolerance:g}"
            )
        return error


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the largest deviation relative to the largest finite expected element; infinite where one is not finite.

    What is not finite must be so alike.

    >>> relative_error(np.array([1.0, np.inf]), np.array([2.0, np.inf]))
    0.5
    >>> relative_error(np.array([np.nan]), np.array([1.0]))
    inf
    """
    got, due = (np.asarray(array, dtype=np.float64).ravel() for array in (found, expected))
    alike = (got == due) | (np.isnan(got) & np.isnan(due))
    with np.errstate(invalid="ignore"):
        off = np.where(alike, 0.0, np.abs(got - due))
    off[np.isnan(off)] = np.inf
    scale = float(np.abs(due[np.isfinite(due)]).max(initial=0.0)) or 1.0
    return float(off.max(initial=0.0)) / scale


def packed(arrays: Sequence[bytes], room: int, line: int = 64) -> tuple[NDArray[np.uint8], list[int], int]:
    """Return a block for a program, where each array begins in it, and where its scratch memory of `room` bytes does.

    The block begins with a line for the status; a line of ones lies behind every array, and what is not given is ones.

    Parameters
    ----------
    arrays
        The contents; what a program is to write is given as ones, too.
    room
        Bytes of scratch memory.
    line
        Bytes to which everything is aligned.
    """
    starts, end = [], line
    for size in (*map(len, arrays), room):
        starts.append(end)
        end = -(-(end + size + line) // line) * line
    block = np.full(end, 0xFF, dtype=np.uint8)
    for start, content in zip(starts, arrays, strict=False):
        block[start : start + len(content)] = np.frombuffer(content, dtype=np.uint8)
    return block, starts[:-1], starts[-1]
