"""Running a kernel under QEMU with the plugin: what it executed and what it moved through the caches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import ToolError
from lrfdse.ir.kernel import Artifact
from lrfdse.meters.emulator import emulate, plugin_options
from lrfdse.meters.image import Image
from lrfdse.meters.nest import Nest, parse_nest
from lrfdse.targets.isa.code import Run
from lrfdse.targets.target import Target
from lrfdse.toolchain import zig


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one call of a kernel moved through the two cache levels, in lines.

    A miss counts as prefetched when nothing waits for it: a prefetcher can see it coming, it is a store of an in-order
    core, or an out-of-order core has other work meanwhile.
    """

    accesses: int
    l1_misses: int
    l1_prefetched: int
    llc_misses: int
    llc_prefetched: int
    llc_writebacks: int
    l1_store_misses: int = 0
    """Those of `l1_misses` that stores caused."""
    llc_store_misses: int = 0
    """Those of `llc_misses` that stores caused."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One kernel's execution between the markers."""

    runs: tuple[Run, ...]
    nest: Nest
    """The runs of the cold region as they were executed."""
    code: dict[int, tuple[int, int]]
    """Address to (instruction word, bytes)."""
    cold: Traffic
    warm: Traffic
    max_error: float
    parts: tuple[Traffic, ...] = ()
    """What each part of the cold region moved, then each of the warm one; one part a region where nothing cut it."""
    starts: tuple[int, ...] = ()
    """Where each part begins among the items of `nest`."""


def record(
    artifact: Artifact,
    target: Target,
    arrays: Sequence[NDArray[Any]],
    expected: NDArray[np.float64],
    timeout: float,
    window: int = 0,
) -> Trace:
    """Run a kernel twice under the emulator, cold and warm, check its output, and return what it executed.

    The program has its own stack and fixed addresses, and gets an empty environment, so a trace depends on the kernel
    alone.

    Parameters
    ----------
    artifact
        The kernel.
    target
        The machine; it must be an emulated one.
    arrays, expected
        See `lrfdse.meters.meter.Meter.measure`.
    timeout
        Seconds after which the kernel counts as hung.
    window
        See `lrfdse.meters.emulator.plugin_options`.

    Raises
    ------
    KernelError
        A wrong output, a crash, an illegal instruction, or no end within `timeout` seconds.
    ToolError
        A tool is missing or failed.
    """
    image = Image(artifact, arrays, expected)
    support = zig.harness(target, len(artifact.arguments))
    with temporary_folder() as here:
        zig.link(artifact, support, here)
        image.write(here / "image")
        text = emulate(str(artifact.spec), here, target, timeout, plugin_options(target, window))
        max_error = image.check(here / "image")
    return parse(text, max_error)


def parse(text: str, max_error: float = 0.0) -> Trace:
    """Read the plugin's document.

    Raises
    ------
    ToolError
        It is damaged, as where the folder for temporary files is full.
    """
    try:
        return _parsed(json.loads(text), max_error)
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ToolError("the trace that the emulator left is damaged: is there no room for it under TMPDIR?") from error


def _parsed(document: Any, max_error: float) -> Trace:
    if len(document["regions"]) != 2:
        raise ToolError(f"the plugin traced {len(document['regions'])} regions, but a kernel has two: cold and warm")
    cold, warm = (Traffic(**region) for region in document["regions"])
    code: dict[int, tuple[int, int]] = {}
    for start, words in document["blocks"]:
        address = start
        for word in words.split():
            code[address] = int(word, 16), len(word) // 2
            address += len(word) // 2
    runs = tuple(Run(i, start, end, vtype if vtype >= 0 else None) for i, start, end, vtype in sorted(document["runs"]))
    parts = tuple(Traffic(**part) for part in document.get("parts", ()))
    starts = tuple(document.get("starts", ()))
    return Trace(runs, parse_nest(document["nest"]), code, cold, warm, max_error, parts, starts)
