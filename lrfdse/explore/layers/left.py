"""Why layers are left as they are that the search space would explore."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from lrfdse.quality.objective import Objective, names_of

if TYPE_CHECKING:
    from lrfdse.explore.layers.fits import Fits
    from lrfdse.model.graph import Model


def idle_layers(model: Model, objective: Objective) -> dict[str, str]:
    """Return why layers are left as they are on which no output that counts depends, by their names."""
    from lrfdse.model.passes.cut import dependent

    counted = names_of(objective)
    return {
        name: "no output that counts depends on it"
        for name, sites in model.sites.items()
        if not dependent(model.working.graph, [site.output for site in sites], counted)
    }


def still_layers(fits: Fits, model: Model, explored: Collection[str]) -> dict[str, str]:
    """Return why layers are left as they are that read the same on all calibration data, or nothing, by their names.

    Any rank would do for such an input, and nobody knows what it does for another.
    """
    layers = [model.layer(name) for name in explored]
    still = [layer for layer in layers if fits.calibrated(layer) and not fits.fitter(layer).problem.covariance.any()]
    places = {name: model.sites[name][0].holder for name in explored if name in fits.never_run}
    return {layer.name: "what it reads never varies on the calibration data" for layer in still} | {
        name: f"the calibration data never reach it inside of {place!r}" for name, place in places.items()
    }
