"""One node of a model as its rule sees it, with what writes the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import onnx_ir as ir

from lrfdse.model.constants import trace
from lrfdse.model.passes.emit import Emitter


class UncoveredError(ValueError):
    """A node has a form whose derivative no rule gives."""


@dataclass(frozen=True, slots=True)
class Call:
    """A node, and the cotangents of what it makes: derivatives of a weighted sum of the outputs by each element."""

    node: ir.Node
    pulls: Sequence[ir.Value | None]
    """The cotangent of each output of the node; None where no output of the model depends on it."""
    emit: Emitter
    """Writes nodes of float32 behind all others."""
    sizes: Mapping[str, tuple[int, ...]]
    """Value name to the sizes that it had in a run of several samples."""

    @property
    def pull(self) -> ir.Value:
        """The cotangent of the first output."""
        found = self.pulls[0]
        if found is None:
            raise UncoveredError(f"{self.node.op_type}: the first output is not used")
        return found

    @property
    def output(self) -> ir.Value:
        """The first output."""
        return self.node.outputs[0]

    def input(self, place: int) -> ir.Value:
        """Return an input that is there."""
        value = self.node.inputs[place]
        assert value is not None
        return value

    def sizes_of(self, value: ir.Value) -> tuple[int, ...]:
        """Return the sizes of a value in a run of several samples; those of a constant are its own.

        Raises
        ------
        UncoveredError
            They are not known.
        """
        if (value.name or "") in self.sizes:
            return self.sizes[value.name or ""]
        if (constant := trace(value)) is None:
            raise UncoveredError(f"{self.node.op_type}: the sizes of {value.name!r} are not known")
        return constant.shape

    def attribute(self, name: str, otherwise: Any) -> Any:
        """Return an attribute of the node, or `otherwise` where it has none of that name."""
        return self.node.attributes[name].value if name in self.node.attributes else otherwise

    def integers(self, name: str, place: int) -> list[int] | None:
        """Return whole numbers that older versions have as an attribute and newer ones as an input; None without.

        Raises
        ------
        UncoveredError
            They are computed.
        """
        if name in self.node.attributes:
            return list(self.node.attributes[name].as_ints())
        value = self.node.inputs[place] if place < len(self.node.inputs) else None
        if value is None:
            return None
        if (constant := trace(value)) is None:
            raise UncoveredError(f"{self.node.op_type}: its {name} are computed")
        return [int(each) for each in constant.array().reshape(-1)]

    def op(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """Add a node to the backward pass and return its output."""
        return self.emit.op(op_type, inputs, **attributes)

    def number(self, value: float) -> ir.Value:
        """Return a constant of float32 without axes."""
        return self.emit.number(value, ir.DataType.FLOAT)

    def like(self, pull: ir.Value, value: ir.Value) -> ir.Value:
        """Return a cotangent in the shape of a value of as many elements."""
        return self.op("Reshape", pull, self.op("Shape", value))

    def spread(self, pull: ir.Value, value: ir.Value) -> ir.Value:
        """Return a cotangent repeated along axes of size 1 until it has the shape of a value."""
        return self.op("Expand", pull, self.op("Shape", value))

    def total(self, value: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Return sums along axes, which stay with size 1."""
        if not axes:
            return value
        if self.emit.opset < 13:
            return self.op("ReduceSum", value, axes=list(axes), keepdims=1)
        return self.op("ReduceSum", value, self.emit.integers(list(axes)), keepdims=1)

    def summed(self, pull: ir.Value, made: Sequence[int], value: ir.Value) -> ir.Value:
        """Return the cotangent of a value that was broadcast: the sum over all elements that read the same one.

        Parameters
        ----------
        pull
            The cotangent of what was made.
        made
            Sizes of that.
        value
            The value that was broadcast.
        """
        own = self.sizes_of(value)
        if tuple(made) == own:
            return pull
        padded = (1,) * (len(made) - len(own)) + own
        repeated = [axis for axis, (there, here) in enumerate(zip(made, padded, strict=True)) if here == 1 != there]
        return self.like(self.total(pull, repeated), value)


Rule: TypeAlias = Callable[[Call, int], ir.Value]
"""Returns the cotangent of the input at a place; raises `UncoveredError` where it covers no such form."""
