"""From a program and its compiled operators to the files of a library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrfdse.base.version import __version__
from lrfdse.errors import InputError
from lrfdse.library.elf import loaded_bytes
from lrfdse.library.example import example
from lrfdse.library.facts import SCHEMA, LibraryFacts, MeterFacts, operator_facts
from lrfdse.library.interface import header, signature
from lrfdse.library.layout import Layout
from lrfdse.library.objects import make_code
from lrfdse.library.texts import makefile, readme
from lrfdse.library.trial import trial
from lrfdse.library.vectors import FILE, vectors_files
from lrfdse.meters.whole import open_whole_meter, run_once
from lrfdse.toolchain.programs import find_emulator, require_zig

if TYPE_CHECKING:
    from lrfdse.ir.latency import ProgramMeasurement
    from lrfdse.ir.program import MemoryPlan, Program
    from lrfdse.library.interface import Signature
    from lrfdse.library.vectors import Vectors
    from lrfdse.meters.block import Whole
    from lrfdse.targets.target import Target

MOST_INSIDE = 1 << 30
"""Bytes of weights that a library holds at most. Half of what every target's code can reach from where it stands:
2 GiB in the medium code models of RISC-V and x86-64, which compilers use by default."""

NO_METER = "none"
"""What a request says for its meter where no latency is wanted."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a library comes from."""

    model: str
    """Name of the model's file."""
    sha256: str
    """SHA-256 of the model."""


@dataclass(frozen=True, slots=True)
class Library:
    """The files of a library, and what there is to say of it."""

    facts: LibraryFacts
    files: Mapping[str, bytes]
    measured: ProgramMeasurement | None
    """What the meter said; None where it was not asked."""

    @property
    def last(self) -> str:
        """The file whose presence marks a whole folder."""
        return f"{self.facts.name}.json"


def make_library(
    name: str,
    program: Program,
    plan: MemoryPlan,
    layout: Layout,
    vectors: Vectors,
    target: Target,
    origin: Origin,
    *,
    weights_file: bool = False,
    meter: str = "auto",
    known: ProgramMeasurement | None = None,
) -> Library:
    """Make a library, run it on the target's instruction set where that is possible, and take its latency.

    Parameters
    ----------
    name
        What every symbol begins with.
    program, plan, layout
        The model, its memory, and its functions and weights.
    vectors
        An input and the outputs that are right for it.
    target
        The machine.
    origin
        Where the model comes from.
    weights_file
        Whether the weights lie in a file of their own.
    meter
        "auto", "host" or "model"; `NO_METER` only runs the library.
    known
        What that meter said of the same library before: it does not run again then.

    Raises
    ------
    InputError
        The weights are too many for a library, or the meter does not fit the target.
    KernelError
        The library computes wrong outputs, crashes, or calls what is not there.
    ToolError
        A tool is missing or failed.
    """
    if not weights_file:
        require_room(program)
    facts = signature(name, program, layout, weights_file=weights_file)
    code = make_code(facts, layout, target)
    measured, error = known, None if known is None else known.max_error
    if known is None:
        whole = trial(facts, layout, target, vectors)
        measured = None if meter == NO_METER else open_whole_meter(meter, target).measure(whole)
        error = _tried(whole, target) if measured is None else measured.max_error
    inside = 0 if weights_file else len(layout.weights)
    found = LibraryFacts(
        schema_version=SCHEMA,
        version=__version__,
        name=name,
        model=origin.model,
        model_sha256=origin.sha256,
        target=target.name,
        core=target.core,
        inputs=facts.inputs,
        outputs=facts.outputs,
        arena_bytes=layout.arena,
        arena_bound=plan.bound,
        weight_bytes=len(layout.weights),
        weights_in="file" if weights_file else "library",
        code_bytes=loaded_bytes(code.object_code) - inside,
        macs=program.macs,
        operators=operator_facts(layout, measured),
        meter=None if measured is None else MeterFacts(measured.meter, measured.kind, measured.details),
        warm=None if measured is None else measured.warm,
        cold=None if measured is None else measured.cold,
        checked=error is not None,
        tolerance=vectors.tolerance,
        max_error=error,
    )
    files = _texts(facts, target, origin, vectors)
    files[f"lib{name}.a"] = code.archive
    if weights_file:
        files[f"{name}_weights.bin"] = layout.weights
    files[f"{name}.json"] = found.json.encode()
    return Library(found, files, measured)


def require_room(program: Program) -> None:
    """Raise `InputError` where the weights of a program are too many for a library."""
    size = sum(array.nbytes for array in program.constants.values())
    if size > MOST_INSIDE:
        raise InputError(
            f"{size >> 20:,} MiB of weights, but a library holds at most {MOST_INSIDE >> 20:,} MiB: use --weights file"
        )


def require_tools_of(meter: str, target: Target) -> None:
    """Raise what `make_library` would raise of tools that are missing, before anything is compiled."""
    require_zig()
    if meter != NO_METER:
        open_whole_meter(meter, target)


def _tried(whole: Whole, target: Target) -> float | None:
    """Return the error of the outputs; None where nothing here can run the target's code."""
    if target.is_native:
        return open_whole_meter("host", target).measure(whole).max_error
    return run_once(whole, target) if find_emulator(target) else None


def _texts(facts: Signature, target: Target, origin: Origin, vectors: Vectors) -> dict[str, bytes]:
    text, numbers = vectors_files(facts, vectors)
    files = {"test_vectors.h": text.encode()}
    if numbers is not None:
        files[FILE] = numbers
    files[f"{facts.name}.h"] = header(facts, target, origin.model).encode()
    files["example.c"] = example(facts, vectors_file=numbers is not None).encode()
    files["Makefile"] = makefile(facts, target).encode()
    files["README.md"] = readme(facts, target, origin.model, sorted(files)).encode()
    return files
