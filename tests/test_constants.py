"""Constants that decide something say what they are: numbers of a module that are named in capitals."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import lrfdse

NAME = re.compile(r"_?[A-Z][A-Z0-9_]*")


def is_numeric(value):
    """Whether an expression is a number, arithmetic on numbers, or a collection of such."""
    if isinstance(value, ast.Constant):
        return type(value.value) in (int, float)
    if isinstance(value, ast.UnaryOp):
        return is_numeric(value.operand)
    if isinstance(value, ast.BinOp):
        return is_numeric(value.left) and is_numeric(value.right)
    if isinstance(value, ast.Tuple | ast.List | ast.Set):
        return bool(value.elts) and all(map(is_numeric, value.elts))
    if isinstance(value, ast.Dict):
        return bool(value.values) and all(map(is_numeric, value.values))
    return False


def names_of(statement):
    """The names in capitals that a statement binds to numbers."""
    if isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets, value = [statement.target], statement.value
    else:
        return []
    bound = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
    return [name for name in bound if NAME.fullmatch(name) and is_numeric(value)]


def said_of(body, place):
    """The text right below a statement; empty where there is none."""
    below = body[place + 1] if place + 1 < len(body) else None
    if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
        return below.value.value
    return ""


def mute(source):
    """Line and names of the numeric constants without a sentence below them."""
    body = ast.parse(source).body
    return [
        (statement.lineno, *names)
        for place, statement in enumerate(body)
        if (names := names_of(statement)) and not re.match(r"\S.*\s\S.*[.:]", said_of(body, place), re.DOTALL)
    ]


def test_every_number_with_a_name_has_a_sentence():
    root = Path(lrfdse.__file__).parent
    found = [
        f"{path.relative_to(root)}:{line}: {', '.join(names)}"
        for path in sorted(root.rglob("*.py"))
        for line, *names in mute(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("LIMIT = 3", [(1, "LIMIT")]),
        ("_LIMIT: int = -3", [(1, "_LIMIT")]),
        ("A, B = 1, 2.5", [(1, "A", "B")]),
        ("SIZES = {'a': 1 << 20}", [(1, "SIZES")]),
        ("LIMIT = 3\n'''Words'''", [(1, "LIMIT")]),
        ("LIMIT = 3\n\nOTHER = 4\n'''Seconds until it ends.'''", [(1, "LIMIT")]),
        ("LIMIT = 3\n'''Seconds until it ends.'''", []),
        ("NAME = 'a'\nlimit = 3\nFLAG = True\nMADE = made(3)\nPAIR = (1, 'a')", []),
    ],
)
def test_what_is_mute_is_seen(source, names):
    assert mute(source) == names
