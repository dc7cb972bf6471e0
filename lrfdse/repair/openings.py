"""First fits of corrections: of layers above which nothing is compressed, which plans that share a choice share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable

    from lrfdse.factorize.fit import Fitter
    from lrfdse.ir.choice import Choice
    from lrfdse.ir.factors import Factors
    from lrfdse.model.graph import Model
    from lrfdse.repair.layer_fits import LayerFits


_FITTERS = 4
"""Fitters that are kept. Chosen: an attention reads by three layers at once."""

_SIDE = 2048
"""Outputs or inputs of a layer up to which its fitter is kept: it holds some ten matrices of that side. Chosen."""


class LatestFitters:
    """The latest few fitters of layers, for the plans that compress the same ones; threads may share it."""

    def __init__(self, most: int = _FITTERS) -> None:
        self._most = most
        self._kept: dict[Hashable, Fitter] = {}
        self._lock = threading.Lock()

    def of(self, name: Hashable, side: int, make: Callable[[], Fitter]) -> Fitter:
        """Return the fitter of that name, which `make` makes where it is not kept; a large one never is.

        Parameters
        ----------
        name
            Tells it from others.
        side
            Outputs or inputs of the layer, whichever are more.
        make
            Makes it.
        """
        if side > _SIDE:
            return make()
        with self._lock:
            if name not in self._kept:
                while len(self._kept) >= self._most:
                    del self._kept[next(iter(self._kept))]
                self._kept[name] = make()
            return self._kept[name]


class Openings(Protocol):
    """Keeps the first fits of corrections."""

    def factors(self, layer: str, choice: Choice, weighted: bool, fit: Callable[[], Factors]) -> Factors:
        """Return the factors of a layer, where nobody has fitted them yet those that `fit` gives.

        Parameters
        ----------
        layer
            The layer's name.
        choice
            Its factorization and storage.
        weighted
            Whether the weighting of its outputs counts.
        fit
            Fits them.
        """


class InMemory:
    """First fits for as long as the process lives."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, bool], Factors] = {}

    def factors(self, layer: str, choice: Choice, weighted: bool, fit: Callable[[], Factors]) -> Factors:
        """Return the factors of a layer; see `Openings.factors`."""
        key = layer, str(choice), weighted
        if key not in self._known:
            self._known[key] = fit()
        return self._known[key]


class OfLayers:
    """First fits that are the layers' own: on what the original model feeds a layer, both fit the same outputs.

    A layer's own fit sees the samples that judge a correction as well. So do the plan's factors as they were, which the
    correction is held against: the two share these layers, and only what follows them is judged.

    Parameters
    ----------
    model, fits
        The original model, and what fits its layers.
    others
        Gives those that go by another weighting than the layers' own fits.
    """

    def __init__(self, model: Model, fits: LayerFits, others: Openings) -> None:
        self._model, self._fits, self._others = model, fits, others

    def factors(self, layer: str, choice: Choice, weighted: bool, fit: Callable[[], Factors]) -> Factors:
        """Return the factors of a layer; see `Openings.factors`."""
        if weighted != (self._fits.weightings.get(layer) is not None):
            return self._others.factors(layer, choice, weighted, fit)
        return self._fits.factors(self._model.layer(layer), choice)
