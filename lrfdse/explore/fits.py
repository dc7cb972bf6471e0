"""Factors of layers: fitted once, then read from the cache by whoever needs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.design import Factorization, Factors, Layer
from lrfdse.explore.cache import Cache, digest, source_digest
from lrfdse.explore.designs import reason_to_keep_dense

if TYPE_CHECKING:
    from lrfdse.explore.settings import Settings
    from lrfdse.factorize import Fitter
    from lrfdse.model import Dataset, Model

_STORED = 8_000_000
"""Elements up to which cores are worth keeping on disk."""
_MOST_INPUTS = 8192
"""Inputs up to which a layer's second moment is taken: it has that many rows and columns of float64."""


class Fits:
    """Gives the factors of every explored layer of one model on one set of calibration data.

    Cores are kept as float32, the precision that models and kernels store them in, so that a run that reads them and a
    run that fits them write the same files.
    """

    def __init__(self, fitters: Mapping[str, Fitter], data_key: str, cache: Cache) -> None:
        self._fitters = fitters
        self._data_key = data_key
        self._cache = cache

    def calibrated(self, layer: Layer) -> bool:
        """Whether the layer's inputs on calibration data are known, so that factors come with a bias correction."""
        return layer.name in self._fitters and self._fitters[layer.name].moments is not None

    def fitter(self, layer: Layer) -> Fitter:
        """Return what fits the layer: its weight, its moments, the method."""
        return self._fitters[layer.name]

    def data_key(self, layer: Layer) -> tuple[str, ...]:
        """Return what a result that depends on the data has in its key; nothing where there are none."""
        return (layer.name, self._data_key) if self.calibrated(layer) else ()

    def factors(self, layer: Layer, factorization: Factorization) -> Factors:
        """Return the fitted factors of `layer`."""
        if factorization.is_dense:
            return self.fitter(layer).fit(factorization)
        key = self._key(layer, factorization)
        if (stored := self._cache.get_arrays("fits", key)) is not None:
            return unpacked(factorization, stored)
        factors = self.fitter(layer).fit(factorization)
        arrays = packed(factors)
        if factorization.params <= _STORED:
            self._cache.put_arrays("fits", key, arrays)
        return unpacked(factorization, arrays)

    def _key(self, layer: Layer, factorization: Factorization) -> str:
        code, method = source_digest("factorize", "design"), self._method(layer)
        return digest(code, layer.digest, self.data_key(layer), method, str(factorization))

    def _method(self, layer: Layer) -> str:
        return self.fitter(layer).method


class FoundFits(Fits):
    """Fits that another run has made and the cache may hold: moments are taken when the first fit is missing.

    Parameters
    ----------
    opened
        Makes the fits in earnest.
    calibrated
        Names of the layers whose inputs on calibration data are known.
    method
        How the layers are fitted.
    data_key
        Names the calibration data.
    cache
        Where fits may be.
    """

    def __init__(
        self, opened: Callable[[], Fits], calibrated: Collection[str], method: str, data_key: str, cache: Cache
    ) -> None:
        super().__init__({}, data_key, cache)
        self._open = opened
        self._opened: Fits | None = None
        self._calibrated = calibrated
        self._named = method

    def calibrated(self, layer: Layer) -> bool:
        """Whether the layer's inputs on calibration data are known."""
        return layer.name in self._calibrated

    def fitter(self, layer: Layer) -> Fitter:
        """Return what fits the layer."""
        if self._opened is None:
            self._opened = self._open()
        return self._opened.fitter(layer)

    def _method(self, layer: Layer) -> str:
        return self._named


def found_fits(
    settings: Settings, model: Model, calib: Dataset | None, calibrated: Collection[str], cache: Cache
) -> FoundFits:
    """Return fits for who evaluates plans that another run has made options for."""
    explored = [layer.name for layer in model.layers if reason_to_keep_dense(layer, settings.space) is None]
    return FoundFits(
        lambda: open_fits(settings, model, calib, explored, cache),
        calibrated,
        settings.space.method,
        "" if calib is None else calib.digest + model.sha256,
        cache,
    )


def open_fits(settings: Settings, model: Model, calib: Dataset | None, explored: list[str], cache: Cache) -> Fits:
    """Return the fits of the layers named in `explored`, with moments where there are calibration data."""
    from lrfdse.factorize import Fitter
    from lrfdse.model import moments

    wanted = [name for name in explored if model.layer(name).inputs <= _MOST_INPUTS]
    seen = {} if calib is None or not wanted else moments(model, calib, wanted)
    fitters = {name: Fitter(model.weight(name), seen.get(name), settings.space.method) for name in explored}
    return Fits(fitters, "" if calib is None else calib.digest + model.sha256, cache)


def packed(factors: Factors) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32 | np.float64]]]:
    """Return factors as the cache keeps them: named arrays, cores as float32."""
    missing = factors.output_error is None
    errors = np.array([factors.weight_error, np.nan if missing else factors.output_error])
    arrays = {f"core{k}": core.astype(np.float32) for k, core in enumerate(factors.cores)}
    shift = {} if factors.bias_shift is None else {"bias_shift": factors.bias_shift}
    return {"errors": errors, **shift, **arrays}


def unpacked(
    factorization: Factorization, stored: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float32 | np.float64]]]
) -> Factors:
    """Return the factors that `packed` gave the arrays of."""
    cores = tuple(stored[f"core{k}"].astype(np.float64) for k in range(len(factorization.out_modes)))
    shift = stored.get("bias_shift")
    weight_error, output_error = (float(value) for value in stored["errors"])
    return Factors(
        factorization,
        cores,
        None if shift is None else shift.astype(np.float64),
        weight_error,
        None if np.isnan(output_error) else output_error,
    )
