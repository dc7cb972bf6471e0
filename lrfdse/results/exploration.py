"""What an exploration found out: the object that reports are made from."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.latency import Latency, MeterKind, Regime
from lrfdse.ir.layer import Layer
from lrfdse.ir.plan import Design, Metric
from lrfdse.ir.space import Cost, Funnel
from lrfdse.results.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from lrfdse.board.result import BoardRun
    from lrfdse.ir.layer import Untouched
    from lrfdse.results.designs import KernelFunction


@dataclass(frozen=True, slots=True)
class MeasuredChoice:
    """A factorization of one layer, fitted, compiled, run and measured."""

    factorization: Factorization
    cost: Cost
    params: int
    """Of the layer as stored, bias included."""
    weight_error: float
    output_error: float | None
    warm: Latency
    """Over all uses of the layer."""
    cold: Latency
    max_error: float
    """Largest deviation of the kernels' outputs from their references, relative to the largest element."""
    schedules: tuple[str, ...]
    """One text a use."""
    loss: float | None = None
    """Second-order estimate of what the model loses with this choice alone; see `lrfdse.ir.factors.Factors`."""

    @property
    def text(self) -> str:
        """The factorization in its text form."""
        return str(self.factorization)

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
    """Ascending, from 1 to `size`."""
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
    """Of the parameters of the model's FC layers."""
    effective_rank: float
    funnel: Funnel
    options: tuple[MeasuredChoice, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    """Factorization text to the reason why its kernel was dropped."""
    kept_dense: str | None = None
    """Why the layer is not explored, where it is not."""
    spectrum: Spectrum | None = None
    """Of the weight."""
    whitened: Spectrum | None = None
    """Of the weight times a root of the covariance of its inputs; None without calibration data."""
    activations: Spectrum | None = None
    """Of a root of the covariance of its inputs; None without calibration data."""

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

    def option(self, factorization: Factorization) -> MeasuredChoice:
        """Return the option with that factorization.

        Raises
        ------
        KeyError
            The layer has no such option.
        """
        return self._by_factorization[factorization]

    @functools.cached_property
    def _by_factorization(self) -> dict[Factorization, MeasuredChoice]:
        return {option.factorization: option for option in self.options}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What can be said of a model without compiling anything; the layers have no options yet."""

    settings: Settings
    model_sha256: str
    layers: tuple[LayerResult, ...]
    untouched: tuple[Untouched, ...]


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
    """Of the data that fit ("calib"), choose ("eval") and report ("test")."""
    meter: str
    """Name of the meter."""
    meter_kind: MeterKind
    """Whether it measures or models."""
    procedure: str
    """How the meter obtains a latency, as the end of a sentence that begins "the latency is modelled"."""
    bracket: str
    """What the lower and the upper end of a latency are, as a clause."""
    versions: Mapping[str, str]
    layers: tuple[LayerResult, ...]
    untouched: tuple[Untouched, ...]
    metric: Metric
    baseline: Design
    designs: tuple[Design, ...]
    """Every evaluated design, by latency."""
    front: tuple[str, ...]
    """Ids of the designs that no other beats in parameters, latency and score together; where scores are of random
    inputs, the output error takes the place of the score."""
    recommended: str | None
    """Id of a design; None where nothing satisfies the limits, or nobody measured what designs lose."""
    plain: str | None
    """Id of the best SVD design at no more parameters than the recommended one."""
    kept: tuple[str, ...]
    """Ids of the designs whose files lie in the output folder."""
    notes: tuple[str, ...]
    """What the reader must know about these numbers."""
    plan_gap: float
    """End-to-end relative gap of the knapsack; 0 is exact."""
    study: StudyPlace
    """The study in which every design is a trial."""
    boards: Mapping[str, BoardRun] = field(default_factory=dict)
    """Design id to what a board took, for the kept designs where there is a board."""
    kernels: tuple[KernelFunction, ...] = ()
    """The C functions of the recommended design, where its files lie in the output folder."""
    verified: bool = True
    """Whether scores are of evaluation data that the user gave; else of random inputs, and no loss is measured."""
    classes_hit: int | None = None
    """Classes that the original model puts the data that choose into; None where its output is no class scores."""

    def design(self, identity: str) -> Design:
        """Return the design with that id."""
        return next(design for design in self.designs if design.id == identity)
