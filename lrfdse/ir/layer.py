"""A weight matrix of a model: where it is used, its sizes and its identity; no arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lrfdse.ir.storage import FLOAT32, INT8, Storage
from lrfdse.ir.window import Window

Kind = Literal["fc", "conv", "recurrent", "state", "attention", "embedding", "tied", "joint"]
"""What a layer is: "fc" a fully-connected layer; "conv" a convolution of one group, its matrix over patches;
"recurrent" the matrix by which an LSTM, GRU or RNN multiplies what it reads, of all gates and directions; "state" that
by which an LSTM or GRU multiplies its state, of one direction; "attention" what a fused attention multiplies its input
by; "embedding" a table of which rows are looked up; "tied" one by which a product multiplies as well; "joint" the
matrices of several products that read the same value, one under the other."""

DEFAULT_KINDS: tuple[Kind, ...] = ("fc", "recurrent", "attention", "embedding")
"""The kinds that are looked for where nobody says."""


@dataclass(frozen=True, slots=True)
class Use:
    """One place of the graph where a layer's weight is applied."""

    node: str
    rows: int
    """Rows of the input matrix in one inference: batch times every other leading dimension. In a loop, in one turn."""
    bias: bool
    relu: bool
    window: Window | None = None
    """The window that slides over the input, where the layer is a convolution."""
    table: int = 0
    """Rows of the table that the rows of the input are looked up in, where the layer is an embedding."""
    turns: int = 1
    """How often one inference comes by here: turns of the loops around it."""
    joined: tuple[str, ...] = ()
    """Names of the file's nodes that it stands for, where several were made one product."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the file's nodes that it stands for."""
        return self.joined or (self.node,)

    @property
    def is_pointwise(self) -> bool:
        """Whether each row stands in the input as it is: not as the patch of a window, nor as the number of a row."""
        w = self.window
        return not self.table and (w is None or (w.kernel == w.strides == (1, 1) and not any(w.pads)))


@dataclass(frozen=True, slots=True)
class Layer:
    """A weight matrix of a model and where it is applied: sizes and identity, no arrays."""

    name: str
    outputs: int
    inputs: int
    uses: tuple[Use, ...]
    bias_params: int
    """Stored bias elements over all uses (a bias that two uses share counts once)."""
    digest: str
    """SHA-256 of the float32 weight in (outputs, inputs) order: the cache key of everything derived from it."""
    kind: Kind = "fc"
    storage: Storage = FLOAT32
    """How the model stores the weight; half precision counts as float32."""

    @property
    def bytes(self) -> int:
        """Bytes of the stored weight, its scales and its biases, each bias in float32."""
        scales = self.outputs if self.storage.scaled else 0
        return self.storage.bytes_of(self.weights) + FLOAT32.bytes_of(scales + self.bias_params)

    @property
    def is_product(self) -> bool:
        """Whether it is a product of its own, in whose place any chain can stand, and not a part of an operator."""
        return self.kind in ("fc", "joint")

    def takes(self, storage: Storage) -> bool:
        """Return whether some choice of it can be stored so: products in any storage, tables of embeddings in int8."""
        return self.is_product or storage == FLOAT32 or (self.kind == "embedding" and storage == INT8)

    @property
    def table(self) -> int:
        """Rows of an embedding's table, else 0. Its matrix is that of the directions which the table has."""
        return self.uses[0].table

    @property
    def weights(self) -> int:
        """Stored elements of the matrix, or of an embedding's table."""
        return self.outputs * (self.table or self.inputs)

    @property
    def params(self) -> int:
        """Stored parameters, weight and bias."""
        return self.weights + self.bias_params

    @property
    def channels(self) -> int:
        """Inputs of one pixel: all of them, unless the layer is a convolution of a larger kernel."""
        window = self.uses[0].window
        return self.inputs if window is None else self.inputs // math.prod(window.kernel)

    @property
    def rows(self) -> int:
        """Rows over all uses and turns."""
        return sum(use.rows * use.turns for use in self.uses)

    @property
    def flops(self) -> int:
        """FLOPs of one inference over all uses, dense, bias not counted; looking rows up takes none."""
        return 0 if self.kind == "embedding" else 2 * self.outputs * self.inputs * self.rows


@dataclass(frozen=True, slots=True)
class Untouched:
    """A node that holds weights and is left as it is, and why."""

    name: str
    op: str
    params: int
    weight_bytes: int
    """What the parameters take in flash, in the element types that the model stores."""
    reason: str
