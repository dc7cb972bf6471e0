"""Fits that another process has made: read from the cache, and made where it does not hold them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from lrfdse.base.store import Store
from lrfdse.explore.layers.fits import FitRequest, Fits, data_key, open_fits, weighting_key
from lrfdse.ir.layer import Layer

if TYPE_CHECKING:
    from lrfdse.factorize.fit import Fitter
    from lrfdse.ir.factorization import Array
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model


class FoundFits(Fits):
    """Fits that another process has made and the cache may hold: moments are taken when the first fit is missing.

    Parameters
    ----------
    opened
        Factory of the fits, called on the first cache miss.
    calibrated
        Names of the layers whose inputs on calibration data are known.
    method
        How the layers are fitted.
    data_key, weighting_key
        Name the calibration data and the weightings of outputs.
    cache
        Where fits may be.
    """

    def __init__(
        self,
        opened: Callable[[], Fits],
        calibrated: Collection[str],
        method: str,
        data_key: str,
        cache: Store,
        weighting_key: str = "",
    ) -> None:
        super().__init__({}, data_key, cache, weighting_key)
        self._open = opened
        self._opened: Fits | None = None
        self._calibrated = calibrated
        self._named = method

    def calibrated(self, layer: Layer) -> bool:
        """Whether the layer's inputs on calibration data are known."""
        return layer.name in self._calibrated

    def fitter(self, layer: Layer) -> Fitter:
        """Return what fits the layer."""
        return self._made.fitter(layer)

    @property
    def weightings(self) -> dict[str, Array]:
        """The weightings of layers' outputs that fits go by, where a layer has one."""
        return self._made.weightings

    @property
    def _made(self) -> Fits:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _method(self, layer: Layer) -> str:
        return self._named


def found_fits(
    request: FitRequest,
    model: Model,
    calib: Dataset | None,
    explored: Sequence[str],
    calibrated: Collection[str],
    cache: Store,
) -> FoundFits:
    """Return fits for a process that evaluates plans of layers that another one has fitted and measured.

    Parameters
    ----------
    request, model, calib, explored
        As for `open_fits`.
    calibrated
        Names of the layers whose inputs on calibration data are known.
    cache
        Where the other's fits may be.
    """
    return FoundFits(
        lambda: open_fits(request, model, calib, explored, cache),
        calibrated,
        request.method,
        data_key(model, calib),
        cache,
        weighting_key(request, model, calib),
    )
