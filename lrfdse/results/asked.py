"""What was asked: the model, the data, the target with its meter, the search space, the options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lrfdse.base.codec import expected
from lrfdse.ir.form import Form
from lrfdse.ir.latency import Latency, MeterKind
from lrfdse.ir.layer import Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """The model that was explored."""

    name: str = expected("")
    """What a person calls the model: the name of its file, or of its folder where the file is called model.onnx."""
    path: str = expected("")
    sha256: str = expected("")


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """The data of one role."""

    path: str | None = expected(None)
    """Path of the file; null where none was given, and random inputs or a part of another role's data took its
    place."""
    sha256: str | None = expected(None)
    """Digest of the samples that were used; null where there were none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFiles:
    """The data by role."""

    calib: DataFile = expected(DataFile())
    """The calibration data, which layers were fitted on."""
    eval: DataFile = expected(DataFile())
    """The evaluation data, which chose among designs."""
    test: DataFile = expected(DataFile())
    """The test data, which reported scores are of; they chose nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFacts:
    """The machine that the designs are for."""

    name: str
    digest: str = expected("")
    """Digest of the target's whole description."""
    source: str | None = expected(None)
    """What `--target` takes: a name that ships, or a TOML file."""
    isa: str | None = expected(None)
    """Name of the instruction set; null in documents that do not say."""
    core: str = expected("")
    """What the core is, in words."""
    clock_mhz: float = expected(0.0)
    l1_kib: int | None = expected(None)
    """Size of the first-level data cache (KiB)."""
    last_level_kib: int | None = expected(None)
    """Size of the last-level cache (KiB): weights that fit it are charged warm."""
    provenance: Mapping[str, str] = expected({})
    """Where the numbers of the target's description come from, by field: "published: ..." or "assumed: ..."."""
    resident: Literal["warm", "cold", "auto"] = "auto"
    """In which cache regime latencies count: always warm, always cold, or warm where the weights fit the last-level
    cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareError:
    """By what factors published measurements of the target's core differ from what the meter says of them."""

    low: float
    """Low end: the measured time over the modelled one."""
    high: float
    """High end: the measured time over the modelled one."""
    source: str
    """Which measurements these are, and how the ends were found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterFacts:
    """The meter that the latencies of designs come from."""

    name: str
    kind: MeterKind
    """Whether latencies were measured on the target's hardware, or modelled."""
    bracket: str = expected("")
    """What the low and the high end of every latency mean."""
    procedure: str = expected("")
    """How the meter obtains a latency, as the end of a sentence that begins "the latency is modelled"; empty in
    documents that do not say."""
    hardware_error: HardwareError | None = None
    """How far the model is from hardware; null where latencies are measured, and where nobody checked."""
    resolution: float | None = None
    """Relative difference of two latencies up to which they are a tie; null where latencies are measured (there spreads
    that overlap are a tie), and in documents that do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyFacts:
    """What the latencies of designs are."""

    unit: Literal["us"] = expected("us")
    covers: str = expected("")
    """The part of the model that latencies cover."""
    rest: Latency | None = None
    """What all else takes: the original's whole model in a warm run, less the operators of its fully-connected layers;
    null where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceFacts:
    """The search space."""

    source: str | None = expected(None)
    """What `--space` takes: a name that ships, or a TOML file."""
    digest: str = expected("")
    """Digest of the whole search space."""
    method: str = expected("")
    """Name of the method that fits factors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a design must satisfy; null asks for nothing."""

    max_drop: float | None = expected(None)
    """Largest loss of the metric on the evaluation data, a fraction."""
    max_params: int | None = expected(None)
    max_latency_us: float | None = expected(None)
    max_other_drop: float | None = None
    """Largest loss of every other output that counts, a fraction; null means that of `max_drop`."""
    max_size: int | None = None
    """Most bytes of the weights as they are stored."""
    max_model_latency_us: float | None = None
    """Highest warm latency of the whole model, as it is estimated; null asks for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The options of the exploration that are not facts of the model, the data, the target or the space."""

    limits: Limits = expected(Limits())
    meter: str = expected("auto")
    seed: int = expected(0)
    metric: str | None = expected(None)
    """The metric that was asked for; null leaves the choice to the data."""
    judge: tuple[str, ...] = ()
    """Names of the outputs that were to count, the judged one first; empty means all of floating point."""
    correct: bool = expected(False)
    """Whether layers are fitted to what the compressed ones before them feed them."""
    shape: Mapping[str, tuple[int, ...]] = expected({})
    """Sizes of the inputs whose dynamic sizes were fixed."""
    value: Mapping[str, str] = field(default_factory=dict)
    """Numbers that inputs were fixed to, as texts."""
    eval_samples: int | None = expected(None)
    """Samples drawn from the evaluation data; null means all."""
    effort: str = "normal"
    """How much work the answer was worth: quick, normal or thorough."""
    proxy: str | None = expected(None)
    """What predicted losses; null in documents that do not say."""
    sampler: str | None = expected(None)
    """What proposed plans around the knapsack's; null in documents that do not say."""
    minutes: float | None = expected(None)
    """Minutes after which no new plan was begun; null means that there was no such limit."""
    budget: int | None = expected(None)
    """Largest number of plans to evaluate; null in documents that do not say."""
    accept_unverified: bool = expected(False)
    """Whether a design was to be recommended even without evaluation data."""
    keep: int | None = expected(None)
    """Largest number of designs to write out beside the recommended one; null in documents that do not say."""
    layers: tuple[Kind, ...] = ("fc",)
    """The kinds of layers that were looked for."""
    format: tuple[Form, ...] = ()
    """The formats in which designs were to be written, beside ONNX; empty means the model's own, where TensorFlow
    Lite."""
    library: bool | None = None
    """Whether whole models were to be compiled, too; null in documents that do not say."""
    int8: bool | None = None
    """Whether the original and kept designs were to be made int8, too; null in documents that do not say."""
    storage: str | None = None
    """In what weights could be stored, `float32`, `int8` or `both`; null in documents that do not say."""
