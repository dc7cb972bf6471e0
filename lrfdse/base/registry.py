"""Registries: the things of one kind by name, whether lrfdse brings them or a plug-in does.

A plug-in is an installed package whose metadata names its objects under the registry's group::

    [project.entry-points."lrfdse.meters"]
    counted = "my_package.meters:CountedMeter"

Metadata are read, and objects imported, when somebody asks for them: a registry costs nothing until then.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from lrfdse.errors import InputError, ToolError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints

T = TypeVar("T")


class Registry(Generic[T]):
    """The objects of one kind, by name.

    Parameters
    ----------
    group
        The entry-point group under which plug-ins offer objects of this kind, such as "lrfdse.meters".
    what
        What one of them is called in messages, such as "meter".
    builtins
        The objects that lrfdse brings, or where they are: a text "module:attribute" is imported at the first `get`.

    >>> solvers = Registry("example.solvers", "solver", {"root": "math:sqrt"})
    >>> solvers.get("root")(9.0)
    3.0
    >>> with solvers.register("twice", lambda x: 2 * x):
    ...     solvers.names(), solvers.get("twice")(9.0)
    (('root', 'twice'), 18.0)
    >>> solvers.get("twice")
    Traceback (most recent call last):
    lrfdse.errors.InputError: unknown solver 'twice': choose from root
    """

    def __init__(self, group: str, what: str, builtins: Mapping[str, str | T]) -> None:
        self.group = group
        self.what = what
        self._builtins = dict(builtins)
        self._registered: dict[str, tuple[T, str]] = {}
        self._imported: dict[str, T] = {}
        self._found: dict[str, tuple[EntryPoint, ...]] | None = None

    def get(self, name: str) -> T:
        """Return the object called `name`.

        Raises
        ------
        InputError
            There is none of this name, or more than one.
        ToolError
            The plug-in that offers it cannot be imported.
        """
        if name in self._registered:
            return self._registered[name][0]
        if name not in self._imported:
            self._imported[name] = self._import(name)
        return self._imported[name]

    def names(self) -> tuple[str, ...]:
        """Return all names: the built-in ones in their order, then those of plug-ins, then those of this process."""
        return tuple(dict.fromkeys((*self._builtins, *sorted(self._plugins), *self._registered)))

    def origin(self, name: str) -> str:
        """Return the distribution and version that `name` comes from, such as "my-package 1.0"; empty for lrfdse's own.

        Objects that were registered in this process have no distribution: they are "registered in this process".
        """
        if name in self._registered:
            return "registered in this process"
        return "" if name in self._builtins else ", ".join(map(_distribution, self._plugins.get(name, ())))

    def identity(self, name: str) -> str:
        """Return what stands for the object in the key of a stored result that depends on it.

        For lrfdse's own, whose code is in such keys anyway, that is the name; for others the name, the distribution,
        and a digest of all Python files of the package that its entry point names. An object that was registered in
        this process is another one with every registration.

        Raises
        ------
        InputError
            There is none of this name, or more than one.
        ToolError
            The plug-in that offers it cannot be imported.
        """
        self.get(name)
        if name in self._builtins:
            return name
        if name in self._registered:
            return f"{name}@{self.origin(name)}:{self._registered[name][1]}"
        return f"{name}@{self.origin(name)}:{_source_digest(self._plugins[name][0].module)}"

    def register(self, name: str, value: T) -> contextlib.AbstractContextManager[object]:
        """Add an object to this process, for tests and notebooks; child processes do not know it.

        Parameters
        ----------
        name
            Its name. One that was registered before is replaced; one that is built in or installed is refused.
        value
            The object.

        Returns
        -------
        AbstractContextManager
            Takes the object out again at the end of a ``with`` block; without one it stays until `unregister`.

        Raises
        ------
        InputError
            The name is built in, or a plug-in's.
        """
        import uuid

        if name in self._builtins or name in self._plugins:
            owner = self.origin(name) or "lrfdse"
            raise InputError(f"{self.what} {name!r} is there already, from {owner}: register yours under another name")
        self._registered[name] = value, uuid.uuid4().hex[:16]
        after = contextlib.ExitStack()
        after.callback(self.unregister, name)
        return after

    def unregister(self, name: str) -> None:
        """Take out an object that was registered in this process; do nothing where there is none."""
        self._registered.pop(name, None)

    @property
    def _plugins(self) -> dict[str, tuple[EntryPoint, ...]]:
        """What installed distributions offer; their metadata are read once."""
        if self._found is None:
            found: dict[str, tuple[EntryPoint, ...]] = {}
            for entry in _offers(self.group):
                found[entry.name] = (*found.get(entry.name, ()), entry)
            self._found = found
        return self._found

    def _import(self, name: str) -> T:
        offers = self._plugins.get(name, ())
        if len(offers) + (name in self._builtins) > 1:
            owners = [*(["lrfdse"] if name in self._builtins else []), *map(_distribution, offers)]
            raise InputError(
                f"{self.what} {name!r} is offered by {' and '.join(owners)}: uninstall all but one, or rename theirs"
            )
        if offers:
            return self._load(offers[0])
        if name not in self._builtins:
            raise InputError(f"unknown {self.what} {name!r}: choose from {', '.join(self.names())}")
        value = self._builtins[name]
        if not isinstance(value, str):
            return value
        module, _, attribute = value.partition(":")
        return cast(T, getattr(importlib.import_module(module), attribute))

    def _load(self, entry: EntryPoint) -> T:
        try:
            return cast(T, entry.load())
        # A plug-in's module may raise anything while it is imported.
        except Exception as error:
            text = " ".join(str(error).split())
            raise ToolError(
                f"{self.what} {entry.name!r} of {_distribution(entry)} cannot be loaded from {entry.value}: "
                f"{type(error).__name__}: {text}"
            ) from error


def installed(group: str) -> tuple[str, ...]:
    """Return the names that plug-ins offer under an entry-point group, sorted; nothing is imported."""
    return tuple(sorted({entry.name for entry in _offers(group)}))


def _offers(group: str) -> EntryPoints:
    return _entry_points(tuple(sys.path)).select(group=group)


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"


@functools.lru_cache(maxsize=1)
def _entry_points(_path: tuple[str, ...]) -> EntryPoints:
    """Return what all distributions on Python's path offer, read once for all registries: it takes milliseconds."""
    from importlib.metadata import entry_points

    # Python 3.11 gives another class here, which selects alike.
    return cast("EntryPoints", entry_points())


def _source_digest(module: str) -> str:
    """Return a digest of every Python file of the top-level package that `module` is in."""
    top = sys.modules[module.partition(".")[0]]
    files = sorted(file for folder in getattr(top, "__path__", ()) for file in Path(folder).rglob("*.py"))
    if not files:
        # A package that is one file.
        files = [Path(str(top.__file__))]
    return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()[:16]
