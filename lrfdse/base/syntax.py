"""Modules as statements: what each binds and refers to, and a digest of its syntax tree."""

from __future__ import annotations

import ast
import builtins
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

_FILE_NAME = re.compile(r"[\w-]+\.\w+")
_BUILTINS = frozenset(dir(builtins))
_Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Import:
    """What an import binds a name to: a module, or with `name` what the module calls so."""

    module: str
    name: str | None = None
    dotted: bool = False
    """Whether it was ``import a.b``, which binds the name ``a``."""


@dataclass(slots=True)
class Part:
    """One statement of a module: its digest, and what it refers to, both filled in by `read_part`."""

    node: ast.stmt
    package: str
    """The package that relative imports in it start from."""
    digest: str = ""
    names: set[str] = field(default_factory=set)
    attributes: set[tuple[str, str]] = field(default_factory=set)
    """Names with an attribute of theirs."""
    imports: dict[str, set[Import]] = field(default_factory=dict)
    """Name inside it to what the name may stand for."""
    texts: set[str] = field(default_factory=set)
    """Those that could be file names."""

    @property
    def is_compound(self) -> bool:
        """Whether it is neither a definition nor an assignment, so that what it imports is bound in the module."""
        return not isinstance(self.node, _Definition | ast.Assign | ast.AnnAssign)


@dataclass(slots=True)
class Module:
    """A module: the statements that are executed, and what its names stand for."""

    name: str
    path: Path
    source: bytes
    parts: list[Part] = field(default_factory=list)
    by_name: dict[str, list[int]] = field(default_factory=dict)
    """Name to the statements that bind it."""
    always: list[int] = field(default_factory=list)
    """Statements that do something when the module is imported."""
    imports: dict[str, Import] = field(default_factory=dict)

    @property
    def package(self) -> str:
        """The package that relative imports start from."""
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


def short_digest(content: bytes) -> str:
    """Return a name for a content, of 16 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()[:16]


def parse_module(name: str, path: Path) -> Module:
    """Read the statements of a module that are executed.

    Raises
    ------
    SyntaxError
        The file cannot be parsed, or imports ``*``.
    """
    made = Module(name, path, path.read_bytes())
    for statement in _runtime(ast.parse(made.source, str(path)).body):
        _enter(made, statement)
    return made


def _runtime(statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that are executed, without those for type checkers and without texts."""
    for statement in statements:
        if isinstance(statement, ast.If) and _for_types(statement.test):
            yield from _runtime(statement.orelse)
        elif not _is_text(statement):
            yield statement


def _for_types(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _is_text(statement: ast.AST) -> bool:
    """Return whether a statement is a docstring, or a text that explains what stands before it."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _enter(module: Module, statement: ast.stmt) -> None:
    """Enter a statement into a module: as an import, as what binds names, as what does something, or as both."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        for name, target in _imported(statement, module.package):
            module.imports[name] = target
        return
    if isinstance(statement, _Definition):
        names = {statement.name}
        passive = all(_from_outside(expression, module) for expression in _makers(statement))
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        if all(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return
        names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
        plain = all(isinstance(target, ast.Name | ast.Tuple) for target in targets)
        passive = plain and not any(isinstance(node, ast.Call) for node in ast.walk(statement))
    else:
        names, passive = set(_bound(statement, module.package)), False
    place = len(module.parts)
    module.parts.append(Part(statement, module.package))
    for name in names:
        module.by_name.setdefault(name, []).append(place)
    if not passive:
        module.always.append(place)


def _makers(statement: _Definition) -> list[ast.expr]:
    """Return what is called to make a function or a class, and sees it."""
    if not isinstance(statement, ast.ClassDef):
        return statement.decorator_list
    return [*statement.decorator_list, *statement.bases, *(keyword.value for keyword in statement.keywords)]


def _from_outside(expression: ast.expr, module: Module) -> bool:
    """Return whether an expression starts with a builtin or an import from outside the package."""
    while isinstance(expression, ast.Attribute | ast.Call | ast.Subscript):
        expression = expression.func if isinstance(expression, ast.Call) else expression.value
    if not isinstance(expression, ast.Name):
        return False
    if expression.id in module.imports:
        return module.imports[expression.id].module.partition(".")[0] != module.name.partition(".")[0]
    return expression.id in _BUILTINS and expression.id not in module.by_name


def _bound(statement: ast.stmt, package: str) -> Iterator[str]:
    """Yield the names that a statement may bind in its module."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, _Definition):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name for name, _ in _imported(node, package))


def _imported(statement: ast.Import | ast.ImportFrom, package: str) -> Iterator[tuple[str, Import]]:
    """Yield the names that an import binds, and to what."""
    if isinstance(statement, ast.Import):
        for alias in statement.names:
            dotted = alias.asname is None and "." in alias.name
            yield alias.asname or alias.name.partition(".")[0], Import(alias.name, dotted=dotted)
        return
    source = statement.module or ""
    if statement.level:
        base = ".".join(package.split(".")[: len(package.split(".")) - statement.level + 1])
        source = f"{base}.{source}".rstrip(".")
    for alias in statement.names:
        if alias.name == "*":
            raise SyntaxError(f"`from {source} import *` hides what is imported: name it")
        yield alias.asname or alias.name, Import(source, alias.name)


def read_part(part: Part) -> Part:
    """Fill in a statement's digest, of its syntax tree without positions and texts, and what it refers to."""
    if part.digest:
        return part
    out: list[str] = []
    progress = out.append

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Name):
            part.names.add(node.id)
            progress(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            part.attributes.add((node.value.id, node.attr))
            progress(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Constant):
            progress(repr(node.value))
            if isinstance(node.value, str) and len(node.value) < 80 and _FILE_NAME.fullmatch(node.value):
                part.texts.add(node.value)
        elif isinstance(node, ast.If) and _for_types(node.test):
            visit_all(node.orelse)
        elif not isinstance(node, ast.Expr) or not _is_text(node):
            if isinstance(node, ast.Import | ast.ImportFrom):
                for bound, target in _imported(node, part.package):
                    part.imports.setdefault(bound, set()).add(target)
            progress(type(node).__name__)
            for name in node._fields:
                if name in _UNTOLD:
                    continue
                value = getattr(node, name, None)
                if isinstance(value, list):
                    visit_all(value)
                elif isinstance(value, ast.AST):
                    visit(value)
                else:
                    progress(repr(value))

    def visit_all(nodes: Iterable[ast.AST]) -> None:
        progress("[")
        for node in nodes:
            if isinstance(node, ast.AST):
                visit(node)
            else:
                progress(repr(node))
        progress("]")

    visit(part.node)
    part.digest = short_digest(" ".join(out).encode("utf-8", "surrogatepass"))
    return part


_UNTOLD = ("ctx", "type_comment")
"""Fields of nodes that are left out of the digest: whether a name is read or bound, its place says."""
