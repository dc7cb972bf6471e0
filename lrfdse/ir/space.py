"""What a search space admits, and the candidates and counts that come out of it."""

from __future__ import annotations

from dataclasses import dataclass

from lrfdse.ir.factorization import Direction, Factorization


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
    """How factors are fitted, a name of `lrfdse.factorize.methods.METHODS`: "svd" knows only the weights, the other
    built-in ones the calibration data too."""

    def ratio(self, weights: int) -> float:
        """Return the least compression asked of a layer of so many weights."""
        return self.min_ratio_large if weights > 16_000_000 else self.min_ratio
