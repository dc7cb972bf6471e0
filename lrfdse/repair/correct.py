"""Cumulative correction of a finished plan: every layer fitted again on what the compressed model feeds it."""

from __future__ import annotations

import dataclasses
import math
import threading
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.errors import plan_errors
from lrfdse.ir.storage import FLOAT32
from lrfdse.model.data import mixed, samples_at
from lrfdse.repair.around import around
from lrfdse.repair.correction import Correction
from lrfdse.repair.openings import InMemory, LatestFitters
from lrfdse.repair.refine import refined, rounded
from lrfdse.repair.together import Together

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from lrfdse.ir.factorization import Array
    from lrfdse.ir.factors import Factors, Moments
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.model.runtime import Arrays, Runtime
    from lrfdse.quality.divergence import Loss
    from lrfdse.quality.objective import Objective
    from lrfdse.repair.openings import Openings

HELD_OUT = 8
"""One sample in so many judges the correction and is not fitted to. Chosen; docs/method.md, section 9, has what it
gains and where so few samples judge wrongly."""

MIXTURES = 8
"""Mixtures of two samples for each sample that a refinement sees, where inputs can be mixed. Chosen, not measured."""

SEEN = 8192
"""Samples and mixtures from which on a refinement adds no further mixtures: docs/method.md, section 9, measures it."""

STEPPED = 2
"""Times the samples, mixtures included, that steps of several layers together see: docs/method.md, section 9."""

SENSED = 1024
"""Most samples and mixtures that output weightings are taken from. Chosen, not measured."""

_MISLED = 1.1
"""Loss after a pass with weightings, relative to that of the factors given, from which a pass without is worth a try:
docs/method.md, section 9, has what it gives below."""

_PATIENCE = 4
"""Verdicts in a row without a gain after which small steps end. Chosen: they have up to twelve."""

_BROKEN = 1e12
"""Loss of outputs that are not finite: above any other."""


class Corrector:
    """Corrects plans of one model on one set of calibration data; what the plans share is computed once.

    Parameters
    ----------
    model
        The original model.
    calib
        Calibration data; labels are not looked at.
    loss
        The outputs that count, with what their changes cost; or that of one output: "softmax" where it holds class
        scores, "squared" otherwise.
    weightings
        Layer name to the weighting of its outputs (`lrfdse.repair.curvature.compute_weightings`); None computes those
        of the layers that plans compress, an empty mapping fits without.
    method
        How layers are fitted: one of `lrfdse.factorize.methods.METHODS`.
    beta
        Weight of the original outputs in the targets, between 0 and 1; None chooses for each layer by ACES.
    output
        The output that counts where `loss` is that of one; the first of floating point by default.
    runtime
        What runs the models; one of its own by default.
    seed
        Seed of the mixtures.
    openings
        Keeps the fits of layers above which nothing is compressed; in memory by default.
    threads
        Runs side by side of what no layer changes.
    """

    def __init__(
        self,
        model: Model,
        calib: Dataset,
        loss: Loss | Objective = "softmax",
        weightings: Mapping[str, Array] | None = None,
        method: str = "auto",
        beta: float | None = 1.0,
        output: str | None = None,
        runtime: Runtime | None = None,
        seed: int = 0,
        openings: Openings | None = None,
        threads: int = 1,
    ) -> None:
        from lrfdse.model.runtime import Runtime
        from lrfdse.model.tail import tail_of
        from lrfdse.quality.objective import SideBySide, objective_for

        self._whole, self._method, self._beta = model, method, beta
        self._objective = objective_for(model.original, loss, output)
        self._runtime = runtime or Runtime()
        held = np.arange(calib.count) % HELD_OUT == HELD_OUT - 1
        if not held.any():
            held[-1:] = calib.count > 1
        fitted = samples_at(calib, ~held)
        judges = samples_at(calib, held if held.any() else ~held)
        # So few samples judge by chance; between them the original says what is right as well.
        judged = mixed(judges, MIXTURES * judges.count, seed + 1)
        seen = mixed(fitted, max(0, min(MIXTURES * fitted.count, SEEN - fitted.count)), seed)
        self._threads = threads
        self._tail = tail_of(model, seen if seen.count > judged.count else judged, self._runtime)
        self._model = model if self._tail is None else self._tail.model
        self._calib, self._fitted, self._held, self._unread = fitted, self._read(fitted), self._read(judged), seen
        self._mixed: Dataset | None = None
        self._reading = threading.Lock()
        self._weightings: dict[str, Array | None] = {} if weightings is None else dict(weightings)
        self._measures = weightings is None
        self._seed = seed
        outputs = self._outputs(self._model.original, self._held)
        self._side = SideBySide.of(self._objective, outputs)
        self._reference = self._side.scores(outputs)
        self._together = Together(self._model, self._objective, self._runtime, self._side.size)
        self._moments: dict[str, Moments] = {}
        self._fitters = LatestFitters()
        self._openings: Openings = InMemory() if openings is None else openings

    def _read(self, data: Dataset) -> Dataset:
        """Return samples of the whole model as the part of it reads them that layers change."""
        return data if self._tail is None else self._tail.of(data, self._runtime, threads=self._threads)

    def _seen(self) -> Dataset:
        """Return the samples and mixtures that refinements see, read when the first of them wants them."""
        with self._reading:
            if self._mixed is None:
                self._mixed = self._read(self._unread)
            return self._mixed

    def correct(
        self, factors: Mapping[str, Factors], sweeps: int = 0, steps: int = 0, small: float = 0.0
    ) -> Correction:
        """Return factors of the same factorizations that make the whole model's loss smaller, or those given.

        Layers are taken in graph order. Each is fitted to the original model's outputs on the inputs that the model,
        compressed and corrected so far, feeds it. Then, `sweeps` times, each layer of one row a sample takes a
        Gauss-Newton step on the loss of the whole model, and `steps` times all those of several rows take one together,
        in turn. Samples that are held out judge after the first pass and after each of these: the best state is
        returned.

        Parameters
        ----------
        factors
            Layer name to factors; dense ones stay as they are.
        sweeps
            Most refinement sweeps. One costs about ten times the first pass.
        steps
            Most steps of layers with several rows a sample, see `lrfdse.repair.together.Together`.
        small
            MACs that small steps of all layers behind these may take, see `lrfdse.repair.together.Together.descent`.

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
        chosen = [name for name, each in factors.items() if not each.choice.is_original]
        sites = self._model.sites
        # What is looked up in a tied embedding stands above all else, and is not to change any more.
        chosen.sort(key=lambda name: self._model.layer(name).kind != "tied")
        self._measure([name for name in chosen if name not in self._weightings])
        groups = levels(
            self._model.working.graph,
            {name: [site.source for site in sites[name]] for name in chosen},
            {name: [value for site in sites[name] for value in (site.output, *site.looked_up)] for name in chosen},
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
            if closest < _MISLED * before:
                break
        if closest < least:
            best, least = dict(current), closest
        # Where the pass itself lost, sweeps may still lead from it to where they would not come otherwise.
        own, seen = self._fitted.count, min(self._unread.count, STEPPED * self._fitted.count)
        together = self._together.members(current, self._held, seen, own) if steps else []
        for sweep in range(max(sweeps, steps if together else 0)):
            last = dict(current)
            for name in [name for group in groups for name in group] if sweep < sweeps else ():
                current[name] = self._refined(current, name)
            if together and sweep < steps:
                current = self._together.step(current, together, self._seen().head(seen), self._seed + sweep)
            if all(current[name] is last[name] for name in chosen):
                continue
            # One sweep may lose on few samples what the next gains.
            losses = self._judged(current)
            if losses.mean() < least:
                best, least, kept, gain = dict(current), float(losses.mean()), sweep + 1, given - losses
        waited = 0
        for current in self._together.descent(best, self._seen().head(seen), small, self._seed) if small else ():
            losses, waited = self._judged(current), waited + 1
            if losses.mean() < least:
                best, least, kept, gain = dict(current), float(losses.mean()), kept + 1, given - losses
                waited = 0
            if waited == _PATIENCE:
                break
        # A gain within the noise of the samples that judge is as likely a loss on others.
        if not gain.mean() > gain.std() / math.sqrt(len(gain)):
            return Correction(dict(factors), before, before, 0)
        return Correction({name: best[name] for name in factors}, before, least, kept)

    def _measure(self, names: Sequence[str]) -> None:
        """Take the weightings of layers that no plan has compressed before."""
        from lrfdse.repair.curvature import compute_weightings

        if self._measures and names:
            # The original is surer of its samples than where errors lead: its curvature there is that between samples.
            data, samples = mixed(self._calib, self._calib.count, self._seed), SENSED
            found = compute_weightings(self._whole, data, names, self._runtime, self._objective, samples)
            self._weightings |= {name: found.get(name) for name in names}

    def _opening(
        self, current: Mapping[str, Factors], group: Sequence[str], weightings: Mapping[str, Array | None]
    ) -> dict[str, Factors]:
        """Fit layers above which nothing is compressed: the same for every plan."""
        from lrfdse.factorize.fit import Fitter
        from lrfdse.model.tables import table_rows
        from lrfdse.repair.moments import moments

        def fitted(name: str) -> Factors:
            if missing := [each for each in group if each not in self._moments]:
                self._moments |= moments(self._model, self._fitted, missing, self._runtime)
            if not self._moments[name].count:
                # What stands in a branch may be run on samples that are held out alone.
                return current[name]
            choice, weighting, weight = current[name].choice, weightings.get(name), self._model.weight(name)
            fitter = self._fitters.of(
                (name, weighting is None),
                max(weight.shape),
                lambda: Fitter(
                    weight,
                    self._moments[name],
                    self._method,
                    weighting,
                    name=name,
                    rows=table_rows(self._model, name),
                ),
            )
            return fitter.fit(choice.factorization, choice.storage)

        return {
            name: self._openings.factors(
                name, current[name].choice, weightings.get(name) is not None, partial(fitted, name)
            )
            for name in group
        }

    def _refitted(
        self, current: Mapping[str, Factors], group: Sequence[str], weightings: Mapping[str, Array | None]
    ) -> dict[str, Factors]:
        from lrfdse.factorize.fit import Fitter
        from lrfdse.model.passes.factor import rewrite
        from lrfdse.model.tables import table_rows
        from lrfdse.repair.moments import moments

        version = rewrite(self._model, current, closed=False)
        with plan_errors():
            seen = moments(self._model, self._fitted, group, self._runtime, version=version, cross=True)
        found = {}
        for name in group:
            if not seen[name].count:
                # Nothing that it reads can be paired with what the original reads.
                found[name] = current[name]
                continue
            weight, weighting = self._model.weight(name), weightings.get(name)
            rows = table_rows(self._model, name)
            fitter = Fitter(weight, seen[name], self._method, weighting, self._beta, name=name, rows=rows)
            found[name] = fitter.fit(current[name].factorization, current[name].storage)
        return found

    def _refined(self, current: Mapping[str, Factors], name: str) -> Factors:
        from lrfdse.factorize.chain import weight_of

        given = current[name]
        if self._model.layer(name).kind == "tied":
            # Derivatives behind its product say nothing of its lookups.
            return given
        local = around(
            self._model, current, name, self._objective, self._seen(), self._runtime, least=self._fitted.count
        )
        if local is None or given.bias_shift is None:
            return given
        # What is repaired has the freedom of a dense layer, which is rounded and repaired again.
        smooth, whole = given.factorization.unrepaired, given.cores
        if given.factorization.repair:
            whole = (weight_of(given.factorization, given.cores)[None, :, :, None],)
        cores, shift, gain = refined(smooth, whole, given.bias_shift, local)
        if not gain > 0:
            return given
        if given.storage == FLOAT32:
            return dataclasses.replace(given, cores=cores, bias_shift=shift)
        return rounded(dataclasses.replace(given, bias_shift=shift), cores, self._model.weight(name).shape, local.rows)

    def _judged(self, factors: Mapping[str, Factors]) -> Array:
        """Return the loss on each held-out sample and mixture."""
        from lrfdse.model.passes.factor import rewrite

        version = rewrite(self._model, factors)
        with plan_errors():
            scores = self._side.scores(self._outputs(version, self._held))
        found = self._side.divergences(scores, self._reference)
        return np.nan_to_num(found, nan=_BROKEN, posinf=_BROKEN)

    def _outputs(self, version: ir.Model, data: Dataset) -> Arrays:
        """Return the outputs that count, samples first."""
        from lrfdse.model.passes.cut import read_out
        from lrfdse.quality.objective import names_of

        names = names_of(self._objective)
        return self._runtime.run(read_out(version, names), data, 256, names)
