"""Where everything lies that a library's calls point to: weights, tensors in the arena, scratch memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lrfdse.ir.compiled import CompiledOperator
from lrfdse.ir.program import Call, MemoryPlan, Program

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pack = Callable[[CompiledOperator, NDArray[Any]], NDArray[Any]]
    """Returns a weight in the order in which a compiled operator reads it."""

LINE = 64
"""Bytes to which weights and the arena are aligned: a cache line of every target that ships."""

MAGIC = b"LRFNETW1"
"""What a file of weights begins with."""

_DIGEST = 32
"""Bytes of the digest behind the magic, SHA-256 of all that follows the head."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a parameter of a call points to."""

    where: Literal["input", "output", "arena", "weights"]
    at: int
    """Number of the input or output, or bytes from the beginning of the arena or of the weights."""


@dataclass(frozen=True, slots=True)
class Step:
    """A call of the program with the function that it became."""

    call: Call
    compiled: CompiledOperator
    places: tuple[Place, ...]
    """What each parameter points to, the scratch memory last where there is any."""
    weight_bytes: int
    """Bytes of constants that it reads, counted as if no other call read them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A program laid out in memory."""

    steps: tuple[Step, ...]
    weights: bytes
    """All constants, each at a multiple of `LINE`, after a head of one line: `MAGIC`, then a digest of the rest."""
    arena: int
    """Bytes of the arena, scratch memory included."""
    alignment: int
    """Bytes to which the arena is aligned."""


def lay_out(program: Program, plan: MemoryPlan, compiled: Sequence[CompiledOperator], pack: Pack) -> Layout:
    """Place the constants, equal ones once, and bind every parameter of every call.

    Parameters
    ----------
    program, plan
        The calls, and where their tensors and their scratch memory lie.
    compiled
        The function of each call.
    pack
        Called with a function and a constant that stands for a port of role "weight".

    Raises
    ------
    ValueError
        Program, plan and functions do not belong together.
    """
    interfaces: dict[int, Place] = {}
    for kind, given in (("input", program.inputs), ("output", program.outputs)):
        for number, each in enumerate(given):
            if program.values[each.value].kind != kind or each.value in interfaces:
                raise ValueError(f"{kind} {each.name!r} is no {kind} of its own among the program's values")
            interfaces[each.value] = Place("input" if kind == "input" else "output", number)
    weights = _Weights()
    steps = []
    for number, (call, function) in enumerate(zip(program.calls, compiled, strict=True)):
        ports = call.operator.ports
        if function.operator != call.operator or len(ports) != len(call.arguments):
            raise ValueError(f"call {number} of {len(ports)} ports has {len(call.arguments)} arguments, or is another")
        places, read = [], 0
        for port, argument in zip(ports, call.arguments, strict=True):
            value = program.values[argument]
            if value.bytes < port.bytes or value.element != port.element:
                raise ValueError(f"call {number}: {value.name!r} has {value.bytes} bytes, but a port {port.bytes}")
            if value.kind == "memory":
                places.append(Place("arena", plan.offsets[argument]))
            elif value.kind == "constant":
                array = program.constants[argument]
                array = pack(function, array) if port.role == "weight" else array
                read += array.nbytes
                places.append(Place("weights", weights.place(array)))
            else:
                places.append(interfaces[argument])
        if function.work:
            places.append(Place("arena", plan.work[number]))
        steps.append(Step(call, function, tuple(places), read))
    # Of at least a byte, so that an array of that size is valid C.
    return Layout(tuple(steps), weights.block(), max(plan.size, 1), plan.alignment)


class _Weights:
    def __init__(self) -> None:
        self._content = bytearray(LINE)
        self._known: dict[bytes, int] = {}

    def place(self, array: NDArray[Any]) -> int:
        """Return where an array lies in the block."""
        content = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        key = hashlib.sha256(content).digest()
        if key not in self._known:
            self._content.extend(bytes(-len(self._content) % LINE))
            self._known[key] = len(self._content)
            self._content.extend(content)
        return self._known[key]

    def block(self) -> bytes:
        self._content.extend(bytes(-len(self._content) % LINE))
        digest = hashlib.sha256(self._content[LINE:]).digest()
        self._content[: len(MAGIC) + _DIGEST] = MAGIC + digest
        return bytes(self._content)
