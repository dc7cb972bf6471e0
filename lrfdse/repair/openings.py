"""First fits of corrections: of layers above which nothing is compressed, which plans that share a choice share."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from lrfdse.base.keys import code_key, result_key
from lrfdse.ir.factors import packed, unpacked

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from lrfdse.base.store import Store
    from lrfdse.factorize.fit import Fitter
    from lrfdse.ir.choice import Choice
    from lrfdse.ir.factors import Factors


_FITTERS = 4
"""Fitters that are kept: each holds some matrices of its layer's inputs, and what its fits share. Chosen: an attention
reads by three layers at once."""


class LatestFitters:
    """The latest few fitters of layers, for the plans that compress the same ones; threads may share it."""

    def __init__(self, most: int = _FITTERS) -> None:
        self._most = most
        self._kept: dict[Hashable, Fitter] = {}
        self._lock = threading.Lock()

    def of(self, name: Hashable, make: Callable[[], Fitter]) -> Fitter:
        """Return the fitter of that name, which `make` makes where it is not kept."""
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


class InStore:
    """First fits that other processes and later runs find, to the last digit.

    Parameters
    ----------
    cache
        Where they are kept.
    parts
        Everything that they depend on beside layer, choice and weighting, by name.
    """

    def __init__(self, cache: Store, parts: Mapping[str, Any]) -> None:
        self._cache, self._parts = cache, dict(parts)
        self._near = InMemory()

    def factors(self, layer: str, choice: Choice, weighted: bool, fit: Callable[[], Factors]) -> Factors:
        """Return the factors of a layer; see `Openings.factors`."""
        return self._near.factors(layer, choice, weighted, lambda: self._found(layer, choice, weighted, fit))

    def _found(self, layer: str, choice: Choice, weighted: bool, fit: Callable[[], Factors]) -> Factors:
        form = code_key(exact)
        key = result_key("openings", form=form, **self._parts, layer=layer, choice=str(choice), weighted=weighted)

        def read(stored: Mapping[str, NDArray[Any]]) -> Factors:
            return unpacked(choice, stored)

        if (known := self._cache.get_arrays("openings", key, read)) is not None:
            return known
        found = fit()
        self._cache.put_arrays("openings", key, exact(found))
        return found


def exact(factors: Factors) -> dict[str, NDArray[Any]]:
    """Return factors as `lrfdse.ir.factors.packed` does, but cores of floating point in double precision.

    What is fitted further must not depend on which process fitted it first.
    """
    arrays = packed(factors)
    if factors.scales is None:
        arrays |= {f"core{k}": core for k, core in enumerate(factors.cores)}
    return arrays
