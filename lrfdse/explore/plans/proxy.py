"""What a choice of one layer is taken to cost in accuracy: the errors that the knapsack adds up over layers.

Errors of the weight and of the layer's output are known for every option. What a layer does to the network is measured
at a few options a layer, all other layers dense, and a monotone curve says it for the others: over the estimated loss
of the model where that is known (`LayerResult.rank_errors`), else over the output error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.base.codec import from_plain
from lrfdse.base.events import Event, Listener
from lrfdse.base.keys import code_key, result_key
from lrfdse.base.store import Store
from lrfdse.errors import InputError
from lrfdse.explore.plans.assemble import plan_of
from lrfdse.quality.divergence import Divergences, loss_of
from lrfdse.quality.metrics import compares_numbers
from lrfdse.quality.scores import Scores
from lrfdse.results.settings import check_proxy

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Inputs
    from lrfdse.explore.plans.evaluator import Evaluator
    from lrfdse.results.exploration import LayerResult, Option
    from lrfdse.results.settings import Settings


POINTS = 4
"""Options of one layer that are run on the network."""


_SLOPE = 1e-4
"""Loss per squared relative output error that is added to what was measured: where no loss was seen, the smaller error
is still to be preferred."""


_UNSEEN = 1e-9


Texts = Mapping[str, str]


def proxy_errors(
    kind: str,
    layers: Sequence[LayerResult],
    evaluate: Callable[[Sequence[Texts]], Sequence[Scores | None]],
    cache: Store,
    key: tuple[object, ...] = (),
    points: int = POINTS,
) -> dict[str, dict[str, float]]:
    """Return the predicted error of every option of every layer: by layer name, by factorization text.

    Parameters
    ----------
    kind
        One of `PROXIES` but "loss", see `loss_errors`. "weight" and "output" run nothing.
    layers
        The layers with their options.
    evaluate
        Scores plans, given as factorization texts by layer name (absent layers are dense); None for a plan that cannot
        be evaluated. Called once at most, with the plans that the cache does not know.
    cache
        Keeps scores of single layers by content, so that another target or budget runs none of them again.
    key
        What scores depend on beside layer and factorization; see `scores_key`.
    points
        Options of each layer that are run.

    Raises
    ------
    InputError
        There is no such proxy, or the original model cannot be evaluated.
    """
    check_proxy(kind)
    if kind == "weight":
        return {result.layer.name: {o.text: o.weight_error**2 for o in result.options} for result in layers}
    if kind == "output":
        return {result.layer.name: {o.text: o.error for o in result.options} for result in layers}
    plans: list[dict[str, str]] = [{}]
    for result in layers:
        plans += [{result.layer.name: option.text} for option in probes(result, points)]
    scores = _scored(plans, evaluate, cache, key)
    base = scores[()]
    if base is None:
        raise InputError("the original model cannot be evaluated")
    return {result.layer.name: _fitted(kind, result, base, scores) for result in layers}


def loss_errors(
    layers: Sequence[LayerResult],
    measure: Callable[[Sequence[Texts]], Sequence[float | None]],
    cache: Store,
    key: tuple[object, ...] = (),
    points: int = POINTS,
) -> dict[str, dict[str, float]]:
    """Return the predicted loss of the model with every option of every layer alone, by layer name and text.

    Parameters
    ----------
    layers
        The layers with their options.
    measure
        Returns the losses of plans of one compressed layer (`lrfdse.quality.divergence.Divergences`); None where a plan
        cannot be run. Called once at most, with the plans that the cache does not know.
    cache, key, points
        As for `proxy_errors`.

    Notes
    -----
    Losses rise by a power of the error that is not known and differs from layer to layer, so the curve is straight
    between points in the logarithms of both, and proportional to the error outside of them.
    """
    plans = [{result.layer.name: option.text} for result in layers for option in probes(result, points)]
    keys = {_name(plan): result_key("sensitivity", of="loss", by=key, plan=sorted(plan.items())) for plan in plans}
    losses = {name: known for name, own in keys.items() if (known := cache.get("sensitivity", own, _loss)) is not None}
    if missing := [plan for plan in plans if _name(plan) not in losses]:
        for plan, loss in zip(missing, measure(missing), strict=True):
            if loss is not None:
                losses[_name(plan)] = loss
                cache.put("sensitivity", keys[_name(plan)], {"loss": loss})
    found = {}
    for result in layers:
        errors, name = result.rank_errors(), result.layer.name
        measured = {text: losses[(name, text),] for text in errors if ((name, text),) in losses}
        at = [errors[text] for text in measured]
        # Nothing of such a layer could be run: its output error is all there is.
        own = {option.text: option.error for option in result.options}
        found[name] = power_curve(at, list(measured.values()), errors) if measured else own
    return found


def power_curve(at: Sequence[float], losses: Sequence[float], errors: Mapping[str, float]) -> dict[str, float]:
    """Return losses at `errors` from some measured, non-decreasing and 0 at 0; straight between points in logarithms.

    >>> found = power_curve([0.1, 0.4], [0.01, 0.16], {"dense": 0.0, "a": 0.05, "b": 0.2, "c": 0.8})
    >>> {text: round(loss, 6) for text, loss in found.items()}
    {'dense': 0.0, 'a': 0.005, 'b': 0.04, 'c': 0.32}
    """
    from lrfdse.search.plans.monotone import MonotoneFit

    fit = MonotoneFit.of(at, losses)
    knots = np.array(fit.at)
    # Runs in single precision do not see losses below this part of the error; the smaller error is still preferred.
    slopes = np.maximum(np.array(fit.values) / knots, _UNSEEN)
    found = {}
    for text, error in errors.items():
        slope = np.exp(np.interp(np.log(error), np.log(knots), np.log(slopes))) if error > 0 else 0.0
        found[text] = float(error * slope)
    return found


def predicted_errors(
    settings: Settings, inputs: Inputs, layers: Sequence[LayerResult], evaluator: Evaluator, tell: Listener
) -> dict[str, dict[str, float]]:
    """Return the errors of `settings.proxy`; single layers are run here where the cache does not know them."""
    from lrfdse.explore.identity import score_code
    from lrfdse.explore.layers.fits import open_fits
    from lrfdse.model.graph import load_model

    def each(plans: Sequence[Texts], run: Callable[[Texts], Any]) -> list[Any]:
        found: list[Any] = []
        for done, texts in enumerate(plans):
            tell(Event("sensitivity", ", ".join(texts), done, len(plans)))
            try:
                found.append(run(texts))
            except InputError as error:
                if not texts:
                    raise
                tell(Event("note", f"{texts} cannot be evaluated: {error}"))
                found.append(None)
        tell(Event("sensitivity", "", len(plans), len(plans)))
        return found

    def evaluate(plans: Sequence[Texts]) -> list[Scores | None]:
        return each(plans, lambda texts: evaluator.scores(plan_of(texts, layers), report=False))

    cache = Store(settings.cache)
    if settings.proxy != "loss":
        key = (score_code().digest, *scores_key(inputs, settings.space.method), settings.correct)
        return proxy_errors(settings.proxy, layers, evaluate, cache, key)
    data = inputs.choosing if inputs.calib is None else inputs.calib
    loss = loss_of(inputs.model, data, compares_numbers(settings.metric))

    def measure(plans: Sequence[Texts]) -> list[float | None]:
        builder, lost = evaluator.builder, Divergences(inputs.model, data, loss)

        def alone(texts: Texts) -> float:
            chosen = {name: shape for name, shape in plan_of(texts, layers).choices if not shape.is_dense}
            # By itself a layer is fitted as well as can be: there is nothing to correct.
            return lost({name: builder.fits.factors(inputs.model.layer(name), f) for name, f in chosen.items()})

        return each(plans, alone)

    code = code_key(Divergences, open_fits, load_model).digest
    return loss_errors(layers, measure, cache, (code, *scores_key(inputs, settings.space.method), data.digest, loss))


def scores_key(inputs: Inputs, method: str) -> tuple[object, ...]:
    """Return what scores of plans depend on beside code: model, data, metric and fitting method."""
    from lrfdse.factorize.methods import METHODS

    return (inputs.model.sha256, sorted(inputs.digests.items()), inputs.scorer.key, METHODS.identity(method))


def probes(result: LayerResult, points: int = POINTS) -> list[Option]:
    """Return the options of a layer to run: of those that no other beats in params and `rank_errors`, some.

    They are spread evenly over the logarithm of params, the largest and the smallest among them.
    """
    errors = result.rank_errors()
    options = (option for option in result.options if not option.factorization.is_dense)
    front: list[Option] = []
    for option in sorted(options, key=lambda o: (o.params, errors[o.text])):
        error = errors[option.text]
        if error > 0 and (not front or error < errors[front[-1].text]):
            front.append(option)
    if len(front) <= points:
        return front
    sizes = np.log([option.params for option in front])
    wanted = np.linspace(sizes[0], sizes[-1], points)
    places = dict.fromkeys(int(np.argmin(np.abs(sizes - size))) for size in wanted)
    return [front[place] for place in places]


def _scored(
    plans: Sequence[dict[str, str]],
    evaluate: Callable[[Sequence[Texts]], Sequence[Scores | None]],
    cache: Store,
    key: tuple[object, ...],
) -> dict[tuple[tuple[str, str], ...], Scores | None]:
    """Return the scores of plans, from the cache where it has them."""
    keys = {_name(plan): result_key("sensitivity", of="score", by=key, plan=sorted(plan.items())) for plan in plans}
    found: dict[tuple[tuple[str, str], ...], Scores | None] = {}
    for plan in plans:
        if (known := cache.get("sensitivity", keys[_name(plan)], partial(from_plain, Scores))) is not None:
            found[_name(plan)] = known
    missing = [plan for plan in plans if _name(plan) not in found]
    if missing:
        for plan, scores in zip(missing, evaluate(missing), strict=True):
            found[_name(plan)] = scores
            if scores is not None:
                cache.put("sensitivity", keys[_name(plan)], scores.facts())
    return found


def _name(plan: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(plan.items())


def _loss(stored: Any) -> float:
    """Return a loss as the cache keeps it."""
    if type(loss := stored["loss"]) not in (int, float) or not math.isfinite(loss):
        raise ValueError(f"{loss!r} is no loss")
    return float(loss)


def _fitted(
    kind: str, result: LayerResult, base: Scores, scores: Mapping[tuple[tuple[str, str], ...], Scores | None]
) -> dict[str, float]:
    from lrfdse.search.plans.monotone import MonotoneFit

    def value(of: Scores) -> float:
        return of.fidelity if kind == "fidelity" or of.eval_accuracy is None else of.eval_accuracy

    order = result.rank_errors()
    measured = []
    for option in result.options:
        found = scores.get(((result.layer.name, option.text),))
        if found is not None:
            measured.append((order[option.text], value(base) - value(found)))
    if not measured:
        # Nothing of this layer could be run: its output error is all there is.
        return {option.text: option.error for option in result.options}
    fit = MonotoneFit.of([error for error, _ in measured], [loss for _, loss in measured])
    own = np.array([option.error for option in result.options])
    losses = fit.predict(np.array([order[option.text] for option in result.options])) + _SLOPE * own
    return {option.text: float(loss) for option, loss in zip(result.options, losses, strict=True)}
