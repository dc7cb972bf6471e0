"""Rebuild one design of a finished exploration from its ``front.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrfdse.base.events import silent
from lrfdse.base.files import sole_writer
from lrfdse.base.store import Store
from lrfdse.deploy.designs import write_design
from lrfdse.errors import InputError
from lrfdse.explore.inputs import settings_for
from lrfdse.explore.layers.fits import fits_of
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.plan import Plan
from lrfdse.repair.builder import Builder
from lrfdse.repair.corrections import open_corrections
from lrfdse.results.settings import Data
from lrfdse.targets.catalog import noun_digest


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

    settings = settings_for(
        folder / document["model"]["path"],
        source(made["target"]),
        source(made["space"]),
        Data(path(made["calib"]), path(made["eval"]), path(made["test"])),
        folder,
        {name: tuple(sizes) for name, sizes in made["shape"].items()},
        seed=made["seed"],
        metric=made.get("metric"),
        correct=made.get("correct", False),
    )
    model = load_model(settings.model, settings.shape)
    calib = None if settings.data.calib is None else load_data(settings.data.calib, model.inputs)
    known = document["data_sha256"]["calib"]
    facts = {
        f"{settings.model}: not the model": (model.sha256, document["model"]["sha256"]),
        f"{settings.data.calib}: not the calibration data": (None if calib is None else calib.digest, known),
        f"target {settings.target_source}: not the target": (noun_digest(settings.target), made["target_digest"]),
        f"search space {settings.space_source}: not the space": (noun_digest(settings.space), made["space_digest"]),
    }
    for what, (now, then) in facts.items():
        if now != then:
            raise InputError(f"{what} that was explored (its digest differs); explore again")
    with sole_writer(folder):
        cache = Store(settings.cache)
        fits = fits_of(settings, model, calib, cache, silent)
        builder = Builder(model, fits, open_corrections(settings, model, calib, fits, cache))
        sizes = {layer.name: (layer.outputs, layer.inputs) for layer in model.layers}
        plan = Plan(tuple((name, Factorization.parse(text, *sizes[name])) for name, text in texts.items()))
        target = folder / "designs" / identity
        write_design(
            target, plan, _schedules(document, texts), builder, settings.target, _is_refined(document, identity)
        )
    return target / "model.onnx"


def read_front(folder: Path) -> Mapping[str, Any]:
    """Read the ``front.json`` of an output folder.

    Raises
    ------
    InputError
        It is missing, no JSON, of another schema version, or not whole.
    """
    path = folder / "front.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}; name the output folder of an exploration"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: not a front.json of lrfdse: {error}") from error
    if not isinstance(document, dict) or document.get("schema_version") != 1:
        raise InputError(f"{path}: not a front.json of schema version 1")
    needed = {"model", "settings", "data_sha256", "layers", "baseline", "designs"}
    if missing := sorted(needed - set(document)):
        raise InputError(f"{path}: not a whole front.json: it has no {missing[0]!r}")
    return document


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
