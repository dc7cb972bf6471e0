"""``NAME.json``: what a library is made of, operator by operator; fields are keys of the file (docs/library.md)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lrfdse.base.codec import to_plain
from lrfdse.ir.latency import Latency, MeterKind
from lrfdse.ir.operators import Foreign
from lrfdse.ir.ports import Element
from lrfdse.ir.quantized import QuantizedConvolution, QuantizedProduct
from lrfdse.library.tensor import Tensor

if TYPE_CHECKING:
    from lrfdse.ir.latency import ProgramMeasurement
    from lrfdse.library.layout import Layout, Step

SCHEMA = 1
"""The version of the file's form: it changes where a field is taken away or means something else."""

SLOW_SHARE = 0.1
"""Share of a model's time above which an operator without a schedule of its own is worth a warning. Chosen."""


@dataclass(frozen=True, slots=True)
class ArrayFacts:
    """An array that an operator works on."""

    role: Literal["input", "weight", "output", "work"]
    place: Literal["input", "output", "arena", "weights"]
    """Given by the caller, in the arena, or among the weights."""
    at: int
    """Number of the input or output, or bytes from the beginning of the arena or of the weights."""
    bytes: int
    element: Element


@dataclass(frozen=True, slots=True)
class OperatorFacts:
    """One operator, in the order of execution."""

    symbol: str
    """The C function; operators that do the same share one."""
    kind: str
    """What it is, such as "Convolution"; of an operator that TVM's Relax compiles, "Foreign" and its name in ONNX."""
    nodes: tuple[str, ...]
    """The ONNX nodes that it stands for."""
    schedule: str
    macs: int
    """Multiply-accumulates."""
    weight_bytes: int
    """Bytes of constants that it reads."""
    work_bytes: int
    """Bytes of scratch memory in the arena."""
    arrays: tuple[ArrayFacts, ...]
    warm: Latency | None
    """Latency in a run that finds the caches as the run before left them (us); null where it is not known."""
    cold: Latency | None
    """Latency in a run that finds the caches empty (us)."""


@dataclass(frozen=True, slots=True)
class MeterFacts:
    """Where the latencies come from."""

    name: str
    kind: MeterKind
    details: Mapping[str, float | int | str]


@dataclass(frozen=True, slots=True)
class LibraryFacts:
    """Everything that ``NAME.json`` holds."""

    schema_version: int
    version: str
    """lrfdse's version."""
    name: str
    model: str
    """The model's file."""
    model_sha256: str
    target: str
    core: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    arena_bytes: int
    arena_bound: int
    """Bytes of the arena that no order of the same memory could do without."""
    weight_bytes: int
    weights_in: Literal["library", "file"]
    code_bytes: int
    """Bytes of the library's code and tables, weights aside."""
    macs: int
    operators: tuple[OperatorFacts, ...]
    meter: MeterFacts | None
    """Null where latency was not asked for, or its tools are missing."""
    warm: Latency | None
    """Latency of the whole model (us); where it is modelled, the sum over its operators and the checks before them."""
    cold: Latency | None
    checked: bool
    """Whether the library ran on the target's instruction set, and its outputs are right."""
    tolerance: float
    """Largest error that counts as right: more than 1e-4 where rounding alone explains more."""
    max_error: float | None
    """Largest deviation of an output from onnxruntime's, relative to its largest element."""

    def slow(self) -> tuple[OperatorFacts, ...]:
        """Return the operators without a schedule of their own that take more than `SLOW_SHARE` of the time."""
        if self.warm is None:
            return ()
        return tuple(
            each
            for each in self.operators
            if each.kind.startswith(Foreign.__name__) and each.warm and each.warm.us > SLOW_SHARE * self.warm.us
        )

    @property
    def rounds(self) -> bool:
        """Whether there are products of whole numbers, whose operands are rounded as the library runs."""
        kinds = QuantizedProduct.__name__, QuantizedConvolution.__name__
        return any(each.kind in kinds for each in self.operators)

    @property
    def json(self) -> str:
        """The file's content."""
        return json.dumps(to_plain(self), indent=1) + "\n"


def operator_facts(layout: Layout, measured: ProgramMeasurement | None) -> tuple[OperatorFacts, ...]:
    """Return what there is to say of each call; the first part of what was measured lies before the first of them."""
    found = []
    for number, step in enumerate(layout.steps):
        part = None if measured is None else measured.parts[number + 1]
        operator, compiled = step.call.operator, step.compiled
        found.append(
            OperatorFacts(
                symbol=compiled.symbol,
                kind=kind_of(step),
                nodes=step.call.nodes,
                schedule=compiled.schedule,
                macs=operator.macs,
                weight_bytes=step.weight_bytes,
                work_bytes=compiled.work,
                arrays=_arrays(step),
                warm=None if part is None else part.warm,
                cold=None if part is None else part.cold,
            )
        )
    return tuple(found)


def kind_of(step: Step) -> str:
    """Return what an operator is called in tables."""
    operator = step.call.operator
    kind = type(operator).__name__
    return f"{kind} {operator.name}" if isinstance(operator, Foreign) else kind


def _arrays(step: Step) -> tuple[ArrayFacts, ...]:
    ports = step.call.operator.ports
    found = [
        ArrayFacts(port.role, place.where, place.at, port.bytes, port.element)
        for port, place in zip(ports, step.places, strict=False)
    ]
    if step.compiled.work:
        place = step.places[-1]
        found.append(ArrayFacts("work", place.where, place.at, step.compiled.work, "uint8"))
    return tuple(found)
