"""What was found of each layer, and of what is no layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lrfdse.base.codec import expected
from lrfdse.base.text import counted
from lrfdse.ir.latency import Bound, Latency, Regime

NOUNS = {
    "fc": "fully-connected layer",
    "conv": "convolution",
    "recurrent": "recurrent input",
    "state": "recurrent weight",
    "attention": "attention input",
    "embedding": "embedding",
    "tied": "tied embedding",
    "joint": "joint product",
}
"""What a layer of each kind is called."""


def nouns_text(kinds: Iterable[str]) -> str:
    """Return what layers of some kinds are called together.

    >>> nouns_text(["fc", "fc"]), nouns_text(["embedding", "conv", "fc"])
    ('fully-connected layers', 'fully-connected layers, convolutions and embeddings')
    """
    found = set(kinds) or {"fc"}
    return _listed([f"{noun}s" for kind, noun in NOUNS.items() if kind in found])


def counts_text(kinds: Sequence[str]) -> str:
    """Return how many layers of each kind there are.

    >>> counts_text(["conv", "fc", "conv"])
    '1 fully-connected layer and 2 convolutions'
    """
    return _listed([counted(kinds.count(kind), noun) for kind, noun in NOUNS.items() if kind in kinds])


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """A latency in both cache regimes, each with its bracket."""

    warm: Latency | None = expected(None)
    """Latency with the weights in the last-level cache; null where it is not known."""
    cold: Latency | None = expected(None)
    """Latency with the weights in DRAM; null where it is not known."""

    def at(self, regime: Regime) -> Latency | None:
        """Return the latency in a cache regime."""
        return self.warm if regime == "warm" else self.cold


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What most of the time of a layer's kernels goes to, by cache regime; null where the meter does not tell."""

    warm: Bound | None = None
    cold: Bound | None = None

    def at(self, regime: Regime) -> Bound | None:
        """Return the bound in a cache regime."""
        return self.warm if regime == "warm" else self.cold


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What became of a layer."""

    factorization: str
    """Text of the factorization: `dense`, `svd:r=R`, `tt:m=AxB,n=CxD,r=R[,lr]`, or `dense+r=R`, which has a repair."""
    storage: str = expected("float32")
    """Element type in which the weights are stored."""

    @property
    def is_repaired(self) -> bool:
        """Whether a product beside the dense layer makes up for its rounding."""
        return self.factorization.startswith("dense+")

    @property
    def is_original(self) -> bool:
        """Whether the layer is as the model has it."""
        return self.factorization == "dense" and self.storage == "float32"

    def __str__(self) -> str:
        return self.factorization if self.storage == "float32" else f"{self.factorization}@{self.storage}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """The singular values of one matrix, at about a hundred ranks."""

    size: int
    """How many singular values there are."""
    effective_rank: float
    """Exponential of the entropy of all singular values divided by their sum."""
    ranks: tuple[int, ...]
    values: tuple[float, ...]
    """The singular value at each rank, relative to the largest."""
    errors: tuple[float, ...]
    """The relative error, in Frobenius norm, of the best matrix of each rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectra:
    """The spectra of a layer."""

    weight: Spectrum | None = None
    whitened: Spectrum | None = None
    """Spectrum of the weight times a root of its inputs' covariance; null without calibration data."""
    inputs: Spectrum | None = None
    """Spectrum of a root of the covariance of the layer's inputs; null without calibration data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """How many designs of a layer one filter left."""

    stage: str
    designs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """How the designs of a layer were narrowed down; no stages where the layer was not explored."""

    stages: tuple[Stage, ...] = ()
    gap: float = 0.0
    """Largest relative distance between the surrogate front found and the exact one; 0 is exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One choice for a layer, fitted, compiled, run and measured."""

    factorization: str
    storage: str
    params: int
    """Number of stored elements, bias included."""
    weight_bytes: int
    """Bytes that the weights take in flash."""
    flops: int
    peak_activation_bytes: int
    """Bytes of working memory that the layer needs."""
    weight_error: float
    """Relative Frobenius error of the weight."""
    output_error: float | None
    """Relative error of the layer's output on calibration data; null without such data."""
    loss: float | None = None
    """Second-order estimate of what the model loses a sample with this layer alone compressed, in nats (class scores)
    or half squared units of the output; null where it is not known."""
    latency: Latencies
    bounds: Bounds = Bounds()
    kernel_error: float | None
    """Largest deviation of the kernels' outputs from their references, relative to the largest element; null in
    documents that do not say."""
    schedules: tuple[str, ...]
    """How each use's kernel is laid out in registers."""

    @property
    def choice(self) -> Choice:
        """The choice, as plans name it."""
        return Choice(factorization=self.factorization, storage=self.storage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A choice for a layer whose kernel crashed, computed wrong numbers or could not be compiled."""

    factorization: str
    storage: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerFacts:
    """A layer: a constant matrix that is applied to rows, those of a convolution being its patches."""

    name: str
    inputs: int
    outputs: int
    kind: str = "fc"
    """What it is: "fc", a fully-connected layer; "conv", a convolution; "recurrent", the matrix by which an LSTM, GRU
    or RNN multiplies what it reads; "state", that by which an LSTM or GRU multiplies its state; "attention", what a
    fused attention multiplies its input by; "embedding", a table; "tied", one that a product
    multiplies by as well; "joint", several products of one input."""
    kernel: tuple[int, int] | None = None
    """Height and width of a convolution's kernel; null of other layers."""
    storage: str = "float32"
    """How the model stores the weight, and what the choice "dense" is stored in."""
    table: int | None = None
    """Rows of an embedding's table; null of other layers. Inputs and outputs are then both the elements of a row."""
    uses: int = expected(1)
    """Number of places in the graph that share the weight."""
    rows: int = expected(1)
    """Rows of its inputs in one inference, over all uses."""
    params: int = expected(0)
    """Number of stored elements, bias included."""
    weight_bytes: int = expected(0)
    """Bytes that the weights take in flash, as the model has them."""
    share: float = expected(0.0)
    """Fraction of the parameters of all layers."""
    peak_activation_bytes: int = expected(0)
    """Bytes of working memory of the layer as the model has it."""
    effective_rank: float = expected(0.0)
    """Effective rank of the weight: the exponential of the entropy of its singular values divided by their sum."""
    spectra: Spectra = expected(Spectra())
    kept_dense: str | None = expected(None)
    """Why the layer was not explored; null where it was."""
    funnel: Funnel = expected(Funnel())
    options: tuple[Option, ...] = expected(())
    """The choices that were measured, the original first."""
    failures: tuple[Failure, ...] = expected(())

    @property
    def macs(self) -> int:
        """MACs of the layer in one inference; reading rows of a table takes none."""
        return 0 if self.kind == "embedding" else self.outputs * self.inputs * self.rows

    @property
    def sizes_text(self) -> str:
        """Inputs and outputs; of a convolution, its channels and the kernel; of an embedding, its table."""
        if self.table is not None:
            return f"{self.table} x {self.outputs}"
        if self.kernel is None:
            return f"{self.inputs} x {self.outputs}"
        height, width = self.kernel
        return f"{self.inputs // (height * width)} x {self.outputs}, {height}x{width}"

    def option(self, choice: Choice) -> Option | None:
        """Return the option that is that choice, or None."""
        return next((option for option in self.options if option.choice == choice), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class UntouchedPart:
    """A part of the model that has parameters and was left as it is."""

    name: str
    op: str
    params: int
    weight_bytes: int | None = expected(None)
    """Bytes that the weights take in flash; null in documents that do not say."""
    macs: int | None = None
    """MACs of the part in one inference; null where they are not known."""
    reason: str
