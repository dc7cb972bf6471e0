"""One row: a model explored as a user would, in a process of its own; finished rows are kept."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import resource
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lrfdse
from benchmarks import recogniser
from benchmarks.coverage import inputs, synthetic
from benchmarks.coverage.models import Explored
from benchmarks.keys import code
from benchmarks.program import LRFDSE, ONE_THREAD
from benchmarks.records import Record, Records
from benchmarks.scale import used
from benchmarks.whole_model.models import NotAvailableError
from lrfdse.base.codec import from_plain
from lrfdse.explore.run import explore
from lrfdse.model.data import load_data
from lrfdse.model.graph import load_model
from lrfdse.model.runtime import Runtime
from lrfdse.quality.reading import Reading
from lrfdse.results.document import Document, InspectionDocument
from lrfdse.results.shares import Shares, shares_of

TARGET = "riscv64"
EFFORT = "quick"
ROLES = ("calib", "eval", "test")

NOTHING_FITS = 3
"""The exit code of an exploration that recommends nothing."""

_PATIENCE = 20.0
"""Seconds that a process has to end after it was asked to. Chosen."""


@dataclass(frozen=True, slots=True)
class Run:
    """How a command ended and what it took."""

    status: int | None
    """Its exit code; None where it took longer than it might."""
    seconds: float
    """Processor seconds of it and all that it started."""
    mib: float
    """Largest memory of all of them together, seen once a second."""
    last: str
    """The last line that it printed on standard error."""


class Rows:
    """The rows that are there, and how others are made.

    Parameters
    ----------
    records
        Finished rows.
    beside
        Where packages are installed beside the environment, if anywhere.
    minutes
        Processor minutes that an exploration may take.
    """

    def __init__(self, records: Records, beside: Path | None, minutes: float) -> None:
        self._records = records
        self._beside = beside
        self._minutes = minutes

    def kept(self, model: Explored) -> Record | None:
        """Return the row of a model, whichever code made it, else that of an inspection; None where there is none."""
        return self._records.get(model.name) or self._records.get(_inspection(model))

    def row(self, model: Explored) -> Record:
        """Return the row of a model, made by the code of today on the model's file of today."""
        about = {"key": model.name, "version": model.version(self._beside)}
        try:
            path = model.source.find(self._beside)
        except NotAvailableError as error:
            return about | {"outcome": "not available", "said": str(error)}
        about |= {"code": today(), "made_by": self._made_by(model, path)}
        found = self.kept(model)
        if found is not None and found["made_by"] == about["made_by"]:
            return found
        row = about | self._made(model, path)
        self._records.put(row)
        return row

    def looked(self, model: Explored) -> Record:
        """Return the row of a model, one of an inspection alone where it was not explored; that is explored later."""
        if (found := self.kept(model)) is not None:
            return found
        about = {"key": _inspection(model), "version": model.version(self._beside)}
        try:
            path = model.source.find(self._beside)
        except NotAvailableError as error:
            return about | {"outcome": "not available", "said": str(error)}
        row = about | {"made_by": "", "outcome": "not explored", "said": ""} | _inspected(_given(model, path))
        self._records.put(row)
        return row

    def _made_by(self, model: Explored, path: Path) -> str:
        # What makes data is named by its text: the functions are the models', not reached from here.
        texts = (path, *(Path(str(module.__file__)) for module in (inputs, synthetic, recogniser)))
        parts = [hashlib.sha256(each.read_bytes()).hexdigest() for each in texts]
        parts += [TARGET, EFFORT, model.shape, str(model.samples), f"{self._minutes:g}", today()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _made(self, model: Explored, path: Path) -> Record:
        with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as temporary:
            here = Path(temporary)
            given = [*_given(model, path), "--cache", str(here / "cache")]
            write_data(model, here, self._beside)
            command = [LRFDSE, "explore", *given, "--effort", EFFORT, "--output", str(here / "out")]
            command += [each for role in ROLES for each in (f"--{role}", str(here / f"{role}.npz"))]
            run = watched(command, here / "stderr", 60 * self._minutes)
            row: Record = {"seconds": run.seconds, "mib": run.mib, "minutes": self._minutes}
            if run.status in (0, NOTHING_FITS):
                document = lrfdse.load(here / "out").document
                return row | explored(document, here / "out", path, _shape(model.shape), here / "test.npz")
            row |= _inspected(given)
            outcome = "not finished" if run.status is None else "refused" if run.status == 2 else "failed"
            return row | {"outcome": outcome, "said": run.last.replace(str(path), path.name)}


@functools.lru_cache(maxsize=1)
def today() -> str:
    """Return a name for all code that decides what a row says."""
    return code(explore, Rows.row, explored)


def _inspection(model: Explored) -> str:
    """Return the key of an inspection: it never takes the place of an exploration that another process has finished."""
    return f"{model.name}, inspected"


def _given(model: Explored, path: Path) -> list[str]:
    """Return the arguments that inspections and explorations of a model share."""
    return [str(path), "--target", TARGET, *(each for shape in model.shape.split() for each in ("--shape", shape))]


def _inspected(given: Sequence[str]) -> Record:
    """Return the shares that an inspection finds; none where the model is refused."""
    looked = subprocess.run([LRFDSE, "inspect", *given, "--json"], capture_output=True, text=True, check=False)
    if looked.returncode:
        return {}
    found = from_plain(InspectionDocument, json.loads(looked.stdout), "inspect --json", unknown=True)
    return _shares(shares_of(found.layers, found.untouched, found.macs))


def write_data(model: Explored, folder: Path, beside: Path | None) -> None:
    """Write the data of all roles, each of samples that no other has."""
    first = 0
    for role, count in zip(ROLES, model.samples, strict=True):
        np.savez(folder / f"{role}.npz", **model.make(beside, first, count))
        first += count


def watched(command: Sequence[str], errors: Path, seconds: float) -> Run:
    """Run a command in a session of its own, for so many processor seconds at most."""
    before = _ended()
    cpu = mib = 0.0
    with errors.open("w") as file:
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=file, env=os.environ | ONE_THREAD, start_new_session=True
        )
        while process.poll() is None and cpu < seconds:
            time.sleep(1.0)
            spent, memory = used(process.pid)
            cpu, mib = max(cpu, spent), max(mib, memory)
        late = process.poll() is None
        if late:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    spent = cpu if late else max(cpu, _ended() - before)
    return Run(None if late else status, spent, mib, lines[-1] if lines else "")


def _ended() -> float:
    """Return the processor seconds of all children that have ended."""
    found = resource.getrusage(resource.RUSAGE_CHILDREN)
    return found.ru_utime + found.ru_stime


def explored(document: Document, folder: Path, path: Path, shape: dict[str, tuple[int, ...]], test: Path) -> Record:
    """Return what a finished exploration found, its designs judged anew on data that chose nothing.

    Parameters
    ----------
    document, folder
        The exploration.
    path, shape
        The original model's file, and what was fixed of its inputs.
    test
        The test data.
    """
    original = document.original.whole_model
    row: Record = _shares(shares_of(document.layers, document.untouched, document.macs, original))
    warm = original.latency.warm
    row |= {
        "layers": len(document.layers),
        "original_us": None if warm is None else warm.us,
        "original_bytes": original.weight_bytes,
        "kind": document.meter.kind,
        "classes_hit": document.classes_hit,
    }
    if document.best is None:
        return row | {"outcome": "nothing recommended", "said": " ".join(document.notes[-1:])}
    row["outcome"] = "explored"
    model = load_model(path, shape)
    data = load_data(test, model.inputs)
    names = [output.name for output in document.outputs]
    runtime = Runtime()
    reference = runtime.run(model.original, data, outputs=names)
    for key, identity in (("best", document.recommended), ("svd", document.svd_at_equal_size)):
        design = None if identity is None else document.design(identity)
        if design is None:
            continue
        whole = design.whole_model
        row[key] = {
            "id": design.id,
            "original": design.id == document.original.id,
            "plan": {name: str(choice) for name, choice in design.changed().items()},
            "params": design.params,
            "us": None if whole.latency.warm is None else whole.latency.warm.us,
            "bytes": whole.weight_bytes,
        }
        if design.model is not None:
            compressed = runtime.run((folder / design.model).read_bytes(), data, outputs=names)
            row[key]["kept"] = [
                [output.name, output.measure, float(_reading(output).agreements(compressed, reference).mean())]
                for output in document.outputs
            ]
    return row


def _reading(output: Any) -> Reading:
    return Reading(output.name, output.kind, output.reason, output.threshold or 0.0, bool(output.chances))


def _shape(text: str) -> dict[str, tuple[int, ...]]:
    pairs = (each.rpartition("=")[::2] for each in text.split())
    return {name: tuple(map(int, sizes.split("x"))) for name, sizes in pairs}


def _shares(found: Shares | None) -> Record:
    return {"shares": None if found is None else dataclasses.asdict(found)}
