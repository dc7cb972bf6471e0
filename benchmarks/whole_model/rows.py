"""One row: a model on a target, built, checked, and on the host timed beside others; finished rows are kept."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.keys import code
from benchmarks.machine import commit, installed
from benchmarks.program import ONE_THREAD
from benchmarks.records import Record, Records
from benchmarks.results import TOP
from benchmarks.whole_model import exact, iree, iree_counted, timing, worker
from benchmarks.whole_model.models import Model, NotAvailableError, Packaged
from lrfdse.kernels.bounds import operator_bound_cycles
from lrfdse.kernels.operators.depthwise_schedule import DepthwiseSchedule
from lrfdse.targets.catalog import noun_digest
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_zig
from lrfdse.toolchain.zig import run_zig

NAME = "net"
"""What the libraries' symbols begin with: the default of `lrfdse build`."""

DEPTHWISE = "Depthwise"
"""What a row calls a depthwise convolution, whose channels do not meet: nothing like a product."""

IREE_VERSION = "3.13"
"""Of which instructions are counted (`benchmarks.kernels.iree`)."""

RIGHT = 1e-5
"""Largest deviation from onnxruntime, relative to the largest output, that is aimed at. Chosen."""

_INPUT_SEED = 1
"""Another than that of the test vectors, so that libraries are checked with two inputs."""


class TooSlowError(Exception):
    """A part took longer than a row may."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a row may take."""

    wall: float
    """Seconds after which a build, with its run under QEMU, is given up."""
    timing: float
    """Seconds of timing on the host."""


class Rows:
    """The rows that are there, and how others are made.

    Parameters
    ----------
    records
        Finished rows.
    models
        Folder for ONNX and LiteRT files, which are made once.
    beside
        Where packages are installed beside the environment, if anywhere.
    limits
        What a row may take.
    """

    def __init__(self, records: Records, models: Path, beside: Path | None, limits: Limits) -> None:
        self._records = records
        self._models = models
        self._beside = beside
        self._limits = limits
        models.mkdir(parents=True, exist_ok=True)

    def row(self, model: Model, target: Target, meter: str) -> Record:
        """Return the row of a model on a target; the meter "host" times it beside others.

        A failure is a row, too, with the message under "failure".
        """
        about = {"model": model.name, "target": target.name, "meter": meter}
        try:
            path = model.write(self._models, self._beside)
        except NotAvailableError as error:
            return {**about, "failure": f"not available: {error}"}
        about["of"] = _of(path, target, meter)
        versions = [str(installed(name)) for name in ("onnxruntime", "ai-edge-litert", "iree-base-compiler")]
        key = _digest(about["of"], noun_digest(target), code(worker.main, timing.main, Rows.row), *versions)
        if self._records.ask(key):
            return self._records.get(key) or {}
        try:
            found = self._made(model, path, target, meter)
        except TooSlowError as error:
            found = {"failure": str(error)}
        row = {"key": key, **about, "commit": commit(), **found}
        self._records.put(row)
        return row

    def counted(self, model: Model, target: Target, *, make: bool) -> Record:
        """Return what IREE's code of a model executes on an emulated target, as a part of its row.

        It is kept apart from rows, because it takes minutes and does not depend on lrfdse's code. Where it is not
        known it is found out if `make` is true, which takes IREE; else nothing is returned.
        """
        try:
            path = model.write(self._models, self._beside)
        except NotAvailableError:
            return {}
        key = _digest("iree", _of(path, target, "count"), IREE_VERSION)
        if not make or self._records.get(key):
            return {name: value for name, value in (self._records.get(key) or {}).items() if name.startswith("iree_")}
        if why := iree.unavailable():
            return {"iree_failure": why}
        given = timing.drawn(str(path), _INPUT_SEED)
        peer = timing.onnxruntime(str(path), given)
        peer.run()
        found, why = iree_counted.counted(path, target, given, peer.outputs(), self._limits.wall)
        said: Record = {"iree_failure": why} if why else {}
        if found is not None:
            said |= {"iree_instructions": found.instructions, "iree_text_bytes": found.text_bytes}
            said["iree_flags"] = found.flags
        self._records.put({"key": key, "model": model.name, "target": target.name, **said})
        return said

    def distance(self, model: Model, *, make: bool) -> Record:
        """Return how far onnxruntime's output of a model is from float64, as a part of its rows.

        Kept apart from rows, as for `counted`; what is known not to be had is nothing.
        """
        try:
            path = model.write(self._models, self._beside)
        except NotAvailableError:
            return {}
        key = _digest("exact", hashlib.sha256(path.read_bytes()).hexdigest(), code(exact.main))
        if make and self._records.get(key) is None:
            try:
                found = self._apart("exact", str(path), str(_INPUT_SEED))
            except TooSlowError as error:
                found = {"failure": str(error)}
            self._records.put({"key": key, "model": model.name, **found})
        known = self._records.get(key) or {}
        return {"distance": known["distance"]} if "distance" in known else {}

    def kept(self, model: Model, target: Target, meter: str) -> Record | None:
        """Return the last finished row of a model on a target, of whatever code; None where there is none."""
        try:
            path = model.write(self._models, self._beside)
        except NotAvailableError:
            return None
        return self._records.last("of", _of(path, target, meter))

    def _made(self, model: Model, path: Path, target: Target, meter: str) -> Record:
        with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as temporary:
            here = Path(temporary)
            job = {"model": str(path), "target": target.name, "folder": str(here / "library"), "cache": str(here)}
            # Operators are compiled anew for the row of the build; a modelled latency is a run of its own.
            built = self._apart("worker", job | {"meter": "none" if meter == "model" else meter})
            if "failure" in built:
                return built
            row = facts_row(built["facts"]) | {"build_seconds": built["seconds"]}
            if row["checked"] and row["max_error"] > RIGHT:
                found = self._apart("doubled", str(path), target.name, job["folder"])
                row |= {"from_float64_failure" if "failure" in found else "from_float64": found.get("failure", found)}
            if meter == "model":
                job["folder"] += "-model"
                measured = self._apart("worker", job | {"meter": meter})
                if "failure" in measured:
                    return row | {"meter_failure": measured["failure"]}
                return row | latency_row(measured["facts"], target) | {"meter_seconds": measured["seconds"]}
            if meter == "host":
                row |= latency_row(built["facts"], target) | self._timed(model, path, built["facts"], here)
            return row

    def _timed(self, model: Model, path: Path, facts: Mapping[str, Any], here: Path) -> Record:
        zig = require_zig().path
        shared = here / "net.so"
        archive = str(here / "library" / f"lib{NAME}.a")
        run_zig([zig, "ld.lld", "-shared", "--whole-archive", archive, "-o", str(shared)], "linking the library")
        np.savez(here / "inputs.npz", **inputs_of(facts))
        litert, why = self._litert(model)
        why_not = iree.unavailable()
        (here / "iree").mkdir()
        theirs = None if why_not else iree.compiled(path, here / "iree", self._limits.wall)
        job = {
            "library": str(shared),
            "name": NAME,
            "model": str(path),
            "inputs": str(here / "inputs.npz"),
            "arena": facts["arena_bytes"],
            "alignment": 64,
            "seconds": self._limits.timing,
            "litert": None if litert is None else str(litert),
            "same_weights": isinstance(model.litert, Packaged),
            "iree": {} if theirs is None else theirs.files,
        }
        found = self._apart("timing", job)
        if "failure" in found:
            return found
        said = "; ".join([*([] if theirs is None or not theirs.failure else [theirs.failure]), *found["failures"]])
        return {
            "errors": found["errors"],
            "load": found["load"],
            "rounds": len(found["samples"]["ours"]),
            "times": {name: times_of(samples) for name, samples in found["samples"].items()},
            **({"litert_failure": why} if why else {}),
            **({"iree_failure": said} if said else {}),
            **({} if theirs is None else {"iree_seconds": theirs.seconds}),
        }

    def _litert(self, model: Model) -> tuple[Path | None, str]:
        """Return the model for LiteRT, or why there is none."""
        if model.litert is None or installed("ai-edge-litert") is None:
            return None, ""
        if isinstance(model.litert, Packaged):
            return model.litert.find(self._beside), ""
        made = self._models / f"{model.name}.tflite"
        if not made.is_file():
            if installed("tensorflow") is None:
                return None, "not available: needs tensorflow"
            command = [sys.executable, "-m", "benchmarks.whole_model.keras_models", model.litert, str(made)]
            done = subprocess.run(command, cwd=TOP, capture_output=True, text=True, check=False)
            if done.returncode:
                return None, f"TensorFlow's converter failed: {done.stderr.strip().splitlines()[-1]}"
        return made, ""

    def _apart(self, name: str, *job: Mapping[str, Any] | str) -> Record:
        words = [each if isinstance(each, str) else json.dumps(each) for each in job]
        command = [sys.executable, "-m", f"benchmarks.whole_model.{name}", *words]
        environment = os.environ | ONE_THREAD
        process = subprocess.Popen(
            command,
            cwd=TOP,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        try:
            out, err = process.communicate(timeout=self._limits.wall)
        except subprocess.TimeoutExpired as error:
            # The emulator, too, which is in the same session.
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise TooSlowError(f"no result within {self._limits.wall:g} s") from error
        if process.returncode:
            return {"failure": f"ended with status {process.returncode}: {(err.strip().splitlines() or [''])[-1]}"}
        found: Record = json.loads(out.splitlines()[-1])
        return found


def _of(path: Path, target: Target, meter: str) -> str:
    """Return a name for what a row is about, whatever code it was made by, and whatever its target's file said then."""
    return _digest(hashlib.sha256(path.read_bytes()).hexdigest(), target.name, meter)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def inputs_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return random arrays for a library's inputs, in their order."""
    ports = [(each["shape"], np.dtype(each["element"])) for each in facts["inputs"]]
    return {f"input_{number}": array for number, array in enumerate(timing.random_arrays(ports, _INPUT_SEED))}


def facts_row(facts: Mapping[str, Any]) -> Record:
    """Return what a row keeps of ``NAME.json``, latencies aside."""
    names = ("arena_bytes", "arena_bound", "code_bytes", "weight_bytes", "macs", "checked", "max_error", "tolerance")
    return {name: facts[name] for name in names} | {
        "operators": len(facts["operators"]),
        "foreign": sorted({each["kind"] for each in facts["operators"] if each["kind"].startswith("Foreign")}),
    }


def latency_row(facts: Mapping[str, Any], target: Target) -> Record:
    """Return the latency of the whole and of its operators, each with the least time that it can take.

    Operators count by their lower quartile: other programs of a busy machine lengthen long ones, not short ones.
    """
    return {
        "warm_us": facts["warm"]["us"],
        "cold_us": facts["cold"]["us"],
        "instructions": facts["meter"]["details"].get("instructions"),
        "parts": [
            {
                "kind": kind_of(each),
                "nodes": list(each["nodes"][:3]),
                "us": each["warm"]["low_us"],
                "least_us": least_us(each, target),
                "macs": each["macs"],
                "schedule": each["schedule"],
            }
            for each in facts["operators"]
        ],
    }


def kind_of(operator: Mapping[str, Any]) -> str:
    """Return what an operator is; depthwise convolutions apart from others, by their schedules."""
    try:
        DepthwiseSchedule.parse(operator["schedule"])
    except ValueError:
        return str(operator["kind"])
    return DEPTHWISE


def least_us(operator: Mapping[str, Any], target: Target) -> float:
    """Return the microseconds that an operator takes at least, see `operator_bound_cycles`."""
    read, written = (
        sum(array["bytes"] for array in operator["arrays"] if array["role"] in roles)
        for roles in (("input", "weight"), ("output",))
    )
    return operator_bound_cycles(operator["macs"], read, written, target) / target.clock_mhz


def times_of(samples: Sequence[Sequence[float]]) -> dict[str, float]:
    """Return medians and the least, in milliseconds, of samples of (processor, wall) nanoseconds."""
    cpu, wall = ([sample[place] / 1e6 for sample in samples] for place in range(2))
    return {
        "cpu_ms": statistics.median(cpu),
        "wall_ms": statistics.median(wall),
        "least_cpu_ms": min(cpu),
        "least_wall_ms": min(wall),
    }
