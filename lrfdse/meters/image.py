"""The memory of one kernel call as a file: its arguments laid out as the harness maps them, and what came back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.errors import KernelError
from lrfdse.ir.kernel import GIVEN, MOST_ARGUMENTS, Argument, Artifact
from lrfdse.ir.latency import TOLERANCE

_MAGIC = 0x4C524631
"""What an image begins with, so that harness and timer refuse any other file: "LRF1"."""
_HEADER = 2 + MOST_ARGUMENTS
"""Words before the arrays: magic, total bytes, the offset of each argument (qemu/harness.c and qemu/timer.c)."""
_ALIGN = 64
"""Bytes to which arrays are aligned: a cache line of every target that ships."""
_FILL = 0xFF
"""Fills output and work arrays (as float32 it is NaN) and the guards between the arrays."""


class Image:
    """Arguments of `artifact` at 64-byte aligned offsets of one file, a guard of at least a line after each.

    Parameters
    ----------
    artifact
        The kernel; its arguments give roles and sizes.
    arrays
        The arrays of the arguments that the kernel only reads, in the order of the arguments.
    expected
        The reference output, of the output argument's size.

    Raises
    ------
    ValueError
        Arrays that do not fit the kernel's arguments.
    """

    def __init__(self, artifact: Artifact, arrays: Sequence[NDArray[Any]], expected: NDArray[np.float64]) -> None:
        arguments = artifact.arguments
        given = [argument for argument in arguments if argument.role in GIVEN]
        outputs = [i for i, argument in enumerate(arguments) if argument.role == "output"]
        if len(arguments) > MOST_ARGUMENTS or len(outputs) != 1:
            raise ValueError(
                f"kernel {artifact.symbol} has {len(arguments)} arguments, {len(outputs)} of them outputs: "
                f"one output among at most {MOST_ARGUMENTS} arguments is required"
            )
        sizes = [np.size(array) for array in arrays]
        if sizes != [argument.size for argument in given]:
            wanted = ", ".join(f"{argument.name}[{argument.size}]" for argument in given)
            raise ValueError(f"kernel {artifact.symbol} takes {wanted}, but got arrays of {sizes} elements")
        if np.size(expected) != arguments[outputs[0]].size:
            raise ValueError(f"{np.size(expected)} reference elements for {arguments[outputs[0]].size} outputs")
        self._artifact = artifact
        self._output = outputs[0]
        self._expected = np.asarray(expected, dtype=np.float64).ravel()
        self._offsets, self._total = _layout(arguments)
        remaining = iter(arrays)
        self._given = {
            i: np.ascontiguousarray(next(remaining), dtype=argument.storage.element).ravel()
            for i, argument in enumerate(arguments)
            if argument.role in GIVEN
        }

    def write(self, path: Path) -> None:
        """Write the file that the harness maps."""
        header = np.zeros(_HEADER, dtype="<u8")
        header[:2] = _MAGIC, self._total
        header[2 : 2 + len(self._offsets)] = self._offsets
        image = np.full(self._total, _FILL, dtype=np.uint8)
        image[: header.nbytes] = header.view(np.uint8)
        for i, array in self._given.items():
            start = self._offsets[i]
            image[start : start + array.nbytes] = array.astype(array.dtype.newbyteorder("<"), copy=False).view(np.uint8)
        image.tofile(path)

    def check(self, path: Path) -> float:
        """Return the relative error of the output that the kernel left in the file.

        Raises
        ------
        KernelError
            The output deviates by more than `TOLERANCE`, or the kernel wrote outside its output and work arrays.
        """
        image = np.fromfile(path, dtype=np.uint8)
        name = str(self._artifact.spec)
        arguments = self._artifact.arguments
        ends = [start + argument.bytes for start, argument in zip(self._offsets, arguments, strict=True)]
        for argument, end, following in zip(arguments, ends, (*self._offsets[1:], self._total), strict=True):
            if not (image[end:following] == _FILL).all():
                raise KernelError(f"{name}: wrote beyond argument {argument.name} ({argument.size} elements)")
        for i, array in self._given.items():
            if not np.array_equal(image[self._offsets[i] : ends[i]], array.view(np.uint8)):
                raise KernelError(f"{name}: changed its argument {arguments[i].name}")
        output = image[self._offsets[self._output] : ends[self._output]].view("<f4").astype(np.float64)
        scale = float(np.abs(self._expected).max()) or 1.0
        error = float(np.abs(output - self._expected).max()) / scale
        if not error <= TOLERANCE:
            where = int(np.argmax(~(np.abs(output - self._expected) <= TOLERANCE * scale)))
            raise KernelError(
                f"{name}: wrong output: its relative error is {error:.3g}, above {TOLERANCE:g} "
                f"(first at element {where}: {output[where]:.6g} instead of {self._expected[where]:.6g})"
            )
        return error


def _layout(arguments: Sequence[Argument]) -> tuple[list[int], int]:
    offsets, end = [], 8 * _HEADER
    for argument in arguments:
        offsets.append(end)
        end = -(-(end + argument.bytes + _ALIGN) // _ALIGN) * _ALIGN
    return offsets, end
