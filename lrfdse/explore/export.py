"""Rebuild one design of a finished exploration from its ``front.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrfdse.design import Factorization, Plan
from lrfdse.errors import InputError
from lrfdse.explore.cache import Cache
from lrfdse.explore.events import silent
from lrfdse.explore.inputs import open_inputs, settings_for
from lrfdse.explore.keep import write_design
from lrfdse.explore.plans import Evaluator
from lrfdse.explore.run import fits_of
from lrfdse.explore.settings import Data
from lrfdse.files import sole_writer


def export(folder: Path, identity: str) -> Path:
    """Write the design's model and kernels to ``folder/designs/<identity>`` and return the model's path.

    Raises
    ------
    InputError
        The folder holds no usable ``front.json``, no such design, or the model is not the one that was explored.
    """
    document = _document(folder)
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
    )
    with sole_writer(folder):
        inputs = open_inputs(settings)
        if inputs.model.sha256 != document["model"]["sha256"]:
            raise InputError(
                f"{settings.model}: not the model that was explored (its SHA-256 differs); explore it again"
            )
        evaluator = Evaluator(inputs, fits_of(settings, inputs, Cache(settings.cache), silent))
        sizes = {layer.name: (layer.outputs, layer.inputs) for layer in inputs.model.layers}
        plan = Plan(tuple((name, Factorization.parse(text, *sizes[name])) for name, text in texts.items()))
        target = folder / "designs" / identity
        write_design(target, plan, _schedules(document, texts), evaluator, settings.target)
    return target / "model.onnx"


def _document(folder: Path) -> Mapping[str, Any]:
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
    return document


def _plan(document: Mapping[str, Any], identity: str) -> dict[str, str]:
    plans = {design["id"]: design["plan"] for design in (document["baseline"], *document["designs"])}
    if identity not in plans:
        raise InputError(f"no design {identity!r} in front.json; it has {', '.join(sorted(plans))}")
    return dict(plans[identity])


def _schedules(document: Mapping[str, Any], texts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {
        layer["name"]: tuple(option["schedules"])
        for layer in document["layers"]
        for option in layer["options"]
        if option["factorization"] == texts[layer["name"]]
    }
