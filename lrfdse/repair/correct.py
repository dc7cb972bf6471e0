"""Cumulative correction of a finished plan: every layer fitted again on what the compressed model feeds it."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.errors import plan_errors
from lrfdse.model.data import mixed, samples_at
from lrfdse.repair.refine import Local, refined

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from lrfdse.ir.factorization import Array
    from lrfdse.ir.factors import Factors, Moments
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.model.runtime import Arrays, Runtime
    from lrfdse.quality.divergence import Loss


HELD_OUT = 8
"""One sample in so many judges the correction and is not fitted to. Chosen; docs/method.md, section 9, has what it
gains and where so few samples judge wrongly."""

MIXTURES = 8
"""Mixtures of two samples for each sample that a refinement sees, where inputs can be mixed. Chosen, not measured."""

SENSED = 1024
"""Most samples and mixtures that output weightings are taken from. Chosen, not measured."""

_BROKEN = 1e12
"""Loss of outputs that are not finite: above any other."""

_SLOPES = 100_000_000
"""Most derivatives of scores by outputs of a layer that are held for a refinement: 400 MB of float32. Chosen, not
measured."""

_DIRECT = 20_000_000
"""Most outputs, over rows and samples, that a refinement sees of a layer whose outputs are the scores: 80 MB an
array of float32. Chosen, not measured."""

_BUDGET = 1e11
"""MACs, estimated from the weights behind a layer, that its derivatives for one refinement may take: some ten
seconds on one core (docs/method.md, section 9, "What it costs"). Chosen."""


@dataclasses.dataclass(frozen=True, slots=True)
class Correction:
    """A plan's factors after the correction, and what it gained."""

    factors: Mapping[str, Factors]
    """Layer name to factors, of the layers given and in their order; those given where nothing was gained."""
    before: float
    """Loss of the model with the factors given on held-out samples, each sample's positions summed."""
    after: float
    """Loss with `factors`; never above `before`."""
    sweeps: int
    """Refinement sweeps that were kept."""

    @property
    def changed(self) -> bool:
        """Whether the factors are other than those given."""
        return self.after < self.before


class Corrector:
    """Corrects plans of one model on one set of calibration data; what the plans share is computed once.

    Parameters
    ----------
    model
        The original model.
    calib
        Calibration data; labels are not looked at.
    loss
        "softmax" where the model's output holds class scores, "squared" otherwise.
    weightings
        Layer name to the weighting of its outputs (`lrfdse.repair.curvature.compute_weightings`); None computes those
        of the layers that plans compress, an empty mapping fits without.
    method
        How layers are fitted: one of `lrfdse.factorize.methods.METHODS`.
    beta
        Weight of the original outputs in the targets, between 0 and 1; None chooses for each layer by ACES.
    output
        The output that counts; the first of floating point by default.
    runtime
        What runs the models; one of its own by default.
    seed
        Seed of the mixtures.
    """

    def __init__(
        self,
        model: Model,
        calib: Dataset,
        loss: Loss = "softmax",
        weightings: Mapping[str, Array] | None = None,
        method: str = "auto",
        beta: float | None = 1.0,
        output: str | None = None,
        runtime: Runtime | None = None,
        seed: int = 0,
    ) -> None:
        from lrfdse.model.runtime import Runtime
        from lrfdse.quality.divergence import scored_output

        self._model, self._loss, self._method, self._beta = model, loss, method, beta
        self._runtime = runtime or Runtime()
        self._output = output or scored_output(model.original)
        held = np.arange(calib.count) % HELD_OUT == HELD_OUT - 1
        if not held.any():
            held[-1:] = calib.count > 1
        self._fitted = samples_at(calib, ~held)
        judges = samples_at(calib, held if held.any() else ~held)
        # So few samples judge by chance; between them the original says what is right as well.
        self._held = mixed(judges, MIXTURES * judges.count, seed + 1)
        self._weightings: dict[str, Array | None] = {} if weightings is None else dict(weightings)
        self._measures = weightings is None
        self._seed = seed
        self._mixed = mixed(self._fitted, MIXTURES * self._fitted.count, seed)
        self._reference = self._scores(model.original, self._held)
        self._moments: dict[str, Moments] = {}
        self._first: dict[tuple[str, str, bool], Factors] = {}

    def correct(self, factors: Mapping[str, Factors], sweeps: int = 0) -> Correction:
        """Return factors of the same factorizations that make the whole model's loss smaller, or those given.

        Layers are taken in graph order. Each is fitted to the original model's outputs on the inputs that the model,
        compressed and corrected so far, feeds it. Then, `sweeps` times, each layer takes a Gauss-Newton step on the
        loss of the whole model. Samples that are held out judge after the first pass and after every sweep: the best
        state is returned.

        Parameters
        ----------
        factors
            Layer name to factors; dense ones stay as they are.
        sweeps
            Most refinement sweeps. One costs about ten times the first pass.

        Raises
        ------
        PlanError
            The compressed model cannot be run on the data.
        """
        from lrfdse.model.passes.cut import levels

        given = self._judged(factors)
        least = before = float(given.mean())
        best, current, kept = dict(factors), dict(factors), 0
        gain: Array = np.zeros_like(given)
        chosen = [name for name, each in factors.items() if not each.factorization.is_dense]
        sites = self._model.sites
        self._measure([name for name in chosen if name not in self._weightings])
        groups = levels(
            self._model.original,
            {name: [site.source for site in sites[name]] for name in chosen},
            {name: [site.output for site in sites[name]] for name in chosen},
        )
        # Weightings hold near the original outputs only: a plan that is far from them may do better without.
        weighted, closest = any(self._weightings.get(name) is not None for name in chosen), float("inf")
        for weightings in (self._weightings, {}) if weighted else ({},):
            passed = dict(factors)
            for number, group in enumerate(groups):
                fit = self._refitted if number else self._opening
                passed |= fit(passed, group, weightings)
            losses = self._judged(passed)
            if losses.mean() < closest:
                current, closest, gain = passed, float(losses.mean()), given - losses
            if closest < before:
                break
        if closest < least:
            best, least = dict(current), closest
        # Where the pass itself lost, sweeps may still lead from it to where they would not come otherwise.
        for sweep in range(sweeps):
            for group in groups:
                for name in group:
                    current[name] = self._refined(current, name)
            # One sweep may lose on few samples what the next gains.
            losses = self._judged(current)
            if losses.mean() < least:
                best, least, kept, gain = dict(current), float(losses.mean()), sweep + 1, given - losses
        # A gain within the noise of the samples that judge is as likely a loss on others.
        if not gain.mean() > gain.std() / math.sqrt(len(gain)):
            return Correction(dict(factors), before, before, 0)
        return Correction({name: best[name] for name in factors}, before, least, kept)

    def _measure(self, names: Sequence[str]) -> None:
        """Take the weightings of layers that no plan has compressed before."""
        from lrfdse.repair.curvature import compute_weightings

        if self._measures and names:
            # The original is surer of its samples than where errors lead: its curvature there is that between samples.
            data, samples = mixed(self._fitted, self._fitted.count, self._seed), SENSED
            found = compute_weightings(
                self._model, data, names, self._runtime, self._loss, samples, output=self._output
            )
            self._weightings |= {name: found.get(name) for name in names}

    def _opening(
        self, current: Mapping[str, Factors], group: Sequence[str], weightings: Mapping[str, Array | None]
    ) -> dict[str, Factors]:
        """Fit layers above which nothing is compressed: the same for every plan."""
        from lrfdse.factorize.fit import Fitter
        from lrfdse.repair.moments import moments

        if missing := [name for name in group if name not in self._moments]:
            self._moments |= moments(self._model, self._fitted, missing, self._runtime)
        for name in group:
            factorization, weighting = current[name].factorization, weightings.get(name)
            if (name, str(factorization), weighting is None) not in self._first:
                fitter = Fitter(self._model.weight(name), self._moments[name], self._method, weighting, name=name)
                self._first[name, str(factorization), weighting is None] = fitter.fit(factorization)
        return {
            name: self._first[name, str(current[name].factorization), weightings.get(name) is None] for name in group
        }

    def _refitted(
        self, current: Mapping[str, Factors], group: Sequence[str], weightings: Mapping[str, Array | None]
    ) -> dict[str, Factors]:
        from lrfdse.factorize.fit import Fitter
        from lrfdse.model.passes.factor import rewrite
        from lrfdse.repair.moments import moments

        version = rewrite(self._model, current)
        with plan_errors():
            seen = moments(self._model, self._fitted, group, self._runtime, version=version, cross=True)
        found = {}
        for name in group:
            weight, weighting = self._model.weight(name), weightings.get(name)
            fitter = Fitter(weight, seen[name], self._method, weighting, self._beta, name=name)
            found[name] = fitter.fit(current[name].factorization)
        return found

    def _refined(self, current: Mapping[str, Factors], name: str) -> Factors:
        given = current[name]
        local = self._local(current, name)
        if local is None or given.bias_shift is None:
            return given
        cores, shift, gain = refined(given.factorization, given.cores, given.bias_shift, local)
        return dataclasses.replace(given, cores=cores, bias_shift=shift) if gain > 0 else given

    def _local(self, current: Mapping[str, Factors], name: str) -> Local | None:
        """Return the model around a layer, or None where its derivatives are out of reach."""
        from lrfdse.model.passes.factor import rewrite
        from lrfdse.quality.divergence import divergences, evenly_spread, scores_of, softmax
        from lrfdse.repair.curvature import DownstreamModel
        from lrfdse.repair.moments import input_rows

        model, runtime, sites = self._model, self._runtime, self._model.sites[name]
        if len(sites) > 1:
            return None
        (site,), outputs = sites, model.layer(name).outputs
        if (size := self._batch) == 1:
            return None
        version = rewrite(model, current)
        data = self._mixed
        wanted = list(dict.fromkeys([site.source, site.output, self._output]))
        one = self._read(version, wanted, data.head(2))
        downstream = DownstreamModel(
            version, site, self._output, self._loss, one[site.output].dtype, runtime, together=True
        )
        rows, classes = one[site.output].size // 2 // outputs, scores_of(one[self._output], self._loss)[0].size
        if downstream.direct:
            most = _DIRECT // (rows * outputs)
        elif rows > 1:
            return None
        else:
            most = min(_SLOPES // (classes * outputs), int(_BUDGET / (outputs * max(downstream.weights, 1))))
        # Fewer samples than were calibrated with would undo more than the step gains.
        if rows == 1 and most < self._fitted.count:
            return None
        data = evenly_spread(data, most)
        arrays = self._read(version, wanted, data)
        original = self._read(model.original, [site.source, self._output], data)
        inputs = input_rows(arrays[site.source], site, name).astype(np.float32)
        weight = model.weight(name).astype(np.float32)
        targets = input_rows(original[site.source], site, name).astype(np.float32) @ weight.T
        values = arrays[site.output]
        scores, reference = (scores_of(found[self._output], self._loss) for found in (arrays, original))
        slopes = None
        rng = np.random.default_rng(0)
        feeds = dict(data.inputs)
        if not downstream.direct:
            parts = [
                downstream.jacobian(values[s : s + size], {k: a[s : s + size] for k, a in feeds.items()}, rng)
                for s in range(0, data.count, size)
            ]
            slopes = np.concatenate(parts).reshape(len(inputs), classes, outputs)
        across = np.moveaxis(values, site.out_axis, -1).shape

        def evaluate(change: Any) -> float:
            moved = values + np.moveaxis(change.reshape(across), -1, site.out_axis)
            total = 0.0
            for s in range(0, data.count, size):
                got = downstream.scores(moved[s : s + size], {k: a[s : s + size] for k, a in feeds.items()})
                total += float(divergences(got, reference[s : s + size], self._loss).sum())
            return total / len(inputs)

        if self._loss == "softmax":
            chances, goals = softmax(scores), softmax(reference)
            pulls = chances - goals
        else:
            chances, pulls = scores, scores - reference
        flat = (len(inputs), -1)
        return Local(
            inputs,
            targets,
            slopes,
            chances.reshape(flat).astype(np.float32),
            pulls.reshape(flat).astype(np.float32),
            self._loss,
            evaluate,
        )

    @functools.cached_property
    def _batch(self) -> int:
        """Samples and mixtures that the model, in whatever form, takes in one run; 1 where it fixes that number."""
        size, fixed = self._runtime.batch(self._runtime.session(self._model.original), self._mixed, 256)
        return 1 if fixed else size

    def _judged(self, factors: Mapping[str, Factors]) -> Array:
        """Return the loss on each held-out sample and mixture."""
        from lrfdse.model.passes.factor import rewrite
        from lrfdse.quality.divergence import divergences

        version = rewrite(self._model, factors)
        with plan_errors():
            scores = self._scores(version, self._held)
        found = divergences(scores, self._reference, self._loss)
        return np.nan_to_num(found, nan=_BROKEN, posinf=_BROKEN)

    def _scores(self, version: ir.Model, data: Dataset) -> Array:
        from lrfdse.quality.divergence import scores_of

        return scores_of(self._read(version, [self._output], data)[self._output], self._loss)

    def _read(self, version: ir.Model, names: Sequence[str], data: Dataset) -> Arrays:
        from lrfdse.model.passes.cut import read_out

        given = {name: data.inputs[name] for name in names if name in data.inputs}
        asked = [name for name in names if name not in given]
        return self._runtime.run(read_out(version, asked), data, 256, asked) | given
