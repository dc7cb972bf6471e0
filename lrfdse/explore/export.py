"""Rebuild one design of a finished exploration from its ``front.json``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.events import silent
from lrfdse.base.files import sole_writer
from lrfdse.base.store import Store
from lrfdse.deploy.designs import write_design
from lrfdse.deploy.folders import design_folder
from lrfdse.errors import InputError
from lrfdse.explore.inputs import settings_for
from lrfdse.explore.layers.fits import fits_of
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.plan import Plan
from lrfdse.repair.builder import Builder
from lrfdse.repair.corrections import open_corrections
from lrfdse.results.read import read_document
from lrfdse.results.settings import Data
from lrfdse.targets.catalog import noun_digest

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
    from lrfdse.model.data import load_data
    from lrfdse.model.graph import load_model

    made, data = document.settings, document.data

    def path(value: str | None) -> Path | None:
        return None if value is None else folder / value

    def source(value: str | None, what: str) -> str:
        if value is None:
            raise InputError(f"{folder / 'front.json'}: it does not say which {what} was explored; explore again")
        return str(folder / value) if value.endswith(".toml") else value

    settings = settings_for(
        folder / document.model.path,
        source(document.target.source, "target"),
        source(document.space.source, "search space"),
        Data(path(data.calib.path), path(data.eval.path), path(data.test.path)),
        folder,
        dict(made.shape),
        seed=made.seed,
        metric=made.metric,
        correct=made.correct,
    )
    model = load_model(settings.model, settings.shape)
    calib = None if settings.data.calib is None else load_data(settings.data.calib, model.inputs)
    facts = {
        f"{settings.model}: not the model": (model.sha256, document.model.sha256),
        f"{settings.data.calib}: not the calibration data": (
            None if calib is None else calib.digest,
            data.calib.sha256,
        ),
        f"target {settings.target_source}: not the target": (noun_digest(settings.target), document.target.digest),
        f"search space {settings.space_source}: not the space": (noun_digest(settings.space), document.space.digest),
    }
    for what, (now, then) in facts.items():
        if now != then:
            raise InputError(f"{what} that was explored (its digest differs); explore again")
    plan, schedules = [], {}
    for layer in model.layers:
        choice = design.plan.get(layer.name)
        known = next((each for each in document.layers if each.name == layer.name), None)
        option = None if known is None or choice is None else known.option(choice)
        if choice is None or option is None or len(option.schedules) != len(layer.uses):
            raise InputError(
                f"{folder / 'front.json'}: layer {layer.name!r} of design {design.id} was never measured; explore again"
            )
        plan.append((layer.name, Factorization.parse(choice.factorization, layer.outputs, layer.inputs)))
        schedules[layer.name] = option.schedules
    with sole_writer(folder):
        cache = Store(settings.cache)
        fits = fits_of(settings, model, calib, cache, silent)
        builder = Builder(model, fits, open_corrections(settings, model, calib, fits, cache))
        target = design_folder(folder, design.id)
        write_design(target, Plan(tuple(plan)), schedules, builder, settings.target, design.refined, exported=True)
    return target / "model.onnx"
