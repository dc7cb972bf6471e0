"""What was found of each design, and how the recommended one is called."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from lrfdse.base.codec import expected
from lrfdse.ir.kernel import Role
from lrfdse.ir.latency import Latency, MeterKind, Regime
from lrfdse.results.layers import Choice, Latencies

NORMAL_95 = 1.959963984540054
"""Half the width of a 95 % interval in standard errors: the 97.5 % quantile of the normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The metric on the data of one role."""

    value: float
    interval: tuple[float, float] | None = expected(None)
    """95 % interval of the value, as fractions; null where the metric gives no value a sample."""
    loss_standard_error: float | None = expected(None)
    """Standard error of the loss against the original, a fraction; null where it is not known."""

    @property
    def margin(self) -> float | None:
        """Half the 95 % interval of the loss, a fraction: what stands behind every ±; None where it is not known."""
        return None if self.loss_standard_error is None else NORMAL_95 * self.loss_standard_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Facts:
    """A version of the model in int8, and the float version that it was made of."""

    float_bytes: int
    """Bytes of the float version's file."""
    int8_bytes: int
    """Bytes of the int8 version's file."""
    eval_score: Score | None = None
    """The metric on the evaluation data; null without such data, and where the version could not be run."""
    test_score: Score | None = None
    """The metric on the test data; null without such data."""
    model: str | None = None
    """Path of the int8 version's file; null where that was not kept."""

    @property
    def reported(self) -> Score | None:
        """Score to report: on the test data where there are some, else on the evaluation data; None without data."""
        return self.eval_score if self.test_score is None else self.test_score


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCost:
    """What one operator of the whole model costs."""

    name: str
    """Names of its ONNX nodes, with commas between them."""
    op: str
    latency: Latencies = Latencies()
    flash_bytes: int | None = None
    """Bytes of the weights that it reads."""
    layer: str | None = None
    """Name of the fully-connected layer that it computes, in the original; null for all else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeBoard:
    """What a board took for a whole model: wall clock, never part of the model's own latency."""

    latency: Latencies
    """Median with the quartiles of runs of the whole."""
    operators: tuple[Latencies, ...]
    """Of every operator, in the order of `WholeModel.operators`; medians need not add up to that of the whole."""
    repeats: int
    """Number of runs that each time is the median of."""
    max_error: float
    """Largest deviation of an output from onnxruntime's there, relative to its largest element."""
    description: Mapping[str, Any]
    """What the board says of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeFacts:
    """What a runtime took for the file of a whole model: wall clock, never part of a design's own latency."""

    runtime: Literal["litert", "onnxruntime"]
    """Whose latency it is."""
    package: str
    """The package that ran."""
    version: str
    """Its version; empty where the package does not say."""
    where: Literal["this machine", "board"]
    """Where it ran: on the machine of the command, or on a board."""
    machine: str
    """What Python calls that machine."""
    threads: int
    repeats: int
    """Number of samples that the latency is the median of."""
    latency: Latency
    """Of one inference in a row of them: median with the quartiles."""
    cpu_us: float | None = None
    """Processor time of one inference, of all threads: the median (microseconds); null in documents that do not say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WholeModel:
    """What the whole model costs, not its fully-connected layers alone; null where it was not compiled as a whole."""

    latency: Latencies = Latencies()
    """Of its own library, every operator together."""
    estimated: Latency | None = None
    """Warm latency put together of this design's kernels and what the original takes without its fully-connected
    layers; null where that is not known. All else here is null of designs that have only this."""
    flash_bytes: int | None = None
    """Bytes of code and weights in read-only memory."""
    code_bytes: int | None = None
    """Bytes of code and tables, which are part of `flash_bytes`."""
    weight_bytes: int | None = None
    """Bytes of weights, which are part of `flash_bytes`."""
    arena_bytes: int | None = None
    """Bytes of working memory."""
    meter: str | None = None
    """Name of the meter of the latencies."""
    kind: MeterKind | None = None
    """Whether they were measured or modelled."""
    library: str | None = None
    """Path of the folder with the C library; null where it was not kept."""
    operators: tuple[OperatorCost, ...] = ()
    """In the order of execution."""
    board: WholeBoard | None = None
    """What a board took for it, operator by operator; null where none was asked."""
    runtimes: tuple[RuntimeFacts, ...] = ()
    """What runtimes took for its file."""

    @property
    def best_known(self) -> Latency | None:
        """Warm latency of its own library, else the estimated one; None where neither is known."""
        return self.estimated if self.latency.warm is None else self.latency.warm

    @property
    def is_estimated(self) -> bool:
        """Whether `best_known` is the estimated one."""
        return self.latency.warm is None and self.estimated is not None

    def share_of(self, layers: Collection[str]) -> tuple[int, float] | None:
        """Return how many operators compute these layers, and their share (fraction) of the warm latency.

        None where that is not known: no latency, or a layer that no operator is known to compute.
        """
        mine = [each for each in self.operators if each.layer in layers]
        warm = self.latency.warm
        if warm is None or not warm.us or {each.layer for each in mine} != set(layers):
            return None
        taken = [each.latency.warm.us for each in mine if each.latency.warm is not None]
        return (len(mine), sum(taken) / warm.us) if len(taken) == len(mine) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardKernel:
    """One use of a layer on a board."""

    layer: str
    use: int
    factorization: str
    storage: str
    latency: Latencies
    """Wall clock of the kernel: median with the quartiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardFacts:
    """What a board took for a design: wall clock, never part of the design's own latency."""

    whole: Latency | None
    """Wall clock of all kernels once, one after another: median with the quartiles; null without kernels."""
    layers: tuple[BoardKernel, ...]
    repeats: int
    """Number of samples that each time is the median of."""
    description: Mapping[str, Any]
    """What the board says of itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed:
    """How the factors of a design were trained, and what it was before."""

    data: str
    """Path of the training data."""
    data_sha256: str
    """SHA-256 of the training data, as they were used."""
    samples: int
    """Samples that trained."""
    held_out: int
    """Samples of the training data that chose the state to keep."""
    teacher: Literal["outputs", "labels", "both"]
    """What training went by: the original's outputs, the labels, or half of each."""
    epochs: int
    """Times that every sample was to be seen."""
    minutes: float
    """Minutes that training might take."""
    seed: int
    """Seed of which samples are held out, and of the order of the others."""
    steps: int
    """Steps of training that were taken."""
    loss_before: float
    """Loss a held-out sample before."""
    loss: float
    """Loss a held-out sample with the trained factors."""
    eval_before: Score
    """The metric on the evaluation data before any training."""
    test_before: Score | None = None
    """The metric on the test data before any training; null without such data."""
    factors_sha256: str
    """SHA-256 of ``healed.npz`` in the design's folder, which holds the trained factors."""
    tensorflow: str
    """Version of TensorFlow that trained."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DesignFacts:
    """A compressed version of the whole model, or the original."""

    id: str
    """Id of the design: eight hexadecimal digits, a digest of the plan."""
    params: int
    """Stored elements of all fully-connected layers."""
    weight_bytes: int
    """Bytes that the weights take in flash."""
    flops: int
    """FLOPs of all fully-connected layers in one inference; a MAC is two."""
    cache_regime: Regime
    """Cache regime that the design is charged in: warm where its weights fit the last-level cache."""
    latency: Latencies
    """Latency of all fully-connected layers; known at least in the cache regime of the design."""
    fidelity: float | None = expected(None)
    """Agreement with the original on the evaluation data; on random inputs where the document is not verified."""
    output_error: float | None = expected(None)
    """Relative error of the judged output on the data of `fidelity`, in Frobenius norm; null where that output is whole
    numbers or not finite, and in documents that do not say."""
    others: Mapping[str, float] = field(default_factory=dict)
    """How far the other outputs that count agree with the original's on the data of `fidelity`, by name: at most 1, by
    the measure that the document's `outputs` say."""
    others_error: Mapping[str, float] = field(default_factory=dict)
    """Standard error of each of `others`, by name; empty in documents that do not say."""
    eval_score: Score | None = expected(None)
    """The metric on the data of `fidelity`; null where it is unknown."""
    test_score: Score | None = expected(None)
    """The metric on the test data, which choose nothing; null without such data."""
    plan: Mapping[str, Choice] = expected({})
    """What became of each layer, by the layer's name."""
    origin: str = expected("")
    """What proposed the design."""
    refined: bool = expected(False)
    """Whether the design's factors were refined by the outputs of the whole model."""
    on_front: bool = expected(False)
    """Whether no other design is as good in parameters, latency and score; where the document is not verified, in
    parameters, latency and output error."""
    model: str | None = expected(None)
    """Path of the design's ONNX file; null where that was not kept."""
    board: BoardFacts | None = expected(None)
    """What a board took; null where none was asked."""
    whole_model: WholeModel = WholeModel()
    int8: Int8Facts | None = None
    """The design with its weights stored as int8; null where that was not made."""
    healed: Healed | None = None
    """How its factors were trained; null where they are as the exploration fitted them."""

    @property
    def charged(self) -> Latency:
        """The latency that counts: that of the design's cache regime, of all fully-connected layers."""
        found = self.latency.at(self.cache_regime)
        if found is None:
            raise ValueError(f"design {self.id} has no latency in its cache regime")
        return found

    @property
    def eval_value(self) -> float:
        """Score on the evaluation data, which choose designs, a fraction: fidelity where there is no other."""
        if self.eval_score is not None:
            return self.eval_score.value
        if self.fidelity is None:
            raise ValueError(f"design {self.id} was not scored")
        return self.fidelity

    @property
    def reported_score(self) -> float:
        """Score to report, a fraction: on the test data where there are some, else on the evaluation data."""
        return self.eval_value if self.test_score is None else self.test_score.value

    @property
    def eval_margin(self) -> float | None:
        """Half the 95 % interval of the loss on the evaluation data, a fraction; None where it is not known."""
        return None if self.eval_score is None else self.eval_score.margin

    @property
    def reported_margin(self) -> float | None:
        """Half the 95 % interval of the loss on the data of `reported_score`, a fraction; None where unknown."""
        score = self.eval_score if self.test_score is None else self.test_score
        return None if score is None else score.margin

    @property
    def reported_interval(self) -> tuple[float, float] | None:
        """95 % interval of `reported_score`; None where unknown."""
        score = self.eval_score if self.test_score is None else self.test_score
        return None if score is None else score.interval

    @property
    def board_latency(self) -> Latency | None:
        """What a board took for all fully-connected layers; None where none was asked."""
        return None if self.board is None else self.board.whole

    def changed(self) -> dict[str, Choice]:
        """Return the layers that are not as the model has them, with what they became."""
        return {name: choice for name, choice in self.plan.items() if not choice.is_original}


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelArgument:
    """One pointer of a kernel's C function."""

    name: str
    role: Role
    element: str
    """Element type of the array."""
    elements: int
    """Number of elements that the kernel may touch."""
    bytes: int
    """Bytes that the array takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFunction:
    """One C function of the recommended design."""

    layer: str
    name: str
    """Name of the kernel's files, without their endings."""
    symbol: str
    """Name of the C function."""
    rows: int
    relu: bool
    arguments: tuple[KernelArgument, ...]
    """The function's arguments, in the order of the C parameters."""
