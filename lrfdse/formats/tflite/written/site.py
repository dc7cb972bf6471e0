"""One node of the ONNX graph as its rule sees it, and what a rule is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lrfdse.formats.tflite.written.graph import TO_LAST, UnsupportedError, Writing

if TYPE_CHECKING:
    import onnx

T = TypeVar("T")


class Site:
    """One node while it is written: its inputs, its attributes, and how operators are added for it.

    Parameters
    ----------
    graph
        The graph in the making.
    node
        The ONNX node.
    opset
        Version of ONNX's operators that it is of.
    """

    def __init__(self, graph: Writing, node: onnx.NodeProto, opset: int) -> None:
        from onnx import helper

        self.g, self.node, self.opset = graph, node, opset
        self._attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        self.output = node.output[0]

    def given(self, place: int) -> bool:
        """Return whether there is an input at a place."""
        return place < len(self.node.input) and bool(self.node.input[place])

    def input(self, place: int = 0) -> str:
        """Return the name of an input's value."""
        return str(self.node.input[place])

    def shape(self, place: int = 0) -> tuple[int, ...]:
        """Return the sizes of an input."""
        return self.g.value(self.input(place)).shape

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the output."""
        return self.g.value(self.output).shape

    def attribute(self, name: str, default: Any) -> Any:
        """Return an attribute, a text as a string."""
        found = self._attributes.get(name, default)
        return found.decode() if isinstance(found, bytes) else found

    def is_constant(self, place: int) -> bool:
        """Return whether an input is stored."""
        return self.given(place) and self.input(place) in self.g.constants

    def constant(self, place: int, what: str) -> NDArray[Any]:
        """Return an input that is stored.

        Raises
        ------
        UnsupportedError
            It is computed when the model runs.
        """
        if not self.is_constant(place):
            raise UnsupportedError(f"its {what} is not stored but computed")
        return self.g.constants[self.input(place)]

    def numbers(self, name: str, place: int, default: Sequence[int] | None) -> list[int] | None:
        """Return whole numbers that are an attribute in old operator sets and an input in new ones."""
        if self.given(place):
            return [int(number) for number in self.constant(place, name).reshape(-1)]
        found = self.attribute(name, default)
        return None if found is None else [int(number) for number in found]

    def plain(self, place: int = 0) -> int:
        """Return the tensor of an input as the ONNX graph has it."""
        return self.g.plain(self.input(place))

    def op(self, kind: str, inputs: Sequence[int], sizes: Sequence[int], options: str = "", **values: Any) -> int:
        """Add an operator and return its tensor."""
        return self.g.op(kind, inputs, sizes, self.output, options, **values)

    def number(self, value: float) -> int:
        """Store one number of float32."""
        return self.g.constant(np.array(value, np.float32))

    def give(self, tensor: int, last: bool = False) -> None:
        """Say that a tensor is the output, with channels last or as the ONNX graph has it."""
        self.g.give(self.output, tensor, last)

    def moved(self, axes: Sequence[int], last: bool) -> list[int]:
        """Return axes of the first input from 0 up, where they are once channels are last."""
        rank = len(self.shape())
        found = [axis + rank if axis < 0 else axis for axis in axes]
        return [TO_LAST.index(axis) for axis in found] if last else found

    def ordered(self, sizes: Sequence[T], last: bool) -> list[T]:
        """Return what there is for each axis in the order that the axes have once channels are last."""
        return [sizes[i] for i in TO_LAST] if last else list(sizes)


Rule = Callable[[Site], None]
"""What writes one kind of node: adds operators and says which tensors its outputs are."""

Rules = dict[str, Rule]
"""ONNX's name of an operator to its rule."""
