"""The block of data in a design's bench program, as ``qemu/bench.c`` reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.kernel import GIVEN, MOST_ARGUMENTS, Argument, Artifact, KernelSpec, Role
from lrfdse.targets.eviction import EVICT_FACTOR, eviction_bounds
from lrfdse.targets.target import Target

_MAGIC = 0x3148434E4542464C
"""What the block begins with, so that a damaged program says so: "LFBENCH1"."""
_HEADER_WORDS = 10
"""64-bit numbers before the records: ``struct data`` of qemu/bench.c."""
_LINE = 64
"""Bytes to which arrays are aligned, and of the guard after each: LINE of qemu/bench.c."""
_ROLES: tuple[Role, ...] = (*GIVEN, "output", "work")
"""In the order of ROLE_INPUT to ROLE_WORK of qemu/bench.c."""
_TEXT_ROOM = 1 << 16
"""Bytes for what the program says of the board. Chosen, not measured; a document that is longer is an error."""
_KERNEL_ROOM = 256
"""Bytes for the numbers of one kernel. Chosen, not measured; a document that is longer is an error."""


@dataclass(frozen=True, slots=True)
class BenchKernel:
    """One kernel of a design with everything that running it needs."""

    layer: str
    use: int
    """The place of the graph, from 0, where the layer's weight is applied."""
    artifact: Artifact
    arrays: Sequence[NDArray[Any]]
    """The arrays of the arguments that the kernel only reads, in the order of the arguments."""
    expected: NDArray[np.float64]
    """The reference output."""


def kernel_members(layer: str, use: int, spec: KernelSpec, schedule: str) -> bytes:
    """Return what a program says of a kernel besides its numbers, enough to compile it again: members of an object."""
    return _inside(
        {
            "layer": layer,
            "use": use,
            "outputs": spec.outputs,
            "inputs": spec.inputs,
            "rows": spec.rows,
            "bias": spec.bias,
            "relu": spec.relu,
            "factorization": str(spec.choice),
            "schedule": schedule,
        }
    )


def program_data(kernels: Sequence[BenchKernel], target: Target, head: Mapping[str, object]) -> bytearray:
    """Return the block: header, a record a kernel, then texts and arrays.

    Parameters
    ----------
    kernels
        In the order of the layers.
    target
        The machine; its last-level cache bounds what is written before a cold call, see `lrfdse.targets.eviction`.
    head
        What the program says of itself.

    Raises
    ------
    ValueError
        Arrays do not fit a kernel's arguments.
    """
    records = np.zeros((len(kernels), 4 + 4 * MOST_ARGUMENTS), dtype="<u8")
    content, place = bytearray(8 * _HEADER_WORDS + records.nbytes), 0

    def store(part: bytes) -> tuple[int, int]:
        content.extend(bytes(-len(content) % _LINE))
        content.extend(part)
        return len(content) - len(part), len(part)

    head_place = store(_inside(head))
    room = _TEXT_ROOM + head_place[1]
    for record, kernel in zip(records, kernels, strict=True):
        _check(kernel)
        artifact = kernel.artifact
        record[:2] = store(kernel_members(kernel.layer, kernel.use, artifact.spec, str(artifact.schedule)))
        record[2] = store(kernel.expected.astype("<f8").tobytes())[0]
        record[3] = len(artifact.arguments)
        room += int(record[1]) + _KERNEL_ROOM
        given = iter(kernel.arrays)
        for number, argument in enumerate(artifact.arguments):
            role = _ROLES.index(argument.role)
            source = store(_little(next(given), argument))[0] if argument.role in GIVEN else 0
            record[4 + 4 * number : 8 + 4 * number] = role, argument.bytes, source, place
            place = -(-(place + argument.bytes + _LINE) // _LINE) * _LINE
    vector_bits = 32 * target.lanes if target.vectors.length_varies else 0
    sizes = place + _LINE, room, vector_bits
    evict = EVICT_FACTOR, *eviction_bounds(target)
    header = np.array([_MAGIC, len(kernels), *head_place, *sizes, *evict], dtype="<u8")
    content[: header.nbytes] = header.tobytes()
    content[header.nbytes : header.nbytes + records.nbytes] = records.tobytes()
    return content


def _inside(facts: Mapping[str, object]) -> bytes:
    """Return a JSON object without its braces, in ASCII: whatever a layer is called, it stays inside its string."""
    return json.dumps(facts)[1:-1].encode("ascii")


def _little(array: NDArray[Any], argument: Argument) -> bytes:
    """Return an array's elements as a kernel reads them, little-endian."""
    return array.astype(np.dtype(argument.storage.element).newbyteorder("<")).tobytes()


def _check(kernel: BenchKernel) -> None:
    arguments = kernel.artifact.arguments
    given = [argument.size for argument in arguments if argument.role in GIVEN]
    outputs = [argument.size for argument in arguments if argument.role == "output"]
    sizes = [array.size for array in kernel.arrays]
    if sizes != given or outputs != [kernel.expected.size] or len(arguments) > MOST_ARGUMENTS:
        raise ValueError(
            f"{kernel.artifact.spec}: arrays of {sizes} and a reference of {kernel.expected.size} elements do not fit "
            f"a kernel with arrays of {given}, outputs of {outputs} and {len(arguments)} arguments, of which "
            f"{MOST_ARGUMENTS} are allowed"
        )
