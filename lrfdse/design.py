"""The nouns that every package shares: frozen, slotted, and free of heavy imports.

Notation, as in the tensor-train literature: a layer computes ``y = W x + b`` with ``W`` of shape
``(M, N) = (outputs, inputs)``. A factorization splits ``M = m_1 ... m_d`` and ``N = n_1 ... n_d``; core ``k`` has shape
``(r_{k-1}, m_k, n_k, r_k)`` with ``r_0 = r_d = 1``; both index sets are row-major. A MAC is one multiplication and one
addition; a FLOP count is twice a MAC count.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from lrfdse.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

Direction = Literal["rl", "lr"]
"""Contraction order of a chain: right to left (last core first) or left to right."""

Axis = Literal["out", "inner", "columns"]
"""The axis of a step that is laid on the vector lanes."""

Metric = str
"""What designs are chosen by: "accuracy" (top-1), "fidelity", another metric's name, or the user's module:function."""

Regime = Literal["warm", "cold"]
"""Whether a kernel finds its weights in the last-level cache (warm) or in DRAM (cold)."""


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
    """A fully-connected layer of a model: sizes and identity, no arrays."""

    name: str
    outputs: int
    inputs: int
    uses: tuple[Use, ...]
    bias_params: int
    """Stored bias elements over all uses (a bias that two uses share counts once)."""
    digest: str
    """SHA-256 of the float32 weight in (outputs, inputs) order: the cache key of everything derived from it."""

    @property
    def params(self) -> int:
        """Stored parameters, weight and bias."""
        return self.outputs * self.inputs + self.bias_params

    @property
    def rows(self) -> int:
        """Rows over all uses."""
        return sum(use.rows for use in self.uses)

    @property
    def flops(self) -> int:
        """FLOPs of one inference over all uses, dense, bias not counted."""
        return 2 * self.outputs * self.inputs * self.rows


@dataclass(frozen=True, slots=True)
class Step:
    """One matrix product of a chain: ``out[p, j, q] = sum_k weight[j, k] * input[p, k, q]``, all C-contiguous.

    Contracting a tensor train core by core, in either direction, is a sequence of such steps in which the output of
    one, reinterpreted with other sizes, is the input of the next: no transpose is ever needed (docs/method.md).
    """

    batch: int
    out: int
    inner: int
    columns: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the step."""
        return self.batch * self.out * self.inner * self.columns

    @property
    def input_size(self) -> int:
        """Elements read."""
        return self.batch * self.inner * self.columns

    @property
    def output_size(self) -> int:
        """Elements written."""
        return self.batch * self.out * self.columns

    def padded_macs(self, lanes: int) -> int:
        """MACs with the vector axis rounded up to whole vectors, for the axis where that costs least.

        The inner axis can carry the vector only when ``columns == 1`` (otherwise it is not contiguous).

        >>> Step(batch=1, out=9, inner=784, columns=1).padded_macs(8)
        7056
        >>> Step(batch=1, out=9, inner=10, columns=3).padded_macs(8)
        480
        """

        def up(size: int) -> int:
            return -(-size // lanes) * lanes

        choices = [up(self.out) * self.inner * self.columns, self.out * self.inner * up(self.columns)]
        if self.columns == 1:
            choices.append(self.out * up(self.inner))
        return self.batch * min(choices)


@dataclass(frozen=True, slots=True)
class Factorization:
    """The shape of a layer's decomposition: modes, ranks and contraction direction; no numbers.

    ``ranks`` holds the ``d - 1`` inner ranks. ``d = 1`` is the dense layer. Plain SVD is the path through ``(M, 1)``:
    modes ``m = (M, 1)``, ``n = (1, N)``, right to left. Modes that multiply to more than the layer's sizes mean a layer
    padded with zeros: unused trailing inputs and outputs.

    >>> f = Factorization.parse("tt:m=300x1,n=4x196,r=9", outputs=300, inputs=784)
    >>> f.params, f.macs(), str(f)
    (12564, 17856, 'tt:m=300x1,n=4x196,r=9')
    >>> str(Factorization.svd(300, 784, 32)), Factorization.svd(300, 784, 32).macs()
    ('svd:r=32', 34688)
    """

    out_modes: tuple[int, ...]
    in_modes: tuple[int, ...]
    ranks: tuple[int, ...] = ()
    direction: Direction = "rl"

    def __post_init__(self) -> None:
        if not (len(self.out_modes) == len(self.in_modes) == len(self.ranks) + 1):
            raise InputError(
                "as many output modes as input modes and one rank fewer must hold, but got "
                f"m={self.out_modes}, n={self.in_modes}, r={self.ranks}"
            )
        if min((*self.out_modes, *self.in_modes, *self.ranks)) < 1:
            raise InputError(f"modes and ranks >= 1 must hold, but got {self}")

    @classmethod
    def dense(cls, outputs: int, inputs: int) -> Factorization:
        """Return the layer as it is: one core."""
        return cls((outputs,), (inputs,))

    @classmethod
    def svd(cls, outputs: int, inputs: int, rank: int) -> Factorization:
        """Return the two-factor form of a truncated SVD."""
        return cls((outputs, 1), (1, inputs), (rank,))

    @classmethod
    def parse(cls, text: str, outputs: int, inputs: int) -> Factorization:
        """Read the text form that `str` gives; raise `InputError` when it does not fit the layer's sizes."""
        if text == "dense":
            return cls.dense(outputs, inputs)
        if found := re.fullmatch(r"svd:r=(\d+)", text):
            return cls.svd(outputs, inputs, int(found[1]))
        found = re.fullmatch(r"tt:m=([\dx]+),n=([\dx]+),r=([\dx]+)(,lr)?", text)
        if not found:
            raise InputError(f"`dense`, `svd:r=R` or `tt:m=AxB,n=CxD,r=R[,lr]` must hold, but got {text!r}")
        m, n, r = (tuple(int(x) for x in part.split("x")) for part in found.group(1, 2, 3))
        made = cls(m, n, r, "lr" if found[4] else "rl")
        if made.outputs < outputs or made.inputs < inputs:
            raise InputError(f"{text!r} must multiply to at least {outputs} outputs and {inputs} inputs")
        return made

    @property
    def outputs(self) -> int:
        """M, padding included."""
        return math.prod(self.out_modes)

    @property
    def inputs(self) -> int:
        """N, padding included."""
        return math.prod(self.in_modes)

    @property
    def is_dense(self) -> bool:
        """Whether the layer is kept as it is."""
        return len(self.out_modes) == 1

    @property
    def is_svd(self) -> bool:
        """Whether this is the two-factor form ``(M x r)(r x N)``, however it is written."""
        return len(self.out_modes) == 2 and (
            (self.out_modes[1] == 1 and self.in_modes[0] == 1) or (self.out_modes[0] == 1 and self.in_modes[1] == 1)
        )

    def __str__(self) -> str:
        if self.is_dense:
            return "dense"
        if self.out_modes[1:] == (1,) and self.in_modes[:1] == (1,) and self.direction == "rl":
            return f"svd:r={self.ranks[0]}"
        m, n, r = ("x".join(map(str, part)) for part in (self.out_modes, self.in_modes, self.ranks))
        return f"tt:m={m},n={n},r={r}" + (",lr" if self.direction == "lr" else "")

    @property
    def bonds(self) -> tuple[int, ...]:
        """Ranks with the two outer ones: ``(1, r_1, ..., r_{d-1}, 1)``."""
        return (1, *self.ranks, 1)

    @property
    def core_shapes(self) -> tuple[tuple[int, int, int, int], ...]:
        """Shapes ``(r_{k-1}, m_k, n_k, r_k)``."""
        r = self.bonds
        return tuple((r[k], m, n, r[k + 1]) for k, (m, n) in enumerate(zip(self.out_modes, self.in_modes, strict=True)))

    @property
    def params(self) -> int:
        """Elements of all cores; a bias is not counted."""
        return sum(math.prod(shape) for shape in self.core_shapes)

    def step_matrices(self, cores: Sequence[Array]) -> list[Array]:
        """Return the weight matrix ``(out, inner)`` of every step, in execution order, from cores of `core_shapes`."""
        if self.direction == "rl":
            return [core.reshape(core.shape[0] * core.shape[1], -1) for core in reversed(cores)]
        return [core.transpose(1, 3, 0, 2).reshape(core.shape[1] * core.shape[3], -1) for core in cores]

    def steps(self, rows: int = 1) -> tuple[Step, ...]:
        """Return the chain of matrix products in execution order, for `rows` input rows.

        Right to left, step ``k`` multiplies by core ``k`` as the matrix ``[(r_{k-1} m_k), (n_k r_k)]``; left to right
        as ``[(m_k r_k), (r_{k-1} n_k)]``.
        """
        m, n, r = self.out_modes, self.in_modes, self.bonds
        order = range(len(m))
        if self.direction == "rl":
            return tuple(
                Step(rows * math.prod(n[:k]), r[k] * m[k], n[k] * r[k + 1], math.prod(m[k + 1 :]))
                for k in reversed(order)
            )
        return tuple(Step(rows * math.prod(m[:k]), m[k] * r[k + 1], r[k] * n[k], math.prod(n[k + 1 :])) for k in order)

    def macs(self, rows: int = 1) -> int:
        """MACs of the chain in its own direction."""
        return sum(step.macs for step in self.steps(rows))

    def padded_macs(self, lanes: int, rows: int = 1) -> int:
        """MACs with each step's vector axis rounded up to `lanes`."""
        return sum(step.padded_macs(lanes) for step in self.steps(rows))

    def peak(self, rows: int = 1) -> int:
        """Peak activation memory in elements: the largest input plus output of one step."""
        return max(step.input_size + step.output_size for step in self.steps(rows))


@dataclass(frozen=True, slots=True)
class Cost:
    """What a design of one layer costs before anything is compiled."""

    params: int
    """Elements of the cores."""
    flops: int
    """Exact FLOPs at the layer's rows."""
    padded_flops: int
    """FLOPs with every step's vector axis rounded up to the target's lanes: the surrogate of latency."""
    peak: int
    """Peak activation memory in elements."""

    @classmethod
    def of(cls, factorization: Factorization, rows: int, lanes: int) -> Cost:
        """Count `factorization` at `rows` input rows on a target of `lanes` float32 lanes."""
        f = factorization
        return cls(f.params, 2 * f.macs(rows), 2 * f.padded_macs(lanes, rows), f.peak(rows))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A design of one layer that survived the filters."""

    factorization: Factorization
    cost: Cost
    error_bound: float
    """Upper bound of ``|W - What|^2 / |W|^2`` by TT-SVD: squared singular values beyond the rank, summed over bonds.

    With calibration data the unfoldings are whitened and the sum is an estimate of the squared relative output error,
    or that error itself where the candidate has been fitted.
    """


@dataclass(frozen=True, slots=True)
class Funnel:
    """How many designs of a layer each stage left: what users of the reference method expect to see.

    >>> Funnel((("raw", 1000), ("cheaper than dense", 10))).extended("compiled", 4).stages[-1]
    ('compiled', 4)
    """

    stages: tuple[tuple[str, int], ...]
    gap: float = 0.0
    """Largest relative distance in any objective between the surrogate front found and the exact one; 0 is exact."""

    def extended(self, stage: str, count: int) -> Funnel:
        """Return the funnel with one more stage."""
        return Funnel((*self.stages, (stage, count)), self.gap)


@dataclass(frozen=True, slots=True)
class Moments:
    """Second moments of what a layer reads, accumulated over calibration data."""

    count: int
    """Input rows seen."""
    mean: Array
    """E[x], shape (N,)."""
    second: Array
    """G = E[x x^T], shape (N, N), not centred."""
    cross: Array | None = None
    """C = E[(y - E y)(x - E x)^T], shape (M, N), where the layer is to give y of other inputs than the x it reads.

    y is the original layer's product without its bias, on the original inputs; None means y = W x.
    """
    output_mean: Array | None = None
    """E[y], shape (M,); goes with `cross`."""
    output_variance: float | None = None
    """E|y - E y|^2, summed over outputs; goes with `cross`."""

    @property
    def covariance(self) -> Array:
        """Second moment about the mean, shape (N, N)."""
        return self.second - self.mean[:, None] * self.mean[None, :]


@dataclass(frozen=True, slots=True)
class Factors:
    """A fitted factorization: the numbers."""

    factorization: Factorization
    cores: tuple[Array, ...]
    """Core k has shape (r_{k-1}, m_k, n_k, r_k), float64."""
    bias_shift: Array | None
    """What is added to every use's bias, shape (M,): ``(W - What) E[x]``; None without calibration data."""
    weight_error: float
    """Relative Frobenius error ``|W - What| / |W|``."""
    output_error: float | None
    """Relative error of the layer's output on calibration data, mean taken out; None without calibration data."""
    loss: float | None = None
    """Second-order estimate of what the model loses a sample, in nats or squared units of its output, when this layer
    alone is so; None where nothing is known of how the model depends on the layer."""


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

    def __str__(self) -> str:
        return f"{self.axis}:{self.lanes}:{self.out_tile}x{self.column_tile}:u{self.unroll}"

    @classmethod
    def parse(cls, text: str) -> StepSchedule:
        """Read the text form that `str` gives."""
        found = re.fullmatch(r"(out|inner|columns):(\d+):(\d+)x(\d+):u(\d+)", text)
        if not found:
            raise InputError(f"`AXIS:LANES:OUTxCOLUMNS:uUNROLL` must hold for a schedule's step, but got {text!r}")
        axis: Axis = found[1]  # type: ignore[assignment]
        return cls(axis, *(int(number) for number in found.groups()[1:]))


@dataclass(frozen=True, slots=True)
class KernelSpec:
    """What a kernel computes, weights aside: the part of its identity that does not depend on code generation."""

    outputs: int
    inputs: int
    """The layer's own sizes; the factorization's may be larger (padding)."""
    factorization: Factorization
    rows: int
    bias: bool
    relu: bool

    def __str__(self) -> str:
        fused = ("+bias" if self.bias else "") + ("+relu" if self.relu else "")
        return f"{self.outputs}x{self.inputs} {self.factorization} rows={self.rows}{fused}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A kernel's register tiling, one entry a step in execution order."""

    steps: tuple[StepSchedule, ...]

    def __str__(self) -> str:
        return "|".join(map(str, self.steps))

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """Read the text form that `str` gives.

        >>> str(Schedule.parse("inner:8:4x1:u1|out:16:2x1:u2"))
        'inner:8:4x1:u1|out:16:2x1:u2'
        """
        return cls(tuple(StepSchedule.parse(part) for part in text.split("|")))


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """What the exploration may try. Read from ``search_spaces/*.toml``."""

    name: str = "default"
    summary: str = ""
    max_cores: int = 4
    unit_modes: bool = True
    """Whether a core may have an output or input mode of 1 (SVD paths are always allowed)."""
    directions: tuple[Direction, ...] = ("rl", "lr")
    dense_ranks_to: int = 32
    """Every rank up to here is on the grid ..."""
    rank_step: int = 8
    """... and above it the multiples of this step."""
    lane_ranks: bool = False
    """Keep only ranks that are a multiple of the target's lanes."""
    aligned: bool = False
    """Keep only the factor order that minimises FLOPs at equal ranks in the design's direction."""
    min_ratio: float = 2.0
    """A layer's factors hold at most 1/min_ratio of its weights ..."""
    min_ratio_large: float = 4.0
    """... and at most 1/min_ratio_large above 16 M weights."""
    include: tuple[str, ...] = ("*",)
    """Layers in, as shell patterns."""
    exclude: tuple[str, ...] = ()
    """Layers out, as shell patterns."""
    min_size: int = 16
    """Layers with a side below this are left dense."""
    pad_to_smooth: bool = False
    """Pad sides with few divisors to the next size whose prime factors are at most 7."""
    max_compiled: int = 40
    """Designs of one layer that are compiled, spread over the surrogate front."""
    method: str = "auto"
    """How factors are fitted, a name of `lrfdse.factorize.METHODS`: "svd" knows only the weights, the other built-in
    ones the calibration data too."""

    def ratio(self, weights: int) -> float:
        """Return the least compression asked of a layer of so many weights."""
        return self.min_ratio_large if weights > 16_000_000 else self.min_ratio


Role = Literal["input", "weight", "bias", "output", "work"]


@dataclass(frozen=True, slots=True)
class Argument:
    """One `float *` parameter of a kernel's C function."""

    name: str
    role: Role
    size: int
    """Elements the kernel may touch."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A compiled kernel: an object file with one plain C symbol."""

    spec: KernelSpec
    schedule: Schedule
    target: str
    symbol: str
    arguments: tuple[Argument, ...]
    """In the order of the C parameters."""
    object_code: bytes
    assembly: str = ""
    """The same code as text; empty where it was not asked for."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A latency in microseconds with its bracket or spread."""

    us: float
    low_us: float
    high_us: float


MeterKind = Literal["measured", "modelled"]
"""Whether a latency was measured on the target's hardware, or modelled."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The latency of one kernel on one target, with its provenance and its numerical check."""

    meter: str
    """Name of the meter."""
    warm: Latency
    cold: Latency
    max_error: float
    """Largest deviation from the reference relative to the largest reference element."""
    details: Mapping[str, float | int | str] = field(default_factory=dict)
    """What the meter saw: executed instructions, cycles, misses, repeats."""

    def at(self, regime: Regime) -> Latency:
        """Return the latency in the given cache regime."""
        return self.warm if regime == "warm" else self.cold


@dataclass(frozen=True, slots=True)
class Plan:
    """One factorization for every layer of a model, by layer name; the layers that are left out stay dense."""

    choices: tuple[tuple[str, Factorization], ...]

    def __getitem__(self, layer: str) -> Factorization:
        return dict(self.choices)[layer]

    def texts(self) -> dict[str, str]:
        """Return layer name to factorization text."""
        return {name: str(factorization) for name, factorization in self.choices}


@dataclass(frozen=True, slots=True)
class Design:
    """A plan with everything that was found out about it."""

    id: str
    plan: Plan
    params: int
    flops: int
    latency: Latency
    regime: Regime
    eval_accuracy: float | None
    """The metric's score on the data that chooses, a fraction; None where the metric is fidelity."""
    accuracy: float | None
    """The metric's score on the test data, which chooses nothing; a fraction."""
    fidelity: float
    """Agreement with the original model; a fraction."""
    standard_error: float
    """Of the loss against the original model on the data that choose; a fraction."""
    origin: str
    """What proposed the plan: "dense", "uniform-svd", "knapsack" or the sampler's name."""
    refined: bool = False
    """Whether the scores are of factors that the whole effort was taken for, see `lrfdse.explore.plans.Builder`."""
    eval_interval: tuple[float, float] | None = None
    """95 % interval of the score on the data that choose; None where the metric gives no value a sample."""
    accuracy_interval: tuple[float, float] | None = None
    """95 % interval of `accuracy`."""
    accuracy_error: float | None = None
    """Standard error of the loss on the test data; a fraction."""
    output_error: float | None = None
    """Relative error of the model's first output on the data that choose (random inputs where none were given), in
    Frobenius norm; None where that output is whole numbers or not finite."""

    def score(self, metric: Metric) -> float:
        """Return the score on the data that choose: `fidelity` where that is the metric, else `eval_accuracy`."""
        value = self.fidelity if metric == "fidelity" else self.eval_accuracy
        if value is None:
            raise InputError(f"labels must hold for {metric}, but design {self.id} was scored without")
        return value
