"""What this machine has of what lrfdse needs: packages and programs, and what each target can do with them."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from lrfdse.base.text import one_line
from lrfdse.errors import KernelError, ToolError
from lrfdse.targets.catalog import load_target, names
from lrfdse.toolchain import zig
from lrfdse.toolchain.programs import find_emulator, find_llvm, find_zig, missing_tools

if TYPE_CHECKING:
    from lrfdse.targets.target import Target

PROBED = (16, 32)
"""Outputs and inputs of the layer that is compiled to see whether a target's code can be built. Chosen: every schedule
has work at these sizes, and it compiles in about a second."""
FOR_DEVELOPERS = ("bench", "dev", "docs")
"""What the names of extras begin with that only serve work on lrfdse itself."""


@dataclass(frozen=True, slots=True)
class Part:
    """A package or a program that lrfdse uses."""

    name: str
    version: str
    """The version that was found; empty where there is none."""
    problem: str
    """What is wrong with it; empty where all is well."""
    command: str
    """The command that installs it; empty where nothing is wrong."""


@dataclass(frozen=True, slots=True)
class Extra:
    """An optional part of the package."""

    name: str
    missing: tuple[str, ...]
    """Distributions of it that are not installed, or of another version."""
    command: str
    """The command that installs it; empty where it is whole."""


@dataclass(frozen=True, slots=True)
class Ability:
    """What works for a target: each field is empty where it does, else says what does not and what to do."""

    target: str
    build: str
    """Compiling kernels; a small one was compiled to see it."""
    run: str
    """Running the target's code here."""
    meter: str
    """Obtaining latencies by the meter that ``auto`` stands for; an emulator's plugin was compiled to see it."""

    @property
    def works(self) -> bool:
        """Whether explorations for the target can run here."""
        return not (self.build or self.run or self.meter)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is installed, what is missing, and what works."""

    python: str
    machine: str
    packages: tuple[Part, ...]
    programs: tuple[Part, ...]
    extras: tuple[Extra, ...]
    targets: tuple[Ability, ...]

    @property
    def healthy(self) -> bool:
        """Whether all required packages are there and every target that was asked about works."""
        return not any(part.problem for part in self.packages) and all(each.works for each in self.targets)


def diagnose(wanted: Sequence[str] = ()) -> Diagnosis:
    """Return what this machine has of what lrfdse needs; nothing is installed.

    Parameters
    ----------
    wanted
        Names of targets, or paths of TOML files, to look at; none means all that ship.

    Raises
    ------
    InputError
        There is no such target.
    """
    targets = [load_target(name) for name in wanted or names("targets")]
    required, extras = _requirements()
    return Diagnosis(
        platform.python_version(),
        f"{platform.system()} {platform.machine()}",
        tuple(_package(name, wanted_version) for name, wanted_version in required),
        tuple(_programs(targets)),
        tuple(_extra(name, each) for name, each in sorted(extras.items()) if not name.startswith(FOR_DEVELOPERS)),
        tuple(_ability(target) for target in targets),
    )


def _requirements() -> tuple[list[tuple[str, str]], dict[str, list[tuple[str, str]]]]:
    """Return what the installed package says it needs, always and by extra, each with the versions that fit.

    Python that finds no metadata of lrfdse runs it from a folder: then nothing is known of what it needs.
    """
    required: list[tuple[str, str]] = []
    extras: dict[str, list[tuple[str, str]]] = {}
    try:
        lines = metadata.requires("lrfdse") or []
    except metadata.PackageNotFoundError:
        lines = []
    for line in lines:
        need, _, marker = line.partition(";")
        found = re.match(r"([\w.-]+)(?:\[[^\]]*\])?\s*(.*)", need.strip())
        if found is None or found[1] == "lrfdse" or _is_for_others(marker):
            continue
        if extra := re.search(r"extra\s*==\s*['\"]([\w-]+)", marker):
            extras.setdefault(extra[1], []).append((found[1], found[2].strip()))
        else:
            required.append((found[1], found[2].strip()))
    return required, extras


def _is_for_others(marker: str) -> bool:
    """Whether a requirement is for older versions of Python only."""
    found = re.search(r"python_version\s*<\s*['\"](\d+)\.(\d+)", marker)
    return found is not None and tuple(map(int, platform.python_version_tuple()[:2])) >= (int(found[1]), int(found[2]))


def _package(name: str, wanted: str) -> Part:
    version = _installed(name)
    lacking = f"{wanted} is needed" if version else "is not installed"
    problem = "" if fits(version, wanted) else lacking
    return Part(name, version, problem, f"pip install '{name}{wanted}'" if problem else "")


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def fits(version: str, wanted: str) -> bool:
    """Return whether an installed version is one of those wanted; no version is none of them.

    Only lower and upper bounds are understood, which are all that lrfdse's own requirements have.

    >>> fits("2.4.1", ">=2.0,<3"), fits("3.0", ">=2.0,<3"), fits("", ">=2.0"), fits("0.9.dev3", "")
    (True, False, False, True)
    """
    if not version:
        return False
    own = _numbers(version)
    lower = [_numbers(each) for each in re.findall(r">=\s*([\d.]+)", wanted)]
    upper = [_numbers(each) for each in re.findall(r"<\s*([\d.]+)", wanted)]
    return all(own >= each for each in lower) and all(own < each for each in upper)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the release as numbers, without zeros at its end: 2.0 is 2."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(each) for each in found[0].split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _extra(name: str, needs: Iterable[tuple[str, str]]) -> Extra:
    missing = tuple(each for each, wanted in needs if not fits(_installed(each), wanted))
    return Extra(name, missing, f"pip install 'lrfdse[{name}]'" if missing else "")


def _programs(targets: Sequence[Target]) -> Iterator[Part]:
    """Yield the programs that the targets' meters run, each once."""
    seen: set[str] = set()
    for target in targets:
        for tool in _tools(target):
            name = target.emulator[0] if tool == "qemu" and target.emulator else tool
            if name in seen or (tool == "qemu" and not target.emulator):
                continue
            seen.add(name)
            lacking = missing_tools(target, (tool,))
            yield Part(
                name,
                _version(target, tool),
                lacking[0].problem if lacking else "",
                lacking[0].command if lacking else "",
            )


def _version(target: Target, tool: str) -> str:
    found = {"zig": find_zig(), "qemu": find_emulator(target)}[tool] if tool in ("zig", "qemu") else find_llvm(tool)
    return "" if found is None else found.version


def _tools(target: Target) -> tuple[str, ...]:
    from lrfdse.meters.meter import METERS, auto_meter

    return METERS.get(auto_meter(target)).tools


def _ability(target: Target) -> Ability:
    runs = missing_tools(target, ("qemu",)) if target.emulator else []
    return Ability(target.name, _build_problem(target), "; ".join(map(str, runs)), _meter_problem(target))


def _meter_problem(target: Target) -> str:
    """Look for the meter's programs and compile the emulator's plugin; return what went wrong, "" where nothing did.

    What was compiled stays in the cache folder, where meters look for it.
    """
    tools = _tools(target)
    if missing := missing_tools(target, tools):
        return "; ".join(map(str, missing))
    if "qemu" in tools and target.emulator:
        try:
            zig.plugin(target)
        except ToolError as error:
            return f"the emulator's plugin: {one_line(error)}"
    return ""


def _build_problem(target: Target) -> str:
    """Compile a small layer for the target; return what went wrong, "" where nothing did."""
    from lrfdse.ir.factorization import Factorization
    from lrfdse.ir.kernel import KernelSpec

    try:
        from lrfdse.kernels.build import compile_kernel
        from lrfdse.kernels.schedules import schedules

        spec = KernelSpec(*PROBED, Factorization.dense(*PROBED), 1, bias=True, relu=False)
        compile_kernel(spec, schedules(spec, target, 1)[0], target, "probe")
    except (ImportError, OSError) as error:
        return f"TVM cannot be loaded: {one_line(error)}: run `pip install --force-reinstall 'apache-tvm>=0.27,<0.28'`"
    except KernelError as error:
        return one_line(error)
    return ""
