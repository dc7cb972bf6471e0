"""Factors of layers: fitted once, then read from the cache by whoever needs them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.base.events import Event, Listener
from lrfdse.base.keys import code_key, digest, result_key
from lrfdse.base.store import Store
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.ir.layer import Layer
from lrfdse.quality.divergence import loss_of
from lrfdse.quality.metrics import compares_numbers
from lrfdse.repair.weightings import layer_metrics, metrics_key
from lrfdse.space.eligible import reason_to_keep_dense

if TYPE_CHECKING:
    from lrfdse.factorize.fit import Fitter
    from lrfdse.ir.factorization import Array
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.results.settings import Settings


_STORED = 32_000_000
"""Elements up to which cores are worth keeping on disk."""


_MOST_INPUTS = 8192
"""Inputs up to which a layer's second moment is taken: it has that many rows and columns of float64."""


class Fits:
    """Gives the factors of every explored layer of one model on one set of calibration data.

    Cores are kept as float32, the precision that models and kernels store them in, so that a run that reads them and a
    run that fits them write the same files.

    Parameters
    ----------
    fitters
        Layer name to what fits it.
    data_key
        Names the calibration data.
    cache
        Where fits are kept.
    metric_key
        Names the metrics that the fitters weight outputs by; "" where they do not.
    """

    def __init__(self, fitters: Mapping[str, Fitter], data_key: str, cache: Store, metric_key: str = "") -> None:
        self._fitters = fitters
        self._data_key = data_key
        self._cache = cache
        self._metric_key = metric_key

    def calibrated(self, layer: Layer) -> bool:
        """Whether the layer's inputs on calibration data are known, so that factors come with a bias correction."""
        return layer.name in self._fitters and self._fitters[layer.name].moments is not None

    def fitter(self, layer: Layer) -> Fitter:
        """Return what fits the layer: its weight, its moments, the method."""
        return self._fitters[layer.name]

    @property
    def metrics(self) -> dict[str, Array]:
        """The metrics of layers' outputs that fits go by, where a layer has one."""
        return {name: fitter.metric for name, fitter in self._fitters.items() if fitter.metric is not None}

    def data_key(self, layer: Layer) -> tuple[str, ...]:
        """Return what a result that depends on the data has in its key; nothing where there are none."""
        return (layer.name, self._data_key) if self.calibrated(layer) else ()

    def factors(self, layer: Layer, factorization: Factorization) -> Factors:
        """Return the fitted factors of `layer`."""
        if factorization.is_dense:
            return self.fitter(layer).fit(factorization)
        key = self._key(layer, factorization)
        if (known := self._cache.get_arrays("fits", key, lambda stored: unpacked(factorization, stored))) is not None:
            return known
        factors = self.fitter(layer).fit(factorization)
        arrays = packed(factors)
        if factorization.params <= _STORED:
            self._cache.put_arrays("fits", key, arrays)
        return unpacked(factorization, arrays)

    def _key(self, layer: Layer, factorization: Factorization) -> str:
        from lrfdse.factorize.fit import Fitter
        from lrfdse.factorize.methods import METHODS

        return result_key(
            "fits",
            code=code_key(Fitter, packed),
            layer=layer.digest,
            data=self.data_key(layer),
            metric=self._metric_key,
            method=METHODS.identity(self._method(layer)),
            factorization=str(factorization),
        )

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
    data_key, metric_key
        Name the calibration data and the metrics of outputs.
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
        metric_key: str = "",
    ) -> None:
        super().__init__({}, data_key, cache, metric_key)
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
    def metrics(self) -> dict[str, Array]:
        """The metrics of layers' outputs that fits go by, where a layer has one."""
        return self._made.metrics

    @property
    def _made(self) -> Fits:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _method(self, layer: Layer) -> str:
        return self._named


def found_fits(
    settings: Settings, model: Model, calib: Dataset | None, calibrated: Collection[str], cache: Store
) -> FoundFits:
    """Return fits for who evaluates plans that another run has made options for."""
    explored = [layer.name for layer in model.layers if reason_to_keep_dense(layer, settings.space) is None]
    return FoundFits(
        lambda: open_fits(settings, model, calib, explored, cache),
        calibrated,
        settings.space.method,
        data_key(model, calib),
        cache,
        _metric_key(settings, model, calib),
    )


def open_fits(
    settings: Settings, model: Model, calib: Dataset | None, explored: list[str], cache: Store, weighted: bool = True
) -> Fits:
    """Return the fits of the layers named in `explored`.

    With calibration data they have moments, and by methods that look at these a metric of the outputs where it is
    within reach: fits then lower the loss of the model as far as its curvature tells, not the error of the layer.
    Not `weighted` they have no metrics, for who wants to know what the layers read and fits nothing.
    """
    from lrfdse.factorize.fit import Fitter
    from lrfdse.factorize.methods import METHODS
    from lrfdse.repair.moments import moments

    method = settings.space.method
    wanted = [name for name in explored if model.layer(name).inputs <= _MOST_INPUTS]
    seen = {} if calib is None or not wanted else moments(model, calib, wanted)
    metrics: dict[str, Array] = {}
    if weighted and calib is not None and METHODS.get(method).needs_moments:
        loss = loss_of(model, calib, compares_numbers(settings.metric))
        metrics = layer_metrics(model, calib, wanted, loss, cache, settings.seed)
    fitters = {
        name: Fitter(_weight(model, name), seen.get(name), method, metrics.get(name), name=name) for name in explored
    }
    return Fits(fitters, data_key(model, calib), cache, _metric_key(settings, model, calib) if weighted else "")


def data_key(model: Model, calib: Dataset | None) -> str:
    """Return a name for what layers read on the calibration data: these, the model, and the code that runs it."""
    from lrfdse.model.graph import load_model
    from lrfdse.repair.moments import moments

    return "" if calib is None else digest(code_key(moments, load_model).digest, calib.digest, model.sha256)


def blind_layers(model: Model, explored: Collection[str]) -> list[str]:
    """Return the layers of too many inputs for calibration data to be of use to their fits."""
    return [name for name in explored if model.layer(name).inputs > _MOST_INPUTS]


def blind_note(names: Collection[str]) -> str:
    """Say what it means that layers are fitted without data."""
    return (
        f"{', '.join(names)}: over {_MOST_INPUTS} inputs, so calibration data are not used: fitted to the weight "
        "alone, without a corrected bias, and plans that compress it are not corrected for what it loses"
    )


def _weight(model: Model, name: str) -> Array:
    """Return a layer's weight, without a copy in double precision where it is stored as it is used."""
    stored = model.matrices[name]
    return stored if stored.dtype == np.float32 and model.alphas[name] == 1.0 else model.weight(name)


def _metric_key(settings: Settings, model: Model, calib: Dataset | None) -> str:
    from lrfdse.factorize.methods import METHODS

    if calib is None or not METHODS.get(settings.space.method).needs_moments:
        return ""
    return metrics_key(model, calib, loss_of(model, calib, compares_numbers(settings.metric)), settings.seed)


def packed(factors: Factors) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32 | np.float64]]]:
    """Return factors as the cache keeps them: named arrays, cores as float32."""
    known = (factors.weight_error, factors.output_error, factors.loss)
    errors = np.array([np.nan if error is None else error for error in known])
    arrays = {f"core{k}": core.astype(np.float32) for k, core in enumerate(factors.cores)}
    shift = {} if factors.bias_shift is None else {"bias_shift": factors.bias_shift}
    return {"errors": errors, **shift, **arrays}


def unpacked(
    factorization: Factorization, stored: Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float32 | np.float64]]]
) -> Factors:
    """Return the factors that `packed` gave the arrays of.

    Raises
    ------
    KeyError, ValueError
        An array is missing, or does not fit the factorization.
    """
    cores = tuple(stored[f"core{k}"].astype(np.float64) for k in range(len(factorization.out_modes)))
    shift = stored.get("bias_shift")
    if tuple(core.shape for core in cores) != factorization.core_shapes or not all(np.isfinite(c).all() for c in cores):
        raise ValueError(f"not the cores of {factorization}")
    if shift is not None and shift.shape != (factorization.outputs,):
        raise ValueError(f"not a bias of {factorization}")
    weight_error, output_error, loss = (float(value) for value in stored["errors"])
    return Factors(
        factorization,
        cores,
        None if shift is None else shift.astype(np.float64),
        weight_error,
        None if np.isnan(output_error) else output_error,
        None if np.isnan(loss) else loss,
    )


def fits_of(
    settings: Settings, model: Model, calib: Dataset | None, cache: Store, tell: Listener, weighted: bool = True
) -> Fits:
    """Return the fits of every layer that is explored."""
    explored = _explored(settings, model)
    if calib is not None and explored:
        tell(Event("calibrate", f"{calib.count} samples"))
    return open_fits(settings, model, calib, explored, cache, weighted)


def _explored(settings: Settings, model: Model) -> list[str]:
    return [layer.name for layer in model.layers if reason_to_keep_dense(layer, settings.space) is None]
