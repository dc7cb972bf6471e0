"""Looking at a model's layers and counting their designs, without compiling anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener, silent
from lrfdse.base.store import Store
from lrfdse.base.text import counted
from lrfdse.explore.inputs import open_calibration
from lrfdse.explore.layers.fits import FitRequest, explored_layers, open_fits
from lrfdse.explore.layers.left import still_layers
from lrfdse.explore.layers.looking import inspect_layer, with_data
from lrfdse.results.exploration import Inspection

if TYPE_CHECKING:
    from lrfdse.results.settings import Settings


def inspect(settings: Settings, progress: Listener = silent) -> Inspection:
    """Look at the model's layers and count their designs; compile nothing.

    The original model runs on the calibration data, where there are any: what its layers read tells more of their
    compressibility than their weights.
    """
    from lrfdse.model.graph import load_model
    from lrfdse.model.macs import macs_of

    model = load_model(settings.model, settings.shape, settings.layers, settings.value)
    cache, calib = Store(settings.cache), open_calibration(settings.data.calib, model, settings.value)
    explored = explored_layers(settings.space, model)
    if calib is not None and explored:
        progress(Event("calibrate", counted(calib.count, "sample")))
    # Nothing is fitted: what layers read is all that is wanted, not what their errors cost.
    fits = open_fits(FitRequest(settings.space.method), model, calib, explored, cache)
    still = still_layers(fits, model, explored)
    results = []
    for done, layer in enumerate(model.layers):
        progress(Event("count", layer.name, done, len(model.layers)))
        result = inspect_layer(layer, model, settings.space, settings.target, cache, still.get(layer.name))
        results.append(result if result.kept_dense else with_data(result, fits, cache))
    macs = macs_of(model)
    return Inspection(settings, model.sha256, tuple(results), model.untouched, macs.total, macs.nodes)
