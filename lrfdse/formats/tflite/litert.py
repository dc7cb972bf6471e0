"""LiteRT as it is installed: runs a model that a user brought, in a process of its own."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.text import one_line
from lrfdse.errors import InputError

_SECONDS = 300.0
"""Seconds that LiteRT may take. Chosen: the largest models of phones take about a second."""

Tensors = Mapping[int, NDArray[Any]]
"""Arrays by the number of their tensor."""


def run(
    content: bytes, runs: Sequence[Tensors], where: str, *, everything: bool = False
) -> list[dict[int, NDArray[Any]]]:
    """Run a model and return, for each run, what it computed.

    Parameters
    ----------
    content
        The file's bytes.
    runs
        Of each run an array for each input.
    where
        Begins the message of an error.
    everything
        Whether all computed tensors are wanted, or the outputs alone.

    Raises
    ------
    InputError
        LiteRT refuses the model, crashes, or takes too long.
    """
    packed = io.BytesIO()
    named = {f"{number}/{index}": array for number, feeds in enumerate(runs) for index, array in feeds.items()}
    np.savez(packed, allow_pickle=False, **named)
    arrays = packed.getvalue()
    command = [
        sys.executable,
        "-P",
        str(Path(__file__).with_name("_litert_runner.py")),
        "all" if everything else "outputs",
    ]
    given = len(arrays).to_bytes(8, "little") + arrays + content
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{where}: LiteRT took longer than {_SECONDS:.0f} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        said = f"it crashed (signal {-done.returncode})" if done.returncode < 0 else one_line((lines or ["?"])[-1])
        raise InputError(f"{where}: LiteRT cannot run it: {said}")
    found = np.load(io.BytesIO(done.stdout), allow_pickle=False)
    computed: list[dict[int, NDArray[Any]]] = [{} for _ in runs]
    for name in found.files:
        number, _, index = name.partition("/")
        computed[int(number)][int(index)] = found[name]
    return computed
