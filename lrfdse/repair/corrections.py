"""Factors of whole plans: fitted layer by layer, then corrected for what the layers before them lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lrfdse.base.keys import code_key, result_key
from lrfdse.explore.layers.fits import Fits, packed, unpacked
from lrfdse.quality.divergence import loss_of
from lrfdse.quality.metrics import compares_numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.base.store import Store
    from lrfdse.ir.factors import Factors
    from lrfdse.ir.plan import Plan
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.quality.divergence import Loss
    from lrfdse.repair.correct import Corrector
    from lrfdse.results.settings import Settings

SWEEPS = 2
"""Most refinement sweeps over a plan that is worth it."""

_CHEAP = 1e11
"""Floating-point operations of the FC layers, estimated, up to which every plan is corrected before it is scored."""


class Corrections:
    """Corrects plans of one model on one set of calibration data, and keeps the results.

    Parameters
    ----------
    settings
        What is explored, how fits are made.
    model, calib
        The original model and its calibration data.
    fits
        Gives the factors of each layer by itself.
    cache
        Where results are kept.
    """

    def __init__(self, settings: Settings, model: Model, calib: Dataset, fits: Fits, cache: Store) -> None:
        self._settings, self._model, self._calib, self._fits, self._cache = settings, model, calib, fits, cache
        self._corrector: Corrector | None = None
        self._compared: Loss | None = None
        flops = sum(layer.flops for layer in model.layers)
        self.always = flops * calib.count * len(model.layers) <= _CHEAP
        """Whether a correction is cheap enough to be made of every plan that is scored."""

    def factors(self, plan: Plan, factors: Mapping[str, Factors], refined: bool) -> Mapping[str, Factors]:
        """Return better factors of the plan's compressed layers, or those given.

        Parameters
        ----------
        plan
            The plan.
        factors
            Layer name to factors, of the compressed layers.
        refined
            Whether the plan is worth the whole effort: where that is cheap enough, all layers are then refined by the
            whole model's outputs.
        """
        if not factors or not all(self._fits.calibrated(self._model.layer(name)) for name in factors):
            return factors
        sweeps = SWEEPS if refined and self.always else 0
        key = self._key(plan, sweeps)

        def read(stored: Mapping[str, NDArray[Any]]) -> dict[str, Factors]:
            return {
                name: unpacked(
                    each.factorization,
                    {n.partition(".")[2]: a for n, a in stored.items() if n.partition(".")[0] == str(k)},
                )
                for k, (name, each) in enumerate(factors.items())
            }

        if (known := self._cache.get_arrays("corrections", key, read)) is not None:
            return known
        found = self._open().correct(factors, sweeps).factors
        stored = {f"{k}.{n}": a for k, name in enumerate(factors) for n, a in packed(found[name]).items()}
        self._cache.put_arrays("corrections", key, stored)
        return read(stored)

    def _key(self, plan: Plan, sweeps: int) -> str:
        from lrfdse.explore.layers.fits import open_fits
        from lrfdse.factorize.methods import METHODS
        from lrfdse.model.graph import load_model
        from lrfdse.repair.correct import Corrector

        return result_key(
            "corrections",
            code=code_key(Corrector, open_fits, load_model),
            model=self._model.sha256,
            data=self._calib.digest,
            method=METHODS.identity(self._settings.space.method),
            seed=self._settings.seed,
            loss=self._loss(),
            plan=sorted(plan.texts().items()),
            sweeps=sweeps,
        )

    def _open(self) -> Corrector:
        from lrfdse.repair.correct import Corrector

        if self._corrector is None:
            method, seed = self._settings.space.method, self._settings.seed
            self._corrector = Corrector(
                self._model, self._calib, self._loss(), self._fits.metrics, method=method, seed=seed
            )
        return self._corrector

    def _loss(self) -> Loss:
        """Return what a model's outputs are compared by; see `loss_of`."""
        if self._compared is None:
            self._compared = loss_of(self._model, self._calib, compares_numbers(self._settings.metric))
        return self._compared


def open_corrections(
    settings: Settings, model: Model, calib: Dataset | None, fits: Fits, cache: Store
) -> Corrections | None:
    """Return the corrections of an exploration, or None where there are no data or the method does not look at them."""
    from lrfdse.factorize.methods import METHODS

    if calib is None or not settings.correct or not METHODS.get(settings.space.method).needs_moments:
        return None
    return Corrections(settings, model, calib, fits, cache)
