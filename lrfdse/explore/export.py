"""Rebuild one design of a finished exploration from its ``front.json``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.files import sole_writer
from lrfdse.base.folders import cache_folder
from lrfdse.base.store import Store
from lrfdse.deploy.designs import write_design
from lrfdse.deploy.folders import DESIGNS, design_folder
from lrfdse.errors import InputError
from lrfdse.explore.inputs import open_calibration
from lrfdse.explore.judging import SAMPLES, objective_of, open_judging, outputs_on
from lrfdse.explore.layers.fits import FitRequest, explored_layers, open_builder, open_fits
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.plan import Plan
from lrfdse.results.read import read_document
from lrfdse.targets.catalog import load_search_space, load_target, noun_digest

if TYPE_CHECKING:
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document


def export(folder: Path, identity: str) -> Path:
    """Write the design's model and kernels to ``folder/designs/<identity>`` and return the model's path.

    Raises
    ------
    InputError
        The folder holds no usable ``front.json``, no such design, or the model is not the one that was explored.
    """
    document = read_document(folder)
    every = {design.id: design for design in document.every_design()}
    if identity not in every:
        raise InputError(f"no design {identity!r} in front.json; it has {', '.join(sorted(every))}")
    if not re.fullmatch("[0-9a-f]{8}", identity):
        raise InputError(f"{folder / 'front.json'}: a design cannot be called {identity!r}; explore again")
    return _export(document, every[identity], folder)


def _export(document: Document, design: DesignFacts, folder: Path) -> Path:
    from lrfdse.model.graph import load_model
    from lrfdse.model.runtime import Runtime

    made, data = document.settings, document.data

    def path(value: str | None) -> Path | None:
        return None if value is None else folder / value

    def source(value: str | None, what: str) -> str:
        if value is None:
            raise InputError(f"{folder / 'front.json'}: it does not say which {what} was explored; explore again")
        return str(folder / value) if value.endswith(".toml") else value

    target_source, space_source = (
        source(document.target.source, "target"),
        source(document.space.source, "search space"),
    )
    target, space = load_target(target_source), load_search_space(space_source)
    model_path, calib_path = folder / document.model.path, path(data.calib.path)
    model = load_model(model_path, made.shape)
    calib = open_calibration(calib_path, model)
    facts = {
        f"{model_path}: not the model": (model.sha256, document.model.sha256),
        f"{calib_path}: not the calibration data": (
            None if calib is None else calib.digest,
            data.calib.sha256,
        ),
        f"target {target_source}: not the target": (noun_digest(target), document.target.digest),
        f"search space {space_source}: not the space": (noun_digest(space), document.space.digest),
    }
    for what, (now, then) in facts.items():
        if now != then:
            raise InputError(f"{what} that was explored (its digest differs); explore again")
    choices, schedules = [], {}
    for layer in model.layers:
        choice = design.plan.get(layer.name)
        known = next((each for each in document.layers if each.name == layer.name), None)
        option = None if known is None or choice is None else known.option(choice)
        if choice is None or option is None or len(option.schedules) != len(layer.uses):
            raise InputError(
                f"{folder / 'front.json'}: layer {layer.name!r} of design {design.id} was never measured; explore again"
            )
        choices.append((layer.name, Factorization.parse(choice.factorization, layer.outputs, layer.inputs)))
        schedules[layer.name] = option.schedules
    loss = objective_of(document.outputs)
    if calib is not None and not loss:
        # The document of an earlier version does not say: they are read again.
        loss = open_judging(model, outputs_on(model, calib.head(SAMPLES), Runtime()), True, made.metric, None).objective
    request, plan = FitRequest(space.method, made.correct, made.seed, loss), Plan(tuple(choices))
    with sole_writer(folder):
        cache = Store(cache_folder())
        fits = open_fits(request, model, calib, explored_layers(space, model), cache)
        factors = open_builder(request, model, calib, fits, cache).factors(plan, design.refined)
        written = design_folder(folder / DESIGNS, design.id)
        write_design(written, model, plan, factors, schedules, target, exported=True)
    return written / "model.onnx"
