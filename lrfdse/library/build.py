"""From a model's file to its C library in a folder: what `lrfdse build` and `lrfdse.build` do."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lrfdse.base.arguments import shapes_of, values_of
from lrfdse.base.events import Event, silent
from lrfdse.errors import InputError
from lrfdse.ir.latency import TOLERANCE
from lrfdse.library.facts import SLOW_SHARE, LibraryFacts
from lrfdse.library.names import DEFAULT, checked_name

if TYPE_CHECKING:
    from lrfdse.base.store import Store
    from lrfdse.ir.latency import ProgramMeasurement
    from lrfdse.ir.program import MemoryPlan, Program
    from lrfdse.library.facts import OperatorFacts
    from lrfdse.library.layout import Layout
    from lrfdse.library.make import Library, Origin
    from lrfdse.library.vectors import Vectors
    from lrfdse.meters.whole import WholeMeter
    from lrfdse.model.given import GivenModel
    from lrfdse.targets.target import Target


@dataclass(frozen=True, slots=True, repr=False)
class Built:
    """A C library that was written; its `repr` is the table of its operators that the command line prints."""

    facts: LibraryFacts
    """Everything that ``NAME.json`` holds."""
    folder: Path
    """Where its files are."""

    def __repr__(self) -> str:
        from lrfdse.library.table import library_text

        return library_text(self.facts, self.folder)


def build(
    model: GivenModel,
    target: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    name: str = DEFAULT,
    shape: Mapping[str, Sequence[int]] | None = None,
    value: Mapping[str, object] | None = None,
    weights: Literal["library", "file"] = "library",
    meter: str = "auto",
    tune: bool = False,
    cache: str | os.PathLike[str] | None = None,
    progress: Callable[[Event], None] | None = None,
) -> Built:
    """Compile a whole model ahead of time, as a C library without a runtime, and write it to a folder.

    Parameters
    ----------
    model
        An ONNX file, a folder that holds ``model.onnx``, an ``onnx.ModelProto`` or an ``onnx_ir.Model``.
    target
        A name of `lrfdse.target_names`, or the path of a TOML file.
    output
        The folder to write. It appears whole; one that lrfdse has not made is refused.
    name
        What files, functions and macros begin with, a C identifier.
    shape
        Sizes of inputs that the model leaves dynamic, by the input's name. An open first size is 1 by default.
    value
        Numbers, or true or false, that inputs of fixed sizes are fixed to, by the input's name: constants of the
        library, and no inputs of it.
    weights
        "library" stores the weights in the library; "file" in a file beside it, which the caller loads.
    meter
        What takes latencies: "host", "model", or "auto", by which the target decides; "none" only checks the outputs.
    tune
        Whether the meter chooses schedules of operators; else the estimate does.
    cache
        Folder of what can be computed again; None means that of ``$LRFDSE_CACHE`` or of the user.
    progress
        Called with every event, such as ``Event("operators", done=3, total=60)``; None means that nobody listens.

    Raises
    ------
    InputError
        The model or an option cannot be used as given, or operators cannot be compiled: all are named at once.
    ToolError
        A tool that the target needs is missing or failed.
    """
    from lrfdse.base.folders import cache_folder, cache_folder_at
    from lrfdse.base.store import Store
    from lrfdse.base.temporary import temporary_folder
    from lrfdse.base.threads import one_thread_each
    from lrfdse.formats import model_at
    from lrfdse.library.folder import check_folder, write_library
    from lrfdse.model.given import model_file
    from lrfdse.targets.catalog import load_target

    named = shapes_of(shape)
    checked_name(name)
    if weights not in ("library", "file"):
        raise InputError(f"--weights {weights!r}: library or file")
    machine, folder = load_target(os.fspath(target)), Path(output)
    check_folder(folder)
    tell = progress or silent
    with (
        temporary_folder() as temporary,
        cache_folder_at(None if cache is None else Path(cache)),
        one_thread_each(),
    ):
        path = model_at(model_file(model, temporary / "model.onnx"))
        options = LibraryOptions(name, named, weights == "file", meter, tune, values_of(value))
        made = library_of(path, machine, options, Store(cache_folder()), tell)
    write_library(folder, made.files, made.last)
    for each in made.facts.slow():
        share = (each.warm.us if each.warm else 0) / (made.facts.warm.us if made.facts.warm else 1)
        tell(
            Event(
                "note",
                f"{each.kind} ({', '.join(each.nodes)}) has no schedule of its own and takes {share:.0%} of the time "
                f"(more than {SLOW_SHARE:.0%} is worth a look)",
            )
        )
    if made.facts.tolerance > TOLERANCE:
        reason = (
            "this model rounds to 8 bits as it runs, where the last bit of a float may decide between two levels"
            if made.facts.rounds
            else "rounding alone changes this model's outputs on random inputs: onnxruntime's results differ with and "
            "without optimizations or with the last bit of its weights, or what should be part of 1 is next to nothing"
        )
        tell(Event("note", f"{reason}, so that errors up to {made.facts.tolerance:.2g} count as right"))
    if not made.facts.checked:
        tell(Event("note", f"nothing here runs code for {machine.name}: the library was not run, and has no latency"))
    return Built(made.facts, folder)


@dataclass(frozen=True, slots=True)
class LibraryOptions:
    """How a library is made."""

    name: str = DEFAULT
    """What symbols begin with, a C identifier."""
    shape: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Sizes of inputs that the model leaves dynamic."""
    weights_file: bool = False
    """Whether the weights lie in a file beside the library."""
    meter: str = "auto"
    """What takes latencies, as for `build`."""
    tune: bool = False
    """Whether the meter chooses schedules of operators."""
    value: Mapping[str, str] = field(default_factory=dict)
    """Numbers that inputs are fixed to, see `lrfdse.model.valued.read_model`."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A model on its way to a library: everything but the files."""

    program: Program
    plan: MemoryPlan
    layout: Layout
    vectors: Vectors
    origin: Origin
    target: Target
    """The machine as code is compiled for that reads weights which are stored as the program's."""


def _prepared(
    path: Path, target: Target, options: LibraryOptions, cache: Store, progress: Callable[[Event], None]
) -> _Prepared:
    """Return a model's program with its operators compiled, its memory laid out, and an input with its outputs."""
    import onnx_ir as ir

    from lrfdse.base.border import reading
    from lrfdse.ir.products import FullyConnected
    from lrfdse.ir.storage import FLOAT16
    from lrfdse.library.compiling import compile_program, pack_for
    from lrfdse.library.drawn import drawn_vectors
    from lrfdse.library.layout import lay_out
    from lrfdse.library.make import NO_METER, Origin, require_room, require_tools_of
    from lrfdse.library.tuning import tuned
    from lrfdse.library.vectors import tells_nothing
    from lrfdse.meters.whole import open_whole_meter
    from lrfdse.model.valued import read_model
    from lrfdse.program.lower import program as lowered
    from lrfdse.program.memory import plan as planned

    name, shape, meter = options.name, options.shape, options.meter
    require_tools_of(meter, target)
    if options.tune and meter == NO_METER:
        raise InputError(f"--tune takes a meter, but got --meter {NO_METER}")
    progress(Event("program", path.name))
    with reading(path, "a model"):
        proto, sha256 = read_model(path, options.value, shape)
        model = ir.from_proto(proto)
        program = lowered(model, shape, path, target.widens_halves)
        vectors = drawn_vectors(proto, model, program, shape, path)
    pairs = zip(program.outputs, vectors.outputs, strict=True)
    if blank := [port.name for port, output in pairs if tells_nothing(output)]:
        reason = "is the same in every element on random inputs, so that comparing it with onnxruntime's tells little"
        fix = "--value NAME=NUMBER fixes an input that is a setting"
        progress(Event("note", f"output {', '.join(map(repr, blank))} {reason}; {fix}"))
    if not options.weights_file:
        require_room(program)
    if any(isinstance(call.operator, FullyConnected) and call.operator.weight == "float16" for call in program.calls):
        target = target.reading(FLOAT16)
    # What cannot be compiled is found before anything is measured.
    functions = compile_program(program, name, target, path, cache, progress)
    if options.tune:
        chosen = tuned((call.operator for call in program.calls), target, open_whole_meter(meter, target), progress)
        functions = compile_program(program, name, target, path, cache, progress, chosen)
    plan = planned(program, [function.work for function in functions])
    layout = lay_out(program, plan, functions, pack_for(target))
    return _Prepared(program, plan, layout, vectors, Origin(path.name, sha256), target)


def board_program_of(
    path: Path, target: Target, options: LibraryOptions, design: str, cache: Store, progress: Callable[[Event], None]
) -> bytes:
    """Return the program that times the library of the model in a file on a board, operator by operator.

    Raises
    ------
    InputError
        The model cannot be used as given, or operators cannot be compiled.
    ToolError
        A tool is missing or failed, or the model is too large for such a program.
    """
    from lrfdse.library.board_program import board_program
    from lrfdse.library.interface import signature
    from lrfdse.library.trial import trial

    made = _prepared(path, target, options, cache, progress)
    facts = signature(options.name, made.program, made.layout, weights_file=False)
    return board_program(trial(facts, made.layout, made.target, made.vectors), made.target, design)


def operators_of(
    path: Path, target: Target, options: LibraryOptions, meter: WholeMeter, cache: Store
) -> tuple[ProgramMeasurement, tuple[OperatorFacts, ...]]:
    """Return what a meter says of the library of the model in a file, as a whole and operator by operator.

    None is made: nothing of it but the program that the meter runs. The meter's name among the options says nothing.

    Raises
    ------
    InputError
        The model or an option cannot be used as given, or operators cannot be compiled: all are named at once.
    KernelError
        The library computes wrong outputs, or crashes.
    ToolError
        A tool is missing or failed.
    """
    from lrfdse.library.facts import operator_facts
    from lrfdse.library.interface import signature
    from lrfdse.library.make import NO_METER
    from lrfdse.library.trial import trial

    made = _prepared(path, target, dataclasses.replace(options, meter=NO_METER), cache, silent)
    facts = signature(options.name, made.program, made.layout, weights_file=options.weights_file)
    measured = meter.measure(trial(facts, made.layout, made.target, made.vectors))
    return measured, operator_facts(made.layout, measured)


def library_of(
    path: Path, target: Target, options: LibraryOptions, cache: Store, progress: Callable[[Event], None]
) -> Library:
    """Return the library of the model in a file; nothing is written but what the cache keeps.

    Raises
    ------
    InputError
        The model or an option cannot be used as given, or operators cannot be compiled: all are named at once.
    KernelError
        The library computes wrong outputs, or crashes.
    ToolError
        A tool that the target needs is missing or failed.
    """
    from lrfdse.library.make import NO_METER, make_library
    from lrfdse.library.remembered import known_measurement, measurement_key, remember

    name, shape, meter = options.name, options.shape, options.meter
    ready = _prepared(path, target, options, cache, progress)
    layout, origin, target = ready.layout, ready.origin, ready.target
    progress(Event("library", name))
    key = None
    if meter != NO_METER:
        key = measurement_key(layout, origin, target, name, shape, meter, weights_file=options.weights_file)
    known = None if key is None else known_measurement(cache, key, 1 + len(layout.steps))
    made = make_library(
        name,
        ready.program,
        ready.plan,
        layout,
        ready.vectors,
        target,
        origin,
        weights_file=options.weights_file,
        meter=meter,
        known=known,
    )
    if key is not None and known is None and made.measured is not None:
        remember(cache, key, made.measured)
    return made
