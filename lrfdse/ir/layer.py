"""A weight matrix of a model: where it is used, its sizes and its identity; no arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["fc", "recurrent", "attention", "embedding"]
"""What a layer is: "fc" a fully-connected layer; "recurrent" the matrix by which an LSTM, GRU or RNN multiplies what it
reads, of all gates and directions; "attention" the same of a fused attention; "embedding" a table of which rows are
looked up."""

DEFAULT_KINDS: tuple[Kind, ...] = ("fc", "recurrent", "attention", "embedding")
"""The kinds that are looked for where nobody says."""


@dataclass(frozen=True, slots=True)
class Use:
    """One place of the graph where a layer's weight is applied."""

    node: str
    rows: int
    """Rows of the input matrix in one inference: batch times every other leading dimension."""
    bias: bool
    relu: bool


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
    table_rows: int = 0
    """Rows of the table, where the layer is an embedding: its matrix is then that of the directions in the table."""

    @property
    def weights(self) -> int:
        """Stored elements of the matrix, or of an embedding's table."""
        return self.outputs * (self.table_rows or self.inputs)

    @property
    def params(self) -> int:
        """Stored parameters, weight and bias."""
        return self.weights + self.bias_params

    @property
    def rows(self) -> int:
        """Rows over all uses."""
        return sum(use.rows for use in self.uses)

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
