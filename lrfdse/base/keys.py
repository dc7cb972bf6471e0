"""Names for results by everything that decides them: values, the code that computes, the libraries that it uses."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import logging
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrfdse.base.closure import Sources
from lrfdse.base.folders import data_folder

_log = logging.getLogger("lrfdse.keys")

DISTRIBUTIONS = {"PIL": "pillow", "google": "protobuf", "tvm": "apache-tvm", "tvm_ffi": "apache-tvm-ffi"}
"""Import name to the package that provides it, where these differ by more than ``_`` and ``-``.

Of others the provider is looked for among the files of all packages, which takes a second where many are installed."""


def digest(*parts: object) -> str:
    """Return a name for values with an unambiguous `repr`.

    >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest("a1")
    (True, False)
    """
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class CodeKey:
    """What a result owes to code: an entry a module, a library and a data file, each with a digest or a version."""

    entries: Mapping[str, str]

    @property
    def digest(self) -> str:
        """A name for all entries together."""
        return digest(sorted(self.entries.items()))

    def differences(self, other: CodeKey) -> tuple[str, ...]:
        """Return the names of the entries that are not the same in both, sorted."""
        return differences(self.entries, other.entries)


def differences(one: Mapping[str, object], other: Mapping[str, object]) -> tuple[str, ...]:
    """Return the keys whose values are not the same in both, or that only one has, sorted.

    >>> differences({"numpy": "2.1", "python": "3.12"}, {"numpy": "2.2", "python": "3.12", "scipy": "1.16"})
    ('numpy', 'scipy')
    """
    missing = object()
    return tuple(sorted(key for key in {*one, *other} if one.get(key, missing) != other.get(key, missing)))


def code_key(*things: Callable[..., Any] | types.ModuleType, beside: Iterable[Path] = ()) -> CodeKey:
    """Return what results of functions, classes or modules of lrfdse owe to code.

    That is the syntax trees, without comments and docstrings, of all that they reach (`lrfdse.base.closure.Sources`),
    the versions of the libraries used there and of Python, and the data files named there. The code behind an object
    that is passed in is not reached: what made it belongs among `things`, too, or into the key beside them.

    It is computed once a process. Every entry is logged by "lrfdse.keys" at level DEBUG.

    Parameters
    ----------
    things
        Functions, classes and modules of lrfdse or of a package in `beside`.
    beside
        Folders of packages that use lrfdse, whose code is followed alike; of other packages the version counts.

    Raises
    ------
    ModuleNotFoundError, AttributeError, SyntaxError
        Reached code imports what is not there, or cannot be parsed.
    """
    return _code_key(tuple(sorted({_place(thing) for thing in things}, key=repr)), tuple(sorted(beside)))


def result_key(kind: str, **parts: object) -> str:
    """Return the key of a result in the store: a name for everything that decides it.

    Every part is logged by "lrfdse.keys" at level DEBUG: comparing the lines of two runs shows why a result was not
    found.

    Parameters
    ----------
    kind
        What the result is, as the store calls it.
    parts
        What decides it, by name: code keys, and values with an unambiguous `repr`.
    """
    values = {name: part.digest if isinstance(part, CodeKey) else part for name, part in sorted(parts.items())}
    key = digest(kind, list(values.items()))
    for name, value in values.items():
        _log.debug("%s %s: %s = %.200r", kind, key, name, value)
    return key


def forget() -> None:
    """Read the package's files and versions again from now on, for whoever edits code while a process runs."""
    for sources in _SOURCES.values():
        sources.forget()
    _code_key.cache_clear()
    _version.cache_clear()


_SOURCES: dict[tuple[Path, ...], Sources] = {}
"""The sources of code by the names of the packages beside lrfdse."""


def _sources(beside: tuple[Path, ...]) -> Sources:
    if beside not in _SOURCES:
        _SOURCES[beside] = Sources(
            Path(__file__).parents[1],
            data=(data_folder("qemu"),),
            # How results are named and kept, and who hears of the work, decides none of them.
            without=("lrfdse.base.closure", "lrfdse.base.keys", "lrfdse.base.store", "lrfdse.base.events"),
            beside=beside,
        )
    return _SOURCES[beside]


def _place(thing: Callable[..., Any] | types.ModuleType) -> tuple[str, str | None]:
    if isinstance(thing, types.ModuleType):
        return thing.__name__, None
    return thing.__module__, thing.__qualname__.partition(".")[0]


@functools.cache
def _code_key(places: tuple[tuple[str, str | None], ...], beside: tuple[Path, ...]) -> CodeKey:
    sources = _sources(beside)
    if strangers := [module for module, _ in places if module.partition(".")[0] not in sources.packages]:
        raise ModuleNotFoundError(f"{strangers[0]}: no module of {', '.join(sources.packages)}", name=strangers[0])
    found = sources.closure(places)
    versions = {name: _version(name) for name in found.libraries}
    python = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    entries = {**found.modules, **found.files, **versions, **python}
    made = CodeKey(types.MappingProxyType(dict(sorted(entries.items()))))
    _log.debug("code %s: %s", made.digest, ", ".join(f"{module}:{name or '*'}" for module, name in places))
    for name, value in made.entries.items():
        _log.debug("code %s: %s = %s", made.digest, name, value)
    return made


@functools.cache
def _version(library: str) -> str:
    """Return the version of the package that provides a library, "none" where it is not installed."""
    try:
        return importlib.metadata.version(DISTRIBUTIONS.get(library, library))
    except importlib.metadata.PackageNotFoundError:
        providers = sorted(importlib.metadata.packages_distributions().get(library, ()))
        return " ".join(f"{name} {importlib.metadata.version(name)}" for name in providers) or "none"
