"""One layer's way from its sizes to its surrogate front: counts, spectra, front."""

from __future__ import annotations

import dataclasses
import fnmatch
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.design import Candidate, Cost, Factorization, Funnel, Layer, SearchSpace, Target
from lrfdse.explore.cache import Cache, digest, source_digest

if TYPE_CHECKING:
    from lrfdse.design import Array
    from lrfdse.explore.fits import Fits


def reason_to_keep_dense(layer: Layer, space: SearchSpace) -> str | None:
    """Say why the search space leaves the layer as it is, or None where it is explored."""
    if min(layer.outputs, layer.inputs) < space.min_size:
        return f"a side below {space.min_size} (min_size)"
    if not any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in space.include):
        return "not in include"
    if any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in space.exclude):
        return "in exclude"
    return None


def funnel_of(layer: Layer, space: SearchSpace, target: Target, cache: Cache) -> Funnel:
    """Count the layer's designs after each filter, without looking at its weight."""
    from lrfdse.space import count_designs

    key = digest(source_digest("space"), layer.outputs, layer.inputs, target.lanes, _shape_of(space))
    if (known := cache.get("counts", key)) is None:
        funnel = count_designs(layer.outputs, layer.inputs, space, target.lanes)
        known = {"stages": [list(stage) for stage in funnel.stages], "gap": funnel.gap}
        cache.put("counts", key, known)
    return _funnel(known)


def surrogate_front(
    layer: Layer, fits: Fits, space: SearchSpace, target: Target, cache: Cache
) -> tuple[list[Candidate], Funnel]:
    """Return the layer's Pareto front of (params, padded FLOPs, surrogate error) and the funnel down to it.

    The surrogate error is the TT-SVD bound from the spectra of the weight's unfoldings; with calibration data, the
    unfoldings are whitened by the inputs' second moment, and the sum over bonds is no bound any more.
    """
    from lrfdse.space import front, padded_size

    counted = funnel_of(layer, space, target, cache)
    code = source_digest("space", "factorize", "design")
    key = digest(code, layer.digest, layer.rows, target.lanes, _shape_of(space), fits.data_key(layer), space.method)
    if (known := cache.get("fronts", key)) is None:
        sizes = layer.outputs, layer.inputs
        tails, padded_tails = _tails(layer, fits, sizes, space, cache), None
        if space.pad_to_smooth and (padded := (padded_size(sizes[0]), padded_size(sizes[1]))) != sizes:
            padded_tails = _tails(layer, fits, padded, space, cache)
        candidates, funnel = front(
            *sizes, layer.rows, target.lanes, space, tails, padded_tails=padded_tails, counts=counted
        )
        designs = [[str(c.factorization), c.error_bound] for c in candidates]
        known = {"stages": [list(stage) for stage in funnel.stages], "gap": funnel.gap, "designs": designs}
        cache.put("fronts", key, known)
    found = []
    for text, bound in known["designs"]:
        shape = Factorization.parse(text, layer.outputs, layer.inputs)
        found.append(Candidate(shape, Cost.of(shape, layer.rows, target.lanes), bound))
    return found, _funnel(known)


def _tails(
    layer: Layer, fits: Fits, sizes: tuple[int, int], space: SearchSpace, cache: Cache
) -> dict[tuple[int, int], Array]:
    """Return the discarded energy by bond and rank, for the weight padded with zeros to `sizes`."""
    from lrfdse.factorize import METHODS
    from lrfdse.factorize.spectra import bond_tails, whitened_bond_tails
    from lrfdse.space import bonds

    wanted = bonds(*sizes, space)
    fitter = fits.fitter(layer)
    moments = fitter.moments if METHODS[space.method].needs_moments else None
    data = () if moments is None else fits.data_key(layer)
    key = digest(source_digest("factorize"), layer.digest, sizes, sorted(wanted.items()), data)
    stored = cache.get_arrays("spectra", key)
    if stored is None:
        padded = np.zeros(sizes)
        padded[: layer.outputs, : layer.inputs] = fitter.weight
        made = bond_tails(padded, wanted) if moments is None else whitened_bond_tails(padded, moments, wanted)
        stored = {f"{a}x{b}": values for (a, b), values in made.items()}
        cache.put_arrays("spectra", key, stored)
    return {(int(a), int(b)): values for (a, b), values in ((name.split("x"), v) for name, v in stored.items())}


def _funnel(known: dict[str, Any]) -> Funnel:
    return Funnel(tuple((str(name), int(count)) for name, count in known["stages"]), float(known["gap"]))


def _shape_of(space: SearchSpace) -> tuple[object, ...]:
    """Return what of the space decides which designs exist; names and compile budgets do not."""
    ignored = {"name", "summary", "include", "exclude", "min_size", "max_compiled", "method"}
    return tuple((f.name, getattr(space, f.name)) for f in dataclasses.fields(space) if f.name not in ignored)
