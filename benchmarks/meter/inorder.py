"""The emulated targets without hardware: probes of their core models, and pieces of code against whole traces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks.meter.cases import SYMBOL, Size, name_of, spec_of
from lrfdse.errors import KernelError
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.data import example
from lrfdse.kernels.schedules import schedules
from lrfdse.meters.disassemble import Disassembler
from lrfdse.meters.mca import CoreModel, Mca
from lrfdse.meters.nest import flatten
from lrfdse.meters.scheduling import Engine, McaCycles, SelfTest, compute, open_engine, self_test
from lrfdse.meters.scoreboard import Scoreboard
from lrfdse.meters.trace import record
from lrfdse.targets.catalog import load_target, names
from lrfdse.targets.isa.code import Sequence
from lrfdse.targets.target import Target

KERNELS: tuple[Size, ...] = (
    (64, 100, "dense", 1),
    (300, 784, "svd:r=16", 1),
    (300, 784, "tt:m=10x6x5,n=7x7x16,r=8x8", 1),
)
_LONGEST = 100_000
"""Instructions of a trace that is given to a core model as a whole."""

_BOTH = ("cortex-a55", "cortex-a510")
"""In-order cores whose results llvm-mca does not order: both engines can be compared on them."""


@dataclass(frozen=True, slots=True)
class Whole:
    """One kernel's executed instructions as one sequence, and in pieces."""

    target: str
    engine: str
    kernel: str
    instructions: int
    pieces: float
    whole: float
    refused: str = ""
    """Why the meter gives no number."""


@dataclass(frozen=True, slots=True)
class Engines:
    """One kernel's cycles by each engine."""

    core: str
    kernel: str
    mca: float
    scoreboard: float


def emulated() -> list[Target]:
    """Return the targets that ship with the model meter."""
    found = [load_target(name) for name in names("targets")]
    return [target for target in found if not target.is_native]


def probes() -> dict[str, tuple[str, SelfTest]]:
    """Return the core model and the probe's cycles of every emulated target."""
    return {t.name: (t.scheduling_model, self_test(CoreModel.of(t))) for t in emulated()}


def whole_traces() -> Iterator[Whole]:
    """Compare the pieces with the whole trace, on every emulated target."""
    for target in emulated():
        engine = open_engine(CoreModel.of(target))
        for size in KERNELS:
            try:
                runs, sequences, cycles, instructions = _traced(target, size, engine)
            except KernelError as refused:
                yield Whole(target.name, engine.name, name_of(size), 0, 0.0, 0.0, str(refused))
                continue
            if instructions > _LONGEST:
                continue
            executed = tuple(instruction for run in runs[1:] for instruction in sequences[run])
            (whole,) = engine.edges([(sequences[runs[0]], executed)])
            yield Whole(target.name, engine.name, name_of(size), instructions, cycles, whole)


def both_engines() -> Iterator[Engines]:
    """Compare llvm-mca and the scoreboard where both are right."""
    for core in _BOTH:
        # What the target says of an A55 beyond LLVM is left out: the engines make different use of it.
        target = replace(load_target("aarch64-a55"), scheduling_model=core, instructions=(), alone=())
        mca = Mca(CoreModel.of(target))
        for size in KERNELS:
            cycles = [_traced(target, size, engine)[2] for engine in (McaCycles(mca), Scoreboard(mca))]
            yield Engines(core, name_of(size), *cycles)


def _traced(target: Target, size: Size, engine: Engine) -> tuple[list[int], dict[int, Sequence], float, int]:
    spec = spec_of(size)
    artifact = compile_kernel(spec, schedules(spec, target, 1)[0], target, SYMBOL)
    trace = record(artifact, target, *example(artifact, 0), 600.0, engine.window)
    sequences = Disassembler(target).sequences(trace)
    core = compute(trace, sequences, engine, name_of(size))
    return flatten(trace.nest), sequences, core.cycles, core.instructions
