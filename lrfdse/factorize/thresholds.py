"""Sizes at which fits change to cheaper algorithms; tests set them low to see what large layers get."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CoreBudget:
    """What the least squares problem of one core may cost (`lrfdse.factorize.system`).

    The sizes bound memory and are chosen, not measured; the steps of conjugate gradients are those of docs/method.md,
    section 7, with times and errors in results/als.md.
    """

    direct_unknowns: int = 5000
    """Most unknowns of one right-hand side of a normal matrix that is formed: 200 MB of float64."""
    direct_elements: int = 32_000_000
    """Most elements of an array that helps to form it: 256 MB of float64."""
    largest_array: int = 64_000_000
    """Most elements of what the product with a normal matrix that is not formed makes on its way: 512 MB."""
    steps: int = 8
    """Most steps of conjugate gradients."""
    few_steps: int = 4
    """The same for a layer of `Thresholds.large` elements."""
    tolerance: float = 1e-2
    """Part of the first residual at which conjugate gradients end: the next sweep solves the core again."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Sizes of layers at which fits change to cheaper algorithms.

    Chosen so that one fit of a layer of VGG-16 or BERT takes seconds to minutes on one core (results/scale.md).
    """

    large: int = 1 << 24
    """Elements from which a matrix is worked on in single precision, and nothing is done that its size forbids."""
    direct_side: int = 1536
    """Smaller side up to which the full SVD of a matrix that is not large is computed."""
    gram_side: int = 1536
    """Smaller side of a large matrix up to which singular vectors come from its Gram matrix."""
    gram_part: float = 0.4
    """Part of the smaller side from which a rank is taken from the Gram matrix up to `most_gram_side`, too."""
    most_gram_side: int = 4096
    """Smaller side of a large matrix above which its Gram matrix is never formed."""
    chunk: int = 1 << 23
    """Elements of the difference between a weight and its train that are held at a time."""
    most_vectors: int = 4096
    """Outputs up to which all left singular vectors of a large weight are taken at once, for all ranks."""
    few_samples: int = 4
    """Inputs a sample from which a covariance is taken for one of low rank, where `costly` says that it matters."""
    costly: float = 1e9
    """Multiplications of a product with the covariance from which its low rank matters."""
    swept: float = 1e11
    """Weights times inputs up to which alternating least squares may go on to its end."""
    core: CoreBudget = field(default_factory=CoreBudget)
    """What the least squares problem of one core may cost."""


DEFAULT = Thresholds()
"""The thresholds that explorations use."""
