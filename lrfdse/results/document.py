"""The document of an exploration, which ``front.json`` holds: every noun frozen, every field a key.

Fractions are between 0 and 1, latencies in microseconds, paths relative to the folder of the file. Fields without a
default are there in every document; those of `expected` in every whole one, but not in one that was cut down to what a
gate reads. A field with another default came after the first documents of its version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

from lrfdse.base.codec import expected
from lrfdse.results.asked import Asked, DataFiles, LatencyFacts, MeterFacts, ModelFile, SpaceFacts, TargetFacts
from lrfdse.results.designs import DesignFacts, Int8Facts, KernelFunction
from lrfdse.results.layers import LayerFacts, UntouchedPart
from lrfdse.results.outputs import OutputFacts
from lrfdse.results.sensitivity import SensitivityCase
from lrfdse.targets.resolution import UNCHECKED

SCHEMA_VERSION: Literal[2] = 2
"""Version of the document's form: a new key leaves it, a key that goes or changes its meaning raises it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Everything that an exploration was asked and found."""

    schema_version: Literal[2] = expected(SCHEMA_VERSION)
    model: ModelFile
    target: TargetFacts
    meter: MeterFacts
    latency: LatencyFacts = expected(LatencyFacts())
    metric: str
    """What designs are chosen by: "accuracy", "fidelity" or the name of another metric."""
    verified: bool = expected(True)
    """Whether there were evaluation data; else scores are of random inputs, and no loss was measured."""
    classes_hit: int | None = expected(None)
    """Classes that the original puts the evaluation data into; null where its output is no class scores."""
    outputs: tuple[OutputFacts, ...] = ()
    """The outputs that count, the judged one first; empty in documents that do not say."""
    data: DataFiles = expected(DataFiles())
    space: SpaceFacts = expected(SpaceFacts())
    settings: Asked
    versions: Mapping[str, str] = expected({})
    """Versions of lrfdse, its libraries and the tools that the meter ran."""
    command: str | None = expected(None)
    """Command that repeats the exploration, for a POSIX shell in this folder; null in documents that do not say."""
    notes: tuple[str, ...] = expected(())
    """What a reader must know about these numbers."""
    recommended: str | None
    """Id of the recommended design; null where nothing satisfies the limits, or nobody measured what designs lose."""
    svd_at_equal_size: str | None = expected(None)
    """Id of the best SVD design at no more parameters than the recommended one; null where there is none."""
    original: DesignFacts
    """The original model, as a design."""
    designs: tuple[DesignFacts, ...]
    """The front, all layers dense in int8, uniform SVD, and SVD at equal size, by latency."""
    dominated: tuple[DesignFacts, ...] = expected(())
    """Every other design that was evaluated."""
    evaluated: int | None = expected(None)
    """How many designs were evaluated; null in documents that do not say."""
    plan_gap: float = expected(0.0)
    """Relative gap of the knapsack over layers, from end to end; 0 is exact."""
    layers: tuple[LayerFacts, ...] = expected(())
    untouched: tuple[UntouchedPart, ...] = expected(())
    macs: int | None = None
    """MACs of the whole model in one inference; null where those of a part are not known, and in documents that do not
    say."""
    kernels: tuple[KernelFunction, ...] = expected(())
    """The C functions of the recommended design, in the order of the layers."""
    sensitivity: tuple[SensitivityCase, ...] = ()
    """What modelled latencies would be under other assumptions about the target; empty where none is recommended, where
    latencies are measured, and in documents that do not say."""
    int8_baseline: Int8Facts | None = None
    """The original as onnxruntime's quantizer makes it int8, activations too; null where that was not made."""

    @property
    def title(self) -> str:
        """What a person calls the model."""
        return self.model.name or model_name(self.model.path)

    def every_design(self) -> list[DesignFacts]:
        """Return every evaluated design once, the original included, slowest first."""
        found = {design.id: design for design in (self.original, *self.designs, *self.dominated)}
        return sorted(found.values(), key=lambda design: (-design.charged.us, -design.params, design.id))

    def design(self, identity: str) -> DesignFacts | None:
        """Return the design of that id, or None where there is none."""
        every = (self.original, *self.designs, *self.dominated)
        return next((design for design in every if design.id == identity), None)

    @property
    def best(self) -> DesignFacts | None:
        """The recommended design; None where there is none."""
        return None if self.recommended is None else self.design(self.recommended)

    @property
    def resolution(self) -> float | None:
        """Relative difference of two latencies up to which they are a tie; None where overlapping spreads are."""
        if self.meter.kind == "measured":
            return None
        return UNCHECKED if self.meter.resolution is None else self.meter.resolution

    @property
    def is_refused(self) -> bool:
        """Whether nothing is recommended because nobody measured what designs lose, whatever the limits."""
        return self.recommended is None and not (self.verified or self.settings.accept_unverified)


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionDocument:
    """What can be said of a model before anything is compiled."""

    schema_version: Literal[2] = SCHEMA_VERSION
    model: ModelFile
    target: TargetFacts
    space: SpaceFacts
    layers: tuple[LayerFacts, ...]
    """The fully-connected layers; they have no options yet."""
    untouched: tuple[UntouchedPart, ...]
    macs: int | None = None
    """MACs of the whole model in one inference; null where those of a part are not known."""


def model_name(path: str) -> str:
    """Return what a person calls the model.

    >>> model_name("../../nets/lenet.onnx"), model_name("../lenet/model.onnx"), model_name("../model.onnx")
    ('lenet', 'lenet', '')
    """
    file = PurePosixPath(path)
    if file.stem != "model":
        return file.stem
    return "" if file.parent.name in ("", "..") else file.parent.name
