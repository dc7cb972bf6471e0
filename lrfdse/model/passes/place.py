"""One use of a layer that is about to be rewritten: where nodes go, what they read, how constants are stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.errors import PlanError
from lrfdse.ir.factors import Factors
from lrfdse.ir.int8 import levels_of
from lrfdse.ir.layer import Layer
from lrfdse.model.match.site import Site
from lrfdse.model.passes.emit import Emitter


@dataclass(frozen=True, slots=True)
class Place:
    """One use of a layer in the graph, and the factors that are to stand there."""

    emit: Emitter
    """Adds nodes in front of the layer's own."""
    layer: Layer
    chosen: Factors
    sites: tuple[Site, ...]
    """All uses of the layer."""
    site: Site
    """This one."""
    output: ir.Value
    """What the layer's node gives; the writer returns what takes its place."""
    dtype: ir.DataType
    """Element type of the layer's arithmetic."""
    made: Mapping[str, ir.Value]
    """Values of the model by name."""

    @property
    def node(self) -> ir.Node:
        """The node that applies the layer's matrix."""
        node = self.output.producer()
        assert node is not None
        return node

    @property
    def source(self) -> ir.Value:
        """The activation that the layer reads."""
        return next(value for value in self.node.inputs if value is not None and value.name == self.site.source)

    def stored(self, label: str, array: NDArray[Any]) -> ir.Value:
        """Return a constant in the layer's element type; all uses share what is stored under one label.

        Raises
        ------
        PlanError
            The array leaves the range of that type.
        """
        with np.errstate(over="ignore"):
            converted = array.astype(self.dtype.numpy())
        if not np.isfinite(converted.astype(np.float64)).all():
            raise PlanError(f"the factors of layer {self.layer.name!r} leave the range of {self.dtype}")
        return self.emit.constant(label, converted)

    def matrix(self, label: str, matrix: NDArray[Any], scales: NDArray[np.float32] | None, flip: bool) -> ir.Value:
        """Return a matrix of outputs times inputs, or where `flip`, its transpose, as the layer's factors are stored.

        Parameters
        ----------
        label
            Under which all uses share it.
        matrix
            Shape (outputs, inputs).
        scales
            What an int8 level of each output is worth; None where it is stored as float16 or in the layer's
            element type.
        flip
            Whether the product multiplies by the transpose.
        """
        if scales is None and self.chosen.halves and self.dtype != ir.DataType.FLOAT16:
            halves = (matrix.T if flip else matrix).astype(np.float16)
            return self.emit.widened(label, halves, self.dtype)
        if scales is None:
            return self.stored(label, matrix.T if flip else matrix)
        levels = levels_of(matrix, scales)
        value = self.emit.dequantized(f"{label}.", levels.T if flip else levels, scales, 1 if flip else 0)
        return value if self.dtype == ir.DataType.FLOAT else self.emit.op("Cast", [value], to=int(self.dtype))

    def read(self, step: int, value: ir.Value) -> ir.Value:
        """Return what a step multiplies: the value, or where inputs are rounded, what is left of it then.

        Parameters
        ----------
        step
            Place of the step in execution order.
        value
            What the step reads.
        """
        if self.chosen.roundings is None:
            return value
        floats = value
        if self.dtype != ir.DataType.FLOAT:
            floats = self.emit.op("Cast", [value], to=int(ir.DataType.FLOAT))
        floats = self.emit.rounded(f"input{step}.", floats, self.chosen.roundings[step])
        return floats if self.dtype == ir.DataType.FLOAT else self.emit.op("Cast", [floats], to=int(self.dtype))


Writer: TypeAlias = Callable[[Place], ir.Value]
"""Adds the nodes of one use, and returns what gives the layer's output in the place of its node."""
