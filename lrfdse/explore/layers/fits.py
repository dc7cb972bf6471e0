"""Factors of layers: fitted once, then read from the cache by whoever needs them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.base.events import Listener, silent
from lrfdse.base.heap import give_back
from lrfdse.base.keys import CodeKey, code_key, digest, result_key
from lrfdse.base.store import Store
from lrfdse.explore.layers.errors import SHORT_SWEEPS, STORED, Errors, read_errors
from lrfdse.ir.choice import Choice
from lrfdse.ir.factors import Factors, packed, unpacked
from lrfdse.ir.layer import Layer
from lrfdse.ir.storage import FLOAT32
from lrfdse.quality.objective import Objective
from lrfdse.repair.weightings import output_weightings, weightings_key
from lrfdse.space.eligible import reason_to_keep_dense

if TYPE_CHECKING:
    from lrfdse.factorize.fit import Fitter
    from lrfdse.ir.factorization import Array
    from lrfdse.ir.space import SearchSpace
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.repair.builder import Builder


MOST_INPUTS = 8192
"""Inputs up to which a layer's second moment is taken: it has that many rows and columns of float64, half a GiB."""


@dataclass(frozen=True, slots=True)
class FitRequest:
    """How layers are fitted, by themselves and as parts of plans."""

    method: str
    """A name of `lrfdse.factorize.methods.METHODS`."""
    correct: bool = False
    """Whether the layers of a plan are fitted again to what its compressed layers feed them."""
    seed: int = 0
    """Seed of the mixtures of samples that curvatures and corrections are taken on."""
    loss: Objective | None = None
    """The outputs that count, and how two versions of each are compared; None where nothing asks for that: then layers
    are fitted to their own outputs, and plans are not corrected."""
    small_steps: float = 0.0
    """MACs that small steps of a refined plan may take, see `lrfdse.repair.together.Together.descent`; 0 takes none."""
    most_inputs: int = MOST_INPUTS
    """Inputs of a layer up to which calibration data are used for its fits."""


class Fits:
    """Gives the factors of every explored layer of one model on one set of calibration data.

    Cores are kept as float32, the precision that models and kernels store them in, so that a run that reads them and a
    run that fits them write the same files.

    Parameters
    ----------
    fitters
        Layer name to what fits it.
    data_key
        Names the calibration data.
    cache
        Where fits are kept.
    weighting_key
        Names the weightings that the fitters weight outputs by; "" where they do not.
    never_run
        Names of layers in branches that the calibration data never take.
    """

    def __init__(
        self,
        fitters: Mapping[str, Fitter],
        data_key: str,
        cache: Store,
        weighting_key: str = "",
        never_run: Collection[str] = (),
    ) -> None:
        self._fitters = fitters
        self.never_run = frozenset(never_run)
        self._data_key = data_key
        self._cache = cache
        self._weighting_key = weighting_key
        self._short: dict[str, Fitter] = {}

    def calibrated(self, layer: Layer) -> bool:
        """Whether the layer's inputs on calibration data are known, so that factors come with a bias correction."""
        return layer.name in self._fitters and self._fitters[layer.name].moments is not None

    def fitter(self, layer: Layer) -> Fitter:
        """Return what fits the layer: its weight, its moments, the method."""
        return self._fitters[layer.name]

    @property
    def weightings(self) -> dict[str, Array]:
        """The weightings of layers' outputs that fits go by, where a layer has one."""
        return {name: fitter.weighting for name, fitter in self._fitters.items() if fitter.weighting is not None}

    def code(self) -> CodeKey:
        """Return what the factors owe to code: moments, weightings of outputs, the fit, the stored form."""
        from lrfdse.factorize.fit import Fitter

        return code_key(open_fits, Fitter, packed)

    def data_key(self, layer: Layer) -> tuple[str, ...]:
        """Return what a result that depends on the data has in its key; nothing where there are none."""
        return (layer.name, self._data_key) if self.calibrated(layer) else ()

    def factors(self, layer: Layer, choice: Choice) -> Factors:
        """Return the fitted factors of `layer`, rounded to what they are stored in."""
        if choice.is_original:
            return self.fitter(layer).fit(choice.factorization)
        key = self._key(layer, choice)

        def read(stored: Mapping[str, Array]) -> Factors:
            found = unpacked(choice, stored)
            if found.loss is not None and found.loss < 0:
                raise ValueError("a loss below 0")
            return found

        if (known := self._cache.get_arrays("fits", key, read)) is not None:
            return known
        fitter = self.fitter(layer)
        if choice.storage != FLOAT32:
            # What is rounded is the fit in floating point, which is made once for both.
            plain = self.factors(layer, Choice(choice.factorization.unrepaired))
            factors = fitter.stored(plain, choice)
        else:
            factors = fitter.fit(choice.factorization)
        arrays = packed(factors)
        if choice.factorization.params <= STORED:
            self._cache.put_arrays("fits", key, arrays)
        return unpacked(choice, arrays)

    def errors(self, layer: Layer, choice: Choice) -> Errors:
        """Return what the factors of `layer` leave; nothing where it stays as it is."""
        if choice.is_original:
            return Errors(0.0, 0.0 if self.calibrated(layer) else None, 0.0 if layer.name in self.weightings else None)
        return Errors.of(self.factors(layer, choice))

    def screened(self, layer: Layer, choice: Choice) -> Errors:
        """Return what a short fit leaves: enough to order candidates by, and not what is reported of any."""
        key = self._key(layer, choice, "screens")
        if (known := self._cache.get("screens", key, read_errors)) is None:
            if layer.name not in self._short:
                self._short[layer.name] = dataclasses.replace(self.fitter(layer), sweeps=SHORT_SWEEPS)
            known = Errors.of(self._short[layer.name].fit(choice.factorization, choice.storage))
            self._cache.put("screens", key, known._asdict())
        return known

    def release(self, layer: Layer) -> None:
        """Let go of what fits of `layer` share, once all that are wanted were made: layers are many."""
        self._short.pop(layer.name, None)
        if layer.name in self._fitters:
            self._fitters[layer.name].problem.release()

    def _key(self, layer: Layer, choice: Choice, kind: str = "fits") -> str:
        from lrfdse.factorize.fit import Fitter
        from lrfdse.factorize.methods import METHODS

        return result_key(
            kind,
            code=code_key(Fitter, packed),
            **({} if kind == "fits" else {"sweeps": SHORT_SWEEPS}),
            layer=layer.digest,
            data=self.data_key(layer),
            weighting=self._weighting_key,
            method=METHODS.identity(self._method(layer)),
            factorization=str(choice),
        )

    def _method(self, layer: Layer) -> str:
        return self.fitter(layer).method


def open_fits(
    request: FitRequest,
    model: Model,
    calib: Dataset | None,
    explored: Sequence[str],
    cache: Store,
    progress: Listener = silent,
    threads: int = 1,
) -> Fits:
    """Return the fits of the layers named in `explored`.

    With calibration data they have moments, and by methods that look at these a weighting of the outputs where it is
    within reach: fits then lower the loss of the model as far as its curvature tells, not the error of the layer.
    Of these, so many `threads` are taken side by side.
    """
    from lrfdse.factorize.fit import Fitter
    from lrfdse.model.tables import table_rows
    from lrfdse.repair.moments import moments

    wanted = [name for name in explored if model.layer(name).inputs <= request.most_inputs]
    seen = {} if calib is None or not wanted else moments(model, calib, wanted, threads=threads)
    never_run = [name for name, each in seen.items() if not each.count]
    seen = {name: each for name, each in seen.items() if each.count}
    weightings: dict[str, Array] = {}
    if (loss := _weighting_loss(request)) is not None and calib is not None:
        weightings = output_weightings(
            model, calib, wanted, loss, cache, request.seed, progress=progress, threads=threads
        )
    fitters = {
        name: Fitter(
            _weight(model, name),
            seen.get(name),
            request.method,
            weightings.get(name),
            name=name,
            rows=table_rows(model, name),
        )
        for name in explored
    }
    give_back()
    return Fits(fitters, data_key(model, calib), cache, weighting_key(request, model, calib), never_run)


def open_builder(
    request: FitRequest, model: Model, calib: Dataset | None, fits: Fits, cache: Store, threads: int = 1
) -> Builder:
    """Return what makes the factors of whole plans from fits, corrected where that is asked for and possible.

    Corrections need calibration data, and a method that looks at them. What no layer changes of the model is run for
    them in so many `threads`.
    """
    from lrfdse.repair.builder import Builder
    from lrfdse.repair.corrections import Corrections

    loss = _weighting_loss(request)
    if calib is None or loss is None or not request.correct:
        return Builder(model, fits)
    corrections = Corrections(
        model,
        calib,
        fits,
        cache,
        loss=loss,
        method=request.method,
        seed=request.seed,
        threads=threads,
        small_steps=request.small_steps,
    )
    return Builder(model, fits, corrections)


def data_key(model: Model, calib: Dataset | None) -> str:
    """Return a name for what layers read on the calibration data: these, the model, and the code that runs it."""
    from lrfdse.model.graph import load_model
    from lrfdse.repair.moments import moments

    return "" if calib is None else digest(code_key(moments, load_model).digest, calib.digest, model.sha256)


def blind_notes(request: FitRequest, model: Model, explored: Collection[str]) -> list[str]:
    """Return a note on the layers that are fitted without the calibration data, having too many inputs, or nothing."""
    blind = [name for name in explored if model.layer(name).inputs > request.most_inputs]
    if not blind:
        return []
    return [
        f"{', '.join(blind)}: over {request.most_inputs} inputs, so calibration data are not used: fitted to the "
        "weight alone, without a corrected bias, and plans that compress it are not corrected for what it loses"
    ]


def _weight(model: Model, name: str) -> Array:
    """Return a layer's weight, without a copy in double precision where it is stored as it is used."""
    stored = model.matrices[name]
    return stored if stored.dtype == np.float32 and model.alphas[name] == 1.0 else model.weight(name)


def _weighting_loss(request: FitRequest) -> Objective | None:
    """Return the loss of the model that fits with data go by, or None where the method looks at weights alone."""
    from lrfdse.factorize.methods import METHODS

    return request.loss if METHODS.get(request.method).needs_moments else None


def weighting_key(request: FitRequest, model: Model, calib: Dataset | None) -> str:
    """Return a name for the weightings of outputs that fits go by; "" where they go by none."""
    loss = _weighting_loss(request)
    return "" if calib is None or loss is None else weightings_key(model, calib, loss, request.seed)


def explored_layers(space: SearchSpace, model: Model) -> list[str]:
    """Return the names of the layers that the search space explores, in the order of the model."""
    return [layer.name for layer in model.layers if reason_to_keep_dense(layer, space) is None]
