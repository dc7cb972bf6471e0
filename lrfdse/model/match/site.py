"""One place of a graph where a layer's matrix is applied: what it reads and gives, and how both are laid out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.ir.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One use of a layer, ``y = alpha W x + bias``: where it stands and how it is laid out.

    Values are named, because names survive serialization. A kind of layers whose inputs do not lie along one axis of
    the source overrides `rows`, `window` and `blocks`.
    """

    node: str
    """The node's name, or its output's where it has none."""
    output: str
    """Output of the node that applies the matrix."""
    source: str
    """The activation that it reads."""
    in_axis: int | None
    """Axis of the source that holds the layer's inputs, a negative number; None where no single axis does."""
    out_axis: int
    """Axis of the output that holds the layer's outputs, a negative number."""
    rank: int
    """Number of dimensions of the source."""
    fixed: tuple[int, ...]
    """Shape of the source in the inference that is timed, in one turn of it."""
    free: tuple[int | None, ...]
    """Shape of the source as far as the model itself fixes it."""
    add: str | None
    """Output of the Add that holds the bias, where it is not inside the node."""
    bias_root: str | None
    """Tensor that the bias comes from."""
    bias: NDArray[np.float64] | None
    """Bias of shape (outputs,), factors of the node folded in."""
    relu: bool
    """Whether a Relu follows that could be fused."""
    turns: int = 1
    """Turns in which the use is run in the timed inference, where it stands in the body of a loop."""
    holder: str | None = None
    """Name of the node of the main graph in whose body the use stands."""
    joined: tuple[str, ...] = ()
    """Names of the file's nodes that it stands for, where several were made one product."""
    looked_up: tuple[str, ...] = ()
    """Outputs of the lookups that read rows of the layer's matrix, where that is a table as well."""

    @property
    def rows(self) -> int:
        """Rows of the input matrix in the inference that is timed, in one turn."""
        assert self.in_axis is not None
        return math.prod(self.fixed) // self.fixed[self.in_axis]

    @property
    def window(self) -> Window | None:
        """The window that slides over the source, where the layer is a convolution."""
        return None

    def blocks(self, array: NDArray[Any]) -> Iterator[NDArray[Any]]:
        """Yield what the layer reads of the source, block by block, each of shape (rows, inputs)."""
        assert self.in_axis is not None
        features = np.moveaxis(array, self.in_axis, -1)
        yield features.reshape(-1, features.shape[-1])
