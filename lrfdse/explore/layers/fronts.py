"""One layer's way from its sizes to its surrogate front: counts, spectra, front."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.base.keys import code_key, result_key
from lrfdse.ir.cost import cost_of
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.layer import Layer
from lrfdse.ir.space import Candidate, Funnel, SearchSpace
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lrfdse.base.store import Store
    from lrfdse.explore.layers.fits import Fits
    from lrfdse.ir.factorization import Array
    from lrfdse.ir.factors import Moments


Made = tuple[list[Candidate], Funnel]
"""Candidates of a layer and the funnel down to them."""

_DIGITS = 12
"""Decimals of a discarded part of the energy: the following ones depend on how many threads BLAS has, and designs of
equal error would stand on the front for them."""


def funnel_of(layer: Layer, space: SearchSpace, target: Target, cache: Store) -> Funnel:
    """Count the layer's designs after each filter, without looking at its weight."""
    from lrfdse.space.count import count_designs

    if not layer.is_product:
        # Its candidates are counted as they are made: by what the kind costs, not by its sizes alone.
        return Funnel(())
    key = result_key(
        "counts",
        code=code_key(count_designs),
        sizes=(layer.outputs, layer.inputs),
        lanes=target.lanes,
        space=_designs_of(space),
    )
    if (funnel := cache.get("counts", key, _funnel)) is None:
        funnel = count_designs(layer.outputs, layer.inputs, space, target.lanes)
        cache.put("counts", key, {"stages": [list(stage) for stage in funnel.stages], "gap": funnel.gap})
    return funnel


def ignored(work: float) -> None:
    """Listen to no work that is done."""


def spectra_work(layer: Layer, space: SearchSpace) -> float:
    """Return how much work the layer's spectra are where the cache has none, to compare layers by."""
    from lrfdse.factorize.spectra import work

    return sum(work(sizes, _bonds(layer, sizes, space)) for sizes in _sizes(layer, space))


def prepare_spectra(
    layer: Layer, fits: Fits, space: SearchSpace, target: Target, cache: Store, progress: Callable[[float], None]
) -> None:
    """Fill the cache with the spectra that the layer's front needs; `progress` gets work as `spectra_work` counts it.

    Nothing is done where the front itself is known.
    """
    read = partial(_front, layer=layer, lanes=target.lanes)
    if cache.get("fronts", _front_key(layer, fits, space, target), read) is None:
        for sizes in _sizes(layer, space):
            _tails(layer, fits, sizes, space, cache, progress)


def surrogate_front(
    layer: Layer,
    fits: Fits,
    space: SearchSpace,
    target: Target,
    cache: Store,
    progress: Callable[[float], None] = ignored,
    begun: Callable[[], Made] | None = None,
) -> Made:
    """Return the layer's Pareto front of (params, padded FLOPs, surrogate error) and the funnel down to it.

    The surrogate error is the TT-SVD bound from the spectra of the weight's unfoldings; with calibration data, the
    unfoldings are whitened by the inputs' second moment, and the sum over bonds is no bound any more. `progress` gets
    the part that is done, spectra aside; nothing of a front that `begun` waits for, which others make.
    """
    from lrfdse.space.convolution import convolution_candidates
    from lrfdse.space.ranks import rank_candidates

    key = _front_key(layer, fits, space, target)
    read = partial(_front, layer=layer, lanes=target.lanes)
    if (known := cache.get("fronts", key, read)) is None:
        if begun is not None:
            candidates, funnel = begun()
        elif layer.is_product:
            made = front_work(layer, fits, space, target, cache)
            assert made is not None
            candidates, funnel = made(progress=progress)
        else:
            (own,) = (_tails(layer, fits, sizes, space, cache, ignored) for sizes in _sizes(layer, space))
            special = convolution_candidates if layer.kind == "conv" else rank_candidates
            candidates, funnel = special(layer, space, target.lanes, own)
        designs = [[str(c.factorization), c.error_bound] for c in candidates]
        stored = {"stages": [list(stage) for stage in funnel.stages], "gap": funnel.gap, "designs": designs}
        cache.put("fronts", key, stored)
        known = read(stored)
    return known


def front_work(
    layer: Layer, fits: Fits, space: SearchSpace, target: Target, cache: Store
) -> Callable[..., Made] | None:
    """Return what makes the front of a fully-connected layer, with all that it needs; None where the cache holds it.

    What is returned can be sent to another process.
    """
    from lrfdse.space.front import front

    read = partial(_front, layer=layer, lanes=target.lanes)
    if not layer.is_product or cache.get("fronts", _front_key(layer, fits, space, target), read) is not None:
        return None
    own, *padded = (_tails(layer, fits, sizes, space, cache, ignored) for sizes in _sizes(layer, space))
    return partial(
        front,
        layer.outputs,
        layer.inputs,
        layer.rows,
        target.lanes,
        space,
        own,
        padded_tails=padded[0] if padded else None,
        counts=funnel_of(layer, space, target, cache),
    )


def _front_key(layer: Layer, fits: Fits, space: SearchSpace, target: Target) -> str:
    from lrfdse.factorize.methods import METHODS
    from lrfdse.space.convolution import convolution_candidates
    from lrfdse.space.count import count_designs
    from lrfdse.space.front import front
    from lrfdse.space.ranks import rank_candidates

    special = convolution_candidates if layer.kind == "conv" else rank_candidates
    made = (front, count_designs) if layer.is_product else (special,)
    return result_key(
        "fronts",
        code=code_key(*made, _energy, _rounded),
        layer=layer.digest,
        rows=layer.rows,
        windows=[use.window for use in layer.uses if use.window is not None],
        lanes=target.lanes,
        space=_designs_of(space),
        data=fits.data_key(layer) if _is_whitened(layer, fits, space) else (),
        method=METHODS.identity(space.method),
    )


def _sizes(layer: Layer, space: SearchSpace) -> list[tuple[int, int]]:
    """Return the layer's sizes, and those that it is padded to where the space pads."""
    from lrfdse.space.lattice import padded_size

    sizes = layer.outputs, layer.inputs
    if not layer.is_product:
        return [sizes]
    padded = padded_size(layer.outputs), padded_size(layer.inputs)
    return [sizes, padded] if space.pad_to_smooth and padded != sizes else [sizes]


def _bonds(layer: Layer, sizes: tuple[int, int], space: SearchSpace) -> dict[tuple[int, int], int]:
    """Return the bonds whose spectra the layer's front needs, with the largest rank on each."""
    from lrfdse.space.convolution import convolution_bonds
    from lrfdse.space.lattice import bonds
    from lrfdse.space.ranks import rank_bonds

    if layer.is_product:
        return bonds(*sizes, space)
    return convolution_bonds(layer) if layer.kind == "conv" else rank_bonds(layer)


def _tails(
    layer: Layer,
    fits: Fits,
    sizes: tuple[int, int],
    space: SearchSpace,
    cache: Store,
    progress: Callable[[float], None],
) -> dict[tuple[int, int], Array]:
    """Return the discarded energy by bond and rank, for the weight padded with zeros to `sizes`."""
    wanted, whitened = _bonds(layer, sizes, space), _is_whitened(layer, fits, space)
    key = result_key(
        "spectra",
        code=code_key(_energy),
        layer=layer.digest,
        sizes=sizes,
        bonds=sorted(wanted.items()),
        data=fits.data_key(layer) if whitened else (),
    )

    def read(stored: Mapping[str, Array]) -> dict[tuple[int, int], Array]:
        found = {bond: stored[f"{bond[0]}x{bond[1]}"] for bond in wanted}
        if wrong := [bond for bond, limit in wanted.items() if found[bond].shape != (limit + 1,)]:
            raise ValueError(f"no spectrum of bond {wrong[0]}")
        return found

    if (found := cache.get_arrays("spectra", key, read)) is None:
        fitter = fits.fitter(layer)
        found = _energy(fitter.weight, fitter.moments if whitened else None, sizes, wanted, progress)
        cache.put_arrays("spectra", key, {f"{a}x{b}": values for (a, b), values in found.items()})
    return {bond: _rounded(values) for bond, values in found.items()}


def _is_whitened(layer: Layer, fits: Fits, space: SearchSpace) -> bool:
    """Return whether the layer's spectra are those of the weight as its inputs see it."""
    from lrfdse.factorize.methods import METHODS

    return METHODS.get(space.method).needs_moments and fits.calibrated(layer)


def _energy(
    weight: Array,
    moments: Moments | None,
    sizes: tuple[int, int],
    wanted: Mapping[tuple[int, int], int],
    progress: Callable[[float], None],
) -> dict[tuple[int, int], Array]:
    """Return the discarded energy by bond and rank, for `weight` padded with zeros to `sizes`."""
    from lrfdse.factorize.spectra import bond_tails, whitened_bond_tails

    if sizes != weight.shape:
        weight = np.pad(weight, [(0, size - own) for size, own in zip(sizes, weight.shape, strict=True)])
    if moments is None:
        return bond_tails(weight, wanted, progress=progress)
    return whitened_bond_tails(weight, moments, wanted, progress=progress)


def _rounded(energy: Array) -> Array:
    return np.round(energy, _DIGITS)


def _front(known: Any, layer: Layer, lanes: int) -> tuple[list[Candidate], Funnel]:
    """Return a front and its funnel as the cache keeps them."""
    found = []
    for text, bound in known["designs"]:
        shape = Factorization.parse(text, layer.outputs, layer.inputs)
        found.append(Candidate(shape, cost_of(layer, shape, lanes), float(bound)))
    return found, _funnel(known)


def _funnel(known: dict[str, Any]) -> Funnel:
    return Funnel(tuple((str(name), int(count)) for name, count in known["stages"]), float(known["gap"]))


def _designs_of(space: SearchSpace) -> tuple[object, ...]:
    """Return what of the space decides which designs exist; names and compile budgets do not."""
    ignored = {"name", "summary", "include", "exclude", "min_size", "max_compiled", "method"}
    return tuple((f.name, getattr(space, f.name)) for f in dataclasses.fields(space) if f.name not in ignored)
