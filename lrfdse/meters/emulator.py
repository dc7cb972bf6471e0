"""Running a linked program under a target's QEMU, with or without the plugin that records it."""

from __future__ import annotations

import signal
import subprocess
import typing
from collections.abc import Mapping
from pathlib import Path

from lrfdse.base.processes import run_to_end
from lrfdse.errors import KernelError, ToolError
from lrfdse.targets.target import CacheLevel, Replacement, Target
from lrfdse.toolchain import zig
from lrfdse.toolchain.programs import emulator_command

_REPLACEMENTS = typing.get_args(Replacement)
"""In the order of the plugin's numbers for them."""

TRACE = "trace.json"
"""Name of the plugin's document in the folder of the program."""


def emulate(name: str, folder: Path, target: Target, timeout: float, plugin: Mapping[str, str] | None) -> str:
    """Run the file ``program`` in `folder` and return the text that the plugin left, "" where none was asked for.

    The program gets an empty environment and the same file names every time.

    Parameters
    ----------
    name
        What runs, for messages.
    folder
        Where it runs.
    target
        An emulated machine.
    timeout
        Seconds after which it counts as hung.
    plugin
        Options of the plugin (qemu/lrfmeter.c); None runs without it.

    Raises
    ------
    KernelError
        A crash, an illegal instruction, or no end within `timeout` seconds.
    RoomError
        The emulator was ended from outside.
    ToolError
        The emulator is missing or failed.
    """
    options: list[str] = []
    if plugin is not None:
        values = ",".join((str(zig.plugin(target)), *(f"{key}={value}" for key, value in plugin.items())))
        options = ["-plugin", values]
    command = [*emulator_command(target), *options, "program"]
    try:
        ended = run_to_end(command, f"{name}: {target.emulator[0]}", cwd=folder, env={}, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise KernelError(f"{name}: no result after {timeout:g} s under {target.emulator[0]}") from error
    if ended.returncode:
        raise _failure(name, target, ended)
    if plugin is None:
        return ""
    try:
        return (folder / TRACE).read_text(encoding="ascii")
    except OSError as missing:
        raise ToolError(f"{target.emulator[0]} left no trace: {ended.stderr.strip()[:200]}") from missing


def plugin_options(target: Target, window: int) -> dict[str, str]:
    """Return the options under which the plugin records for a target's caches.

    Parameters
    ----------
    target
        The machine.
    window
        Instructions that an out-of-order core has in flight: misses to DRAM among so many are waited for once, and
        what the last-level cache answers is not waited for. 0 for an in-order core.
    """
    return {
        "out": TRACE,
        "line": str(target.line),
        "l1": _cache(target.l1),
        "llc": _cache(target.last_level),
        "window": str(window),
        "ahead": str(target.prefetch_lines),
    }


def _cache(cache: CacheLevel) -> str:
    return f"{round(cache.bytes)}:{cache.ways}:{_REPLACEMENTS.index(cache.replacement)}:{cache.allocates_stores:d}"


def _failure(name: str, target: Target, ended: subprocess.CompletedProcess[str]) -> ToolError:
    number = -ended.returncode if ended.returncode < 0 else ended.returncode - 128
    emulator = " ".join([target.emulator[0], *emulator_command(target)[1:]])
    if number == signal.SIGILL:
        return KernelError(f"{name}: illegal instruction under `{emulator}`: compiled for another core?")
    if 0 < number < signal.NSIG:
        return KernelError(f"{name}: crashed under {target.emulator[0]} ({signal.Signals(number).name})")
    lines = ended.stderr.strip().splitlines()
    return ToolError(f"`{emulator}` failed with status {ended.returncode}: {lines[-1] if lines else 'no message'}")
