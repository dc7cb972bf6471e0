"""Layers before anything is factorized: how many designs they have, and spectra, with what calibration data tell."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener, hundredths
from lrfdse.base.threads import in_threads
from lrfdse.explore.layers.errors import fit_threads
from lrfdse.explore.layers.fronts import funnel_of, ignored, prepare_spectra, spectra_work
from lrfdse.explore.layers.spectra import inputs_spectrum_of, spectrum_of, whitened_spectrum_of
from lrfdse.ir.space import Funnel
from lrfdse.results.exploration import LayerResult
from lrfdse.space.eligible import reason_to_keep_dense

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.explore.layers.fits import Fits
    from lrfdse.ir.layer import Layer
    from lrfdse.ir.space import SearchSpace
    from lrfdse.model.graph import Model
    from lrfdse.targets.target import Target


def inspect_layer(
    layer: Layer, model: Model, space: SearchSpace, target: Target, cache: Store, reason: str | None = None
) -> LayerResult:
    """Return what can be said of a layer before anything is factorized; `reason` says why it is left as it is."""
    reason = reason or reason_to_keep_dense(layer, space)
    spectrum = spectrum_of(layer, lambda: model.weight(layer.name), cache)
    return LayerResult(
        layer=layer,
        share=layer.params / sum(each.params for each in model.layers),
        effective_rank=spectrum.effective_rank,
        funnel=Funnel(()) if reason else funnel_of(layer, space, target, cache),
        kept_dense=reason,
        spectrum=spectrum,
    )


def with_data(result: LayerResult, fits: Fits, cache: Store) -> LayerResult:
    """Return the layer with the spectra that calibration data give it."""
    return dataclasses.replace(
        result,
        whitened=whitened_spectrum_of(result.layer, fits, cache),
        activations=inputs_spectrum_of(result.layer, fits, cache),
    )


def look_at(
    model: Model,
    space: SearchSpace,
    target: Target,
    fits: Fits,
    cache: Store,
    progress: Listener,
    idle: Mapping[str, str],
    threads: int,
    plain: bool = False,
) -> list[LayerResult]:
    """Return what there is to say of each layer, with the spectra that their fronts need in the cache.

    Parameters
    ----------
    model, fits
        The original model, and what fits its layers.
    space, target
        Which factorizations are candidates, for what machine.
    cache
        Where results are kept.
    progress
        Told how far it is.
    idle
        Why layers are left as they are that the space would explore, by their names.
    threads
        Layers that are looked at side by side; with a large one there is one at a time.
    plain
        Whether products are left without the spectra of fronts, as they are to have none.
    """
    layers, counting = model.layers, threading.Lock()
    threads = min(fit_threads(layer, threads) for layer in layers)

    def seen(layer: Layer) -> LayerResult:
        # Layers of one size have the same designs, which are counted once, and in Python alone.
        with counting:
            result = inspect_layer(layer, model, space, target, cache, idle.get(layer.name))
        return with_data(result, fits, cache) if result.kept_dense is None else result

    results: list[LayerResult] = []
    made = in_threads(seen, layers, threads)
    for done, layer in enumerate(layers):
        progress(Event("layers", layer.name, done, len(layers)))
        results.append(next(made))
    progress(Event("layers", "", len(layers), len(layers)))
    explored = [result.layer for result in results if result.kept_dense is None]
    explored = [layer for layer in explored if not (plain and layer.is_product)]
    with hundredths("spectra", {layer.name: spectra_work(layer, space) for layer in explored}, progress) as of:
        # Only what is made in this thread is told of as it is made.
        alone = threads == 1
        prepared = in_threads(
            lambda layer: prepare_spectra(layer, fits, space, target, cache, ignored),
            [] if alone else explored,
            threads,
        )
        for layer in explored:
            with of(layer.name) as worked:
                if alone:
                    prepare_spectra(layer, fits, space, target, cache, worked)
                else:
                    next(prepared)
    return results
