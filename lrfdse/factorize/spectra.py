"""Spectra of a weight's unfoldings: what a truncation at each bond and rank discards, and effective ranks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lrfdse.design import Array, Moments

_GRAM_SIDE = 1024
"""Smaller side up to which all eigenvalues of the Gram matrix are computed."""

_OVERSAMPLING = 16
_POWER_ITERATIONS = 3
_SEPARATIONS = 8


def bond_tails(weight: Array, bonds: Mapping[tuple[int, int], int], seed: int = 0) -> dict[tuple[int, int], Array]:
    """Return the relative energy that a truncation discards, for each bond and each rank up to its limit.

    The unfolding at the bond ``(M_k, N_k)`` pairs the leading output and input modes against the trailing ones:
    ``W.reshape(M_k, M/M_k, N_k, N/N_k)`` with the axes in the order 0, 2, 1, 3 as a matrix of ``M_k N_k`` rows.

    Where its smaller side is at most 1024, or more than a third of its singular values is asked for, they come from
    the eigenvalues of the Gram matrix of that side. Otherwise a randomized range finder with power iterations in
    single precision (Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.1) gives the leading ones. Those of a
    projection are never above the true ones, so its tails are never too small beyond rounding.

    Parameters
    ----------
    weight : array, shape (M, N)
        The layer's weight, padded with zeros where the bonds are those of a padded layer.
    bonds : mapping of (M_k, N_k) to int
        Largest rank wanted on each bond.
    seed : int
        Of the range finder's test matrices.

    Returns
    -------
    dict
        Bond to an array of its limit plus one entries: entry ``r`` is the sum of squared singular values beyond
        the first ``r``, divided by ``|W|^2``. Entries lie in [0, 1] and never increase; all are 0 for a zero weight.
    """
    largest = float(np.abs(weight).max(initial=0.0))
    if largest == 0.0:
        return {bond: np.zeros(rank + 1) for bond, rank in bonds.items()}
    scaled = np.asarray(weight, dtype=np.float64) / largest
    energy = float(np.vdot(scaled, scaled))
    found = {}
    for index, (bond, rank) in enumerate(bonds.items()):
        matrix = unfolding(scaled, bond)
        side = min(matrix.shape)
        if side <= _GRAM_SIDE or 3 * (rank + _OVERSAMPLING) > side:
            squared = _squared_singular_values(matrix)
            rest = float(squared[rank:].sum())
        else:
            squared = _leading_squared(matrix, rank, np.random.default_rng([seed, index]))
            rest = max(energy - float(squared.sum()), 0.0)
        found[bond] = np.minimum(_tail(squared[:rank], rank, rest) / energy, 1.0)
    return found


def whitened_bond_tails(
    weight: Array, moments: Moments, bonds: Mapping[tuple[int, int], int], seed: int = 0
) -> dict[tuple[int, int], Array]:
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
        Of the layer's inputs; padded inputs never vary.
    bonds : mapping of (M_k, N_k) to int
        Largest rank wanted on each bond.
    seed : int
        As for `bond_tails`.

    Returns
    -------
    dict
        As `bond_tails`, relative to the energy of the whitened weight.
    """
    inputs = weight.shape[1]
    covariance = moments.covariance
    covariance = np.pad(covariance, (0, inputs - len(covariance)))
    found: dict[tuple[int, int], Array] = {}
    for split in sorted({b for _, b in bonds}):
        chosen = {bond: rank for bond, rank in bonds.items() if bond[1] == split}
        found |= bond_tails(whitened_for(weight, covariance, split), chosen, seed)
    return {bond: found[bond] for bond in bonds}


def whitened_for(weight: Array, covariance: Array, split: int) -> Array:
    """Return the weight whitened by the covariance made separable at the bonds of leading input modes `split`.

    Linear in the weight, shape (M, N), of which the covariance (N, N) has the inputs.
    """
    first, rest = _mixed(covariance, split)
    left = np.tensordot(weight.reshape(-1, split, len(covariance) // split), _symmetric_root(first), axes=(1, 0))
    return (np.moveaxis(left, 2, 1) @ _symmetric_root(rest)).reshape(weight.shape)


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


def unfolding(weight: Array, bond: tuple[int, int]) -> Array:
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


def _symmetric_root(moment: Array) -> Array:
    values, vectors = np.linalg.eigh(moment)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T)


def _squared_singular_values(matrix: Array) -> Array:
    """Return all squared singular values, descending."""
    rows, columns = matrix.shape
    gram = matrix @ matrix.T if rows <= columns else matrix.T @ matrix
    values = np.linalg.eigvalsh(gram)[::-1]
    # Below this, rounding of the Gram matrix has replaced the eigenvalue.
    noise = values[0] * len(values) * np.finfo(np.float64).eps
    return np.where(values > noise, values, 0.0)


def _leading_squared(matrix: Array, rank: int, rng: np.random.Generator) -> Array:
    """Return the `rank` leading squared singular values of the matrix projected on a found range, descending."""
    import scipy.linalg

    single = matrix.astype(np.float32)
    if single.shape[0] > single.shape[1]:
        single = np.ascontiguousarray(single.T)
    basis = single @ rng.standard_normal((single.shape[1], rank + _OVERSAMPLING), dtype=np.float32)
    for _ in range(_POWER_ITERATIONS):
        basis, _ = scipy.linalg.qr(basis, mode="economic", overwrite_a=True, check_finite=False)
        basis = single @ (single.T @ basis)
    basis, _ = scipy.linalg.qr(basis, mode="economic", overwrite_a=True, check_finite=False)
    projected = (basis.T @ single).astype(np.float64)
    return np.maximum(np.linalg.eigvalsh(projected @ projected.T)[::-1][:rank], 0.0)


def _tail(leading: Array, rank: int, rest: float) -> Array:
    """Return the energy beyond ranks 0 to `rank`: sums from the smallest value up, which keeps small tails exact."""
    beyond = np.cumsum(np.append(leading, rest)[::-1])[::-1]
    return np.concatenate([beyond, np.full(rank - len(leading), rest)])
