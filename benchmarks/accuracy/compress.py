"""The columns of the benchmark: one kind of factorization, uniform or allocated, corrected or not, at one ratio."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.accuracy.cases import Case
from benchmarks.accuracy.families import FAMILIES, Option, Plan
from benchmarks.accuracy.shapes import best_shapes
from benchmarks.keys import code
from lrfdse.base.keys import digest
from lrfdse.base.store import Store
from lrfdse.explore.layers.fits import Fits
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors, Moments
from lrfdse.ir.layer import Layer
from lrfdse.ir.space import SearchSpace
from lrfdse.quality.losses import Divergences

_STEPS = (2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 28.0, 32.0, 40.0, 48.0, 64.0, 96.0)
GRID = (1.35, *_STEPS)
"""Ratios at which every layer has an option for the allocation."""

_SPACE = SearchSpace(max_cores=3, min_ratio=GRID[0], min_ratio_large=GRID[0], rank_step=1)


class Compressor:
    """Plans and factors of one case; what plans share (moments, spectra, fits) is computed once.

    Parameters
    ----------
    case
        The model and its data.
    cache
        Where fits and spectra are kept.
    more
        Whether the larger calibration set is used.
    candidates
        Shapes by surrogate error of which the one with the least fitted error is taken.
    grid
        Ratios of the options that an allocation chooses from.
    families
        Kinds that a union of kinds is taken over.
    """

    def __init__(
        self,
        case: Case,
        cache: Store,
        more: bool = False,
        candidates: int = 3,
        grid: Sequence[float] = GRID,
        families: Sequence[str] = tuple(FAMILIES),
    ) -> None:
        self.case = case
        self.calib = case.more_calib if more and case.more_calib is not None else case.calib
        self._cache = cache
        self._candidates = candidates
        self._grid = grid
        self._families = families
        self._options: dict[tuple[str, str, float], Option | None] = {}
        self.key = digest(
            rows_code(),
            case.model.sha256,
            self.calib.digest,
            case.choosing.data.digest,
            [part.data.digest for part in case.reporting],
            case.layers,
            candidates,
            list(grid),
            list(families),
        )

    @functools.cached_property
    def moments(self) -> dict[str, Moments]:
        """What the layers read on the calibration data."""
        from lrfdse.repair.moments import moments

        return moments(self.case.model, self.calib, list(self.case.layers))

    @functools.cached_property
    def _fits(self) -> dict[str, Fits]:
        """Fits by method."""
        from lrfdse.factorize.fit import Fitter
        from lrfdse.repair.weightings import output_weightings, weightings_key

        case, data = self.case, self.calib
        model, key = case.model, data.digest + case.model.sha256
        weightings = output_weightings(model, data, case.layers, case.loss, self._cache)
        return {
            method: Fits(
                {
                    name: Fitter(model.weight(name), self.moments[name], method, weightings.get(name), name=name)
                    for name in case.layers
                },
                key,
                self._cache,
                weightings_key(model, data, case.loss),
            )
            for method in sorted({family.method for family in FAMILIES.values()})
        }

    def fits(self, family: str) -> Fits:
        """Return the fits of a family's factors."""
        return self._fits[FAMILIES[family].method]

    def layer(self, name: str) -> Layer:
        """Return a layer of the case."""
        return self.case.model.layer(name)

    def option(self, family: str, name: str, ratio: float) -> Option | None:
        """Return the best option of a layer with at most 1/ratio of its weights, or None where there is none."""
        key = family, name, ratio
        if key not in self._options:
            self._options[key] = self._option(*key)
        return self._options[key]

    def _option(self, family: str, name: str, ratio: float) -> Option | None:
        kind = FAMILIES[family]
        if kind.parts:
            parts = [self.option(part, name, ratio) for part in self._kinds(family)]
            found = [option for option in parts if option is not None]
        else:
            found = [self.fitted(family, name, shape) for shape in self.shapes(family, name, ratio, self._candidates)]
        return min(found, key=lambda option: (option.error(kind.data), str(option.shape)), default=None)

    def shapes(self, family: str, name: str, ratio: float, count: int) -> list[Factorization]:
        """Return the shapes of least surrogate error within a ratio."""
        kind, layer = FAMILIES[family], self.layer(name)
        budget = int(layer.outputs * layer.inputs / ratio)
        if not kind.cores:
            rank = min(budget // (layer.outputs + layer.inputs), layer.outputs, layer.inputs)
            return [Factorization.svd(layer.outputs, layer.inputs, rank)] if rank else []
        tails = self._tails(name, kind.data)
        return [s for _, s in best_shapes(layer.outputs, layer.inputs, tails, budget, kind.cores, count)]

    def fitted(self, family: str, name: str, shape: Factorization) -> Option:
        """Return a shape's option."""
        factors = self.fits(family).factors(self.layer(name), Choice(shape))
        assert factors.output_error is not None
        return Option(shape, factors.weight_error, factors.output_error, factors.loss)

    def options(self, family: str, name: str) -> list[Option]:
        """Return the options that an allocation chooses from, the dense layer left out."""
        pairs = itertools.product(self._kinds(family), self._grid)
        found = [self.option(kind, name, ratio) for kind, ratio in pairs]
        return list({option.shape: option for option in found if option is not None}.values())

    def _kinds(self, family: str) -> tuple[str, ...]:
        return tuple(part for part in FAMILIES[family].parts if part in self._families) or (family,)

    def uniform(self, family: str, ratio: float) -> Plan | None:
        """Return the plan that gives every layer the same ratio, or None where a layer has no such option."""
        chosen = {name: self.option(family, name, ratio) for name in self.case.layers}
        if any(option is None for option in chosen.values()):
            return None
        return {name: option.shape for name, option in chosen.items() if option is not None}

    def allocated(
        self, family: str, ratio: float, errors: Mapping[str, Mapping[Factorization, float]] | None = None
    ) -> Plan | None:
        """Return the plan of least summed error with at most 1/ratio of the weights over all layers (knapsack).

        Parameters
        ----------
        family, ratio
            What the layers may take, and how much in all.
        errors
            Layer to shape to the error that is summed; by default the predicted loss of the model, or the squared
            relative weight error where the family does not know the data.
        """
        from lrfdse.search.plans.knapsack import plans
        from lrfdse.search.plans.tables import Choice, LayerTable

        tables = []
        if errors is None and FAMILIES[family].data:
            errors = {name: self.losses(name, self.options(family, name)) for name in self.case.layers}
        for name in self.case.layers:
            layer = self.layer(name)
            choices = [Choice("dense", layer.outputs * layer.inputs, 1.0, 0.0)]
            for option in self.options(family, name):
                error = option.error(False) if errors is None else errors[name].get(option.shape)
                if error is not None:
                    choices.append(Choice(str(option.shape), option.shape.params, 1.0, error))
            tables.append(LayerTable(name, tuple(choices)))
        front = plans(tables, max_params=int(self.weights / ratio))
        if not len(front):
            return None
        best = front.texts(int(np.argmin(front.error)))
        return {name: self.parsed(name, text) for name, text in best.items()}

    def losses(self, name: str, options: Sequence[Option]) -> dict[Factorization, float]:
        """Return what the model is predicted to lose with each option of a layer alone, as `--proxy loss` does."""
        from lrfdse.explore.plans.proxy import POINTS, power_curve

        if name not in self._curves:
            chosen = spread_out(front_of(self.options("any", name)), POINTS)
            at = [option.error(True) for option in chosen]
            self._curves[name] = at, [self._lost(name, option.shape) for option in chosen]
        at, lost = self._curves[name]
        found = power_curve(at, lost, {str(option.shape): option.error(True) for option in options})
        return {option.shape: found[str(option.shape)] for option in options}

    def _lost(self, name: str, shape: Factorization) -> float:
        key = digest("accuracy", self.key, name, str(shape))
        if (known := self._cache.get("sensitivity", key, float)) is None:
            known = self._divergences(self.factors("any", {name: shape}))
            self._cache.put("sensitivity", key, known)
        return known

    @functools.cached_property
    def _divergences(self) -> Divergences:
        return Divergences(self.case.model, self.calib, self.case.loss)

    @functools.cached_property
    def _curves(self) -> dict[str, tuple[list[float], list[float]]]:
        return {}

    def parsed(self, name: str, text: str) -> Factorization:
        """Read a layer's shape back."""
        layer = self.layer(name)
        return Factorization.parse(text, layer.outputs, layer.inputs)

    @functools.cached_property
    def weights(self) -> int:
        """Weights of the layers that are compressed."""
        return sum(self.layer(name).outputs * self.layer(name).inputs for name in self.case.layers)

    def factors(self, family: str, plan: Plan) -> dict[str, Factors]:
        """Return the factors of a plan, each layer fitted alone."""
        chosen = {name: shape for name, shape in plan.items() if not shape.is_dense}
        return {name: self.fits(family).factors(self.layer(name), Choice(shape)) for name, shape in chosen.items()}

    def content(self, factors: Mapping[str, Factors]) -> bytes:
        """Return the compressed model."""
        from lrfdse.formats.onnx import file_content
        from lrfdse.model.passes.factor import rewrite

        return file_content(rewrite(self.case.model, factors))

    def costs(self, plan: Plan) -> dict[str, int]:
        """Return weights and MACs of the compressed layers, and of all fully-connected layers."""
        layers = self.case.model.layers
        shapes = {x.name: plan.get(x.name) or Factorization.dense(x.outputs, x.inputs) for x in layers}
        macs = {x.name: shapes[x.name].macs(x.rows) for x in layers}
        return {
            "params": sum(shapes[name].params for name in self.case.layers),
            "macs": sum(macs[name] for name in self.case.layers),
            "all_params": sum(shapes[x.name].params + x.bias_params for x in layers),
            "all_macs": sum(macs.values()),
        }

    def _tails(self, name: str, data: bool) -> dict[tuple[int, int], np.ndarray]:
        """Return the energy discarded by bond and rank, of the weight or of the weight whitened bond by bond."""
        from lrfdse.factorize.spectra import bond_tails, whitened_bond_tails
        from lrfdse.space.lattice import bonds

        layer, known = self.layer(name), (name, data)
        if known in self._memory:
            return self._memory[known]
        wanted = bonds(layer.outputs, layer.inputs, _SPACE)
        seen = self.calib.digest if data else ""
        key = digest("accuracy", _spectra_code(), layer.digest, name, seen, GRID[0])

        def read(stored: dict[str, np.ndarray]) -> dict[tuple[int, int], np.ndarray]:
            return {(a, b): stored[f"{a}x{b}"] for a, b in wanted}

        if (found := self._cache.get_arrays("spectra", key, read)) is None:
            weight = self.case.model.weight(name)
            found = whitened_bond_tails(weight, self.moments[name], wanted) if data else bond_tails(weight, wanted)
            self._cache.put_arrays("spectra", key, {f"{a}x{b}": values for (a, b), values in found.items()})
        self._memory[known] = found
        return found

    @functools.cached_property
    def _memory(self) -> dict[tuple[str, bool], dict[tuple[int, int], np.ndarray]]:
        return {}


def front_of(options: Sequence[Option]) -> list[Option]:
    """Return the options that no smaller one beats in the error that knows the data, parameters ascending."""
    front: list[Option] = []
    for option in sorted(options, key=lambda o: (o.shape.params, o.error(True), str(o.shape))):
        if option.error(True) > 0 and (not front or option.error(True) < front[-1].error(True)):
            front.append(option)
    return front


def spread_out(options: Sequence[Option], count: int) -> list[Option]:
    """Return at most `count` of the options at equal distances, both ends among them."""
    places = np.unique(np.linspace(0, len(options) - 1, min(count, len(options))).round().astype(int))
    return [options[place] for place in places]


def rows_code() -> str:
    """Return a name for the code that decides what a plan costs and scores."""
    from benchmarks.accuracy.cases import open_case
    from benchmarks.accuracy.correct import Corrections

    return code(Compressor, Corrections, open_case)


def _spectra_code() -> str:
    from lrfdse.factorize.spectra import bond_tails, whitened_bond_tails
    from lrfdse.model.graph import load_model
    from lrfdse.repair.moments import moments
    from lrfdse.space.lattice import bonds

    return code(bond_tails, whitened_bond_tails, moments, load_model, bonds)
