"""Spectra of a weight's unfoldings: what a truncation at each bond and rank discards, and effective ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.factorize.grams import grams
from lrfdse.factorize.linalg import square_root
from lrfdse.factorize.quadrature import BLOCK, squared_spectrum, steps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.base.events import Worked
    from lrfdse.ir.factorization import Array
    from lrfdse.ir.factors import Moments

    Bond = tuple[int, int]

GRAM_SIDE = 1024
"""Smaller side of an unfolding up to which all eigenvalues of its Gram matrix are computed: a fraction of a second on
one core, of a few hundred bonds. Chosen, not measured."""

PLAIN_SIDE = 4096
"""The same at the two bonds of plain SVD, whose spectra are exact for layers of up to so many outputs or inputs."""

_LARGE = 1 << 25
"""Elements from which a weight is held in single precision; Gram matrices are summed in double all the same. Chosen:
256 MB in double precision."""

_SEPARATIONS = 8
"""Steps of the power iteration for the nearest Kronecker product. Chosen, not measured."""

_PIVOTED = 1024
"""Rows from which a root comes from Cholesky factorization with pivoting, not from eigenvectors, which cost ten times
as much. Chosen, not measured."""


def bond_tails(
    weight: NDArray[np.floating],
    bonds: Mapping[Bond, int],
    seed: int = 0,
    progress: Worked | None = None,
    gram_side: int = GRAM_SIDE,
    plain_side: int = PLAIN_SIDE,
) -> dict[Bond, Array]:
    """Return the relative energy that a truncation discards, for each bond and each rank up to its limit.

    The unfolding at the bond ``(M_k, N_k)`` pairs the leading output and input modes against the trailing ones:
    ``W.reshape(M_k, M/M_k, N_k, N/N_k)`` with the axes in the order 0, 2, 1, 3 as a matrix of ``M_k N_k`` rows.

    Where its smaller side is at most `gram_side` (`plain_side` at the bonds of plain SVD), singular values come from
    the eigenvalues of the Gram matrix of that side. Elsewhere they are those of `lrfdse.factorize.quadrature`, in
    single precision: the leading ones, and for the others the density of the spectrum. Tails are then right to about a
    percent, and to a few where they are below a thousandth.

    Parameters
    ----------
    weight : array, shape (M, N)
        The layer's weight, padded with zeros where the bonds are those of a padded layer.
    bonds : mapping of (M_k, N_k) to int
        Largest rank wanted on each bond.
    seed : int
        Seed of the random blocks.
    progress
        Called after each bond with how much work it was, in the units of `work`.
    gram_side, plain_side
        Smaller sides up to which spectra are exact: at any bond, and at the two bonds of plain SVD.

    Returns
    -------
    dict
        Bond to an array of its limit plus one entries: entry ``r`` is the sum of squared singular values beyond
        the first ``r``, divided by ``|W|^2``. Entries lie in [0, 1] and never increase; all are 0 for a zero weight.
    """
    largest = float(max(weight.max(initial=0.0), -weight.min(initial=0.0)))
    if largest == 0.0:
        return {bond: np.zeros(rank + 1) for bond, rank in bonds.items()}
    scaled: NDArray[np.floating] = np.divide(
        weight, largest, dtype=np.float64 if weight.size <= _LARGE else np.float32, casting="same_kind"
    )
    energy = sum(float(np.vdot(rows, rows)) for rows in (row.astype(np.float64, copy=False) for row in scaled))
    plain, turned = (len(weight), 1), (1, weight.shape[1])
    both = plain != turned and plain in bonds and turned in bonds
    found: dict[Bond, Array] = {}
    sides = gram_side, plain_side
    exact = [bond for bond in bonds if _is_exact(scaled.shape, bond, sides) and not (both and bond == turned)]
    for bond, gram in grams(scaled, exact):
        squared = _eigenvalues(gram)
        found[bond] = _tails(squared, bonds[bond], energy)
        if both and bond == plain:
            # The unfolding of one is that of the other transposed.
            found[turned] = _tails(squared, bonds[turned], energy)
        if progress is not None:
            progress(work(scaled.shape, [bond], gram_side, plain_side))
    single: NDArray[np.float32] | None = None
    for index, (bond, rank) in enumerate(bonds.items()):
        if bond in found:
            continue
        single = scaled.astype(np.float32, copy=False) if single is None else single
        matrix = unfolding(single, bond)
        if len(matrix) > matrix.shape[1]:
            matrix = np.ascontiguousarray(matrix.T)
        squared = squared_spectrum(matrix, energy, np.random.default_rng([seed, index]))
        found[bond] = _tails(squared, rank, energy)
        if progress is not None:
            progress(work(scaled.shape, [bond], gram_side, plain_side))
    return {bond: found[bond] for bond in bonds}


def work(
    sizes: tuple[int, ...], bonds: Iterable[Bond], gram_side: int = GRAM_SIDE, plain_side: int = PLAIN_SIDE
) -> float:
    """Return what the tails of a weight take, in floating-point operations, roughly.

    Parameters
    ----------
    sizes
        (M, N) of the weight.
    bonds
        Each (M_k, N_k).
    gram_side, plain_side
        As for `bond_tails`.
    """
    m, n = sizes
    total = 0.0
    for a, b in bonds:
        side = min(a * b, m * n // (a * b))
        total += (
            6.0 * side**3 + 0.5 * side * m * n
            if _is_exact(sizes, (a, b), (gram_side, plain_side))
            else 4.0 * BLOCK * steps(m * n) * m * n
        )
    return total


def _is_exact(sizes: tuple[int, ...], bond: Bond, sides: tuple[int, int]) -> bool:
    (m, n), (a, b) = sizes, bond
    side = min(a * b, m * n // (a * b))
    return side <= sides[bond in ((m, 1), (1, n))]


def whitened_bond_tails(
    weight: Array, moments: Moments, bonds: Mapping[Bond, int], seed: int = 0, progress: Worked | None = None
) -> dict[Bond, Array]:
    """Return what `bond_tails` does, of the weight under the inputs' covariance made separable at each bond.

    At the bond ``(M_k, N_k)`` the covariance is replaced by a Kronecker product of factors of sizes ``N_k`` and
    ``N / N_k``, each the mean of that of the nearest such product and of the marginal covariance. Their roots act on
    the rows and on the columns of the unfolding alone, so its spectrum is that of a truncation's output error. It is
    exact where ``N_k`` is 1 or N, thus on the paths of the plain SVD; elsewhere sums over bonds are a
    heuristic for the output error and no bound of it.

    Parameters
    ----------
    weight : array, shape (M, N)
        The layer's weight, padded with zeros where the bonds are those of a padded layer.
    moments : Moments
        Moments of the layer's inputs; padded inputs never vary.
    bonds : mapping of (M_k, N_k) to int
        Largest rank wanted on each bond.
    seed, progress
        As for `bond_tails`.

    Returns
    -------
    dict
        Bond to tails, as `bond_tails` returns them, relative to the energy of the whitened weight.
    """
    inputs = weight.shape[1]
    covariance = moments.covariance
    covariance = np.pad(covariance, (0, inputs - len(covariance)))
    found: dict[Bond, Array] = {}
    for split in sorted({b for _, b in bonds}):
        chosen = {bond: rank for bond, rank in bonds.items() if bond[1] == split}
        found |= bond_tails(whitened_for(weight, covariance, split), chosen, seed, progress)
    return {bond: found[bond] for bond in bonds}


def whitened_for(weight: Array, covariance: Array, split: int) -> Array:
    """Return the weight whitened by the covariance made separable at the bonds of leading input modes `split`.

    Linear in the weight, shape (M, N), of which the covariance (N, N) has the inputs.
    """
    first, rest = _mixed(covariance, split)
    left = np.tensordot(weight.reshape(-1, split, len(covariance) // split), _root(first), axes=(1, 0))
    return (np.moveaxis(left, 2, 1) @ _root(rest)).reshape(weight.shape)


def _mixed(covariance: Array, split: int) -> tuple[Array, Array]:
    """Return the means, at equal traces, of the factors of the nearest Kronecker product and of the partial traces.

    The nearest product alone holds what varies jointly and so promises too much where the covariance is not separable.
    """
    tensor = covariance.reshape(split, len(covariance) // split, split, -1)
    marginals = np.trace(tensor, axis1=1, axis2=3), np.trace(tensor, axis1=0, axis2=2)
    first, rest = (
        near / max(float(np.trace(near)), np.finfo(np.float64).tiny)
        + marginal / max(float(np.trace(marginal)), np.finfo(np.float64).tiny)
        for near, marginal in zip(separated(covariance, split), marginals, strict=True)
    )
    return first, rest


def separated(covariance: Array, split: int) -> tuple[Array, Array]:
    """Return the factors B (split, split) and C of the Kronecker product nearest to a covariance in Frobenius norm.

    The leading singular pair of the rearranged matrix (Van Loan and Pitsianis 1993) by power iteration from the
    identity, which keeps both factors positive semidefinite.
    """
    rest = len(covariance) // split
    tensor = covariance.reshape(split, rest, split, rest).transpose(0, 2, 1, 3).reshape(split**2, rest**2)
    first, second = np.eye(split).ravel(), np.zeros(rest**2)
    for _ in range(_SEPARATIONS):
        second = first @ tensor
        norm = float(np.linalg.norm(second))
        if norm == 0.0:
            break
        second /= norm
        first = tensor @ second
    return first.reshape(split, split), second.reshape(rest, rest)


def unfolding(weight: NDArray[Any], bond: tuple[int, int]) -> NDArray[Any]:
    """Return the unfolding of `weight`, shape (M, N), at a bond: shape ``(M_k N_k, M N / (M_k N_k))``."""
    (m, n), (a, b) = weight.shape, bond
    return weight.reshape(a, m // a, b, n // b).transpose(0, 2, 1, 3).reshape(a * b, -1)


def effective_rank(weight: Array) -> float:
    """Return ``exp(-sum p_i ln p_i)`` with ``p_i`` the singular values divided by their sum (Roy and Vetterli 2007).

    It lies between 1 and ``min(M, N)``, and is 0 for a zero weight.

    >>> round(effective_rank(np.eye(5)), 9)
    5.0
    """
    largest = float(np.abs(weight).max(initial=0.0))
    if largest == 0.0:
        return 0.0
    values = np.sqrt(_squared_singular_values(np.asarray(weight, dtype=np.float64) / largest))
    share = values / values.sum()
    share = share[share > 0]
    return float(np.exp(-np.sum(share * np.log(share))))


def normalized_effective_rank(weight: Array) -> float:
    """Return the effective rank divided by ``min(M, N)``: near 1, no low-rank form is close; near 0, some is.

    >>> round(normalized_effective_rank(np.ones((4, 8))), 6)
    0.25
    """
    return effective_rank(weight) / float(min(weight.shape))


def _root(moment: Array) -> Array:
    """Return a square ``S`` with ``S S^T`` the moment; spectra of what is multiplied by it depend on nothing else."""
    if len(moment) >= _PIVOTED:
        found = square_root(moment)
        return np.pad(found, ((0, 0), (0, len(moment) - found.shape[1])))
    values, vectors = np.linalg.eigh(moment)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def _squared_singular_values(matrix: Array) -> Array:
    """Return all squared singular values, descending."""
    rows, columns = matrix.shape
    return _eigenvalues(matrix @ matrix.T if rows <= columns else matrix.T @ matrix)


def _eigenvalues(gram: Array) -> Array:
    """Return the eigenvalues of a Gram matrix, descending."""
    values = np.linalg.eigvalsh(gram)[::-1]
    # Below this, rounding of the Gram matrix has replaced the eigenvalue.
    noise = values[0] * len(values) * np.finfo(np.float64).eps
    return np.where(values > noise, values, 0.0)


def _tails(squared: Array, rank: int, energy: float) -> Array:
    """Return the parts of the energy beyond ranks 0 to `rank`.

    Sums go from the smallest value up, which keeps small tails exact.
    """
    leading, rest = squared[:rank], float(squared[rank:].sum())
    beyond = np.cumsum(np.append(leading, rest)[::-1])[::-1]
    return np.minimum(np.concatenate([beyond, np.full(rank - len(leading), rest)]) / energy, 1.0)
