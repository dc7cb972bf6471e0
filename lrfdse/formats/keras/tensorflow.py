"""TensorFlow as it is installed: converts a model that a user brought, in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.processes import FAULTS, run_to_end
from lrfdse.base.text import one_line
from lrfdse.errors import InputError, ToolError

_SECONDS = 900.0
"""Seconds that TensorFlow may take. Chosen: ResNet-50 takes about a minute on one core."""

INSTALL = "run `pip install 'lrfdse[keras]'`"
"""What to do where TensorFlow is missing."""

Kind = Literal["keras", "saved_model"]
"""What a model is: a file of Keras, or a SavedModel folder."""

Runs = tuple[tuple[tuple[NDArray[Any], ...], tuple[NDArray[Any], ...]], ...]
"""Of each run the inputs and the outputs, in order."""


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """What TensorFlow made of a model."""

    flatbuffer: bytes
    """The TensorFlow Lite file, in float."""
    inputs: tuple[str, ...]
    """Names of the model's own inputs, in the order of the flatbuffer's."""
    outputs: tuple[str, ...]
    scopes: dict[str, str]
    """Of each scope of TensorFlow's names the Keras layer that opened it."""
    runs: Runs
    """Random inputs, and what the model itself computed of them."""


def require_tensorflow() -> None:
    """Do nothing where TensorFlow is installed; it takes seconds to import, which this does not.

    Raises
    ------
    ToolError
        It is not; the message has the command that installs it.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise ToolError(f"TensorFlow, which reads Keras and SavedModel files, is not installed: {INSTALL}")


def convert(kind: Kind, folder: Path, path: Path) -> Converted:
    """Convert a model and have it compute outputs of random inputs.

    Parameters
    ----------
    kind
        What the model is.
    folder
        Holds the model, as ``given.keras`` or ``given/``, and nothing else; what is made of it is written there.
    path
        Where the user has the model; begins the message of an error.

    Raises
    ------
    InputError
        TensorFlow refuses the model, cannot convert it, crashes, or takes too long.
    ToolError
        TensorFlow cannot be imported, or Keras is too old.
    """
    require_tensorflow()
    answer = run_program("tensorflow_runner.py", kind, folder, path)
    if "missing" in answer:
        raise ToolError(f"TensorFlow cannot be used: {one_line(answer['missing'])}; {INSTALL}")
    if "refused" in answer:
        raise InputError(f"{path}: {one_line(answer['refused'], 400)}")
    return read_back(folder, answer)


def run_program(name: str, what: str, folder: Path, path: Path) -> dict[str, Any]:
    """Run a program of this package in TensorFlow and return its answer.

    Parameters
    ----------
    name
        The program's file.
    what
        Its first argument.
    folder
        Its second: what it works on lies there, and so does its answer then.
    path
        Where the user has the model; begins the message of an error.

    Raises
    ------
    InputError
        It crashes, or takes too long.
    """
    runner = Path(__file__).with_name(name)
    # On one core, without looking for devices. What Keras, the converter and what they import (matplotlib, which keeps
    # lists of fonts at home) write goes with the folder.
    own = {
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
        "KERAS_HOME": str(folder),
        "MPLCONFIGDIR": str(folder),
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TF_NUM_INTEROP_THREADS": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TMPDIR": str(folder),
        "XDG_CACHE_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    try:
        done = run_to_end(
            [sys.executable, "-P", str(runner), what, str(folder)],
            f"{path}: TensorFlow",
            FAULTS | {signal.SIGABRT},
            env={**os.environ, **own},
            errors="replace",
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{path}: TensorFlow took longer than {_SECONDS:.0f} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        said = f"it crashed (signal {-done.returncode})" if done.returncode < 0 else one_line((lines or ["?"])[-1])
        raise InputError(f"{path}: TensorFlow cannot convert it: {said}")
    answer: dict[str, Any] = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    return answer


def read_back(folder: Path, answer: Mapping[str, Any]) -> Converted:
    """Return what TensorFlow's process left in a folder, with the answer that it gave."""
    inputs, outputs = tuple(answer["inputs"]), tuple(answer["outputs"])
    runs = runs_of(folder, len(inputs), len(outputs))
    return Converted((folder / "model.tflite").read_bytes(), inputs, outputs, answer["scopes"], runs)


def runs_of(folder: Path, inputs: int, outputs: int) -> Runs:
    """Return what a program of this package fed a model of so many inputs and outputs, and what it computed."""
    with np.load(folder / "runs.npz", allow_pickle=False) as arrays:
        count = sum(name.endswith("/in/0") for name in arrays.files)
        return tuple(
            (
                tuple(arrays[f"{run}/in/{number}"] for number in range(inputs)),
                tuple(arrays[f"{run}/out/{number}"] for number in range(outputs)),
            )
            for run in range(count)
        )
