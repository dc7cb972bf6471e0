"""Targets and search spaces: TOML files, found by name among those that ship or by path."""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import typing
from pathlib import Path
from typing import Any, TypeVar

from lrfdse.design import Cache, SearchSpace, Target
from lrfdse.errors import InputError

_Noun = TypeVar("_Noun", Target, SearchSpace)

_SECTIONS = ("compile", "vector", "run", "core", "memory")
"""Tables of a target file; they only group the fields for the reader."""


def data_folder(name: str) -> Path:
    """Return the folder `name` ("targets", "search_spaces", "qemu") of the installed package or of the checkout."""
    installed = Path(__file__).parent / "_data" / name
    return installed if installed.is_dir() else Path(__file__).parent.parent / name


def names(kind: str) -> list[str]:
    """Return the names that ship for "targets" or "search_spaces", sorted."""
    return sorted(path.stem for path in data_folder(kind).glob("*.toml"))


def load_target(name_or_path: str) -> Target:
    """Read a target by name, or from a TOML file of the user's own.

    Raises
    ------
    InputError
        The name is unknown (the message holds the nearest ones), or the file is not a valid target.
    """
    path = _find(name_or_path, "targets", "target")
    table = _read(path)
    flat = {key: value for key, value in table.items() if key not in _SECTIONS}
    for section in _SECTIONS:
        flat |= table.get(section, {})
    for level in ("l1", "last_level"):
        if isinstance(flat.get(level), dict):
            flat[level] = Cache(**flat[level])
    return _make(Target, {"name": path.stem, **flat}, path)


def load_search_space(name_or_path: str) -> SearchSpace:
    """Read a search space by name, or from a TOML file of the user's own; every key has a default.

    Raises
    ------
    InputError
        The name is unknown (the message holds the nearest ones), or the file is not a valid search space.
    """
    path = _find(name_or_path, "search_spaces", "search space")
    space = _make(SearchSpace, {"name": path.stem, **_read(path)}, path)
    rules = {
        "max_cores >= 2": space.max_cores >= 2,
        "rank_step >= 1": space.rank_step >= 1,
        "min_ratio >= 1": space.min_ratio >= 1 and space.min_ratio_large >= 1,
        "max_compiled >= 1": space.max_compiled >= 1,
        'method in ("auto", "svd")': space.method in ("auto", "svd"),
        'directions among "rl" and "lr"': bool(space.directions) and set(space.directions) <= {"rl", "lr"},
    }
    for rule, holds in rules.items():
        if not holds:
            raise InputError(f"{path}: `{rule}` must hold")
    return space


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
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: not a readable TOML file: {error}") from error


def _make(noun: type[_Noun], values: dict[str, Any], path: Path) -> _Noun:
    fields = {field.name: field for field in dataclasses.fields(noun)}
    if unknown := sorted(set(values) - set(fields)):
        near = difflib.get_close_matches(unknown[0], fields, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise InputError(f"{path}: unknown key {unknown[0]!r}{hint}")
    required = {name for name, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING}
    if missing := sorted(required - set(values)):
        raise InputError(f"{path}: missing key {missing[0]!r}")
    hints = typing.get_type_hints(noun)
    checked = {name: _checked(value, hints[name], f"{path}: key {name!r}") for name, value in values.items()}
    return noun(**checked)


def _checked(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the field's type, lists as tuples; refuse what does not fit."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            raise InputError(f"{where} must be one of {', '.join(map(str, typing.get_args(hint)))}, but got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise InputError(f"{where} must be a list, but got {value!r}")
        return tuple(_checked(item, typing.get_args(hint)[0], where) for item in value)
    if hint is float and type(value) is int:
        return float(value)
    plain = {float: "a number", int: "a whole number", str: "a text", bool: "true or false"}
    if hint in plain and type(value) is not hint:
        raise InputError(f"{where} must be {plain[hint]}, but got {value!r}")
    return value
