"""Frozen dataclasses as JSON and back, checked against their annotations: what machines hand each other."""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from lrfdse.errors import InputError

T = TypeVar("T")

KEY = "key"
"""Metadata of a field: the JSON key that stands for it where that is not its name."""
EXPECTED = "expected"
"""Metadata of a field with a default: whether a whole object has it all the same."""

_LARGEST = sys.float_info.max


def expected(default: Any) -> Any:
    """Return a dataclass field that every whole object has; only partial reading takes `default` in its place."""
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata={EXPECTED: True})
    return dataclasses.field(default=default, metadata={EXPECTED: True})


def to_plain(noun: Any) -> Any:
    """Return a dataclass as JSON values: objects by field name, tuples as lists, paths as texts."""
    if dataclasses.is_dataclass(noun) and not isinstance(noun, type):
        return {key_of(field): to_plain(getattr(noun, field.name)) for field in dataclasses.fields(noun)}
    if isinstance(noun, Mapping):
        return {str(key): to_plain(value) for key, value in noun.items()}
    if isinstance(noun, (list, tuple)):
        return [to_plain(value) for value in noun]
    return str(noun) if isinstance(noun, Path) else noun


def from_plain(kind: type[T], value: Any, where: str = "", *, partial: bool = False, unknown: bool = False) -> T:
    """Read a dataclass back from what `to_plain` gave; fields that are left out have their defaults.

    Parameters
    ----------
    kind
        The dataclass.
    value
        What a JSON parser gave.
    where
        Names the value in messages; the name of the class where it is empty. After a colon, keys follow a space.
    partial
        Whether fields that `expected` made may be left out, too.
    unknown
        Whether keys that name no field are passed over; else they are refused.

    Raises
    ------
    InputError
        A value does not fit its field, or a field that must be there is missing.
    """
    return typing.cast(T, _Codec(partial, unknown).read(kind, value, where or kind.__name__))


def key_of(field: dataclasses.Field[Any]) -> str:
    """Return the JSON key of a field."""
    return str(field.metadata.get(KEY, field.name))


def is_needed(field: dataclasses.Field[Any], partial: bool = False) -> bool:
    """Return whether an object must have the field."""
    optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    return not optional or (not partial and bool(field.metadata.get(EXPECTED)))


@functools.cache
def hints_of(kind: Any) -> dict[str, Any]:
    """Return the types of a dataclass's fields by name."""
    return typing.get_type_hints(kind)


@dataclasses.dataclass(frozen=True, slots=True)
class _Codec:
    partial: bool
    unknown: bool

    def read(self, kind: Any, value: Any, where: str) -> Any:
        """Return `value` as `kind`, or complain of it by `where`."""
        origin, inner = typing.get_origin(kind), typing.get_args(kind)
        if kind is Any:
            return value
        if origin in (typing.Union, types.UnionType):
            if value is None and type(None) in inner:
                return None
            return self.read(next(each for each in inner if each is not type(None)), value, where)
        if dataclasses.is_dataclass(kind):
            return self._object(typing.cast(type, kind), value, where)
        if origin is tuple:
            _check(isinstance(value, list), "a list", value, where)
            kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
            _check(len(kinds) == len(value), f"{len(kinds)} values", value, where)
            pairs = zip(kinds, value, strict=True)
            return tuple(self.read(each, part, f"{where}[{place}]") for place, (each, part) in enumerate(pairs))
        if isinstance(origin, type) and issubclass(origin, Mapping):
            _check(isinstance(value, dict), "an object", value, where)
            return {key: self.read(inner[1], part, _below(where, key)) for key, part in value.items()}
        if origin is typing.Literal:
            # Python takes 1, 1.0 and True for the same.
            fits = any(type(value) is type(each) and value == each for each in inner)
            _check(fits, f"one of {', '.join(map(repr, inner))}" if len(inner) > 1 else repr(inner[0]), value, where)
            return value
        return _simple(kind, value, where)

    def _object(self, kind: Any, value: Any, where: str) -> Any:
        _check(isinstance(value, dict), "an object", value, where)
        fields = {key_of(field): field for field in dataclasses.fields(kind)}
        if not self.unknown and (more := sorted(set(value) - set(fields))):
            raise InputError(f"{_below(where, more[0])} is unknown: the keys are {', '.join(fields)}")
        hints, given = hints_of(kind), {}
        for key, field in fields.items():
            if key in value:
                given[field.name] = self.read(hints[field.name], value[key], _below(where, key))
            elif is_needed(field, self.partial):
                raise InputError(f"{_below(where, key)} is missing")
        try:
            return kind(**given)
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error


def _simple(kind: Any, value: Any, where: str) -> Any:
    if kind is Path:
        _check(isinstance(value, str), "a path", value, where)
        return Path(value)
    if kind is float:
        # An integer may be beyond what a float can hold.
        fits = type(value) in (int, float) and -_LARGEST <= value <= _LARGEST
        _check(fits, "a finite number", value, where)
        return float(value)
    if kind is int:
        # To JSON, and so to a schema, 1.0 is a whole number.
        value = int(value) if type(value) is float and value.is_integer() else value
        _check(type(value) is int and -_LARGEST <= value <= _LARGEST, "a whole number", value, where)
        return value
    rules = {str: "a text", bool: "true or false"}
    _check(type(value) is kind, rules.get(kind, f"a {kind.__name__}"), value, where)
    return value


def _below(where: str, key: str) -> str:
    # Layers, and so some keys, are named by users.
    key = key if key.isprintable() else repr(key)
    return f"{where} {key}" if where.endswith(":") else f"{where}.{key}"


def _check(right: bool, rule: str, value: Any, where: str) -> None:
    if not right:
        raise InputError(f"{where} must be {rule}, but is {_shown(value)}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
