"""The parameters of an operator's C function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lrfdse.ir.epilogue import Epilogue

Element = Literal["float32", "float16", "float64", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool"]
"""Element types of tensors, by NumPy's names."""

ELEMENT_SIZE: dict[Element, int] = {
    "float32": 4,
    "float16": 2,
    "float64": 8,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "int64": 8,
    "bool": 1,
}
"""Bytes of one element."""


@dataclass(frozen=True, slots=True)
class Port:
    """One parameter of an operator's C function."""

    role: Literal["input", "weight", "output"]
    """A weight is a constant that code generation may store in another order; see each operator for the order here."""
    size: int
    """Elements."""
    element: Element = "float32"

    @property
    def bytes(self) -> int:
        """Bytes of the whole array."""
        return self.size * ELEMENT_SIZE[self.element]


def further_ports(epilogue: Epilogue, size: int, channels: int) -> tuple[Port, ...]:
    """Return the ports of an epilogue's further inputs; of `size` output elements `channels` are innermost."""
    sizes = {"same": size, "channel": channels, "row": size // channels, "scalar": 1}
    return tuple(Port("input", sizes[source]) for source in epilogue.sources)
