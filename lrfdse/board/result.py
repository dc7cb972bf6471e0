"""What a bench program said of a board and of every kernel, read strictly: it comes from another machine."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lrfdse.base.text import one_line
from lrfdse.board.transport import ProcessResult
from lrfdse.errors import InputError, ToolError
from lrfdse.ir.choice import Choice
from lrfdse.ir.kernel import KernelSpec, Schedule
from lrfdse.ir.latency import TOLERANCE, Latency

_BEGIN = '{"lrfdse_bench":1,'
_GROUPS = ("uname", "cpuinfo")
_LARGEST = 2**53
"""Size of a board's numbers: up to here float64 holds every whole number."""
LONGEST_LINE = 500
"""Characters of what is shown of a text from a board. Chosen, not measured."""
_LONGEST = 2000
"""Characters of one text of a board's description that are kept. Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class KernelRun:
    """One kernel on a board: wall clock."""

    layer: str
    use: int
    spec: KernelSpec
    schedule: str
    warm: Latency
    """Median and quartiles of calls back to back, microseconds."""
    cold: Latency
    """Median and quartiles of single calls after the caches were emptied."""
    max_error: float
    """Largest deviation from the reference relative to the largest reference element."""


@dataclass(frozen=True, slots=True)
class BoardRun:
    """A design on a board."""

    design: str
    target: str
    version: str
    """Version of the lrfdse that made the program."""
    repeats: int
    kernels: tuple[KernelRun, ...]
    whole: Latency | None
    """All kernels once, one after another, with what they leave of each other in the caches; None without kernels."""
    board: Mapping[str, Any]
    """The board's own description: texts, numbers, and objects of these."""


@dataclass(frozen=True, slots=True)
class WholeRun:
    """A whole model on a board, operator by operator: wall clock."""

    design: str
    target: str
    version: str
    """Version of the lrfdse that made the program."""
    repeats: int
    warm: Latency
    """Median and quartiles of runs one after the other, microseconds."""
    cold: Latency
    """Of runs after the caches were emptied."""
    parts: tuple[tuple[Latency, Latency], ...]
    """Warm and cold latency of what comes before the first operator, then of every operator."""
    max_error: float
    """Largest deviation of an output relative to its largest element."""
    board: Mapping[str, Any]
    """The board's own description: texts, numbers, and objects of these."""


def read_whole(result: ProcessResult, command: str, design: str, target: str) -> WholeRun:
    """Return what the program of a whole model said, or raise what went wrong with it; see `read_run`.

    Raises
    ------
    ToolError
        The program did not run, its outputs are wrong, it crashed, or what came back is not its document.
    """
    run = _read(result, command, design, target, _whole)
    assert isinstance(run, WholeRun)
    return run


def read_run(result: ProcessResult, command: str, design: str, target: str) -> BoardRun:
    """Return what a program said, or raise what went wrong with it.

    Parameters
    ----------
    result
        How its run ended.
    command
        What ran it, for messages.
    design, target
        What the program is of; the design is empty for a program without kernels.

    Raises
    ------
    ToolError
        The program did not run, a kernel computed wrong numbers or crashed, or what came back is not its document.
    """
    run = _read(result, command, design, target, _run)
    assert isinstance(run, BoardRun)
    return run


def _read(
    result: ProcessResult,
    command: str,
    design: str,
    target: str,
    reading: Callable[[Mapping[str, Any]], BoardRun | WholeRun],
) -> BoardRun | WholeRun:
    document = _document(result.output)
    if document is None:
        lines = [line.strip() for line in result.errors.splitlines() if line.strip()]
        reason = lines[-1][:300] if lines else "it said nothing"
        raise ToolError(f"--runner: `{command}` ended with status {result.code} and no result: {reason}")
    if "error" in document:
        kernel = document.get("kernel")
        names = [f"design {design}"] if design else []
        names += [f"layer {one_line(str(kernel.get('layer')), LONGEST_LINE)!r}"] if isinstance(kernel, dict) else []
        where = f"{', '.join(names)}: " if names else ""
        raise ToolError(f"on the board: {where}{one_line(str(document['error']), LONGEST_LINE)}")
    if result.code:
        raise ToolError(f"--runner: `{command}` ended with status {result.code} after the program's result")
    try:
        run = reading(document)
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError, InputError) as error:
        raise ToolError(f"--runner: `{command}` did not relay what the program printed ({error!r})") from error
    if (run.design, run.target) != (design, target):
        ran = one_line(f"{run.design} for {run.target}", LONGEST_LINE)
        raise ToolError(f"--runner: `{command}` ran {ran} instead of {design} for {target}")
    return run


def spec_of(entry: Mapping[str, Any]) -> tuple[KernelSpec, str]:
    """Return the kernel and the schedule that an entry of a program's document, or of ``board.json``, is of.

    Raises
    ------
    LookupError, TypeError, ValueError, InputError
        The entry is not one.
    """
    outputs, inputs, rows = (_count(entry[key]) for key in ("outputs", "inputs", "rows"))
    choice = Choice.parse(_text(entry["factorization"]), outputs, inputs)
    schedule = Schedule.parse(_text(entry["schedule"]))
    fused = bool(entry["bias"]), bool(entry["relu"])
    return KernelSpec(outputs, inputs, choice.factorization, rows, *fused, choice.storage), str(schedule)


def board_line(board: Mapping[str, Any]) -> str:
    """Return a board's description in one line without anything that a terminal or a file would act on."""
    # A document of another program may hold anything there.
    system, processor = (group if isinstance(group := board.get(name), Mapping) else {} for name in _GROUPS)
    parts = [" ".join(str(system[key]) for key in ("sysname", "release", "machine", "nodename") if system.get(key))]
    parts += [str(processor[key]) for key in ("Model", "model name", "uarch", "CPU part", "isa") if processor.get(key)]
    if bits := board.get("vector_bits"):
        parts.append(f"VLEN {bits}")
    if governor := board.get("governor"):
        parts.append(f"governor {governor}")
    if isinstance(khz := board.get("frequency_khz"), (int, float)):
        parts.append(f"{khz / 1000:g} MHz")
    return one_line(", ".join(part for part in parts if part), LONGEST_LINE) or "a board that says nothing of itself"


def three_us(latency: Latency) -> list[float]:
    """Return median, low and high with seven significant digits."""
    return [float(f"{value:.7g}") for value in (latency.us, latency.low_us, latency.high_us)]


def _document(output: str) -> dict[str, Any] | None:
    """Return the last line that is a program's document: login shells may print before it."""
    for line in reversed(output.splitlines()):
        if line.strip().startswith(_BEGIN):
            try:
                found = json.loads(line)
            except (ValueError, RecursionError):
                return None
            return found if isinstance(found, dict) else None
    return None


def _run(document: Mapping[str, Any]) -> BoardRun:
    kernels = []
    for entry in document["kernels"]:
        spec, schedule = spec_of(entry)
        error = float(entry["max_error"])
        if not 0 <= error <= TOLERANCE:
            raise ValueError(f"an error of {error}")
        warm, cold = _latency(entry["warm_ns"]), _latency(entry["cold_ns"])
        kernels.append(KernelRun(_text(entry["layer"]), int(entry["use"]), spec, schedule, warm, cold, error))
    whole = _latency(document["all_ns"]) if kernels else None
    return BoardRun(
        design=_text(document["design"]),
        target=_text(document["target"]),
        version=_text(document["version"]),
        repeats=_count(document["repeats"]),
        kernels=tuple(kernels),
        whole=whole,
        board=described(document["board"]),
    )


def _whole(document: Mapping[str, Any]) -> WholeRun:
    *parts, whole = [(_latency(entry["warm_ns"]), _latency(entry["cold_ns"])) for entry in document["parts"]]
    error = float(document["max_error"])
    if not 0 <= error < 1 or document["whole"] is not True:
        raise ValueError(f"an error of {error}")
    return WholeRun(
        design=_text(document["design"]),
        target=_text(document["target"]),
        version=_text(document["version"]),
        repeats=_count(document["repeats"]),
        warm=whole[0],
        cold=whole[1],
        parts=tuple(parts),
        max_error=error,
        board=described(document["board"]),
    )


def _latency(values: Any) -> Latency:
    """Read median and quartiles in nanoseconds."""
    middle, low, high = (float(value) / 1e3 for value in values)
    if not 0 <= low <= middle <= high < math.inf:
        raise ValueError(f"{values} are no times")
    return Latency(middle, low, high)


def _count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value!r} is no count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value[:_LONGEST]


def described(value: Any) -> dict[str, Any]:
    """Return a board's description of itself: texts, finite numbers, and two groups of such.

    Raises
    ------
    TypeError, ValueError
        The value holds anything else.
    """
    found: dict[str, Any] = {}
    for name, part in dict(value).items():
        if name in _GROUPS:
            found[name] = {key: _plain(each) for key, each in dict(part).items()}
        else:
            found[name] = _plain(part)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_LONGEST]
    if value is None or (type(value) in (int, float) and abs(value) < _LARGEST):
        return value
    raise ValueError(f"{value!r} describes nothing")
