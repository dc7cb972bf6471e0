"""Rebuild one design of a finished exploration from its ``front.json``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.events import Listener, silent
from lrfdse.base.files import sole_writer
from lrfdse.base.folders import cache_folder
from lrfdse.base.store import Store
from lrfdse.deploy.designs import write_design, write_program
from lrfdse.deploy.folders import DESIGNS, design_folder
from lrfdse.deploy.forms import check_forms, check_written
from lrfdse.deploy.healed import healed_content, read_healed
from lrfdse.errors import InputError
from lrfdse.explore.allowed import require_allowed
from lrfdse.explore.inputs import open_calibration
from lrfdse.explore.int8 import int8_file
from lrfdse.explore.judging import SAMPLES, objective_of, open_judging, outputs_on
from lrfdse.explore.layers.fits import FitRequest, explored_layers, open_builder, open_fits
from lrfdse.formats import model_at
from lrfdse.ir.choice import Choice
from lrfdse.ir.plan import Plan
from lrfdse.results.effort import effort_for
from lrfdse.results.read import read_document
from lrfdse.targets.catalog import load_search_space, load_target, noun_digest

if TYPE_CHECKING:
    from lrfdse.ir.factors import Factors
    from lrfdse.ir.form import Form
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.results.designs import DesignFacts
    from lrfdse.results.document import Document
    from lrfdse.targets.target import Target

_IDS_TOLD = 8
"""Ids that a message names. Chosen, not measured: about what fits a line."""


def export(
    folder: Path,
    identity: str,
    model: Path | None = None,
    calib: Path | None = None,
    progress: Listener = silent,
    forms: Sequence[Form] | None = None,
) -> Path:
    """Write the design's model and kernels to ``folder/designs/<id>`` and return the model's path.

    Parameters
    ----------
    folder
        The output folder of an exploration.
    identity
        The id of any design of its ``front.json``, or the beginning of one.
    model
        The model, where it no longer lies where the folder says: a file, or a folder with ``model.onnx`` and maybe
        ``calib.npz``.
    calib
        The calibration data, likewise.
    progress
        Told of a file that cannot be made of this design.
    forms
        The formats of the design beside ONNX; None means those of the exploration.

    Raises
    ------
    InputError
        The folder holds no usable ``front.json``, no such design or several, or the model or the data are not there or
        not those that were explored.
    """
    from lrfdse.model.passes.factor import rewrite

    design = rebuild(folder, identity, model, calib)
    wanted = design.forms if forms is None else forms
    check_forms(design.model.path, wanted)
    check_written(design.model, wanted)
    factors = design.factors()
    int8 = int8_file(rewrite(design.model, factors), design.calib) if design.int8 else None
    with sole_writer(folder):
        written = design_folder(folder / DESIGNS, design.id)
        write_design(
            written,
            design.model,
            design.plan,
            factors,
            design.schedules,
            design.target,
            progress,
            exported=True,
            int8=int8,
            healed=healed_content(factors) if design.healed else None,
            forms=wanted,
        )
    return written / "model.onnx"


def export_program(folder: Path, identity: str, path: Path) -> None:
    """Write the program of a design that times it on a board to `path`; nothing in the output folder changes.

    Raises
    ------
    InputError
        As for `export`.
    ToolError
        A kernel or the program cannot be compiled, or there are too many weights for one.
    """
    design = rebuild(folder, identity)
    write_program(path, design.id, design.model, design.plan, design.factors(), design.schedules, design.target)


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a design is made of again; its factors are the expensive part, and are fitted when they are asked for."""

    id: str
    model: Model
    plan: Plan
    factors: Callable[[], Mapping[str, Factors]]
    schedules: Mapping[str, Sequence[str]]
    target: Target
    calib: Dataset | None
    int8: bool
    """Whether the exploration made int8 forms."""
    healed: bool
    """Whether the factors are those that training left in the folder."""
    forms: tuple[Form, ...]
    """The formats that the exploration was asked for."""


def rebuild(folder: Path, identity: str, model: Path | None = None, calib: Path | None = None) -> Rebuilt:
    """Return what a design of an output folder is made of again; see `export`."""
    document = read_document(folder)
    design = _named(identity, document)
    if not re.fullmatch("[0-9a-f]{8}", design.id):
        raise InputError(f"{folder / 'front.json'}: a design cannot be called {design.id!r}; explore again")
    if model is not None and model.is_dir():
        beside = model / "calib.npz"
        calib = beside if calib is None and beside.is_file() else calib
        model = model_at(model)
    return _rebuilt(document, design, folder, model, calib)


def _named(identity: str, document: Document) -> DesignFacts:
    """Return the design of an id, or the only one whose id begins so."""
    every = {design.id: design for design in document.every_design()}
    if identity in every:
        return every[identity]
    found = sorted(each for each in every if identity and each.startswith(identity))
    if len(found) == 1:
        return every[found[0]]
    if found:
        raise InputError(f"{identity!r} is the beginning of {_some(found)}; give more of the id")
    raise InputError(f"no design {identity!r} in front.json; it has {_some(sorted(every))}")


def _some(identities: list[str]) -> str:
    """Return ids for a message: all of a few, of many the first."""
    left = len(identities) - _IDS_TOLD
    return ", ".join(identities[:_IDS_TOLD]) + (f" and {left} more" if left > 0 else "")


def _rebuilt(
    document: Document, design: DesignFacts, folder: Path, model_given: Path | None, calib_given: Path | None
) -> Rebuilt:
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
    model_path = _there(folder / document.model.path, model_given, "--model", "model")
    calib_path = path(data.calib.path)
    if calib_path is not None:
        calib_path = _there(calib_path, calib_given, "--calib", "calibration data")
    model = load_model(model_path, made.shape, made.layers, made.value)
    calib = open_calibration(calib_path, model, made.value)
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
        choices.append((layer.name, Choice.parse(str(choice), layer.outputs, layer.inputs)))
        schedules[layer.name] = option.schedules
    loss = objective_of(document.outputs)
    if calib is not None and not loss:
        # The document of an earlier version does not say: they are read again.
        require_allowed(made.metric, None, str(folder))
        loss = open_judging(model, outputs_on(model, calib.head(SAMPLES), Runtime()), True, made.metric, None).objective
    explored = explored_layers(space, model)
    small = effort_for(made.effort, sum(model.layer(name).weights for name in explored)).small_steps
    request, plan = FitRequest(space.method, made.correct, made.seed, loss, small), Plan(tuple(choices))

    def factors() -> Mapping[str, Factors]:
        if design.healed is not None:
            return read_healed(folder / DESIGNS / design.id, plan, design.healed.factors_sha256)
        cache = Store(cache_folder())
        fits = open_fits(request, model, calib, explored, cache)
        return open_builder(request, model, calib, fits, cache).factors(plan, design.refined)

    healed = design.healed is not None
    return Rebuilt(design.id, model, plan, factors, schedules, target, calib, bool(made.int8), healed, made.format)


def _there(known: Path, given: Path | None, option: str, what: str) -> Path:
    """Return the file that was given, else the one that the document names where it is still there.

    Raises
    ------
    InputError
        It is not.
    """
    if given is not None or known.exists():
        return given or known
    raise InputError(f"{known}: no such file; was the folder moved? Say where the {what} lies now with {option}")
