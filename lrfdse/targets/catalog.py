"""Targets and search spaces: TOML files, found by name among those that ship or by path."""

from __future__ import annotations

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lrfdse.base.files import read_regular
from lrfdse.base.folders import data_folder
from lrfdse.base.keys import digest
from lrfdse.errors import InputError
from lrfdse.ir.space import SearchSpace
from lrfdse.targets import isa
from lrfdse.targets.target import CacheLevel, ModelError, Target, given

_Noun = TypeVar("_Noun", Target, SearchSpace, CacheLevel, ModelError)

_SECTIONS = ("compile", "vector", "run", "core", "memory")
"""Tables of a target file; they only group the fields for the reader."""

_MOST_BYTES = 1 << 20
"""Of a target or a search space; those that ship have 4 kB."""

_LARGEST = 2**53
"""Size of whole numbers in a file: up to here float64 holds every one."""

_RATES = ("clock_mhz", "fma_per_cycle", "last_level_bytes_per_cycle", "dram_bytes_per_cycle")
_OPTIONAL_RATES = ("last_level_fill_bytes_per_cycle", "dram_fill_bytes_per_cycle", "dram_copy_bytes_per_cycle")
_LATENCIES = ("last_level_latency", "dram_latency")


def names(kind: str) -> list[str]:
    """Return the names that ship for "targets" or "search_spaces", sorted."""
    return sorted(path.stem for path in data_folder(kind).glob("*.toml"))


def noun_digest(noun: Target | SearchSpace) -> str:
    """Return a name for everything that a target or search space says that has an effect."""
    told = {"summary", "provenance", "error"}
    plain = [(f.name, getattr(noun, f.name)) for f in dataclasses.fields(noun)]
    fields = given(noun) if isinstance(noun, Target) else plain
    return digest([(name, value) for name, value in fields if name not in told])


def load_target(name_or_path: str) -> Target:
    """Read a target by name, or from a TOML file of the user's own.

    Raises
    ------
    InputError
        The name is unknown (the message holds the nearest ones), or the file is not a valid target.
    ToolError
        The plug-in that offers the target's instruction set cannot be imported.
    """
    path = _find(name_or_path, "targets", "target")
    table = _read(path)
    flat = {key: value for key, value in table.items() if key not in _SECTIONS}
    for section in _SECTIONS:
        flat |= _table(table.get(section, {}), f"{path}: key {section!r}")
    asked = _checked(flat.pop("optional", []), tuple[str, ...], f"{path}: key 'optional'")
    listed = sorted(_instructions(flat.pop("instructions", []), f"{path}: key 'instructions'"))
    waited = sorted(_instructions(flat.pop("latencies", []), f"{path}: key 'latencies'"))
    target = _make(Target, {"name": path.stem, **flat}, str(path))
    if listed or waited:
        sources = {form: source for form, _, source in listed} | {f"{form} latency": s for form, _, s in waited}
        target = dataclasses.replace(
            target,
            instructions=tuple((form, cycles) for form, cycles, _ in listed),
            latencies=tuple((form, cycles) for form, cycles, _ in waited),
            provenance={**target.provenance, **sources},
        )
    if target.isa not in isa.names():
        raise InputError(f"{path}: isa {target.isa!r} is unknown: {', '.join(isa.names())} or a plug-in's")
    target = dataclasses.replace(target, features=(*target.features, *_found(asked, target, str(path))))
    rates = (*_RATES, *(name for name in _OPTIONAL_RATES if getattr(target, name) is not None))
    rules = {
        "`lanes` must be a power of two": _is_power_of_two(target.lanes),
        "`vector_registers` must be at least 1": target.vector_registers >= 1,
        "`groups` must be a list of powers of two": all(map(_is_power_of_two, target.groups or (0,))),
        "`link` must be given where there is an emulator": target.is_native or bool(target.link),
        "`line` must be a power of two": _is_power_of_two(target.line),
        **{f"`{name}` must be a positive number": 0 < getattr(target, name) < math.inf for name in rates},
        **{f"`{name}` must be zero or a positive number": 0 <= getattr(target, name) < math.inf for name in _LATENCIES},
        "`prefetch_lines` must be at least 0": target.prefetch_lines >= 0,
        "`memory_ports` must be at least 1": target.memory_ports is None or target.memory_ports >= 1,
        "`instructions` must name each instruction once": len(listed) == len(dict(target.instructions)),
    }
    for name in ("l1", "last_level"):
        cache: CacheLevel = getattr(target, name)
        rules[f"`{name}.kib` must be at least 1"] = cache.kib >= 1
        rules[f"`{name}.ways` must be at least 1"] = cache.ways >= 1
        rules[f"`{name}.share` must be above 0 and at most 1"] = 0 < cache.share <= 1
    if target.error is not None:
        rules["`error.low` must be above 0 and at most `error.high`"] = (
            0 < target.error.low <= target.error.high < math.inf
        )
    _check(rules, path)
    return target


def _found(asked: tuple[str, ...], target: Target, where: str) -> Iterator[str]:
    """Yield those features of `asked` that the machine at hand has; of an emulated target none may be asked for."""
    flags = isa.instruction_set(target.isa).flags
    told = _flags() if asked else frozenset()
    for feature in asked:
        if feature not in flags or not target.is_native:
            raise InputError(
                f"{where}: key 'optional': {feature!r} cannot be asked of the machine at hand: "
                f"{', '.join(flags) or 'nothing'} of {target.isa} can, where there is no emulator"
            )
        if flags[feature] in told:
            yield feature


def _flags() -> frozenset[str]:
    """Return the names that Linux has for what the processor at hand can do; none elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return frozenset(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def load_search_space(name_or_path: str) -> SearchSpace:
    """Read a search space by name, or from a TOML file of the user's own; every key has a default.

    Whether its fitting method exists is for whoever fits to say: a plug-in may bring it.

    Raises
    ------
    InputError
        The name is unknown (the message holds the nearest ones), or the file is not a valid search space.
    """
    path = _find(name_or_path, "search_spaces", "search space")
    space = _make(SearchSpace, {"name": path.stem, **_read(path)}, str(path))
    rules = {
        "`max_cores` must be at least 2": space.max_cores >= 2,
        "`dense_ranks_to` must be at least 0": space.dense_ranks_to >= 0,
        "`rank_step` must be at least 1": space.rank_step >= 1,
        "`min_ratio` must be at least 1": 1 <= space.min_ratio < math.inf,
        "`min_ratio_large` must be at least 1": 1 <= space.min_ratio_large < math.inf,
        "`min_size` must be at least 0": space.min_size >= 0,
        "`max_compiled` must be at least 1": space.max_compiled >= 1,
        '`directions` must be "rl", "lr" or both': bool(space.directions),
    }
    _check(rules, path)
    return space


def _check(rules: Mapping[str, bool], path: Path) -> None:
    for rule, holds in rules.items():
        if not holds:
            raise InputError(f"{path}: {rule}")


def _is_power_of_two(number: int) -> bool:
    return number >= 1 and number & (number - 1) == 0


def _find(name_or_path: str, kind: str, word: str) -> Path:
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        if not path.is_file():
            raise InputError(f"{name_or_path}: no such {word} file")
        return path
    known = names(kind)
    if name_or_path not in known:
        near = difflib.get_close_matches(name_or_path, known, n=3, cutoff=0.4) or known
        raise InputError(
            f"unknown {word} {name_or_path!r}: did you mean {', '.join(near)}? (or give a path ending in .toml)"
        )
    return data_folder(kind) / f"{name_or_path}.toml"


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_regular(path, _MOST_BYTES).decode())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a readable TOML file: {error}") from error


def _make(noun: type[_Noun], values: Mapping[str, Any], where: str) -> _Noun:
    fields = {field.name: field for field in dataclasses.fields(noun)}
    if unknown := sorted(set(values) - set(fields)):
        near = difflib.get_close_matches(unknown[0], fields, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(f"{where}: unknown key {unknown[0]!r}{hint}")
    required = {name for name, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING}
    if missing := sorted(required - set(values)):
        raise InputError(f"{where}: missing key {missing[0]!r}")
    hints = typing.get_type_hints(noun)
    fitting = {name: _checked(value, hints[name], f"{where}: key {name!r}") for name, value in values.items()}
    try:
        return noun(**fitting)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def _instructions(value: Any, where: str) -> Iterator[tuple[str, float, str]]:
    """Yield form, cycles and source of every instruction, from tables that have a source and cycles each.

    The cycles of a mnemonic may be a table, too: its keys complete the form.
    """
    if not isinstance(value, list):
        raise InputError(f"{where} must be a list of tables, but got {value!r}")
    for table in value:
        if sorted(_table(table, where)) != ["cycles", "source"]:
            raise InputError(f"{where}: each table must have the keys 'source' and 'cycles', and no others")
        source = _checked(table["source"], str, f"{where}: key 'source'")
        for mnemonic, taken in _table(table["cycles"], f"{where}: key 'cycles'").items():
            forms = (
                {f"{mnemonic} {rest}": c for rest, c in taken.items()} if isinstance(taken, dict) else {mnemonic: taken}
            )
            for form, cycles in forms.items():
                number = _checked(cycles, float, f"{where}: {form!r}")
                if not 0 < number < math.inf:
                    raise InputError(f"{where}: {form!r} must be a positive number")
                yield form, number, source


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where} must be a table, but got {value!r}")
    return value


def _checked(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the field's type, lists as tuples; refuse what does not fit."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint in (CacheLevel, ModelError):
        return _make(hint, _table(value, where), where)
    if origin is Mapping:
        return {key: _checked(item, parts[1], f"{where}: key {key!r}") for key, item in _table(value, where).items()}
    if origin is typing.Literal:
        if value not in parts:
            raise InputError(f"{where} must be one of {', '.join(map(str, parts))}, but got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"{where} must be a list, but got {value!r}")
        return tuple(_checked(item, parts[0], where) for item in value)
    if origin is types.UnionType:
        return _checked(value, parts[0], where)
    if type(value) is int and abs(value) > _LARGEST:
        raise InputError(f"{where} must be a number up to {_LARGEST:,} in size, but is larger")
    if hint is float and type(value) is int:
        return float(value)
    plain = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
    if type(value) is not hint:
        raise InputError(f"{where} must be {plain[hint]}, but got {value!r}")
    return value
