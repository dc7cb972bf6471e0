"""``front.json`` of schema version 1, as it was written.

The fields with a plain default came while version 1 was current, so files may lack them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lrfdse.base.codec import KEY, expected
from lrfdse.ir.latency import Regime
from lrfdse.results.layers import Funnel, Spectra

Three = tuple[float, float, float]
"""A latency of version 1: its value, low and high end, in microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency1:
    """What latencies are."""

    kind: Literal["modelled", "measured"]
    covers: str = expected("")
    procedure: str = ""
    bracket: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings1:
    """What was asked, and facts of the target."""

    target: str | None = expected(None)
    target_digest: str = expected("")
    space: str | None = expected(None)
    space_digest: str = expected("")
    method: str = ""
    correct: bool = False
    calib: str | None = expected(None)
    eval: str | None = expected("")
    """Path of the evaluation data; null where there were none, empty in a file that was cut down and does not say."""
    test: str | None = expected(None)
    shape: Mapping[str, tuple[int, ...]] = expected({})
    meter: str = "auto"
    seed: int = expected(0)
    metric: str | None = None
    eval_samples: int | None = None
    proxy: str | None = None
    sampler: str | None = None
    minutes: float | None = None
    budget: int | None = expected(None)
    keep: int | None = None
    accept_unverified: bool = False
    max_drop: float | None = expected(None)
    max_params: int | None = expected(None)
    max_latency_us: float | None = expected(None)
    isa: str | None = None
    core: str = expected("")
    clock_mhz: float = expected(0.0)
    l1_kib: int | None = None
    last_level_kib: int | None = None
    provenance: Mapping[str, str] = expected({})


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardKernel1:
    """One use of a layer on a board."""

    layer: str
    use: int
    factorization: str
    warm_us: Three
    cold_us: Three


@dataclass(frozen=True, slots=True, kw_only=True)
class Board1:
    """What a board took for a design."""

    whole_us: Three | None
    layers: tuple[BoardKernel1, ...]
    repeats: int
    description: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Design1:
    """A design."""

    id: str
    params: int
    flops: int
    latency_us: float
    latency_low_us: float
    latency_high_us: float
    cache_regime: Regime
    accuracy: float | None = expected(None)
    eval_accuracy: float | None = expected(None)
    fidelity: float | None = expected(None)
    loss_standard_error: float | None = None
    eval_interval: tuple[float, float] | None = None
    accuracy_interval: tuple[float, float] | None = None
    accuracy_loss_standard_error: float | None = None
    plan: Mapping[str, str] = expected({})
    origin: str = expected("")
    output_error: float | None = None
    refined: bool = False
    on_front: bool = expected(False)
    model: str | None = expected(None)
    board: Board1 | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Option1:
    """A measured factorization of a layer."""

    factorization: str
    params: int
    flops: int
    peak_activation_bytes: int
    weight_error: float
    output_error: float | None
    loss: float | None = None
    warm_us: Three
    cold_us: Three
    kernel_error: float | None = None
    schedules: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer1:
    """A layer."""

    name: str
    inputs: int = field(metadata={KEY: "in"})
    outputs: int = field(metadata={KEY: "out"})
    uses: int = expected(1)
    rows: int = expected(1)
    params: int = expected(0)
    share: float = expected(0.0)
    effective_rank: float = expected(0.0)
    spectra: Spectra | None = None
    kept_dense: str | None = expected(None)
    funnel: Funnel = expected(Funnel())
    options: tuple[Option1, ...] = expected(())
    failures: Mapping[str, str] = expected({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument1:
    """One pointer of a kernel's C function."""

    name: str
    role: Literal["input", "weight", "bias", "output", "work"]
    floats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel1:
    """One C function of the recommended design."""

    layer: str
    name: str
    symbol: str
    rows: int
    relu: bool
    arguments: tuple[Argument1, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile1:
    """The model."""

    name: str = ""
    path: str = expected("")
    sha256: str = expected("")


@dataclass(frozen=True, slots=True, kw_only=True)
class UntouchedPart1:
    """A part of the model that was left as it is."""

    name: str
    op: str
    params: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document1:
    """The whole file."""

    schema_version: Literal[1]
    model: ModelFile1
    data_sha256: Mapping[str, str | None] = expected({})
    target: str
    meter: str
    latency: Latency1 | None = expected(None)
    metric: str
    verified: bool | None = None
    classes_hit: int | None = None
    versions: Mapping[str, str] = expected({})
    command: str | None = None
    settings: Settings1
    layers: tuple[Layer1, ...] = expected(())
    untouched: tuple[UntouchedPart1, ...] = expected(())
    baseline: Design1
    recommended: str | None
    svd_at_equal_params: str | None = expected(None)
    designs: tuple[Design1, ...]
    dominated: tuple[Design1, ...] = ()
    evaluated: int | None = None
    kernels: tuple[Kernel1, ...] = ()
    plan_gap: float = 0.0
    notes: tuple[str, ...] = expected(())
