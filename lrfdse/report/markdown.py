"""Texts in GitHub's Markdown, whatever the names in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def plain(text: str) -> str:
    r"""Return text that Markdown takes as it is, on one line.

    >>> print(plain("a_b<c> | d"))
    a\_b\<c\> \| d
    """
    return re.sub(r"([\\`*_{}\[\]<>#|!~&])", r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    r"""Return a code span, fit for a table's cell.

    >>> print(code("fc1"), code("a`b|c"))
    `fc1` `` a`b\|c ``
    """
    text = " ".join(text.split()).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    gap = " " if "`" in text else ""
    return f"{fence}{gap}{text}{gap}{fence}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; a column whose name ends in a colon is aligned to the right.

    >>> table(["a", "b:"], [["x", "1"]])
    ['| a | b |', '|---|--:|', '| x | 1 |']
    """
    names = [name.removesuffix(":") for name in columns]
    rules = ["--:" if name.endswith(":") else "---" for name in columns]
    return [f"| {' | '.join(names)} |", f"|{'|'.join(rules)}|", *(f"| {' | '.join(row)} |" for row in rows)]
