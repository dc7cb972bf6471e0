"""Every layer down its funnel, then all of them compiled and measured together: the per-layer tables of the search."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener, hundredths
from lrfdse.base.threads import in_threads
from lrfdse.errors import PlanError, ToolError
from lrfdse.explore.layers.beside import fronts_beside
from lrfdse.explore.layers.bounds import bound_of
from lrfdse.explore.layers.errors import Errors, fit_threads
from lrfdse.explore.layers.fronts import Made, funnel_of, surrogate_front
from lrfdse.explore.layers.latencies import KernelRequest, MeasuredKernel, measure_kernels
from lrfdse.explore.layers.looking import look_at
from lrfdse.explore.layers.repaired import RANKS, repairs_of
from lrfdse.explore.layers.screening import MOST_WEIGHTS, fit_work, screened_front
from lrfdse.ir.choice import Choice
from lrfdse.ir.cost import cost_of
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Spec, spec_of
from lrfdse.ir.latency import Latency, Measurement
from lrfdse.ir.layer import Layer
from lrfdse.ir.space import Candidate
from lrfdse.ir.storage import FLOAT32, INT8, Storage
from lrfdse.results.exploration import LayerResult, MeasuredChoice

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.explore.layers.fits import Fits
    from lrfdse.ir.space import SearchSpace
    from lrfdse.model.graph import Model
    from lrfdse.targets.target import Target

BASELINE_RATIOS = (2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0)
"""Compressions at which SVD is always compiled: what every other design is held against."""

_FRONT_SHARE = 0.05
"""Share of the time of a layer's front, fits included, that is spent before the fits: 7.4 s of CPU time for the 300x784
layer of examples/lenet300-fashion on an EPYC core, before 120 fits of 0.1 to 1.4 s each."""


def study_layers(
    space: SearchSpace,
    kernels: KernelRequest,
    model: Model,
    fits: Fits,
    cache: Store,
    progress: Listener,
    idle: Mapping[str, str] | None = None,
    storages: Sequence[Storage] = (FLOAT32,),
    screened: int = 3,
    repairs: Sequence[int] = RANKS,
    plain: bool = False,
) -> tuple[LayerResult, ...]:
    """Return every layer with its options: fitted, compiled, checked on the target's ISA and measured.

    Parameters
    ----------
    space
        Which layers are explored, and which factorizations of them are candidates.
    kernels
        What candidates are compiled for, and how they are measured.
    model, fits
        The original model, and what fits its layers.
    cache
        Where results are kept.
    progress
        Told how far each stage is.
    idle
        Why layers are left as they are that the space would explore, by their names.
    storages
        In what the weights of each candidate are stored: a choice each.
    screened
        Candidates of a layer of few enough weights that are shortly fitted for each one that is compiled; 0 fits none.
    repairs
        Ranks of repairs of dense int8 that are thought of.
    plain
        Whether products have SVD at the baseline ratios alone, without fronts and their spectra.

    Raises
    ------
    ToolError
        The dense kernel of a layer fails on the target, so that nothing can be compared.
    """
    layers, target = model.layers, kernels.target
    results = look_at(model, space, target, fits, cache, progress, idle or {}, kernels.workers, plain)
    explored = [result.layer for result in results if result.kept_dense is None]
    with_fronts = [layer for layer in explored if not (plain and layer.is_product)]
    candidates = {
        layer.name: [_candidate(layer, Factorization.dense(layer.outputs, layer.inputs), target)] for layer in layers
    }
    sizes = {layer.name: _size(layer) for layer in explored}
    with (
        fronts_beside(with_fronts, fits, space, target, cache, kernels.workers) as begun,
        hundredths("fronts", sizes, progress) as of,
    ):
        for place, result in enumerate(results):
            if result.kept_dense is None:
                with of(result.layer.name) as worked:
                    found, funnel = _candidates(
                        result.layer,
                        fits,
                        space,
                        target,
                        cache,
                        kernels.workers,
                        screened,
                        plain,
                        worked,
                        begun.get(result.layer.name),
                    )
                    if _int8_is_offered(result.layer, storages):
                        offered = repairs_of(result.layer, fits, repairs)
                        found += [_candidate(result.layer, each, target) for each in offered]
                        fits.release(result.layer)
                candidates[result.layer.name] += found
                results[place] = dataclasses.replace(result, funnel=funnel)

    chosen = {
        each.layer.name: _stored(each, candidates[each.layer.name], storages, _roundable(each.layer, model, fits))
        for each in results
    }
    wanted = [
        (candidate, storage, spec)
        for layer in layers
        for candidate, storage in chosen[layer.name]
        for spec in _specs(layer, candidate, storage, fits.calibrated(layer))
    ]
    specs = [spec for _, _, spec in wanted]
    dense = [spec for candidate, storage, spec in wanted if Choice(candidate.factorization, storage).is_original]
    # Without the original there is nothing to compare with, and most likely nothing else runs either.
    measured = measure_kernels(specs, kernels, cache, progress, dense)
    for spec, kernel in measured.items():
        if kernel.measurement is None and spec in dense:
            raise ToolError(f"the dense kernel {spec} fails on {target.name}: {kernel.failure}")
    complete, done, total = [], 0, sum(len(each) - 1 for each in chosen.values())
    for result in results:
        name = result.layer.name

        def fitted(count: int, name: str = name, before: int = done) -> None:
            progress(Event("fit", name, before + count, total))

        complete.append(_with_options(result, chosen[name], measured, target, fits, kernels.workers, fitted))
        done += len(chosen[name]) - 1
    progress(Event("fit", "", total, total))
    return tuple(complete)


def _candidates(
    layer: Layer,
    fits: Fits,
    space: SearchSpace,
    target: Target,
    cache: Store,
    threads: int,
    screened: int,
    plain: bool,
    progress: Callable[[float], None],
    begun: Callable[[], Made] | None = None,
) -> Made:
    """Return the designs of one layer to compile: the best of the surrogate front, and SVD at the baseline ratios.

    Where another process makes that front, `begun` waits for it.
    """
    from lrfdse.space.thin import thin

    if plain and layer.is_product:
        return _baselines(layer, target), funnel_of(layer, space, target, cache)
    if layer.kind == "conv":
        found, funnel = surrogate_front(layer, fits, space, target, cache, progress)
        return thin(found, space.max_compiled), funnel
    fitted = screened > 0 and fits.calibrated(layer) and layer.outputs * layer.inputs <= MOST_WEIGHTS
    before, share = 0.0, _size(layer) * (_FRONT_SHARE if fitted else 1.0)

    def part(done: float) -> None:
        nonlocal before
        progress(share * (done - before))
        before = done

    found, funnel = surrogate_front(layer, fits, space, target, cache, part, begun)
    if fitted:
        some = {each.factorization: each for each in thin(found, screened * space.max_compiled)}
        work = {each: fit_work(layer, each) for each in some}
        rest = (_size(layer) - share) / max(sum(work.values()), 1)
        found = screened_front(layer, fits, list(some.values()), threads, lambda fit: progress(rest * work[fit]))
        fits.release(layer)
        funnel = funnel.extended("front by fitted error", len(found))
    kept = {candidate.factorization: candidate for candidate in thin(found, space.max_compiled)}
    for svd in _baselines(layer, target):
        kept.setdefault(svd.factorization, svd)
    return list(kept.values()), funnel


def _baselines(layer: Layer, target: Target) -> list[Candidate]:
    """Return SVD of a layer at the baseline ratios."""
    sizes = layer.outputs + (layer.table or layer.inputs)
    ranks = dict.fromkeys(int(layer.weights / ratio / sizes) for ratio in BASELINE_RATIOS)
    return [_candidate(layer, Factorization.svd(layer.outputs, layer.inputs, rank), target) for rank in ranks if rank]


def _size(layer: Layer) -> float:
    """Return the weights of a layer, which the work on its front grows with."""
    return float(layer.outputs * layer.inputs)


def _candidate(layer: Layer, factorization: Factorization, target: Target) -> Candidate:
    """Return a candidate that did not come from the front, so has no bound but the trivial one."""
    return Candidate(factorization, cost_of(layer, factorization, target.lanes), 0.0 if factorization.is_dense else 1.0)


def _roundable(layer: Layer, model: Model, fits: Fits) -> bool:
    """Return whether products of a layer can be of whole numbers: they are of rows whose range the data tell."""
    return fits.calibrated(layer) and all(site.in_axis == -1 for site in model.sites[layer.name])


def _int8_is_offered(layer: Layer, storages: Sequence[Storage]) -> bool:
    """Return whether the weights of a layer may become int8 that are not."""
    return layer.is_product and not layer.storage.scaled and INT8 in storages


def _stored(
    result: LayerResult, candidates: Sequence[Candidate], storages: Sequence[Storage], roundable: bool
) -> list[tuple[Candidate, Storage]]:
    """Return the choices of a layer, the one that leaves it as it is first; a layer that is not explored has no other.

    Without float32 among the storages, that one is still there to compare with. Only fully-connected layers have
    kernels for anything else. Inputs are rounded where they are `roundable`. What the model stores in int8 stays so.
    """
    if result.kept_dense is not None:
        return [(candidates[0], FLOAT32)]
    if not result.layer.is_product:
        storages = [FLOAT32, *(each for each in storages if each != FLOAT32 and result.layer.takes(each))]
    if result.layer.storage.scaled:
        return [(candidates[0], FLOAT32), *((each, result.layer.storage) for each in candidates[1:])]
    storages = [storage for storage in storages if roundable or not storage.rounds_inputs]
    every = [(each, storage) for storage in storages for each in candidates if storage.takes(each.factorization)]
    return list(dict.fromkeys([(candidates[0], FLOAT32), *every]))


def _specs(layer: Layer, candidate: Candidate, storage: Storage, calibrated: bool) -> list[Spec]:
    """Return the kernel of each use of the layer."""
    choice = Choice(candidate.factorization, storage)
    return [spec_of(layer, use, choice, corrected=calibrated) for use in layer.uses]


def _bytes(layer: Layer, choice: Choice, candidate: Candidate) -> int:
    """Return the bytes of a choice's weights and scales; of an embedding, the cost has the elements."""
    if choice.is_original:
        choice = Choice(choice.factorization, layer.storage)
    if layer.kind == "embedding" and choice.storage.scaled:
        # The table is rounded, and what makes rows of its columns is not.
        width = layer.outputs if choice.factorization.is_dense else choice.factorization.ranks[0]
        table = layer.table * width
        return choice.storage.bytes_of(table) + FLOAT32.bytes_of(candidate.cost.params - table + width)
    return choice.storage.bytes_of(candidate.cost.params) + FLOAT32.bytes_of(choice.scales)


def _with_options(
    result: LayerResult,
    chosen: Sequence[tuple[Candidate, Storage]],
    kernels: Mapping[Spec, MeasuredKernel],
    target: Target,
    fits: Fits,
    threads: int,
    fitted: Callable[[int], None],
) -> LayerResult:
    """Return the layer with its options; `fitted` is told how many choices, the first aside, are behind."""
    layer = result.layer
    options: list[MeasuredChoice] = []
    failures: dict[str, str] = {}
    working: list[tuple[Candidate, Choice, list[Spec], list[MeasuredKernel], list[Measurement]]] = []
    for candidate, storage in chosen:
        choice = Choice(candidate.factorization, storage)
        specs = _specs(layer, candidate, storage, fits.calibrated(layer))
        measured = [kernels[spec] for spec in specs]
        found = [kernel.measurement for kernel in measured if kernel.measurement is not None]
        if len(found) < len(measured):
            failures[str(choice)] = next(kernel.failure for kernel in measured if kernel.measurement is None)
        else:
            working.append((candidate, choice, specs, measured, found))

    def fit(choice: Choice) -> Errors | PlanError:
        try:
            return fits.errors(layer, choice)
        except PlanError as error:
            return error

    errors = in_threads(lambda each: fit(each[1]), working, fit_threads(layer, threads))
    for place, ((candidate, choice, specs, measured, found), each) in enumerate(zip(working, errors, strict=True)):
        fitted(place)
        if isinstance(each, PlanError):
            failures[str(choice)] = str(each)
            continue
        size = _bytes(layer, choice, candidate)
        # In a loop the first turn alone may find its weights in DRAM.
        later = [m for use, m in zip(layer.uses, found, strict=True) for _ in range(use.turns - 1)]
        # Uses without a bias share the one that a correction gives them.
        added_bias = layer.outputs if any(s.bias and not u.bias for s, u in zip(specs, layer.uses, strict=True)) else 0
        options.append(
            MeasuredChoice(
                choice=choice,
                cost=candidate.cost,
                params=candidate.cost.params + layer.bias_params + added_bias,
                bytes=size + FLOAT32.bytes_of(layer.bias_params + added_bias),
                weight_error=each.weight_error,
                output_error=each.output_error,
                warm=_sum([m.warm for m in [*found, *later]]),
                cold=_sum([*(m.cold for m in found), *(m.warm for m in later)]),
                max_error=max(m.max_error for m in found),
                schedules=tuple(kernel.schedule for kernel in measured),
                loss=each.loss,
                warm_bound=bound_of([*found, *later], "warm", size, target),
                cold_bound=bound_of([*found, *later], "cold", size, target),
            )
        )
    fits.release(layer)
    funnel = result.funnel
    if result.kept_dense is None:
        funnel = funnel.extended("compiled", len(chosen) - 1).extended("measured", len(options) - 1)
    return dataclasses.replace(result, funnel=funnel, options=tuple(options), failures=failures)


def _sum(parts: list[Latency]) -> Latency:
    return Latency(sum(p.us for p in parts), sum(p.low_us for p in parts), sum(p.high_us for p in parts))
