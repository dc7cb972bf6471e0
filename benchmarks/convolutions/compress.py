"""Plans of a network at given MACs, chosen in several ways, and what they lose; nothing is compiled."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lrfdse.base.events import silent
from lrfdse.base.store import Store
from lrfdse.explore.inputs import DataRequest, Files, Inputs, open_inputs
from lrfdse.explore.layers.fits import FitRequest, Fits, open_builder, open_fits
from lrfdse.explore.layers.fronts import surrogate_front
from lrfdse.explore.layers.looking import inspect_layer
from lrfdse.explore.plans.assemble import plan_of
from lrfdse.explore.plans.evaluator import Evaluator
from lrfdse.explore.plans.proxy import Errors, predicted_errors
from lrfdse.explore.plans.search import tables
from lrfdse.ir.choice import Choice
from lrfdse.ir.cost import cost_of
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.ir.latency import Latency
from lrfdse.ir.layer import Layer
from lrfdse.ir.plan import Plan
from lrfdse.ir.space import SearchSpace
from lrfdse.repair.builder import Builder
from lrfdse.results.exploration import LayerResult, MeasuredChoice
from lrfdse.results.settings import Data
from lrfdse.search.plans.knapsack import plans
from lrfdse.space.eligible import reason_to_keep_dense
from lrfdse.targets.catalog import load_target

SPACE = SearchSpace(min_size=8)
"""Layers of these networks are narrow; convolutions have a grid of costs of their own."""

CHOSEN = 2
"""Plans of least predicted loss at one cost that the evaluation data choose from. Chosen."""

WAYS = {
    "weights": "SVD of the weights, one compression of all layers",
    "whitened": "whitened SVD with corrected bias, one compression of all layers",
    "svd": "whitened SVDs, allocated by the knapsack",
    "chains": "chains of convolutions, allocated by the knapsack",
    "corrected": "the same plan, corrected layer by layer for what the layers before lose",
    "refined": "the same plan, corrected, then in steps of all layers together, as `lrfdse explore` refines",
    "thorough": "the same plan on more images, refined as by `--effort thorough`: small steps behind those",
}
"""Ways to compress, each with what it is."""


@dataclass(frozen=True, slots=True)
class Found:
    """A compressed network."""

    way: str
    macs: int
    """MACs of the whole network."""
    params: int
    """Weights of the layers that may be compressed."""
    evaluation: float
    test: float
    plan: Mapping[str, str]
    """Layer to factorization, of the layers that are compressed."""
    seconds: int | None = None
    """CPU seconds that it took beside what other ways had done; None where nobody asked."""


@dataclass(frozen=True, slots=True)
class _Corrected(Builder):
    """Corrects every plan, be it cheap or not."""

    def factors(self, plan: Plan, refined: bool = False) -> Mapping[str, Factors]:
        """Return the plan's factors corrected in one pass, and then refined where that is asked for."""
        assert self.corrections is not None
        alone = Builder(self.model, self.fits).factors(plan)
        return self.corrections.factors(plan, alone, refined)


class Compressor:
    """One network with its data; what plans share is computed once.

    Parameters
    ----------
    folder
        Holds ``model.onnx``, ``calib.npz``, ``eval.npz`` and ``test.npz``.
    other_macs
        MACs of what is no layer.
    cache
        Keeps fits and losses.
    calib
        Name of the calibration data in the folder.
    small_steps
        MACs that small steps of a refined plan may take.
    """

    def __init__(
        self, folder: Path, other_macs: int, cache: Path, calib: str = "calib.npz", small_steps: float = 0.0
    ) -> None:
        data = Data(*(folder / name for name in (calib, "eval.npz", "test.npz")))
        self._small_steps = small_steps
        self._other = other_macs
        self._cache = Store(cache)
        self._target = load_target("riscv64")
        self.inputs: Inputs = open_inputs(Files(folder / "model.onnx", data, cache), DataRequest(layers=("fc", "conv")))
        self.model, self._calib = self.inputs.model, self.inputs.calib
        self.explored = [
            layer for layer in self.model.layers if reason_to_keep_dense(layer, SPACE) is None and layer.kind == "conv"
        ]

    @property
    def dense_macs(self) -> int:
        """MACs of the network as it is."""
        return self._other + sum(layer.flops // 2 for layer in self.model.layers)

    def original(self) -> Found:
        """Return the network as it is."""
        return self._found("original", plan_of({}, self.layers), self._builder(False))

    def at(self, ratio: float) -> Iterator[Found]:
        """Yield what every way gives at most the network's MACs divided by a ratio."""
        most = self.dense_macs / ratio
        plain = self._uniform(most)
        if plain is None:
            return
        yield self._found("weights", plain, Builder(self.model, self._weights_only))
        yield self._found("whitened", plain, self._builder(False))
        svds = [
            dataclasses.replace(each, options=tuple(o for o in each.options if _is_plain(o))) for each in self.layers
        ]
        for way, layers in (("svd", svds), ("chains", self.layers)):
            plan = self._allocated(layers, most)
            yield self._found(way, plan, self._builder(False))
        yield self._found("corrected", plan, self._builder(True))
        yield self._found("refined", plan, self._builder(True))

    def thorough(self, plan: Mapping[str, str]) -> Found:
        """Return a plan, given by the factorizations of its compressed layers, corrected and refined.

        Nothing of the layers but the plan's own factors is fitted.
        """
        choices = {layer.name: Factorization.dense(layer.outputs, layer.inputs) for layer in self.model.layers}
        for name, text in plan.items():
            dense = choices[name]
            choices[name] = Choice.parse(text, dense.outputs, dense.inputs).factorization
        whole = Plan(tuple((name, Choice(each)) for name, each in choices.items()))
        return self._found("thorough", whole, self._builder(True))

    @functools.cached_property
    def _fits(self) -> Fits:
        names = [layer.name for layer in self.explored]
        return open_fits(self._request("auto"), self.model, self._calib, names, self._cache)

    @functools.cached_property
    def _weights_only(self) -> Fits:
        request = FitRequest("svd")
        return open_fits(request, self.model, None, [layer.name for layer in self.explored], self._cache)

    def _request(self, method: str) -> FitRequest:
        return FitRequest(method, correct=True, loss=self.inputs.judging.objective, small_steps=self._small_steps)

    @functools.cached_property
    def errors(self) -> Errors:
        """Predicted loss of every option."""
        evaluator = Evaluator(self._builder(False), self.inputs)
        request = self._request("auto")
        return predicted_errors("loss", request, self.inputs, self.layers, evaluator, self._cache, silent)

    @functools.cached_property
    def layers(self) -> list[LayerResult]:
        """The layers with their options, whose latency is their MACs."""
        found = []
        for layer in self.model.layers:
            explored = layer in self.explored
            reason = None if explored else "not explored"
            result = inspect_layer(layer, self.model, SPACE, self._target, self._cache, reason)
            shapes = [Factorization.dense(layer.outputs, layer.inputs)]
            if explored:
                chosen, _ = surrogate_front(layer, self._fits, SPACE, self._target, self._cache)
                shapes += [each.factorization for each in chosen]
            options = tuple(self._option(layer, shape) for shape in shapes)
            found.append(dataclasses.replace(result, options=options))
        return found

    def _option(self, layer: Layer, shape: Factorization) -> MeasuredChoice:
        cost = cost_of(layer, shape, self._target.lanes)
        macs = Latency(*(cost.flops / 2,) * 3)
        if shape.is_dense:
            known = 0.0 if layer.name in self._fits.weightings else None
            return MeasuredChoice(
                Choice(shape), cost, shape.params, 4 * shape.params, 0.0, 0.0, macs, macs, 0.0, ("",), known
            )
        fitted = self._fits.factors(layer, Choice(shape))
        errors = fitted.weight_error, fitted.output_error
        sizes = shape.params, 4 * shape.params
        return MeasuredChoice(Choice(shape), cost, *sizes, *errors, macs, macs, 0.0, ("",), fitted.loss)

    def _uniform(self, most: float) -> Plan | None:
        """Return the plan of SVDs that need the same part of every layer's MACs, the largest that is allowed."""
        for part in np.arange(0.95, 0.04, -0.01):
            texts = {}
            for layer in self.explored:
                each = (layer.outputs * layer.inputs) / (layer.outputs + layer.inputs)
                if (rank := int(part * each)) >= 1:
                    texts[layer.name] = str(Factorization.svd(layer.outputs, layer.inputs, rank))
            plan = plan_of(texts, self.layers)
            if self._macs(plan) <= most:
                return plan
        return None

    def _allocated(self, layers: list[LayerResult], most: float) -> Plan:
        """Return the plan that the evaluation data like best, of some whose predicted loss is least."""
        front = plans(tables(layers, "warm", self.errors), max_latency=most - self._other)
        order = sorted(range(len(front)), key=lambda place: (float(front.error[place]), float(front.latency_us[place])))
        evaluator = Evaluator(self._builder(False), self.inputs)
        found = [plan_of(front.texts(place), layers) for place in order[:CHOSEN]]
        # The test data choose nothing.
        return max(found, key=lambda plan: evaluator.scores(plan, report=False).eval_accuracy or 0.0)

    def _builder(self, corrected: bool) -> Builder:
        if not corrected:
            return Builder(self.model, self._fits)
        made = open_builder(self._request("auto"), self.model, self._calib, self._fits, self._cache)
        return _Corrected(made.model, made.fits, made.corrections)

    def _found(self, way: str, plan: Plan, builder: Builder) -> Found:
        scores = Evaluator(builder, self.inputs).scores(plan, refined=way in ("refined", "thorough"))
        assert scores.eval_accuracy is not None and scores.accuracy is not None
        texts = {name: str(choice) for name, choice in plan.choices if not choice.is_original}
        params = sum(choice.factorization.params for _, choice in plan.choices)
        return Found(way, self._macs(plan), params, scores.eval_accuracy, scores.accuracy, texts)

    def _macs(self, plan: Plan) -> int:
        lanes = self._target.lanes
        return self._other + sum(
            cost_of(layer, plan[layer.name].factorization, lanes).flops // 2 for layer in self.model.layers
        )


def _is_plain(option: MeasuredChoice) -> bool:
    return option.choice.factorization.is_dense or option.choice.factorization.is_svd
