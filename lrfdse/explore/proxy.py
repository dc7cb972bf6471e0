"""What a choice of one layer is taken to cost in accuracy: the errors that the knapsack adds up over layers.

Errors of the weight and of the layer's output are known for every option. What a layer does to the network is measured
at a few options a layer, all other layers dense, and a monotone curve over the output error says it for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.errors import InputError
from lrfdse.explore.cache import Cache, digest, source_digest
from lrfdse.explore.events import Event, Listener
from lrfdse.explore.plans import plan_of
from lrfdse.explore.scores import Scores

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Inputs
    from lrfdse.explore.plans import Evaluator
    from lrfdse.explore.result import LayerResult, Option
    from lrfdse.explore.settings import Settings

PROXIES = ("weight", "output", "fidelity", "score")
"""Squared relative error of the weight; of the output (the default); measured loss of fidelity; of the metric."""

POINTS = 4
"""Options of one layer that are run on the network."""

_SLOPE = 1e-4
"""Loss per squared relative output error that is added to what was measured: where no loss was seen, the smaller error
is still to be preferred."""

Texts = Mapping[str, str]


def check_proxy(kind: str) -> None:
    """Raise `InputError` where there is no such proxy."""
    if kind not in PROXIES:
        raise InputError(f"--proxy takes {', '.join(PROXIES)}, but got {kind!r}")


def proxy_errors(
    kind: str,
    layers: Sequence[LayerResult],
    evaluate: Callable[[Sequence[Texts]], Sequence[Scores | None]],
    cache: Cache,
    key: tuple[object, ...] = (),
    points: int = POINTS,
) -> dict[str, dict[str, float]]:
    """Return the predicted error of every option of every layer: by layer name, by factorization text.

    Parameters
    ----------
    kind
        One of `PROXIES`. "weight" and "output" run nothing.
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


def predicted_errors(
    settings: Settings, inputs: Inputs, layers: Sequence[LayerResult], evaluator: Evaluator, tell: Listener
) -> dict[str, dict[str, float]]:
    """Return the errors of `settings.proxy`; single layers are run here where the cache does not know them."""

    def evaluate(plans: Sequence[Texts]) -> list[Scores | None]:
        found: list[Scores | None] = []
        for done, texts in enumerate(plans):
            tell(Event("sensitivity", ", ".join(texts), done, len(plans)))
            try:
                found.append(evaluator.scores(plan_of(texts, layers), report=False))
            except InputError as error:
                if not texts:
                    raise
                tell(Event("note", f"{texts} cannot be evaluated: {error}"))
                found.append(None)
        tell(Event("sensitivity", "", len(plans), len(plans)))
        return found

    key = (*scores_key(inputs, settings.space.method), settings.correct)
    return proxy_errors(settings.proxy, layers, evaluate, Cache(settings.cache), key)


def scores_key(inputs: Inputs, method: str) -> tuple[object, ...]:
    """Return what scores of plans depend on: model, data, metric, fitting method and code."""
    from importlib.metadata import version

    code = source_digest("factorize", "model", "design", "explore")
    data = sorted(inputs.digests.items())
    return (inputs.model.sha256, data, inputs.scorer.key, method, code, version("onnxruntime"))


def probes(result: LayerResult, points: int = POINTS) -> list[Option]:
    """Return the options of a layer to run: of those that no other beats in params and output error, some.

    They are spread evenly over the logarithm of params, the largest and the smallest among them.
    """
    options = sorted((o for o in result.options if not o.factorization.is_dense), key=lambda o: (o.params, o.error))
    front: list[Option] = []
    for option in options:
        if option.error > 0 and (not front or option.error < front[-1].error):
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
    cache: Cache,
    key: tuple[object, ...],
) -> dict[tuple[tuple[str, str], ...], Scores | None]:
    """Return the scores of plans, from the cache where it has them."""
    keys = {_name(plan): digest("sensitivity", *key, sorted(plan.items())) for plan in plans}
    found: dict[tuple[tuple[str, str], ...], Scores | None] = {}
    for plan in plans:
        if (known := _read(cache.get("sensitivity", keys[_name(plan)]))) is not None:
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


def _read(stored: Any) -> Scores | None:
    try:
        return Scores.of(stored)
    except (KeyError, TypeError, ValueError, IndexError):
        return None


def _fitted(
    kind: str, result: LayerResult, base: Scores, scores: Mapping[tuple[tuple[str, str], ...], Scores | None]
) -> dict[str, float]:
    from lrfdse.search.monotone import MonotoneFit

    def value(of: Scores) -> float:
        return of.fidelity if kind == "fidelity" or of.eval_accuracy is None else of.eval_accuracy

    measured = []
    for option in result.options:
        found = scores.get(((result.layer.name, option.text),))
        if found is not None:
            measured.append((option.error, value(base) - value(found)))
    if not measured:
        # Nothing of this layer could be run: its output error is all there is.
        return {option.text: option.error for option in result.options}
    fit = MonotoneFit.of([error for error, _ in measured], [loss for _, loss in measured])
    errors = np.array([option.error for option in result.options])
    losses = fit.predict(errors) + _SLOPE * errors
    return {option.text: float(loss) for option, loss in zip(result.options, losses, strict=True)}
