"""Spectra of layers for reports: all singular values, thinned to what a plot shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.base.keys import code_key, result_key
from lrfdse.results.exploration import Spectrum

if TYPE_CHECKING:
    from collections.abc import Callable

    from lrfdse.base.store import Store
    from lrfdse.explore.layers.fits import Fits
    from lrfdse.ir.factorization import Array
    from lrfdse.ir.layer import Layer

_POINTS = 100
"""Singular values of a spectrum that are kept for plots: a third of them one by one from the largest on, the others
evenly spaced in the logarithm of the rank. Chosen, not measured."""
_FLOOR = 1e-6
"""Singular values below this part of the largest one count as rounding: they come from a Gram matrix in float64."""


def spectrum_of(layer: Layer, weight: Callable[[], Array], cache: Store) -> Spectrum:
    """Return the spectrum of the layer's weight."""
    return _cached(result_key("spectrum", of="weight", code=code_key(spectrum), layer=layer.digest), weight, cache)


def whitened_spectrum_of(layer: Layer, fits: Fits, cache: Store) -> Spectrum | None:
    """Return the spectrum of ``W S`` with ``S S^T`` the covariance of the inputs.

    None without calibration data, and where those never vary: one sample, or inputs that nothing reaches.
    The squared values beyond a rank are the output error of the best matrix of that rank (docs/method.md).
    """
    if not fits.calibrated(layer):
        return None
    from lrfdse.factorize.fit import Fitter

    fitter, code = fits.fitter(layer), code_key(whitened_spectrum_of, Fitter)
    key = result_key("spectrum", of="whitened", code=code, layer=layer.digest, data=fits.data_key(layer))
    found = _cached(key, lambda: fitter.weight @ fitter.root, cache)
    return found if found.size else None


def inputs_spectrum_of(layer: Layer, fits: Fits, cache: Store) -> Spectrum | None:
    """Return the spectrum of a root of the covariance of the layer's inputs; None as in `whitened_spectrum_of`."""
    if not fits.calibrated(layer):
        return None
    from lrfdse.factorize.fit import Fitter

    key = result_key("spectrum", of="inputs", code=code_key(inputs_spectrum_of, Fitter), data=fits.data_key(layer))
    found = _cached(key, lambda: fits.fitter(layer).root, cache)
    return found if found.size else None


def _cached(key: str, matrix: Callable[[], Array], cache: Store) -> Spectrum:
    if (found := cache.get("spectrum", key, _stored)) is None:
        found = spectrum(matrix())
        cache.put("spectrum", key, [found.size, found.effective_rank, found.ranks, found.values, found.errors])
    return found


def _stored(known: Any) -> Spectrum:
    """Return a spectrum as the cache keeps it."""
    size, effective_rank, ranks, values, errors = known
    if not len(ranks) == len(values) == len(errors):
        raise ValueError("columns of different lengths")
    return Spectrum(
        int(size),
        float(effective_rank),
        tuple(int(rank) for rank in ranks),
        tuple(float(value) for value in values),
        tuple(float(error) for error in errors),
    )


def spectrum(matrix: Array) -> Spectrum:
    """Return the thinned singular values of `matrix` and its effective rank (Roy and Vetterli 2007).

    >>> spectrum(np.diag([4.0, 3.0, 0.0])).values
    (1.0, 0.75, 0.0)
    >>> spectrum(np.diag([4.0, 3.0, 0.0])).errors
    (0.6, 0.0, 0.0)
    """
    from lrfdse.factorize.spectra import bond_tails

    size = min(matrix.shape)
    if size == 0:
        return Spectrum(size, 0.0, (), (), ())
    # The unfolding at the bond (M, 1) is the matrix itself.
    tails = bond_tails(matrix, {(len(matrix), 1): size})[len(matrix), 1]
    values = np.sqrt(np.maximum(-np.diff(tails), 0.0))
    share = values[values > 0] / max(float(values.sum()), np.finfo(np.float64).tiny)
    ranks = thinned(size)
    relative = values / max(float(values[0]), np.finfo(np.float64).tiny)
    return Spectrum(
        size=size,
        effective_rank=float(np.exp(-np.sum(share * np.log(share)))) if share.size else 0.0,
        ranks=ranks,
        values=tuple(_rounded(relative[rank - 1]) for rank in ranks),
        errors=tuple(_rounded(np.sqrt(tails[rank])) for rank in ranks),
    )


def thinned(size: int) -> tuple[int, ...]:
    """Return about a hundred ranks from 1 to `size`: the first ones all, later ones ever further apart.

    >>> thinned(5), len(thinned(4096)), thinned(4096)[-1]
    ((1, 2, 3, 4, 5), 100, 4096)
    """
    whole = min(size, _POINTS // 3)
    rest = np.geomspace(whole, size, _POINTS - whole + 1).round().astype(int)
    return tuple(int(rank) for rank in sorted({*range(1, whole + 1), *rest.tolist()}))


def _rounded(value: float) -> float:
    """Return four significant digits, more than a plot shows and fewer than libraries differ in."""
    return float(f"{value:.4g}") if value > _FLOOR else 0.0
