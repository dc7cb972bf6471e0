"""One node of the graph as the rules of lowering see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx_ir as ir

from lrfdse.ir.ports import Element
from lrfdse.program.broadcast import Formula, elementwise
from lrfdse.program.build import Builder, Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Site:
    """A node, the tensors that it reads, and the program that it becomes part of."""

    node: ir.Node
    inputs: tuple[Tensor | None, ...]
    """None for an optional input that is left out."""
    build: Builder
    opset: int

    def has(self, place: int) -> bool:
        """Return whether an input is there."""
        return place < len(self.inputs) and self.inputs[place] is not None

    def input(self, place: int) -> Tensor:
        """Return an input that must be there."""
        found = self.inputs[place]
        assert found is not None, "the model was checked"
        return found

    def constant(self, place: int) -> NDArray[Any] | None:
        """Return the elements of an input, or None where they are computed or left out."""
        found = self.inputs[place] if place < len(self.inputs) else None
        return None if found is None else self.build.content(found)

    def integers(self, place: int) -> tuple[int, ...] | None:
        """Return a constant input as whole numbers, or None."""
        found = self.constant(place)
        return None if found is None else tuple(int(each) for each in np.ravel(found))

    def is_computed(self, place: int) -> bool:
        """Return whether an input is there and no constant."""
        return self.has(place) and self.constant(place) is None

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute's value."""
        found = self.node.attributes.get(name)
        if found is None:
            return default
        return list(found.value) if isinstance(found.value, tuple) else found.value

    def uses(self, place: int) -> bool:
        """Return whether anything reads an output."""
        if place >= len(self.node.outputs):
            return False
        value = self.node.outputs[place]
        return bool(value.uses()) or value.is_graph_output()

    def shape(self, place: int = 0) -> tuple[int, ...]:
        """Return the shape of an output."""
        return shape_of(self.node.outputs[place])

    def wanted_order(self, place: int = 0) -> tuple[int, ...] | None:
        """Return the order of an output's axes in which its only reader, a transposition, gives a row-major tensor."""
        value = self.node.outputs[place]
        readers = [usage.node for usage in value.uses()]
        if len(readers) != 1 or readers[0].op_type != "Transpose" or value.is_graph_output():
            return None
        order = readers[0].attributes.get("perm")
        return tuple(order.as_ints()) if order else tuple(reversed(range(len(self.shape(place)))))

    def apply(self, formula: Formula, *inputs: Tensor) -> Tensor:
        """Add an elementwise operator."""
        return elementwise(self.build, formula, inputs)


Rule = Callable[[Site], Sequence[Tensor] | None]
"""Lowers a node to calls and returns its outputs, those that nothing reads perhaps left out at the end; None where the
operators of a program do not stand for it."""

Rules = Mapping[str, Rule]
"""Rules by ONNX operator."""


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """Return the static shape of a value."""
    assert value.shape is not None, "shapes are known after folding"
    return tuple(int(size) for size in value.shape if isinstance(size, int))


def element_of(value: ir.Value) -> Element:
    """Return the element type of a value, one of those that programs have."""
    assert value.dtype is not None, "element types are known after folding"
    return cast(Element, str(value.dtype.numpy().name))
