"""What code a function can run: the definitions it reaches by name, read from the syntax trees of a package."""

from __future__ import annotations

import gc
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lrfdse.base.syntax import Import, Module, parse_module, read_part, short_digest

_INCLUDE = re.compile(rb'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"', re.MULTILINE)


def included_files(path: Path) -> tuple[Path, ...]:
    """Return the files beside a C file that it includes by name (``#include "name"``), and those that they include."""
    found: dict[Path, None] = {}
    todo = [path]
    while todo:
        for name in _INCLUDE.findall(todo.pop().read_bytes()):
            other = path.with_name(name.decode())
            if other.is_file() and other not in found:
                found[other] = None
                todo.append(other)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Closure:
    """The code that some definitions can run."""

    modules: Mapping[str, str]
    """Module name to a digest of what is reached in it."""
    libraries: frozenset[str]
    """Import names of the packages outside the standard library that reached code uses."""
    files: Mapping[str, str]
    """File name to a digest of its content, of the files beside the code that reached code names."""


class Sources:
    """The modules of a package, and of those beside it that use it, each read when it is first reached.

    A closure starts at definitions and follows every name in them, annotations, decorators and imports inside
    functions included, over the definitions that the names stand for, in whatever module. Imports under
    ``if TYPE_CHECKING:`` do not happen and are not followed. A name that is imported through a package's
    ``__init__`` leads to where it is defined, and to nothing else of that package.

    Of every module in which something is reached, the statements that do something on import are reached, too: all but
    imports, plain definitions and assignments that call nothing. So is a definition that a decorator or a base class of
    this package may keep account of. A text in reached code that is the name of a file beside the module or in a data
    folder brings in that file, and what a C file includes.

    Not seen is what is not named: the code behind an object that is passed in. Its maker has a key of its own.

    Parameters
    ----------
    folder
        The package's folder; its name is the package's.
    data
        Folders of files that are not Python and decide results.
    without
        Modules that decide no result: they are not followed.
    beside
        Folders of other packages, whose code is followed alike.
    """

    def __init__(
        self, folder: Path, data: Iterable[Path] = (), without: Iterable[str] = (), beside: Iterable[Path] = ()
    ) -> None:
        self.packages = {each.name: each.parent for each in (folder, *beside)}
        self._data = tuple(data)
        self.without = frozenset(without)
        self._modules: dict[str, Module] = {}

    def forget(self) -> None:
        """Read the files that have changed again."""
        kept = {name: made for name, made in self._modules.items() if self._path(name) == made.path}
        self._modules = {name: made for name, made in kept.items() if made.path.read_bytes() == made.source}

    def closure(self, wanted: Iterable[tuple[str, str | None]]) -> Closure:
        """Return what is reached from definitions.

        Parameters
        ----------
        wanted
            Module and name of each definition; without a name, all of the module.

        Raises
        ------
        ModuleNotFoundError
            Reached code imports a module of the package that has no file.
        AttributeError
            A module has no definition of a name that is imported from it.
        SyntaxError
            A module cannot be parsed.
        """
        # The collector would look through every new tree again and again, and find nothing: half the time.
        collects = gc.isenabled()
        gc.disable()
        try:
            return _Walk(self).closure(wanted)
        finally:
            if collects:
                gc.enable()

    def module(self, name: str) -> Module:
        """Return a module, parsed."""
        if name not in self._modules:
            path = self._path(name)
            if path is None:
                raise ModuleNotFoundError(f"{name}: no such module in {self._parent(name)}", name=name)
            self._modules[name] = parse_module(name, path)
        return self._modules[name]

    def has_module(self, name: str) -> bool:
        """Return whether there is a file of a module."""
        return name in self._modules or self._path(name) is not None

    def defines(self, module: str, name: str) -> bool:
        """Return whether a module has a definition, an import or a submodule of that name."""
        made = self.module(module)
        return name in made.by_name or name in made.imports or self.has_module(f"{module}.{name}")

    def file(self, name: str, module: Module) -> Path | None:
        """Return the file of that name beside a module or in a data folder, or None."""
        places = (folder / name for folder in (module.path.parent, *self._data))
        return next((path for path in places if path.is_file()), None)

    def _path(self, name: str) -> Path | None:
        base = self._parent(name).joinpath(*name.split("."))
        return next((p for p in (base / "__init__.py", base.with_name(f"{base.name}.py")) if p.is_file()), None)

    def _parent(self, name: str) -> Path:
        return self.packages[name.partition(".")[0]]


class _Walk:
    """One walk over definitions."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._reached: dict[str, set[int]] = {}
        self._bound: dict[str, set[str]] = {}
        """Module to what the names that its reached statements import stand for."""
        self._todo: list[tuple[Module, int]] = []
        self._libraries: set[str] = set()
        self._files: dict[str, str] = {}

    def closure(self, wanted: Iterable[tuple[str, str | None]]) -> Closure:
        for module, name in wanted:
            if name is None:
                self._whole(module)
            else:
                self._follow(Import(module, name), None)
        while self._todo:
            self._follow_all(*self._todo.pop())
        modules = {}
        for name, places in self._reached.items():
            parts = self._sources.module(name).parts
            told = [*(read_part(parts[i]).digest for i in sorted(places)), *sorted(self._bound.get(name, ()))]
            modules[name] = short_digest("\0".join(told).encode())
        return Closure(modules, frozenset(self._libraries), dict(self._files))

    def _follow_all(self, module: Module, place: int) -> None:
        part = read_part(module.parts[place])
        references = [(name, None) for name in part.names] + list(part.attributes)
        # An import that the statement itself makes no use of happens all the same; one under a top-level `if` or `try`
        # is bound in the whole module.
        used = part.names | {name for name, _ in part.attributes}
        references += [(name, None) for name in part.imports if part.is_compound or name not in used]
        for name, attribute in references:
            for own in module.by_name.get(name, ()):
                self._reach(module, own)
            targets = set(part.imports.get(name, ()))
            if name in module.imports:
                targets.add(module.imports[name])
            for target in targets:
                found = self._follow(target, attribute)
                self._bound.setdefault(module.name, set()).add(f"{name}.{attribute}={found}")
        for text in part.texts:
            if (path := self._sources.file(text, module)) is not None:
                self._name_file(path, module)

    def _follow(self, target: Import, attribute: str | None) -> str:
        """Reach what an import stands for, of a module only the attribute where there is one, and return its name."""
        if (top := target.module.partition(".")[0]) not in self._sources.packages:
            if top not in sys.stdlib_module_names:
                self._libraries.add(top)
            return f"{target.module}:{target.name}"
        found = self._resolved(target)
        if found.module.partition(".")[0] not in self._sources.packages:
            return self._follow(found, attribute)
        if found.module in self._sources.without:
            return found.module
        if found.name is None:
            if attribute is None or found.dotted or not self._sources.defines(found.module, attribute):
                self._whole(found.module)
                return found.module
            return self._follow(Import(found.module, attribute), None)
        module = self._sources.module(found.module)
        for place in (*module.by_name[found.name], *module.always):
            self._reach(module, place)
        return f"{found.module}:{found.name}"

    def _resolved(self, target: Import) -> Import:
        """Return where a name is defined: a module of the package or a definition in one, or what it is elsewhere."""
        seen = {target}
        while target.name is not None and target.module.partition(".")[0] in self._sources.packages:
            module = self._sources.module(target.module)
            if target.name in module.by_name:
                return target
            if target.name in module.imports:
                target = module.imports[target.name]
            elif self._sources.has_module(f"{target.module}.{target.name}"):
                target = Import(f"{target.module}.{target.name}")
            else:
                raise AttributeError(f"{target.module} ({module.path}) defines no {target.name!r}")
            if target in seen:
                raise AttributeError(f"{target.module} ({module.path}) imports {target.name!r} from itself")
            seen.add(target)
        return target

    def _whole(self, name: str) -> None:
        module = self._sources.module(name)
        self._reached.setdefault(name, set())
        for place in range(len(module.parts)):
            self._reach(module, place)

    def _reach(self, module: Module, place: int) -> None:
        if place not in (known := self._reached.setdefault(module.name, set())):
            known.add(place)
            self._todo.append((module, place))

    def _name_file(self, path: Path, module: Module) -> None:
        if path.suffix == ".py":
            self._whole(f"{module.package}.{path.stem}")
            return
        name = f"{path.parent.name}/{path.name}"
        if name not in self._files:
            self._files[name] = short_digest(path.read_bytes())
            for other in included_files(path):
                self._name_file(other, module)
