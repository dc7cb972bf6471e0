"""A kernel: what it computes, how it is scheduled, and what compiling it gives."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lrfdse.errors import InputError
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.storage import FLOAT32, INT8, QDQ, Storage
from lrfdse.ir.window import Window

if TYPE_CHECKING:
    from lrfdse.ir.layer import Layer, Use

MOST_ARGUMENTS = 30
"""Most arguments that a kernel may have; x, a weight for each core, a bias, y and two work buffers are far fewer.

Chosen, not measured: with a magic number and a size they fill 32 words, the header of the image that meters map."""

Axis = Literal["out", "inner", "columns"]
"""The axis of a step that is laid on the vector lanes."""


@dataclass(frozen=True, slots=True)
class StepSchedule:
    """How one step is laid out in registers."""

    axis: Axis
    """The axis on the vector lanes."""
    lanes: int
    """Elements of one vector operation: the target's lanes times the register group."""
    out_tile: int
    """Vectors (axis "out") or scalars (else) of the out axis held in registers."""
    column_tile: int
    """Positions along (batch, columns) held in registers; vectors where the axis is "columns"."""
    unroll: int = 1
    """Inner-axis iterations in one loop body."""
    inner_block: int = 0
    """Inner-axis iterations of a block, whose weights stay in the first cache level; 0 where there are no blocks."""
    out_block: int = 0
    """Tiles of the out axis in a block."""
    batch_block: int = 0
    """Positions along the batch axis whose sums wait together for the next part of the inner axis."""
    in_place: bool = False
    """Whether the inputs of blocks are read as they lie, not from a copy in the order of use."""

    def __str__(self) -> str:
        blocks = f":b{self.inner_block}x{self.out_block}x{self.batch_block}" if self.inner_block else ""
        blocks += "i" if self.in_place else ""
        return f"{self.axis}:{self.lanes}:{self.out_tile}x{self.column_tile}:u{self.unroll}{blocks}"

    @classmethod
    def parse(cls, text: str) -> StepSchedule:
        """Read the text form that `str` gives.

        Raises
        ------
        InputError
            The text has another form.
        """
        blocks = r"(?::b([1-9]\d*)x([1-9]\d*)x([1-9]\d*)(i?))?"
        found = re.fullmatch(r"(out|inner|columns):(\d+):(\d+)x(\d+):u(\d+)" + blocks, text)
        if not found:
            form = (
                "`AXIS:LANES:OUTxCOLUMNS:uUNROLL`, with `:bINNERxOUTxBATCH` or `:bINNERxOUTxBATCHi` behind it or not,"
            )
            raise InputError(f"{text!r} is no step of a schedule: {form} is one")
        axis: Axis = found[1]  # type: ignore[assignment]
        lanes, rows, columns, unroll, inner, out, batch = (int(number or 0) for number in found.groups()[1:-1])
        return cls(axis, lanes, rows, columns, unroll, inner, out, batch, bool(found[9]))


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """What a kernel computes, weights aside: the part of its identity that does not depend on code generation."""

    outputs: int
    inputs: int
    """The layer's own inputs; as of its outputs, the factorization may have more (padding)."""
    factorization: Factorization
    rows: int
    """Input rows of one call."""
    bias: bool
    """Whether a bias is added."""
    relu: bool
    """Whether negative results become zero."""
    storage: Storage = FLOAT32
    """How the weights are stored; arithmetic is in float32."""

    def __str__(self) -> str:
        fused = ("+bias" if self.bias else "") + ("+relu" if self.relu else "")
        return f"{self.outputs}x{self.inputs} {self.choice} rows={self.rows}{fused}"

    @property
    def choice(self) -> Choice:
        """The factorization and the storage together."""
        return Choice(self.factorization, self.storage)


def kernel_spec(layer: Layer, use: Use, choice: Choice, corrected: bool) -> KernelSpec:
    """Return the kernel of one use of a layer.

    Parameters
    ----------
    layer, use
        The layer, and one of its uses.
    choice
        How the layer is stored and computed.
    corrected
        Whether factors come with a correction of the bias, as those fitted on calibration data do: the layer then has a
        bias even where the use has none, unless it stays as it is.
    """
    bias = use.bias or (corrected and not choice.is_original)
    storage = layer.storage if choice.is_original else choice.storage
    return KernelSpec(layer.outputs, layer.inputs, choice.factorization, use.rows, bias, use.relu, storage)


@dataclass(frozen=True, slots=True)
class ConvolutionSpec:
    """What a use of a convolution computes that no single kernel stands for: operators one after the other."""

    outputs: int
    channels: int
    window: Window
    factorization: Factorization
    bias: bool
    """Whether a bias is added."""
    relu: bool
    """Whether negative results become zero."""

    def __str__(self) -> str:
        w = self.window
        image, kernel, strides, dilations = (
            "x".join(map(str, pair)) for pair in (w.image, w.kernel, w.strides, w.dilations)
        )
        fused = ("+bias" if self.bias else "") + ("+relu" if self.relu else "")
        pads = ".".join(map(str, w.pads))
        return (
            f"{self.outputs} of {self.channels}x{image}, {kernel} by {strides}, dilated {dilations}, padded {pads}: "
            f"{self.factorization} batch={w.batch}{fused}"
        )


@dataclass(frozen=True, slots=True)
class EmbeddingSpec:
    """What a use of an embedding computes: rows looked up in a table, and the product with the second factor."""

    table: int
    """Rows of the table."""
    outputs: int
    rank: int | None
    """Columns of the table where it is factorized; None where its rows are the outputs."""
    rows: int
    """Rows that are looked up."""
    bias: bool
    """Whether a bias is added."""
    relu: bool
    """Whether negative results become zero."""
    storage: Storage = FLOAT32
    """Of the table; the second factor is in float32."""

    def __str__(self) -> str:
        fused = ("+bias" if self.bias else "") + ("+relu" if self.relu else "")
        rank = "" if self.rank is None else f" by {self.rank}"
        stored = "" if self.storage == FLOAT32 else f"@{self.storage}"
        return f"{self.rows} of {self.table} rows of {self.outputs}{rank}{stored}{fused}"


@dataclass(frozen=True, slots=True)
class QuantizedSpec:
    """What a use of a fully-connected layer in whole numbers computes: a product or two, inputs rounded before each."""

    outputs: int
    inputs: int
    factorization: Factorization
    """Dense or the two-factor form."""
    rows: int
    bias: bool
    """Whether a bias is added."""
    relu: bool
    """Whether negative results become zero."""

    def __str__(self) -> str:
        fused = ("+bias" if self.bias else "") + ("+relu" if self.relu else "")
        return f"{self.outputs}x{self.inputs} {Choice(self.factorization, QDQ)} rows={self.rows}{fused}"


@dataclass(frozen=True, slots=True)
class RepairedSpec:
    """What a use of a fully-connected layer in int8 with a repair computes: three products, the last one added."""

    outputs: int
    inputs: int
    rank: int
    """Of the repair."""
    rows: int
    bias: bool
    """Whether a bias is added."""
    relu: bool
    """Whether negative results become zero."""

    def __str__(self) -> str:
        fused = ("+bias" if self.bias else "") + ("+relu" if self.relu else "")
        choice = Choice(Factorization.repaired(self.outputs, self.inputs, self.rank), INT8)
        return f"{self.outputs}x{self.inputs} {choice} rows={self.rows}{fused}"


Spec = KernelSpec | ConvolutionSpec | EmbeddingSpec | QuantizedSpec | RepairedSpec
"""What is compiled, checked and measured for one use of a layer."""


def has_kernel(use: Use, choice: Choice) -> bool:
    """Return whether a kernel of its own computes a use, not operators one after the other."""
    return use.is_pointwise and not (choice.storage.rounds_inputs or choice.factorization.repair)


def spec_of(layer: Layer, use: Use, choice: Choice, corrected: bool) -> Spec:
    """Return what is compiled for one use of a layer: its kernel, or the operators that stand for it.

    Parameters
    ----------
    layer, use, choice, corrected
        As for `kernel_spec`; what has no kernel of its own is stored in float32.
    """
    factorization = choice.factorization
    kernel = kernel_spec(layer, use, choice, corrected and not (use.table and factorization.is_dense))
    if choice.storage.rounds_inputs:
        return QuantizedSpec(layer.outputs, layer.inputs, factorization, use.rows, kernel.bias, kernel.relu)
    if factorization.repair:
        return RepairedSpec(layer.outputs, layer.inputs, factorization.repair, use.rows, kernel.bias, kernel.relu)
    if use.table:
        rank = None if factorization.is_dense else factorization.ranks[0]
        return EmbeddingSpec(use.table, layer.outputs, rank, use.rows, kernel.bias, kernel.relu, choice.storage)
    if has_kernel(use, choice):
        return kernel
    assert use.window is not None
    return ConvolutionSpec(layer.outputs, layer.channels, use.window, factorization, kernel.bias, kernel.relu)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A kernel's register tiling, one entry a step in execution order."""

    steps: tuple[StepSchedule, ...]

    def __str__(self) -> str:
        return "|".join(map(str, self.steps))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read the text form that `str` gives; raise `InputError` where a step has another form.

        >>> str(Schedule.parse("inner:8:4x1:u1|out:16:2x1:u2"))
        'inner:8:4x1:u1|out:16:2x1:u2'
        """
        return cls(tuple(StepSchedule.parse(part) for part in text.split("|")))


Role = Literal["input", "weight", "scale", "bias", "output", "work"]
"""What an argument of a kernel is for; "scale" is what each output of a step is multiplied by, "work" is scratch memory
that the caller gives."""

GIVEN: tuple[Role, ...] = ("input", "weight", "scale", "bias")
"""The roles of the arguments that a kernel reads only."""


@dataclass(frozen=True, slots=True)
class Argument:
    """One parameter of a kernel's C function: a pointer to float, or to what weights are stored in."""

    name: str
    role: Role
    size: int
    """Elements the kernel may touch."""
    storage: Storage = FLOAT32
    """What an element is."""

    @property
    def bytes(self) -> int:
        """Bytes the kernel may touch."""
        return self.storage.bytes_of(self.size)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled kernel: an object file with one plain C symbol."""

    spec: KernelSpec
    schedule: Schedule
    target: str
    symbol: str
    arguments: tuple[Argument, ...]
    """The parameters of the C function, in order."""
    object_code: bytes
    assembly: str = ""
    """The machine code as text; empty where it was not asked for."""
