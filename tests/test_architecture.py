"""The structure that docs/architecture.md draws is the structure that the code has."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HOUSE = ROOT / "lrfdse"
HEAVY = {"matplotlib", "numpy", "onnx", "onnx_ir", "onnxruntime", "optuna", "pandas", "plotly", "scipy", "tvm"}
"""What takes long to import: nothing that every command needs may load it."""
ANYTHING = "all"
"""What the table says of packages that stand above all others."""


def dotted(path: Path) -> str:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {dotted(path): path for path in sorted(HOUSE.rglob("*.py"))}


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def room(module: str) -> str:
    """Return the package on the first level, or the module where it stands beside the packages."""
    return module.split(".")[1] if "." in module else "lrfdse"


@cache
def imports(module: str) -> tuple[tuple[str, bool, bool], ...]:
    """Return what a module imports, whether for types only, and whether when it is loaded."""
    return tuple(imported(tree(module), module))


def imported(whole: ast.Module, module: str) -> Iterator[tuple[str, bool, bool]]:
    typed: set[int] = set()
    inner: set[int] = set()
    for node in ast.walk(whole):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            typed |= {id(each) for each in ast.walk(node)}
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inner |= {id(each) for each in ast.walk(node)}
    for node in ast.walk(whole):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in found]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            yield name, id(node) in typed, id(node) not in inner and id(node) not in typed


@cache
def defined(module: str) -> set[str]:
    """Return the names that a module defines itself, those for type checkers included."""
    found = set()
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


@cache
def allowed() -> dict[str, set[str]]:
    """Read the table of packages: its last column names what each may import."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `lrfdse/(\w+)(?:/|\.py)` \|.*\|([^|]*)\|$", text, re.MULTILINE)
    rooms = {name for name, _ in rows}
    return {name: rooms - {name} if may.strip() == ANYTHING else set(re.findall(r"`(\w+)`", may)) for name, may in rows}


def test_every_package_stands_in_the_table():
    rooms = {room(module) for module in MODULES} - {"lrfdse", "__main__"}
    assert rooms == set(allowed())


@pytest.mark.parametrize("name", sorted(allowed()))
def test_a_package_imports_what_the_table_allows(name):
    may = allowed()[name] | {name, "lrfdse"}
    wrong = {
        f"{module} -> {target}"
        for module in MODULES
        if room(module) == name
        for target, _, _ in imports(module)
        if target.startswith("lrfdse") and room(target) not in may
    }
    assert not wrong


def test_the_table_allows_nothing_that_nobody_imports():
    used = defaultdict(set)
    for module in MODULES:
        for target, _, _ in imports(module):
            if target.startswith("lrfdse"):
                used[room(module)].add(room(target))
    spare = {name: may - used[name] for name, may in allowed().items() if len(may) < len(allowed()) - 1}
    assert {name: sorted(left) for name, left in spare.items() if left} == {}


def test_a_package_imports_only_what_stands_above_it():
    table = allowed()
    order = list(table)
    whole = {name for name, may in table.items() if len(may) == len(table) - 1}
    below = {
        name: sorted(each for each in may if order.index(each) > order.index(name))
        for name, may in table.items()
        if name not in whole
    }
    assert not {name: late for name, late in below.items() if late}


def test_modules_do_not_import_each_other_in_a_circle():
    """Not for types either: who must know a module to read another has to know both."""
    left = {
        module: {target for target, _, _ in imports(module) if target in MODULES and target != "lrfdse"} - {module}
        for module in MODULES
    }
    while ready := [module for module, targets in left.items() if not targets & set(left)]:
        for module in ready:
            del left[module]
    assert not left


def test_names_come_from_the_module_that_defines_them():
    """No package hands on what another module defines; `lrfdse` alone hands on the names of `lrfdse.api`."""
    wrong = set()
    for module in MODULES:
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.ImportFrom) and node.module in MODULES:
                known = defined(node.module)
                wrong |= {
                    f"{module}: {node.module}.{alias.name}"
                    for alias in node.names
                    if alias.name not in known and f"{node.module}.{alias.name}" not in MODULES
                }
    assert not wrong


def test_private_names_stay_in_their_module():
    wrong = {
        f"{module}: {node.module}.{alias.name}"
        for module in MODULES
        for node in ast.walk(tree(module))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("lrfdse")
        for alias in node.names
        if alias.name.startswith("_") and not alias.name.startswith("__")
    }
    assert not wrong


@pytest.mark.parametrize("module", ["lrfdse", "lrfdse.cli.app", "lrfdse.check.gate", "lrfdse.results.read"])
def test_what_every_command_needs_loads_nothing_heavy(module):
    code = f"import sys, {module}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not HEAVY & set(loaded.split())


def test_nothing_imports_the_benchmarks_or_the_tests():
    outside = {"benchmarks", "tests", "scripts"}
    assert not {m for m in MODULES for target, _, _ in imports(m) if target.split(".")[0] in outside}
