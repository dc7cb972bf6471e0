"""A model and the program that times it in a runtime, as one file that Python runs; what it printed, read strictly."""

from __future__ import annotations

import io
import json
import statistics
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from lrfdse.base.text import one_line
from lrfdse.errors import InputError, ToolError
from lrfdse.ir.form import Form
from lrfdse.ir.latency import Latency

RuntimeName = Literal["litert", "onnxruntime"]
"""A runtime by its name."""

RUNTIME_FORMS: dict[RuntimeName, Form] = {"litert": "tflite", "onnxruntime": "onnx"}
"""The format that each runtime takes."""

_MODULES: dict[RuntimeName, tuple[tuple[str, ...], str]] = {
    "litert": (("ai_edge_litert", "tflite_runtime"), "pip install 'lrfdse[tflite]'"),
    "onnxruntime": (("onnxruntime",), "pip install onnxruntime"),
}
"""The modules of which each runtime needs one, and the command that installs it."""

_SHEBANG = b"#!/usr/bin/env python3\n"
"""The first line: where the file is executed, what runs it."""

_OLDEST = (1980, 1, 1, 0, 0, 0)
"""The time of every member, which says nothing: the oldest that an archive can hold (APPNOTE.TXT, 4.4.6)."""


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How a model is timed."""

    runtime: RuntimeName
    repeats: int = 21
    """Samples, of which the median counts."""
    min_time: int = 2
    """Least milliseconds of a sample: so many inferences are timed as one."""
    threads: int = 1
    shape: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Sizes of inputs that a model leaves open; else they are 1."""


@dataclass(frozen=True, slots=True)
class RuntimeTiming:
    """What a runtime took for a whole model."""

    latency: Latency
    """Of one inference in a row of them: median with the quartiles of samples, wall clock (microseconds)."""
    cpu_us: float
    """Processor time of one inference, of all threads: the median of samples (microseconds)."""
    package: str
    """The package that is installed there: "ai-edge-litert", "tflite-runtime" or "onnxruntime"."""
    version: str
    machine: str
    """What Python calls the machine, as "x86_64"."""
    cpuinfo: Mapping[str, str]
    """What the system says of its first core."""


def runtime_name(text: str) -> RuntimeName:
    """Return the runtime that `--runtime` names.

    Raises
    ------
    InputError
        There is no such runtime.
    """
    for name in RUNTIME_FORMS:
        if name == text:
            return name
    raise InputError(f"--runtime takes {' or '.join(RUNTIME_FORMS)}, but got {text!r}")


def check_installed(name: RuntimeName) -> None:
    """Do nothing where a runtime is installed here.

    Raises
    ------
    ToolError
        It is not; the message has the command that installs it.
    """
    modules, command = _MODULES[name]
    if not any(find_spec(module) for module in modules):
        raise ToolError(
            f"{modules[0].replace('_', '-')}, which --runtime {name} runs, is not installed: run `{command}`"
        )


def packed(content: bytes, options: RuntimeOptions) -> bytes:
    """Return the file that times a model: with Python's name first, it can be executed as it is."""
    asked = {
        "runtime": options.runtime,
        "repeats": options.repeats,
        "min_time": options.min_time,
        "threads": options.threads,
        "shape": {name: list(sizes) for name, sizes in options.shape.items()},
    }
    program = Path(__file__).with_name("_main.py").read_bytes()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, data in {"__main__.py": program, "asked.json": json.dumps(asked).encode(), "model": content}.items():
            archive.writestr(zipfile.ZipInfo(name, _OLDEST), data)
    return _SHEBANG + made.getvalue()


def read_timing(code: int, output: str, errors: str, where: str) -> RuntimeTiming:
    """Return what the program printed.

    Parameters
    ----------
    code, output, errors
        How it ended, and what it wrote.
    where
        Begins the message of an error.

    Raises
    ------
    ToolError
        It failed, the runtime is not installed there, or what it printed is not its answer.
    """
    try:
        found = json.loads(output) if not code else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        lines = [line for line in errors.splitlines() if line.strip()]
        raise ToolError(f"{where}: no answer (exit code {code}): {one_line((lines or ['it printed nothing'])[-1])}")
    if "failed" in found:
        raise ToolError(f"{where}: {one_line(str(found['failed']))}")
    try:
        samples, cpu = ([float(each) / 1e3 for each in found[name]] for name in ("samples", "cpu"))
        busy = statistics.median(cpu)
        # One sample has no quartiles.
        low, middle, high = statistics.quantiles(samples * max(1, 3 - len(samples)), n=4, method="inclusive")
        told = {str(name): str(value) for name, value in found["cpuinfo"].items()}
        package, version, machine = (_text(found[name]) for name in ("package", "version", "machine"))
    except (KeyError, TypeError, ValueError, AttributeError, statistics.StatisticsError) as error:
        raise ToolError(f"{where}: not the answer of its program: {one_line(error)}") from error
    if not (0.0 < low <= high < float("inf") and 0.0 <= busy < float("inf")):
        raise ToolError(f"{where}: not the answer of its program: times of {low:g} to {high:g} us")
    return RuntimeTiming(Latency(middle, low, high), busy, package, version, machine, told)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return one_line(value, 60)
