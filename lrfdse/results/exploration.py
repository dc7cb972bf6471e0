"""What an exploration found out: the object that reports are made from."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.latency import Bound, Latency, MeterKind, Regime
from lrfdse.ir.layer import Layer
from lrfdse.ir.plan import Design, Metric
from lrfdse.ir.space import Cost, Funnel
from lrfdse.ir.storage import words_of
from lrfdse.results.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from lrfdse.board.result import BoardRun
    from lrfdse.ir.layer import Untouched
    from lrfdse.results.designs import Int8Facts, KernelFunction, WholeModel
    from lrfdse.results.outputs import OutputFacts
    from lrfdse.results.sensitivity import SensitivityCase


@dataclass(frozen=True, slots=True)
class MeasuredChoice:
    """A choice of one layer, fitted, compiled, run and measured."""

    choice: Choice
    cost: Cost
    params: int
    """Stored elements of the layer, bias included."""
    bytes: int
    """Bytes that these take, scales included."""
    weight_error: float
    output_error: float | None
    warm: Latency
    """Latency over all uses of the layer, weights in the last-level cache."""
    cold: Latency
    max_error: float
    """Largest deviation of the kernels' outputs from their references, relative to the largest element."""
    schedules: tuple[str, ...]
    """How each use's kernel is laid out in registers."""
    loss: float | None = None
    """Second-order estimate of what the model loses with this choice alone; see `lrfdse.ir.factors.Factors`."""
    warm_bound: Bound | None = None
    """What most of the time goes to with weights in the last-level cache; None where the meter does not tell."""
    cold_bound: Bound | None = None
    """The same where they are in DRAM."""

    @property
    def text(self) -> str:
        """The choice in its text form."""
        return str(self.choice)

    @property
    def words(self) -> int:
        """Float32 numbers that take as many bytes: what choices are compared by."""
        return words_of(self.bytes)

    @property
    def error(self) -> float:
        """Squared relative output error where data were given, else squared weight error."""
        return (self.weight_error if self.output_error is None else self.output_error) ** 2

    def at(self, regime: Regime) -> Latency:
        """Return the latency in the given cache regime."""
        return self.warm if regime == "warm" else self.cold


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Singular values of one matrix, thinned to what a plot shows."""

    size: int
    """The smaller side of the matrix: how many singular values there are."""
    effective_rank: float
    """Exp of the entropy of all singular values divided by their sum; 0 for a zero matrix."""
    ranks: tuple[int, ...]
    """Ranks that are shown, ascending from 1 to `size`."""
    values: tuple[float, ...]
    """The singular value of each rank, relative to the largest."""
    errors: tuple[float, ...]
    """The relative error, in Frobenius norm, of the best matrix of each rank."""


@dataclass(frozen=True)
class LayerResult:
    """One FC layer: its compressibility, its funnel and its options, the dense one first.

    It has no slots, so that the options by factorization can be kept in it once they were asked for.
    """

    layer: Layer
    share: float
    """Fraction of the parameters of the model's FC layers that is this layer's."""
    effective_rank: float
    funnel: Funnel
    options: tuple[MeasuredChoice, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why kernels were dropped, by the text of their choice."""
    kept_dense: str | None = None
    """Why the layer is not explored; None where it is."""
    spectrum: Spectrum | None = None
    """Spectrum of the weight."""
    whitened: Spectrum | None = None
    """Spectrum of the weight times a root of the covariance of its inputs; None without calibration data."""
    activations: Spectrum | None = None
    """Spectrum of a root of the covariance of the layer's inputs; None without calibration data."""

    @property
    def sizes(self) -> tuple[int, int]:
        """Outputs and inputs."""
        return self.layer.outputs, self.layer.inputs

    @property
    def dense(self) -> Factorization:
        """The layer as it is."""
        return Factorization.dense(*self.sizes)

    def rank_errors(self) -> dict[str, float]:
        """Return what orders the layer's options by harm, by text: estimated losses, else squared relative errors.

        The numbers compare within the layer only.
        """
        losses = {option.text: option.loss for option in self.options}
        known = {text: loss for text, loss in losses.items() if loss is not None}
        return known if len(known) == len(losses) else {option.text: option.error for option in self.options}

    def option(self, choice: Choice) -> MeasuredChoice:
        """Return the option of a choice.

        Raises
        ------
        KeyError
            The layer has no such option.
        """
        return self._by_choice[choice]

    @functools.cached_property
    def _by_choice(self) -> dict[Choice, MeasuredChoice]:
        return {option.choice: option for option in self.options}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What can be said of a model without compiling anything; the layers have no options yet."""

    settings: Settings
    model_sha256: str
    layers: tuple[LayerResult, ...]
    untouched: tuple[Untouched, ...]
    macs: int | None
    """MACs of the whole model in one inference; None where those of a part are not known."""
    node_macs: Mapping[str, int]
    """MACs of nodes, where they are known."""


@dataclass(frozen=True, slots=True)
class StudyPlace:
    """Where the study of an exploration is kept."""

    url: str
    """URL of the storage that holds it."""
    name: str
    """Name of the study in that storage."""
    artifacts: Path
    """Folder of the artifact store."""
    shared: bool
    """Whether the user named the storage or the store, so that others are to find the study whole."""
    sole: bool = False
    """Whether the storage lies in the output folder, which one exploration writes to at a time."""


@dataclass(frozen=True, slots=True)
class Exploration:
    """The finished exploration."""

    settings: Settings
    model_sha256: str
    data_sha256: Mapping[str, str | None]
    """Digests of the data by role: "calib" fits layers, "eval" chooses designs, "test" reports scores."""
    meter: str
    """Name of the meter."""
    meter_kind: MeterKind
    """Whether the meter measures or models."""
    procedure: str
    """How the meter obtains a latency, as the end of a sentence that begins "the latency is modelled"."""
    bracket: str
    """What the lower and the upper end of a latency are, as a clause."""
    versions: Mapping[str, str]
    layers: tuple[LayerResult, ...]
    untouched: tuple[Untouched, ...]
    macs: int | None
    """MACs of the whole model in one inference; None where those of a part are not known."""
    node_macs: Mapping[str, int]
    """MACs of nodes, where they are known."""
    metric: Metric
    original: Design
    designs: tuple[Design, ...]
    """Every evaluated design, by latency."""
    front: tuple[str, ...]
    """Ids of the designs that no other beats in parameters, latency and score together; where scores are of random
    inputs, the output error takes the place of the score."""
    recommended: str | None
    """Id of the recommended design; None where nothing satisfies the limits, or nobody measured what designs lose."""
    svd_at_equal_size: str | None
    """Id of the best SVD design at no more parameters than the recommended one; None where there is none."""
    kept: tuple[str, ...]
    """Ids of the designs whose files lie in the output folder."""
    notes: tuple[str, ...]
    """What the reader must know about these numbers."""
    plan_gap: float
    """Relative gap of the knapsack over layers, from end to end; 0 is exact."""
    study: StudyPlace
    """The study in which every design is a trial."""
    boards: Mapping[str, BoardRun] = field(default_factory=dict)
    """What a board took for kept designs, by design id; empty where there is no board."""
    whole: Mapping[str, WholeModel] = field(default_factory=dict)
    """What designs cost as whole models, by design id; empty where none was compiled as one."""
    rest: Latency | None = None
    """What everything but the fully-connected layers takes in a warm run of the original; None where nobody knows."""
    kernels: tuple[KernelFunction, ...] = ()
    """The C functions of the recommended design, where its files lie in the output folder."""
    sensitivity: tuple[SensitivityCase, ...] = ()
    """What latencies would be under other assumptions about the target."""
    verified: bool = True
    """Whether there are evaluation data; else scores are of random inputs, and no loss is measured."""
    classes_hit: int | None = None
    """Classes that the original model puts the evaluation data into; None where its output is no class scores."""
    outputs: tuple[OutputFacts, ...] = ()
    """The outputs that count, the judged one first."""
    int8: Mapping[str, Int8Facts] = field(default_factory=dict)
    """The int8 forms of the original and of kept designs, by design id; empty where none were asked for."""
    int8_baseline: Int8Facts | None = None
    """What onnxruntime's quantizer makes of the original."""

    def design(self, identity: str) -> Design:
        """Return the design with that id."""
        return next(design for design in self.designs if design.id == identity)
