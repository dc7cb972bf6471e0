"""Whether a board is one: an emulator runs a program right, and its times are no latencies."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lrfdse.base.text import one_line
from lrfdse.board.result import LONGEST_LINE, BoardRun, three_us
from lrfdse.targets import isa
from lrfdse.targets.target import Target

SLOWEST = 10.0
"""Measured over modelled latency, in the median over kernels, above which no board is believed to be the target.

Chosen: published measurements of the X60 are within a factor of 2 of the model, and QEMU takes more than 20 times as
long as is modelled."""


def emulator_sign(board: Mapping[str, Any], target: Target) -> str:
    """Return what gives an emulator away in a board's description of itself; empty where nothing does.

    QEMU in user mode is a mapped file of the process that it emulates, and up to version 8 shows the lines of
    ``/proc/cpuinfo`` of the machine below; newer versions call a RISC-V core's ``uarch`` by their own name.

    Parameters
    ----------
    board
        The description, as a bench program gives it.
    target
        What the program was compiled for.
    """
    processor = board.get("cpuinfo")
    told = processor if isinstance(processor, Mapping) else {}
    if name := board.get("emulator"):
        return f"the program runs inside {one_line(str(name), LONGEST_LINE)}"
    if str(told.get("uarch", "")).lower() == "qemu":
        return "its /proc/cpuinfo calls the core qemu"
    own = target.instruction_set.cpuinfo
    if own and not any(line in told for line in own) and (foreign := _lines_of_others(target).intersection(told)):
        line = min(foreign)
        text = one_line(str(told[line]), LONGEST_LINE)
        return f"its /proc/cpuinfo is that of another architecture than {target.isa} ({line}: {text})"
    return ""


def slowness(measured_us: Sequence[float], modelled_us: Sequence[float]) -> str:
    """Return that kernels took longer than any board that is the target would; empty where they did not.

    >>> slowness([30.0, 900.0, 1000.0], [1.0, 20.0, 100.0])
    'the median kernel took 30 times what is modelled'
    >>> slowness([1.8], [1.0])
    ''
    """
    ratios = [took / said for took, said in zip(measured_us, modelled_us, strict=True) if said > 0]
    middle = statistics.median(ratios) if ratios else 0.0
    return f"the median kernel took {middle:.3g} times what is modelled" if middle > SLOWEST else ""


def first_sign(boards: Iterable[Mapping[str, Any]], target: Target) -> str:
    """Return the first sign of an emulator in some descriptions; empty without any."""
    return next((sign for board in boards if (sign := emulator_sign(board, target))), "")


def emulated_document(runs: Sequence[BoardRun], target: str, sign: str) -> dict[str, Any]:
    """Return what ``lrfdse bench --allow-emulator --json`` prints: no latency, and no ``board.json``.

    Parameters
    ----------
    runs
        The designs, at least one.
    target
        Name of the target.
    sign
        What shows that it was an emulator.
    """
    return {
        "emulator": sign,
        "target": target,
        "board": dict(runs[0].board),
        "designs": [
            {
                "id": run.design,
                "max_error": max((kernel.max_error for kernel in run.kernels), default=None),
                "emulated_us": None if run.whole is None else three_us(run.whole),
            }
            for run in runs
        ],
    }


def _lines_of_others(target: Target) -> set[str]:
    """Return the lines of ``/proc/cpuinfo`` that only machines of other instruction sets that ship have."""
    return {line for one in isa.BUILTINS for line in one.cpuinfo} - set(target.instruction_set.cpuinfo)
