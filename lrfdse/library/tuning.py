"""Schedules chosen by the meter: every candidate of every operator timed in one run of a program made of them all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.base.events import Event, Listener
from lrfdse.errors import KernelError
from lrfdse.ir.program import Call, Interface, MemoryPlan, Program, Value
from lrfdse.kernels.operators.build import compile_operator, packed_weight, schedules_of
from lrfdse.library.interface import signature
from lrfdse.library.layout import lay_out
from lrfdse.library.trial import trial
from lrfdse.library.vectors import Vectors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.ir.compiled import CompiledOperator
    from lrfdse.ir.operators import Operator
    from lrfdse.ir.ports import Port
    from lrfdse.meters.block import Whole
    from lrfdse.meters.whole import WholeMeter
    from lrfdse.targets.target import Target

_NAME = "tune"
"""What the symbols of candidates begin with."""

_ALIGNMENT = 64
"""Bytes of a cache line of every target that ships: arrays of candidates begin at multiples."""

BATCH_BYTES = 1 << 28
"""Bytes of the weights in one program of candidates: a quarter of what a library holds. Chosen."""

_SEED = 0
"""Latency does not depend on the values of weights; they only have to be the same every time."""


def tuned(
    operators: Iterable[Operator],
    target: Target,
    meter: WholeMeter,
    progress: Listener,
    batch_bytes: int = BATCH_BYTES,
) -> dict[Operator, str]:
    """Return the fastest schedule of every operator that has a choice.

    Candidates run one after the other in one program, as the operators of a model do, those of an operator on the same
    arrays: warm is what they take when the whole program has run before. What they compute is not looked at here:
    whoever builds a library of them compares its outputs.

    Parameters
    ----------
    operators
        Those of a model.
    target
        The machine.
    meter
        What times them.
    progress
        Told of every candidate.
    batch_bytes
        Bytes of weights in one program at most; what exceeds it goes into another.

    Raises
    ------
    KernelError
        The program crashed or hung.
    ToolError
        A tool is missing or failed.
    """
    several = [each for each in dict.fromkeys(operators) if len(schedules_of(each, target)) > 1]
    timed = timed_schedules(several, target, meter, progress, batch_bytes)
    return {operator: min(found)[1] for operator, found in timed.items()}


def timed_schedules(
    operators: Iterable[Operator],
    target: Target,
    meter: WholeMeter,
    progress: Listener,
    batch_bytes: int = BATCH_BYTES,
) -> dict[Operator, list[tuple[float, str]]]:
    """Return what every schedule of operators takes (us, warm), see `tuned`; those that do not compile are left out.

    Raises
    ------
    KernelError
        The program crashed or hung.
    ToolError
        A tool is missing or failed.
    """
    candidates: list[CompiledOperator] = []
    for number, operator in enumerate(dict.fromkeys(operators)):
        for place, schedule in enumerate(schedules_of(operator, target)):
            symbol = f"{_NAME}_{number}_{place}"
            progress(Event("tune", f"{type(operator).__name__} {schedule}"))
            try:
                candidates.append(compile_operator(operator, schedule, target, symbol))
            except KernelError as error:
                progress(Event("tune", f"{type(operator).__name__} {schedule}: {error}"))
    timed: dict[Operator, list[tuple[float, str]]] = {}
    for batch in _batches(candidates, batch_bytes):
        progress(Event("tune", f"{len(batch)} of {len(candidates)} candidates by meter {meter.name}"))
        measured = meter.measure(_program_of(batch, target))
        for candidate, part in zip(batch, measured.parts[1:], strict=True):
            timed.setdefault(candidate.operator, []).append((part.warm.us, candidate.schedule))
    return timed


def _weight(port: Port, rng: np.random.Generator) -> NDArray[Any]:
    """Return a random weight."""
    if port.element == "int8":
        return rng.integers(-127, 127, port.size, np.int8, endpoint=True)
    return rng.standard_normal(port.size).astype(port.element)


def _batches(candidates: Sequence[CompiledOperator], most: int) -> list[list[CompiledOperator]]:
    """Return the candidates in programs of bounded weights, those of an operator together."""
    batches: list[list[CompiledOperator]] = []
    held = 0
    for _, group in itertools.groupby(candidates, key=lambda each: each.operator):
        members = list(group)
        size = sum(port.bytes for each in members for port in each.operator.ports if port.role == "weight")
        if not batches or held + size > most:
            batches.append([])
            held = 0
        batches[-1] += members
        held += size
    return batches


def _program_of(candidates: Sequence[CompiledOperator], target: Target) -> Whole:
    """Return a program that calls every candidate once.

    Tensors of different operators lie at the same place, for nothing passes from one to the next; constants are their
    own.
    """
    rng = np.random.default_rng(_SEED)
    values = [Value("input", 1, name="x"), Value("output", 1, name="y")]
    constants: dict[int, NDArray[Any]] = {}
    offsets: dict[int, int] = {}
    ends: dict[Operator, int] = {}
    places: dict[Operator, tuple[int, ...]] = {}
    for operator in dict.fromkeys(candidate.operator for candidate in candidates):
        first, end = len(values), 0
        for number, port in enumerate(operator.ports, first):
            if port.role == "weight":
                constants[number] = _weight(port, rng)
                values.append(Value("constant", port.size, port.element))
            else:
                offsets[number] = end
                values.append(Value("memory", port.size, port.element))
                end += -(-port.bytes // _ALIGNMENT) * _ALIGNMENT
        places[operator], ends[operator] = tuple(range(first, len(values))), end
    work = {number: ends[each.operator] for number, each in enumerate(candidates) if each.work}
    size = max(ends[each.operator] + each.work for each in candidates)
    program = Program(
        tuple(values),
        tuple(Call(each.operator, places[each.operator]) for each in candidates),
        (Interface("x", 0, (1,)),),
        (Interface("y", 1, (1,)),),
        constants,
    )
    plan = MemoryPlan(offsets, size, size, _ALIGNMENT, work)
    layout = lay_out(
        program, plan, candidates, lambda each, array: packed_weight(each.operator, each.schedule, target, array)
    )
    # No call writes the output: it stays as it was, all ones.
    untouched = np.full(1, -1, dtype=np.int32).view(np.float32)
    vectors = Vectors((np.zeros(1, np.float32),), (untouched,))
    return trial(signature(_NAME, program, layout, weights_file=False), layout, target, vectors)
