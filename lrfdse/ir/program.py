"""A whole model as a list of calls on flat arrays, and where each array lies in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from lrfdse.ir.operators import Operator
from lrfdse.ir.ports import ELEMENT_SIZE, Element

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Value:
    """One flat array of a program."""

    kind: Literal["input", "output", "constant", "memory"]
    """Given by the caller, given by the caller to be written, in the library's read-only data, or in the arena."""
    size: int
    """Elements."""
    element: Element = "float32"
    name: str = ""
    """A tensor of the ONNX model that it holds, for messages and listings."""

    @property
    def bytes(self) -> int:
        """Bytes of the array."""
        return self.size * ELEMENT_SIZE[self.element]


@dataclass(frozen=True, slots=True)
class Call:
    """One operator on arrays of the program."""

    operator: Operator
    arguments: tuple[int, ...]
    """The value of each port, in the order of the operator's ports. A larger value may stand for a smaller port."""
    nodes: tuple[str, ...] = ()
    """The ONNX nodes that it stands for, in graph order."""


@dataclass(frozen=True, slots=True)
class Interface:
    """An input or output of the model as its user sees it: row-major, in the model's own order of axes."""

    name: str
    value: int
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Program:
    """A model with static shapes: calls in the order of execution."""

    values: tuple[Value, ...]
    calls: tuple[Call, ...]
    inputs: tuple[Interface, ...]
    outputs: tuple[Interface, ...]
    constants: Mapping[int, Array]
    """Flat contents of the values of kind "constant", in the order that the operators' docstrings name."""

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(call.operator.macs for call in self.calls)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Where the values of kind "memory" lie in the arena."""

    offsets: Mapping[int, int]
    """Byte offset of each value."""
    size: int
    """Bytes of the arena."""
    bound: int
    """The most bytes that are alive at one moment: no plan of the same calls is smaller."""
    alignment: int
    """Bytes to which every offset, and the arena itself, is aligned."""
    work: Mapping[int, int] = field(default_factory=dict)
    """Byte offset of the scratch memory of each call that takes any, by the call's place in the program."""
