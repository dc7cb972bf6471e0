"""Factors of whole plans: fitted layer by layer, then corrected for what the layers before them lost."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lrfdse.base.keys import code_key, result_key
from lrfdse.ir.factors import packed, unpacked
from lrfdse.quality.objective import objective_facts
from lrfdse.repair.openings import InMemory, OfLayers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.base.store import Store
    from lrfdse.ir.factors import Factors
    from lrfdse.ir.plan import Plan
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.quality.divergence import Loss
    from lrfdse.quality.objective import Objective
    from lrfdse.repair.correct import Corrector
    from lrfdse.repair.layer_fits import LayerFits

SWEEPS = 2
"""Most refinement sweeps over a plan that is worth it: docs/method.md, section 9, measures two."""

STEPS = 4
"""Most steps that layers with several rows a sample take together. Chosen."""

_CHEAP = 1e11
"""Floating-point operations of the FC layers on all calibration samples, times the number of these layers, up to
which every plan is corrected before it is scored: some seconds a plan (docs/method.md, section 9, "What it costs").
Chosen."""


class Corrections:
    """Corrects plans of one model on one set of calibration data, and keeps the results.

    Parameters
    ----------
    model, calib
        The original model and its calibration data.
    fits
        Gives the factors of each layer by itself.
    cache
        Where results are kept.
    loss
        The outputs that count, and how those of the compressed model are compared with the original's.
    method
        How layers are fitted, a name of `lrfdse.factorize.methods.METHODS`.
    seed
        Seed of the mixtures of samples.
    threads
        Runs side by side of what no layer changes.
    small_steps
        MACs that small steps of a refined plan may take, see `lrfdse.repair.together.Together.descent`; 0 takes none.
    """

    def __init__(
        self,
        model: Model,
        calib: Dataset,
        fits: LayerFits,
        cache: Store,
        *,
        loss: Loss | Objective,
        method: str = "auto",
        seed: int = 0,
        threads: int = 1,
        small_steps: float = 0.0,
    ) -> None:
        self._model, self._calib, self._fits, self._cache = model, calib, fits, cache
        self._loss, self._method, self._seed, self._threads = loss, method, seed, threads
        self._small = small_steps
        self._corrector: Corrector | None = None
        self._opening = threading.Lock()
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
            Whether the plan is to be refined: where that is cheap enough, all layers then take Gauss-Newton steps on
            the whole model's loss.

        Raises
        ------
        PlanError
            The compressed model cannot be run on the calibration data.
        """
        if not factors or not all(self._fits.calibrated(self._model.layer(name)) for name in factors):
            return factors
        sweeps, steps = SWEEPS if refined and self.always else 0, STEPS if refined else 0
        small = self._small if refined else 0.0
        asked = {"sweeps": sweeps, "steps": steps, "small": small}
        key = result_key("corrections", **self._parts(), plan=sorted(plan.texts().items()), **asked)

        def read(stored: Mapping[str, NDArray[Any]]) -> dict[str, Factors]:
            return {
                name: unpacked(
                    each.choice,
                    {n.partition(".")[2]: a for n, a in stored.items() if n.partition(".")[0] == str(k)},
                )
                for k, (name, each) in enumerate(factors.items())
            }

        if (known := self._cache.get_arrays("corrections", key, read)) is not None:
            return known
        found = self._open().correct(factors, sweeps, steps, small).factors
        stored = {f"{k}.{n}": a for k, name in enumerate(factors) for n, a in packed(found[name]).items()}
        self._cache.put_arrays("corrections", key, stored)
        return read(stored)

    def _parts(self) -> dict[str, Any]:
        """Return what everything that is kept here depends on."""
        from lrfdse.factorize.methods import METHODS
        from lrfdse.model.graph import load_model
        from lrfdse.repair.correct import Corrector

        return {
            "code": code_key(Corrector, OfLayers, packed, load_model),
            "fits": self._fits.code(),
            "model": self._model.sha256,
            "data": self._calib.digest,
            "method": METHODS.identity(self._method),
            "seed": self._seed,
            "loss": objective_facts(self._loss),
        }

    def _open(self) -> Corrector:
        from lrfdse.repair.correct import Corrector

        # Plans are refined in several threads, with one corrector for all.
        with self._opening:
            if self._corrector is None:
                self._corrector = Corrector(
                    self._model,
                    self._calib,
                    self._loss,
                    self._fits.weightings,
                    method=self._method,
                    seed=self._seed,
                    openings=OfLayers(self._model, self._fits, InMemory()),
                    threads=self._threads,
                )
            return self._corrector
