"""Designs compiled as whole models: what they cost with everything that is around the compressed layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.codec import to_plain
from lrfdse.base.events import Event, Listener
from lrfdse.base.temporary import temporary_folder
from lrfdse.base.text import one_line
from lrfdse.deploy.folders import LIBRARY, design_folder, mark
from lrfdse.errors import InputError, KernelError, ToolError
from lrfdse.ir.latency import Latency
from lrfdse.ir.products import Recurrence
from lrfdse.library.build import LibraryOptions, library_of
from lrfdse.library.folder import MANIFEST, clear_library, write_library
from lrfdse.results.designs import OperatorCost, WholeModel
from lrfdse.results.layers import Latencies

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.ir.layer import Layer
    from lrfdse.ir.plan import Design
    from lrfdse.library.facts import LibraryFacts, OperatorFacts
    from lrfdse.library.make import Library
    from lrfdse.repair.builder import Builder
    from lrfdse.targets.target import Target

_REASON = 400
"""Characters of a reason that a note has at most. Chosen: enough to name the operators that are in the way."""


@dataclass(frozen=True, slots=True)
class WholeRequest:
    """What whole models are compiled for, and how their latency is taken."""

    wanted: bool
    """Whether they are compiled at all."""
    model: Path
    """The original model."""
    shape: Mapping[str, tuple[int, ...]]
    """Sizes of inputs that the model leaves dynamic."""
    target: Target
    meter: str
    """Name of the meter."""


@dataclass(frozen=True, slots=True)
class WholeModels:
    """What designs cost as whole models."""

    costs: Mapping[str, WholeModel] = field(default_factory=dict)
    """By design id."""
    notes: tuple[str, ...] = ()
    """Why there are none, or not all."""


def whole_models(
    request: WholeRequest,
    original: Design,
    recommended: Design | None,
    others: Sequence[Design],
    builder: Builder,
    designs: Path,
    kept: Sequence[str],
    cache: Store,
    progress: Listener,
) -> WholeModels:
    """Compile the original, the recommended design and others as whole models, and take their latency.

    The library of the recommended design is written into its folder; of the other kept designs, those that an earlier
    exploration wrote are removed. Where a model cannot be compiled as a whole, a note says why, and those after it are
    not tried.

    Parameters
    ----------
    request
        What is asked.
    original, recommended, others
        The designs; without a recommended one nothing is compiled.
    builder
        Makes the models of designs again.
    designs
        Holds a folder for each kept design.
    kept
        Ids of the kept designs.
    cache
        Keeps compiled operators and latencies.
    progress
        Told of every model and operator.
    """
    written: list[str] = []
    costs: dict[str, WholeModel] = {}
    notes: list[str] = []
    listed = () if recommended is None or not request.wanted else (original, recommended, *others)
    for design in {design.id: design for design in listed}.values():
        try:
            made = _made(design, design.id == original.id, request, builder, cache, progress)
            is_chosen = recommended is not None and design.id == recommended.id
            if is_chosen:
                _write(made, design_folder(designs, design.id))
                written.append(design.id)
            layers = builder.model.layers if design.id == original.id else ()
            costs[design.id] = cost_of(made.facts, layers, f"designs/{design.id}/{LIBRARY}" if is_chosen else None)
        except (InputError, KernelError, ToolError) as error:
            which = "the original" if design.id == original.id else f"design {design.id}"
            notes.append(f"no latency of the whole model: {which}: {one_line(error, _REASON)}")
            progress(Event("note", notes[-1]))
            break
    for identity in set(kept) - set(written):
        clear_library(designs / identity / LIBRARY)
    return WholeModels(costs, tuple(notes))


def cost_of(facts: LibraryFacts, layers: Sequence[Layer], library: str | None) -> WholeModel:
    """Return what a library costs.

    Parameters
    ----------
    facts
        What there is to say of it.
    layers
        The fully-connected layers of its model whose operators are to be named.
    library
        Path of its folder, relative to the output folder; None where it is not kept.
    """
    nodes = {use.node: layer.name for layer in layers for use in layer.uses}
    return WholeModel(
        latency=_latencies(facts.warm, facts.cold),
        flash_bytes=facts.code_bytes + facts.weight_bytes,
        code_bytes=facts.code_bytes,
        weight_bytes=facts.weight_bytes,
        arena_bytes=facts.arena_bytes,
        meter=None if facts.meter is None else facts.meter.name,
        kind=None if facts.meter is None else facts.meter.kind,
        library=library,
        operators=tuple(
            OperatorCost(
                name=", ".join(each.nodes),
                op=each.kind,
                latency=_latencies(each.warm, each.cold),
                flash_bytes=each.weight_bytes,
                layer=_layer_of(each, nodes),
            )
            for each in facts.operators
        ),
    )


def _layer_of(operator: OperatorFacts, layers: Mapping[str, str]) -> str | None:
    """Return the layer that an operator computes.

    onnxruntime joins a product with its bias while it folds constants, and appends what it did to the node's name.
    """
    # The recurrent half of a cell has the name of the node as well, but multiplies by another matrix.
    if not operator.macs or not operator.weight_bytes or operator.kind == Recurrence.__name__:
        return None
    for node in operator.nodes:
        known = [name for name in layers if node == name or node.startswith(f"{name}/")]
        if known:
            return layers[max(known, key=len)]
    return None


def _latencies(warm: Latency | None, cold: Latency | None) -> Latencies:
    return Latencies(warm=_rounded(warm), cold=_rounded(cold))


def _rounded(latency: Latency | None) -> Latency | None:
    """Return a latency to seven significant digits: more would be noise."""
    return None if latency is None else Latency(*(float(f"{us:.7g}") for us in to_plain(latency).values()))


def _made(
    design: Design, is_original: bool, request: WholeRequest, builder: Builder, cache: Store, progress: Listener
) -> Library:
    from lrfdse.formats.onnx import file_content

    if is_original:
        return _library(request.model, request, cache, progress)
    with temporary_folder() as here:
        path = here / "model.onnx"
        path.write_bytes(file_content(builder.model_of(design.plan, design.refined)))
        return _library(path, request, cache, progress)


def _library(path: Path, request: WholeRequest, cache: Store, progress: Listener) -> Library:
    """Return the library of a model; an `InputError` does not say where the file lies, which may be temporary."""
    options = LibraryOptions(shape=request.shape, meter=request.meter, remember=True)
    try:
        return library_of(path, request.target, options, cache, progress)
    except InputError as error:
        raise InputError(str(error).removeprefix(f"{path}: ")) from error


def _write(made: Library, folder: Path) -> None:
    mark(folder, [f"{LIBRARY}/{name}" for name in (*made.files, MANIFEST)], exported=False)
    write_library(folder / LIBRARY, made.files, made.last)
