"""What a search space admits, and the candidates and counts that come out of it."""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.ir.factorization import Direction, Factorization

MOST_CORES = 8
"""Of a chain. Chosen: with each more, designs multiply, and a file must not make counting them take hours."""
_LARGEST = 2**53
"""Size of whole numbers: up to here float64 holds every one."""
LARGE_LAYER = 16_000_000
"""Weights above which `SearchSpace.min_ratio_large` bounds a layer's factors: a 4096 x 4096 layer is above it.

Chosen, not measured: the designs of such a layer are many, and its fits are slow."""


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
class SearchSpace:
    """What the exploration may try. Read from ``search_spaces/*.toml``."""

    name: str = "default"
    summary: str = ""
    max_cores: int = 4
    unit_modes: bool = True
    """Whether a core may have an output or input mode of 1 (SVD paths are always allowed)."""
    directions: tuple[Direction, ...] = ("rl", "lr")
    dense_ranks_to: int = 32
    """Every rank up to here is tried."""
    rank_step: int = 8
    """Above `dense_ranks_to`, the multiples of this step are tried."""
    lane_ranks: bool = False
    """Keep only ranks that are a multiple of the target's lanes."""
    aligned: bool = False
    """Keep only the factor order that minimises FLOPs at equal ranks in the design's direction."""
    min_ratio: float = 2.0
    """A layer's factors hold at most 1/min_ratio of its weights."""
    min_ratio_large: float = 4.0
    """Factors of a layer of more than `LARGE_LAYER` weights hold at most 1/min_ratio_large of them."""
    include: tuple[str, ...] = ("*",)
    """Patterns, as of a shell, of the names of layers that may be compressed."""
    exclude: tuple[str, ...] = ()
    """Patterns, as of a shell, of the names of layers that stay dense, whatever `include` says."""
    min_size: int = 16
    """Layers with a side below this are left dense."""
    pad_to_smooth: bool = False
    """Pad sides with few divisors to the next size whose prime factors are at most 7."""
    max_compiled: int = 40
    """Designs of one layer that are compiled, spread over the surrogate front."""
    method: str = "auto"
    """How factors are fitted, a name of `lrfdse.factorize.methods.METHODS`: "svd" knows only the weights, the other
    built-in ones the calibration data too."""

    def __post_init__(self) -> None:
        if self.max_cores > MOST_CORES:
            raise ValueError(f"`max_cores` must be at most {MOST_CORES}")
        numbers = ("dense_ranks_to", "rank_step", "min_size", "max_compiled")
        if wrong := [name for name in numbers if abs(getattr(self, name)) > _LARGEST]:
            raise ValueError(f"`{wrong[0]}` must be a number up to {_LARGEST:,} in size")

    def ratio(self, weights: int) -> float:
        """Return the least compression asked of a layer of so many weights."""
        return self.min_ratio_large if weights > LARGE_LAYER else self.min_ratio
