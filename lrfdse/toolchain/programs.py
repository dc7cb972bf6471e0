"""The programs that measuring needs: where they are, which versions, and how to install what is missing."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lrfdse.errors import ToolError
from lrfdse.targets.target import Target

LLVM_MAJOR = 22
"""The oldest LLVM whose scheduling models the shipped targets name (SpacemiT X60 among them)."""

_NEWEST_LLVM_TRIED = 30
"""Major versions below this are looked for under Debian's names, such as ``llvm-mca-22``."""


MODELLING = ("zig", "qemu", "llvm-mc", "llvm-mca")
"""The programs that a modelled latency takes; see `missing_tools`."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A program that is not there, or too old."""

    program: str
    problem: str
    command: str
    """The command that installs it; empty where none is known."""

    def __str__(self) -> str:
        return f"{self.program} {self.problem}" + (f": run `{self.command}`" if self.command else "")


@dataclass(frozen=True, slots=True)
class Tool:
    """A program that was found."""

    path: str
    version: str


def missing_tools(target: Target, tools: tuple[str, ...]) -> list[Missing]:
    """Return which of `tools` this machine lacks; empty when all are there.

    Parameters
    ----------
    target
        The target whose kernels are to be measured.
    tools
        Names of programs: "zig", "qemu" (the target's emulator, where it has one), "llvm-mc" and "llvm-mca" (of a
        version that is new enough); any other must be on the path.
    """
    return [missing for tool in tools if (missing := _missing(target, tool)) is not None]


def _missing(target: Target, tool: str) -> Missing | None:
    if tool == "zig":
        return None if find_zig() else Missing(tool, "is not installed", "pip install 'ziglang>=0.15,<0.18'")
    if tool == "qemu":
        if not target.emulator or find_emulator(target):
            return None
        return Missing(target.emulator[0], "is not installed", "sudo apt-get install qemu-user")
    if tool not in _LLVM_PROGRAMS:
        return None if shutil.which(tool) else Missing(tool, "is not installed", "")
    if find_llvm(tool):
        return None
    older = shutil.which(tool)
    problem = f"{_llvm_version(older) or 'of unknown version'} is too old" if older else "is not installed"
    return Missing(tool, f"{problem}, {LLVM_MAJOR} or newer is needed", _LLVM_COMMAND)


_LLVM_PROGRAMS = ("llvm-mc", "llvm-mca")
_LLVM_COMMAND = f"sudo apt-get install llvm-{LLVM_MAJOR}"


def require_tools(target: Target, tools: tuple[str, ...]) -> None:
    """Do nothing when all of `tools` are there (see `missing_tools`).

    Raises
    ------
    ToolError
        Something is missing or too old; the message names each program and the command that installs it.
    """
    if missing := missing_tools(target, tools):
        raise ToolError(f"cannot measure for target {target.name}: " + "; ".join(map(str, missing)))


def find_zig() -> Tool | None:
    """Return zig from the ziglang package, else from the path; it compiles the C parts and links kernels."""
    spec = importlib.util.find_spec("ziglang")
    folders = spec.submodule_search_locations if spec else None
    packaged = Path(next(iter(folders)), "zig") if folders else None
    path = str(packaged) if packaged and packaged.is_file() else shutil.which("zig")
    return Tool(path, _output(path, "version").strip()) if path else None


def find_emulator(target: Target) -> Tool | None:
    """Return the target's QEMU, or None where it is missing (or the target is native).

    It is looked for in the folders that ``PATH`` names in full: what lies in the current folder is not run.
    """
    path = shutil.which(target.emulator[0]) if target.emulator else None
    if path is None or not os.path.isabs(path):
        return None
    found = re.search(r"version (\d+[\d.]*)", _output(path, "--version"))
    return Tool(path, found[1] if found else "unknown")


def find_llvm(program: str) -> Tool | None:
    """Return an LLVM program of at least `LLVM_MAJOR`, under its plain name or with Debian's version suffix."""
    for name in (*(f"{program}-{major}" for major in range(LLVM_MAJOR, _NEWEST_LLVM_TRIED)), program):
        path = shutil.which(name)
        version = _llvm_version(path) if path else None
        if path and version and int(version.split(".")[0]) >= LLVM_MAJOR:
            return Tool(path, version)
    return None


def require_zig() -> Tool:
    """Return zig; raise `ToolError` where it is missing."""
    if tool := find_zig():
        return tool
    raise ToolError("zig is not installed: run `pip install 'ziglang>=0.15,<0.18'`")


def require_emulator(target: Target) -> Tool:
    """Return the target's QEMU; raise `ToolError` where it is missing."""
    if tool := find_emulator(target):
        return tool
    raise ToolError(f"{' '.join(target.emulator[:1]) or 'QEMU'} is not installed: run `sudo apt-get install qemu-user`")


def emulator_command(target: Target) -> list[str]:
    """Return the command of the target's QEMU; raise `ToolError` where it is missing.

    The processor has what code needs that is compiled for the target, under the names that this QEMU gives it.
    """
    tool = require_emulator(target)
    return [tool.path, *emulated(target, tool.version)[1:]]


def emulated(target: Target, version: str | None = None) -> tuple[str, ...]:
    """Return a target's `emulator` with the properties of the processor that QEMU leaves out unless it is told.

    Parameters
    ----------
    target
        An emulated machine.
    version
        QEMU's; None is that of the machine at hand, or where there is none, the newest.
    """
    if version is None:
        tool = find_emulator(target)
        version = tool.version if tool else ""
    found = re.match(r"(\d+)\.(\d+)", version)
    more = target.emulated((int(found[1]), int(found[2])) if found else None)
    return (*target.emulator[:-1], ",".join((target.emulator[-1], *more))) if more else target.emulator


def require_llvm(program: str) -> Tool:
    """Return an LLVM program that is new enough; raise `ToolError` where it is missing."""
    if tool := find_llvm(program):
        return tool
    raise ToolError(f"{program} {LLVM_MAJOR} or newer is not installed: run `{_LLVM_COMMAND}`")


def plugin_api(qemu_version: str) -> int:
    """Return the version of QEMU's plugin interface to compile for.

    QEMU refuses plugins outside its own range; these are the versions in which an interface that the plugin uses
    changed (docs/meter.md).

    >>> [plugin_api(version) for version in ("7.2.22", "9.0.1", "10.0")]
    [1, 2, 4]
    """
    found = re.match(r"(\d+)\.(\d+)", qemu_version)
    release = (int(found[1]), int(found[2])) if found else (0, 0)
    if release < (9, 0):
        return 1
    return {(9, 0): 2, (9, 1): 3}.get(release, 4)


@functools.cache
def _output(path: str, option: str) -> str:
    try:
        run = subprocess.run([path, option], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return run.stdout + run.stderr


def _llvm_version(path: str | None) -> str | None:
    found = re.search(r"LLVM version (\d+[\d.]*)", _output(path, "--version")) if path else None
    return found[1] if found else None
