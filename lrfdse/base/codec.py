"""Frozen dataclasses as JSON and back, checked against their annotations: what machines hand each other."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from lrfdse.errors import InputError

T = TypeVar("T")


def to_plain(noun: Any) -> Any:
    """Return a dataclass as JSON values: objects by field name, tuples as lists, paths as texts."""
    if dataclasses.is_dataclass(noun) and not isinstance(noun, type):
        return {field.name: to_plain(getattr(noun, field.name)) for field in dataclasses.fields(noun)}
    if isinstance(noun, Mapping):
        return {str(key): to_plain(value) for key, value in noun.items()}
    if isinstance(noun, (list, tuple)):
        return [to_plain(value) for value in noun]
    return str(noun) if isinstance(noun, Path) else noun


def from_plain(kind: type[T], value: Any, where: str = "") -> T:
    """Read a dataclass back from what `to_plain` gave; fields that are left out have their defaults.

    Raises
    ------
    InputError
        A value does not fit its field, or a field without default is missing.
    """
    where = where or kind.__name__
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object, but got {_shown(value)}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(value) - set(fields)):
        raise InputError(f"{where}: no field is called {unknown[0]!r}")
    given = {name: _read(hints[name], each, f"{where}.{name}") for name, each in value.items()}
    try:
        return kind(**given)
    except TypeError as error:
        raise InputError(f"{where}: {error}") from error


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in inner:
            return None
        return _read(next(each for each in inner if each is not type(None)), value, where)
    if dataclasses.is_dataclass(kind):
        return from_plain(typing.cast(type, kind), value, where)
    if origin is tuple:
        _check(isinstance(value, list), "a list", value, where)
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        _check(len(kinds) == len(value), f"{len(kinds)} values", value, where)
        return tuple(_read(each, part, where) for each, part in zip(kinds, value, strict=True))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _check(isinstance(value, dict), "an object", value, where)
        return {key: _read(inner[1], part, f"{where}.{key}") for key, part in value.items()}
    if origin is typing.Literal:
        _check(value in inner, f"one of {inner}", value, where)
        return value
    if kind is Path:
        _check(isinstance(value, str), "a path", value, where)
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _check(type(value) is kind, f"a {kind.__name__}", value, where)
    return value


def _check(right: bool, rule: str, value: Any, where: str) -> None:
    if not right:
        raise InputError(f"{where}: expected {rule}, but got {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
