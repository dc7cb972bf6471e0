"""Rebuild one design of a finished exploration from its ``front.json``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrfdse.base.files import sole_writer
from lrfdse.base.folders import cache_folder
from lrfdse.base.store import Store
from lrfdse.deploy.designs import write_design
from lrfdse.errors import InputError
from lrfdse.explore.inputs import output_loss
from lrfdse.explore.layers.fits import FitRequest, explored_layers, open_builder, open_fits
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.plan import Plan
from lrfdse.results.front_file import read_front
from lrfdse.targets.catalog import load_search_space, load_target, noun_digest


def export(folder: Path, identity: str) -> Path:
    """Write the design's model and kernels to ``folder/designs/<identity>`` and return the model's path.

    Raises
    ------
    InputError
        The folder holds no usable ``front.json``, no such design, or the model is not the one that was explored.
    """
    document = read_front(folder)
    try:
        return _export(document, folder, identity)
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise InputError(f"{folder / 'front.json'}: damaged ({error!r}); explore again") from error


def _export(document: Mapping[str, Any], folder: Path, identity: str) -> Path:
    from lrfdse.model.data import load_data
    from lrfdse.model.graph import load_model

    texts = _plan(document, identity)
    made = document["settings"]

    def path(value: str | None) -> Path | None:
        return None if value is None else folder / value

    def source(value: str) -> str:
        return str(folder / value) if value.endswith(".toml") else value

    target, space = load_target(source(made["target"])), load_search_space(source(made["space"]))
    model_path, calib_path = folder / document["model"]["path"], path(made["calib"])
    model = load_model(model_path, {name: tuple(sizes) for name, sizes in made["shape"].items()})
    calib = None if calib_path is None else load_data(calib_path, model.inputs)
    facts = {
        f"{model_path}: not the model": (model.sha256, document["model"]["sha256"]),
        f"{calib_path}: not the calibration data": (
            None if calib is None else calib.digest,
            document["data_sha256"]["calib"],
        ),
        f"target {source(made['target'])}: not the target": (noun_digest(target), made["target_digest"]),
        f"search space {source(made['space'])}: not the space": (noun_digest(space), made["space_digest"]),
    }
    for what, (now, then) in facts.items():
        if now != then:
            raise InputError(f"{what} that was explored (its digest differs); explore again")
    loss = None if calib is None else output_loss(model, calib, made.get("metric"))
    fit = FitRequest(space.method, made.get("correct", False), made["seed"], loss)
    schedules = _schedules(document, texts)
    sizes = {layer.name: (layer.outputs, layer.inputs) for layer in model.layers}
    plan = Plan(tuple((name, Factorization.parse(text, *sizes[name])) for name, text in texts.items()))
    with sole_writer(folder):
        cache = Store(cache_folder())
        fits = open_fits(fit, model, calib, explored_layers(space, model), cache)
        builder = open_builder(fit, model, calib, fits, cache)
        factors = builder.factors(plan, _is_refined(document, identity))
        written = folder / "designs" / identity
        write_design(written, model, plan, factors, schedules, target)
    return written / "model.onnx"


def _plan(document: Mapping[str, Any], identity: str) -> dict[str, str]:
    plans = {design["id"]: design["plan"] for design in (document["baseline"], *document["designs"])}
    if wrong := [name for name in plans if not re.fullmatch("[0-9a-f]{8}", name)]:
        raise ValueError(f"a design is called {wrong[0]!r}")
    if identity not in plans:
        raise InputError(f"no design {identity!r} in front.json; it has {', '.join(sorted(plans))}")
    return dict(plans[identity])


def _is_refined(document: Mapping[str, Any], identity: str) -> bool:
    return any(design["id"] == identity and design.get("refined", False) for design in document["designs"])


def _schedules(document: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {
        layer["name"]: tuple(option["schedules"])
        for layer in document["layers"]
        for option in layer["options"]
        if option["factorization"] == texts[layer["name"]]
    }
