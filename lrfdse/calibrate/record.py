"""``board.json``: every kernel that a board timed, with what the model meter said of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrfdse.base.files import read_regular
from lrfdse.board.result import BoardRun, KernelRun, described, spec_of, three_us
from lrfdse.calibrate.prediction import Terms, predicted
from lrfdse.errors import InputError
from lrfdse.ir.kernel import KernelSpec
from lrfdse.ir.latency import TOLERANCE, Regime
from lrfdse.meters.trace import Traffic
from lrfdse.targets.target import Target, given

SCHEMA_VERSION = 1
"""Version of the form of ``board.json``; a file of another version is refused."""
ASSUMPTIONS = (
    *("clock_mhz", "last_level_bytes_per_cycle", "dram_bytes_per_cycle"),
    *("last_level_latency", "dram_latency"),
    *("last_level_fill_bytes_per_cycle", "dram_fill_bytes_per_cycle", "dram_copy_bytes_per_cycle"),
)
"""Fields of a target that turn what was counted into time: all others decide what is counted."""
_TOLD = ("name", "summary", "core", "provenance", "fma_per_cycle", "error", "resident")

_LARGEST = 2**53
"""Size of counts and times: up to here float64 holds every whole number."""

Kernel = tuple[KernelSpec, str]
"""A kernel's specification and its schedule."""


@dataclass(frozen=True, slots=True)
class Point:
    """One kernel in one cache regime: what a board took, and what the model meter counted."""

    layer: str
    kernel: Kernel
    regime: Regime
    measured_us: float
    terms: Terms


@dataclass(frozen=True, slots=True)
class Record:
    """A ``board.json`` as calibration reads it."""

    path: Path
    target: str
    fixed: str
    """Digest of the target's description without its assumptions, as `fixed_digest` gives it."""
    board: Mapping[str, Any]
    points: tuple[Point, ...]


def fixed_digest(target: Target) -> str:
    """Return a name for everything that a target says except its assumptions: records of equal names fit each other."""
    left_out = {*ASSUMPTIONS, *_TOLD}
    kept = [(name, value) for name, value in given(target) if name not in left_out]
    return hashlib.sha256(repr(kept).encode()).hexdigest()[:32]


def record_document(
    runs: Sequence[BoardRun], target: Target, terms: Mapping[Kernel, Terms], versions: Mapping[str, str]
) -> dict[str, Any]:
    """Return the content of ``board.json`` for the runs of some designs.

    Parameters
    ----------
    runs
        The designs, at least one.
    target
        What they were compiled for.
    terms
        Terms of every kernel; empty where the target has no model.
    versions
        Versions of the tools that the terms came from, by name.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "target": target.name,
        "target_digest": fixed_digest(target),
        "assumptions": {name: getattr(target, name) for name in ASSUMPTIONS},
        "versions": dict(versions),
        "board": dict(runs[0].board),
        "designs": [
            {"id": run.design, "repeats": run.repeats, "whole_us": None if run.whole is None else three_us(run.whole)}
            for run in runs
        ],
        "kernels": [
            _kernel(kernel, run.design, target, terms.get((kernel.spec, kernel.schedule)))
            for run in runs
            for kernel in run.kernels
        ],
    }


def read_record(path: Path) -> Record:
    """Read a ``board.json``.

    Raises
    ------
    InputError
        It is missing, damaged, of another schema, without modelled terms, or a kernel's output was wrong.
    """
    try:
        document = json.loads(read_regular(path).decode())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; `lrfdse bench DIR` writes board.json") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a board.json of lrfdse: {error}") from error
    if not isinstance(document, dict) or document.get("schema_version") != SCHEMA_VERSION or "kernels" not in document:
        raise InputError(f"{path}: not a board.json of schema version {SCHEMA_VERSION}; measure again")
    try:
        points = tuple(point for entry in document["kernels"] for point in _points(entry, path))
        told = str(document["target"]), str(document["target_digest"])
        return Record(path, *told, described(document["board"]), points)
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise InputError(f"{path}: damaged ({error!r}); measure again") from error


def _kernel(kernel: KernelRun, design: str, target: Target, terms: Terms | None) -> dict[str, Any]:
    spec = kernel.spec
    return {
        "design": design,
        "layer": kernel.layer,
        "use": kernel.use,
        "outputs": spec.outputs,
        "inputs": spec.inputs,
        "rows": spec.rows,
        "bias": spec.bias,
        "relu": spec.relu,
        "factorization": str(spec.factorization),
        "schedule": kernel.schedule,
        "max_error": kernel.max_error,
        "warm_us": three_us(kernel.warm),
        "cold_us": three_us(kernel.cold),
        "modelled": None if terms is None else _modelled(terms, target),
    }


def _modelled(terms: Terms, target: Target) -> dict[str, Any]:
    from lrfdse.meters.memory import memory_cycles

    found: dict[str, Any] = {"compute_cycles": round(terms.compute_cycles, 1)}
    regimes: tuple[Regime, ...] = ("warm", "cold")
    for regime in regimes:
        memory = memory_cycles(terms.traffic(regime), target)
        found[regime] = {
            "us": three_us(predicted(terms, target, regime)),
            "stream_cycles": round(memory.stream, 1),
            "latency_cycles": round(memory.latency, 1),
            "stream_bytes": target.line * terms.traffic(regime).l1_misses,
            "traffic": dataclasses.asdict(terms.traffic(regime)),
        }
    return found


def _points(entry: Mapping[str, Any], path: Path) -> list[Point]:
    spec, schedule = spec_of(entry)
    layer, error = str(entry["layer"]), float(entry["max_error"])
    if not 0 <= error <= TOLERANCE:
        raise InputError(
            f"{path}: layer {layer!r} of design {entry['design']} gave wrong numbers on the board (relative error "
            f"{error:.3g}): nothing is fitted to it"
        )
    modelled = entry["modelled"]
    if modelled is None:
        raise InputError(f"{path}: holds no modelled numbers: its target has no emulator, so nothing is assumed of it")
    traffic = {regime: _traffic(modelled[regime]["traffic"]) for regime in ("warm", "cold")}
    terms = Terms(_number(modelled["compute_cycles"]), traffic["warm"], traffic["cold"])
    found = []
    regimes: tuple[Regime, ...] = ("warm", "cold")
    for regime in regimes:
        measured = _number(entry[f"{regime}_us"][0])
        # A call shorter than the board's clock can tell has no time.
        if measured > 0:
            found.append(Point(layer, (spec, schedule), regime, measured, terms))
    return found


def _number(value: Any) -> float:
    if not 0 <= (found := float(value)) < _LARGEST:
        raise ValueError(f"{value!r} is no time")
    return found


def _traffic(values: Mapping[str, Any]) -> Traffic:
    if wrong := [name for name, value in values.items() if type(value) is not int or not 0 <= value < _LARGEST]:
        raise ValueError(f"{wrong[0]} is no count")
    found = Traffic(**values)
    for part, whole in _PARTS:
        if getattr(found, part) > getattr(found, whole):
            raise ValueError(f"{part} is more than {whole}")
    return found


_PARTS = (
    ("l1_prefetched", "l1_misses"),
    ("l1_store_misses", "l1_misses"),
    ("llc_misses", "l1_misses"),
    ("llc_prefetched", "llc_misses"),
    ("llc_store_misses", "llc_misses"),
    ("llc_store_misses", "l1_store_misses"),
)
"""Counts, each of them part of another, as qemu/lrfmeter.c counts: else something would take less than no time."""
