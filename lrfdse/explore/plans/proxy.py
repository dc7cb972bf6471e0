"""What a choice of one layer is taken to cost in accuracy: the errors that the knapsack adds up over layers.

Errors of the weight and of the layer's output are known for every option. What a layer does to the network is measured
at a few options a layer, all other layers dense, and a monotone curve says it for the others: over the estimated loss
of the model where that is known (`LayerResult.rank_errors`), else over the output error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from lrfdse.base.codec import from_plain
from lrfdse.base.events import Event, Listener
from lrfdse.base.keys import code_key, result_key
from lrfdse.base.store import Store
from lrfdse.base.threads import in_threads
from lrfdse.errors import InputError, PlanError
from lrfdse.explore.plans.assemble import plan_of
from lrfdse.quality.losses import LEAST, Divergences
from lrfdse.quality.objective import objective_facts
from lrfdse.quality.scores import Scores
from lrfdse.results.settings import check_proxy

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Inputs
    from lrfdse.explore.layers.fits import FitRequest
    from lrfdse.explore.plans.evaluator import Evaluator
    from lrfdse.results.exploration import LayerResult, MeasuredChoice

T = TypeVar("T")

POINTS = 4
"""Options of one layer that are run on the network."""


_SLOPE = 1e-4
"""Loss per squared relative output error that is added to what was measured: where no loss was seen, the smaller error
is still to be preferred."""


_UNSEEN = 1e-9
"""Least loss per error: runs in single precision see none below, and the smaller error is still to be preferred."""


Texts = Mapping[str, str]
"""A plan as factorization texts by layer name; absent layers are dense."""

Errors = dict[str, dict[str, float]]
"""Predicted errors of options: by layer name, by factorization text."""

_Name = tuple[tuple[str, str], ...]


def proxy_errors(
    kind: str,
    layers: Sequence[LayerResult],
    evaluate: Callable[[Sequence[Texts]], Sequence[Scores | None]],
    cache: Store,
    key: tuple[object, ...] = (),
    points: int = POINTS,
) -> Errors:
    """Return the predicted error of every option of every layer, by scores of the model.

    Parameters
    ----------
    kind
        One of `PROXIES` but "loss", see `loss_errors`. "weight" and "output" run nothing.
    layers
        The layers with their options.
    evaluate
        Returns the scores of plans of at most one compressed layer; None for a plan that cannot be evaluated. Called
        once at most, with the plans that the cache does not know.
    cache
        Keeps what single layers gave by content, so that another target or budget runs none of them again.
    key
        What these results depend on beside layer and factorization; see `scores_key`.
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
    scores = _run("score", [{}, *_probed(layers, points)], evaluate, cache, key, Scores.facts, _read_scores)
    if () not in scores:
        raise InputError("the original model cannot be evaluated")

    def value(of: Scores) -> float:
        return of.fidelity if kind == "fidelity" or of.eval_accuracy is None else of.eval_accuracy

    return _by_layer(layers, {plan: value(scores[()]) - value(each) for plan, each in scores.items()}, _monotone)


def loss_errors(
    layers: Sequence[LayerResult],
    measure: Callable[[Sequence[Texts]], Sequence[float | None]],
    cache: Store,
    key: tuple[object, ...] = (),
    points: int = POINTS,
) -> Errors:
    """Return the predicted loss of the model with every option of every layer alone.

    Parameters
    ----------
    measure
        Returns the losses of plans of one compressed layer (`lrfdse.quality.losses.Divergences`); else as
        `evaluate` of `proxy_errors`.
    layers, cache, key, points
        As for `proxy_errors`.

    Notes
    -----
    Losses rise by a power of the error that is not known and differs from layer to layer, so the curve is straight
    between points in the logarithms of both, and proportional to the error outside of them.
    """
    losses = _run("loss", _probed(layers, points), measure, cache, key, _written_loss, _read_loss)
    return _by_layer(layers, losses, _power)


def _probed(layers: Sequence[LayerResult], points: int) -> list[Texts]:
    """Return the plans to run: each compresses one layer."""
    return [{result.layer.name: option.text} for result in layers for option in probes(result, points)]


def _run(
    of: str,
    plans: Sequence[Texts],
    run: Callable[[Sequence[Texts]], Sequence[T | None]],
    cache: Store,
    key: tuple[object, ...],
    write: Callable[[T], Any],
    read: Callable[[Any], T],
) -> dict[_Name, T]:
    """Return what plans gave, those aside that cannot be run; what the cache knows is not run."""
    names = {tuple(plan.items()): plan for plan in plans}
    keys = {name: result_key("sensitivity", of=of, by=key, plan=sorted(plan.items())) for name, plan in names.items()}
    found: dict[_Name, T] = {}
    for name, own in keys.items():
        if (known := cache.get("sensitivity", own, read)) is not None:
            found[name] = known
    if missing := [name for name in names if name not in found]:
        for name, each in zip(missing, run([names[name] for name in missing]), strict=True):
            if each is not None:
                found[name] = each
                cache.put("sensitivity", keys[name], write(each))
    return found


def _read_scores(stored: Any) -> Scores:
    return from_plain(Scores, stored)


def _written_loss(loss: float) -> dict[str, float]:
    return {"loss": loss}


_LARGEST_LOSS = 1e150
"""Size that a stored loss stays below: products of two losses are numbers."""


def _read_loss(stored: Any) -> float:
    """Return a loss as the cache keeps it."""
    if type(loss := stored["loss"]) not in (int, float) or not abs(loss) < _LARGEST_LOSS:
        raise ValueError(f"{loss!r} is no loss")
    return float(loss)


def _by_layer(
    layers: Sequence[LayerResult],
    measured: Mapping[_Name, float],
    curve: Callable[[LayerResult, Mapping[str, float]], dict[str, float]],
) -> Errors:
    """Return the curve of every layer through what was measured of it, by text."""
    found = {}
    for result in layers:
        name = result.layer.name
        own = {o.text: measured[(name, o.text),] for o in result.options if ((name, o.text),) in measured}
        # Nothing of such a layer could be run: its output error is all there is.
        found[name] = curve(result, own) if own else {option.text: option.error for option in result.options}
    return found


def _monotone(result: LayerResult, losses: Mapping[str, float]) -> dict[str, float]:
    from lrfdse.search.plans.monotone import MonotoneFit

    order = result.rank_errors()
    fit = MonotoneFit.of([order[text] for text in losses], list(losses.values()))
    own = np.array([option.error for option in result.options])
    found = fit.predict(np.array([order[option.text] for option in result.options])) + _SLOPE * own
    return {option.text: float(loss) for option, loss in zip(result.options, found, strict=True)}


def _power(result: LayerResult, losses: Mapping[str, float]) -> dict[str, float]:
    errors = result.rank_errors()
    return power_curve([errors[text] for text in losses], list(losses.values()), errors)


def power_curve(at: Sequence[float], losses: Sequence[float], errors: Mapping[str, float]) -> dict[str, float]:
    """Return losses at `errors` from some measured, non-decreasing and 0 at 0; straight between points in logarithms.

    >>> found = power_curve([0.1, 0.4], [0.01, 0.16], {"dense": 0.0, "a": 0.05, "b": 0.2, "c": 0.8})
    >>> {text: round(loss, 6) for text, loss in found.items()}
    {'dense': 0.0, 'a': 0.005, 'b': 0.04, 'c': 0.32}
    """
    from lrfdse.search.plans.monotone import MonotoneFit

    fit = MonotoneFit.of(at, losses)
    knots = np.array(fit.at)
    slopes = np.maximum(np.array(fit.values) / knots, _UNSEEN)
    found = {}
    for text, error in errors.items():
        slope = np.exp(np.interp(np.log(error), np.log(knots), np.log(slopes))) if error > 0 else 0.0
        found[text] = float(error * slope)
    return found


def predicted_errors(
    kind: str,
    fit: FitRequest,
    inputs: Inputs,
    layers: Sequence[LayerResult],
    evaluator: Evaluator,
    cache: Store,
    progress: Listener,
    notes: list[str] | None = None,
    threads: int = 1,
    points: int = POINTS,
    least: int = LEAST,
) -> Errors:
    """Return the errors of a proxy; single layers are run here where the cache does not know them.

    Parameters
    ----------
    kind
        One of `PROXIES`.
    fit
        How layers are fitted; for "loss" it says how outputs are compared.
    inputs
        The model and its data.
    layers
        The layers with their options.
    evaluator
        Scores plans, and gives the factors of layers.
    cache
        Keeps what single layers gave.
    progress
        Told of every plan that is run, and of those that cannot be.
    notes
        Gets what the reader of the results must know: which choices could not be run.
    threads
        Plans that are run side by side.
    points
        Options of each layer that are run.
    least
        Samples at least that losses are measured on.

    Raises
    ------
    InputError
        There is no such proxy, or the original model cannot be evaluated.
    """
    from lrfdse.explore.identity import score_code
    from lrfdse.model.graph import load_model

    def each(plans: Sequence[Texts], run: Callable[[Texts], T]) -> list[T | None]:
        found: list[T | None] = []
        failed: dict[str, list[str]] = {}

        def attempt(texts: Texts) -> T | PlanError:
            try:
                return run(texts)
            except PlanError as error:
                return error

        made = in_threads(attempt, plans, threads)
        for done, texts in enumerate(plans):
            progress(Event("sensitivity", ", ".join(texts), done, len(plans)))
            if not isinstance(each_made := next(made), PlanError):
                found.append(each_made)
                continue
            if not texts:
                raise InputError(str(each_made)) from each_made
            said = ", ".join(f"{name}={text}" for name, text in texts.items())
            failed.setdefault(str(each_made), []).append(said)
            progress(Event("note", f"{said} cannot be evaluated: {each_made}"))
            found.append(None)
        progress(Event("sensitivity", "", len(plans), len(plans)))
        if notes is not None:
            notes.extend(f"loss not measured of {', '.join(names)}: {reason}" for reason, names in failed.items())
        return found

    def evaluate(plans: Sequence[Texts]) -> list[Scores | None]:
        return each(plans, lambda texts: evaluator.scores(plan_of(texts, layers), report=False))

    if kind != "loss":
        key = (score_code().digest, *scores_key(inputs, fit.method), fit.correct)
        return proxy_errors(kind, layers, evaluate, cache, key, points)
    if fit.loss is None:
        raise ValueError('the proxy "loss" needs FitRequest.loss: how outputs are compared')
    data, loss, fits = inputs.choosing if inputs.calib is None else inputs.calib, fit.loss, evaluator.builder.fits

    def measure(plans: Sequence[Texts]) -> list[float | None]:
        lost = Divergences(inputs.model, data, loss, least, threads)

        def alone(texts: Texts) -> float:
            chosen = {name: f for name, f in plan_of(texts, layers).choices if not f.is_original}
            # By itself a layer is fitted as well as can be: there is nothing to correct.
            return lost({name: fits.factors(inputs.model.layer(name), f) for name, f in chosen.items()})

        return each(plans, alone)

    code = (code_key(Divergences, load_model).digest, fits.code().digest)
    key = (*code, *scores_key(inputs, fit.method), data.digest, objective_facts(loss), least)
    return loss_errors(layers, measure, cache, key, points)


def scores_key(inputs: Inputs, method: str) -> tuple[object, ...]:
    """Return what scores of plans depend on beside code: model, data, metric and fitting method."""
    from lrfdse.factorize.methods import METHODS

    judging = inputs.judging.facts()
    return (inputs.model.sha256, sorted(inputs.digests.items()), inputs.scorer.key, judging, METHODS.identity(method))


def probes(result: LayerResult, points: int = POINTS) -> list[MeasuredChoice]:
    """Return the options of a layer to run: of those that no other beats in params and `rank_errors`, some.

    They are spread evenly over the logarithm of params, the largest and the smallest among them.
    """
    errors = result.rank_errors()
    options = (option for option in result.options if not option.choice.is_original)
    front: list[MeasuredChoice] = []
    for option in sorted(options, key=lambda o: (o.words, errors[o.text])):
        error = errors[option.text]
        if error > 0 and (not front or error < errors[front[-1].text]):
            front.append(option)
    if len(front) <= points:
        return front
    sizes = np.log([option.words for option in front])
    wanted = np.linspace(sizes[0], sizes[-1], points)
    places = dict.fromkeys(int(np.argmin(np.abs(sizes - size))) for size in wanted)
    return [front[place] for place in places]
