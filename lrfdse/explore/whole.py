"""Designs compiled as whole models: what they cost with everything that is around the compressed layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener, silent
from lrfdse.base.temporary import temporary_folder
from lrfdse.base.text import one_line
from lrfdse.deploy.folders import LIBRARY, design_folder, mark
from lrfdse.errors import InputError, KernelError, RoomError, ToolError, WriteError
from lrfdse.explore.whole_cost import cost_of, rest_of, rounded
from lrfdse.ir.latency import Latency
from lrfdse.library.build import LibraryOptions, library_of
from lrfdse.library.folder import MANIFEST, clear_library, write_library
from lrfdse.results.designs import WholeModel

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.ir.layer import Layer
    from lrfdse.ir.plan import Design
    from lrfdse.library.make import Library
    from lrfdse.repair.builder import Builder
    from lrfdse.results.exploration import LayerResult
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
    value: Mapping[str, str]
    """Numbers that inputs of the original are fixed to; they are constants of every design."""
    target: Target
    meter: str
    """Name of the meter."""
    most_us: float | None = None
    """Highest latency of a design's whole model; None asks for nothing."""
    exclusive: bool = False
    """Whether the meter must have the machine for itself."""


@dataclass(frozen=True, slots=True)
class OriginalWhole:
    """What the original costs as a whole model, and how much of it no compression of its layers changes."""

    cost: WholeModel | None = None
    """None where it was not compiled."""
    rest: Latency | None = None
    """What everything but the fully-connected layers takes in a warm run; None where that cannot be told."""
    note: str = ""
    """Why one of them is missing, where it was asked for."""

    @property
    def rest_us(self) -> float | None:
        """The rest in microseconds."""
        return None if self.rest is None else self.rest.us


@dataclass(frozen=True, slots=True)
class WholeModels:
    """What designs cost as whole models."""

    costs: Mapping[str, WholeModel] = field(default_factory=dict)
    """By design id."""
    notes: tuple[str, ...] = ()
    """Why there are none, or not all."""


def original_whole(
    request: WholeRequest, layers: Sequence[Layer], may_recommend: bool, cache: Store, progress: Listener
) -> OriginalWhole:
    """Compile the original as a whole model and take its latency, before anything is searched.

    What everything but the layers takes in it is a constant of all designs: the whole less the operators that compute
    the layers. Where no design may be recommended, it is only compiled for a limit.

    Raises
    ------
    InputError
        There is a limit on the latency of whole models, and it cannot be held against anything, or leaves nothing for
        the layers.
    """
    most = request.most_us
    if most is not None and not request.wanted:
        raise InputError("--max-model-latency needs the whole model compiled: leave --no-library out")
    if not request.wanted or (most is None and not may_recommend):
        return OriginalWhole()
    try:
        facts = library_at(request.model, request, cache, _as_one_stage(progress)).facts
    except (RoomError, WriteError):
        raise
    except (InputError, KernelError, ToolError) as error:
        reason = one_line(error, _REASON)
        if most is not None:
            raise InputError(f"--max-model-latency: {request.model}: not compiled as a whole: {reason}") from error
        note = f"no latency of the whole model: the original: {reason}"
        progress(Event("note", note))
        return OriginalWhole(note=note)
    cost = cost_of(facts, layers, None)
    rest, lost = rest_of(cost, layers)
    if most is not None and rest is None:
        raise InputError(f"--max-model-latency: {lost}")
    if most is not None and rest is not None and rest.us >= most:
        raise InputError(
            f"--max-model-latency {most:g}us: everything but the fully-connected layers takes {rest.us:.4g} us already "
            f"({cost.kind}, warm)"
        )
    return OriginalWhole(cost, rest, f"no latency of whole models is estimated: {lost}" if lost else "")


def _as_one_stage(progress: Listener) -> Listener:
    """Return a listener that tells of every step of compiling as one stage, which is not that of the last models."""

    def tell(event: Event) -> None:
        progress(event if event.stage == "note" else Event("original", event.text, event.done, event.total))

    return tell


def with_gates(measured: OriginalWhole, results: Sequence[LayerResult]) -> OriginalWhole:
    """Return what the original costs, with what recurrences take beside their products in the rest.

    The kernel of a layer multiplies by the recurrent matrix alone. Gates stand in the same operator of the whole model,
    and take as long whatever becomes of the matrix.

    Parameters
    ----------
    measured
        What the original costs, the rest without any recurrence that a layer is a part of.
    results
        The layers, dense options first.
    """
    if measured.cost is None or measured.rest is None:
        return measured
    dense = {each.layer.name: each.options[0].warm for each in results if each.layer.kind == "state" and each.options}
    rest = measured.rest
    for operator in measured.cost.operators:
        warm = operator.latency.warm
        if operator.layer in dense and warm is not None:
            product = dense[operator.layer]
            us = max(0.0, warm.us - product.us)
            low, high = max(0.0, warm.low_us - product.low_us), warm.high_us - product.high_us
            rest = Latency(rest.us + us, rest.low_us + min(low, us), rest.high_us + max(high, us))
    return dataclasses.replace(measured, rest=rounded(rest))


def whole_models(
    request: WholeRequest,
    measured: OriginalWhole,
    original: Design,
    recommended: Design | None,
    others: Sequence[Design],
    builder: Builder,
    designs: Path,
    kept: Sequence[str],
    cache: Store,
    progress: Listener,
    begun: Mapping[str, Callable[[], Library]] | None = None,
) -> WholeModels:
    """Compile the recommended design and others as whole models, and take their latency; the original has it already.

    The library of the recommended design is written into its folder; of the other kept designs, those that an earlier
    exploration wrote are removed. Where a model cannot be compiled as a whole, a note says why, and those after it are
    not tried.

    Parameters
    ----------
    request
        What is asked.
    measured
        The original, as `original_whole` returns it.
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
    begun
        What waits for the libraries of designs that others make already, by the design's id.
    """
    written: list[str] = []
    costs = {} if measured.cost is None else {original.id: measured.cost}
    notes = [measured.note] if measured.note else []
    listed = () if recommended is None or measured.cost is None else (recommended, *others)
    for design in {design.id: design for design in listed}.values():
        is_chosen = recommended is not None and design.id == recommended.id
        if design.id == original.id and not is_chosen:
            continue
        try:
            waited = (begun or {}).get(design.id)
            is_original = design.id == original.id
            made = _made(design, is_original, request, builder, cache, progress) if waited is None else waited()
        except (RoomError, WriteError):
            raise
        except (InputError, KernelError, ToolError) as error:
            notes.append(f"no latency of the whole model: design {design.id}: {one_line(error, _REASON)}")
            progress(Event("note", notes[-1]))
            break
        if is_chosen:
            _write(made, design_folder(designs, design.id))
            written.append(design.id)
        layers = builder.model.layers if design.id == original.id else ()
        costs[design.id] = cost_of(made.facts, layers, f"designs/{design.id}/{LIBRARY}" if is_chosen else None)
        notes += _broken(costs[design.id], design, request.most_us) if is_chosen else ()
    for identity in set(kept) - set(written):
        clear_library(designs / identity / LIBRARY)
    return WholeModels(costs, tuple(notes))


def _broken(cost: WholeModel, design: Design, most: float | None) -> list[str]:
    """Return a note where the library of the recommended design takes longer than it was estimated and may."""
    warm = cost.latency.warm
    if most is None or warm is None or warm.us <= most:
        return []
    return [
        f"design {design.id} was chosen by an estimate within --max-model-latency {most:g}us; its own library takes "
        f"{warm.us:.4g} us ({cost.kind}): ask for less"
    ]


def _made(
    design: Design, is_original: bool, request: WholeRequest, builder: Builder, cache: Store, progress: Listener
) -> Library:
    from lrfdse.formats.onnx import file_content

    if is_original:
        return library_at(request.model, request, cache, progress)
    with temporary_folder() as here:
        path = here / "model.onnx"
        path.write_bytes(file_content(builder.model_of(design.plan, design.refined)))
        return library_at(path, request, cache, progress)


def library_at(path: Path, request: WholeRequest, cache: Store, progress: Listener = silent) -> Library:
    """Return the library of a model; an `InputError` does not say where the file lies, which may be temporary."""
    value = request.value if path == request.model else {}
    options = LibraryOptions(shape=request.shape, meter=request.meter, value=value)
    try:
        return library_of(path, request.target, options, cache, progress)
    except InputError as error:
        raise InputError(str(error).removeprefix(f"{path}: ")) from error


def _write(made: Library, folder: Path) -> None:
    mark(folder, [f"{LIBRARY}/{name}" for name in (*made.files, MANIFEST)], exported=False)
    write_library(folder / LIBRARY, made.files, made.last)
