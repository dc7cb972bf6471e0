"""Options from a TOML file, by the names that they have on the command line, which goes before the file."""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any

import typer

from lrfdse.errors import InputError

_PATHS = ("model", "calib", "eval", "test", "output", "artifacts", "cache", "heal-data")
"""Keys whose value is a path, relative to the file's folder."""
_NOT_IN_FILES = ("config", "dry-run")


def use_file(context: typer.Context, path: Path | None) -> Path | None:
    """Take what a file says as the defaults of a command's parameters: the callback of ``--config``.

    Raises
    ------
    InputError
        The file cannot be read, or it has a key that is no option; the message names the nearest one.
    """
    if path is None or context.resilient_parsing:
        return path
    names = {_key(parameter): str(parameter.name) for parameter in context.command.params}
    known = sorted(set(names) - set(_NOT_IN_FILES))
    found: dict[str, Any] = {}
    for key, value in _read(path).items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise InputError(f"{path}: unknown option {key!r}: {hint}")
        found[names[key]] = _value(path, key, value)
    context.default_map = found
    return path


def _key(parameter: Any) -> str:
    """Return a parameter's name in files: that of its long option, or of the argument."""
    return next((name for name in parameter.opts if name.startswith("--")), str(parameter.name)).removeprefix("--")


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--config {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"--config {path}: not a TOML file: {str(error).splitlines()[0]}") from error


def _value(path: Path, key: str, value: Any) -> Any:
    """Return a value as the command line would have it; paths are those that the file means."""
    from lrfdse.results.config import REPEATED

    if key in REPEATED and isinstance(value, str):
        value = [value]
    if key in REPEATED and isinstance(value, list) and all(isinstance(each, str) for each in value):
        return value
    if isinstance(value, bool):
        return value
    if not isinstance(value, str | int | float):
        raise InputError(f"{path}: {key} takes a text, a number, true or false, but got {type(value).__name__}")
    text = str(value)
    is_file = key in _PATHS or (key in ("target", "space") and text.endswith(".toml"))
    return os.path.normpath(path.parent / text) if is_file or (key == "study" and "://" not in text) else text
