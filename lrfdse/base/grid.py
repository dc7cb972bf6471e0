"""Tables whose columns are dropped in a fixed order until every row fits on one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

_GAP = 2
"""Blanks between columns."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of texts, one a row.

    Of several columns and second texts, the one with the highest `drop` goes first.
    """

    name: str
    """Its head, whose words may stand below each other; those joined by a no-break space stay together."""
    cells: Sequence[str]
    left: bool = False
    drop: int | None = None
    """When it is dropped; None for a column that always stays."""
    more: Sequence[str] = ()
    """A second text for each cell, to stand behind the first; empty where there is none."""
    drop_more: int = 0
    """When the second texts are dropped."""


def fitted(columns: Sequence[Column], width: int, title: str = "", styles: Sequence[str] = ()) -> list[Text]:
    """Return the lines of a table of the columns that fit `width`: a title, heads, and a line a row.

    Where the columns that always stay are wider, the lines are, too. No line has blanks at its end.

    Parameters
    ----------
    columns
        The columns, from left to right, all with as many cells.
    width
        Characters of a line.
    title
        Stands above the table; it may be longer than a line.
    styles
        A style of rich for each row; none where it is empty.
    """
    from rich.text import Text

    kept = _kept(columns, width)
    wide = [_width(column.name, cells) for column, cells in kept]
    left = [column.left for column, _ in kept]
    heads = [_broken(column.name, most) for (column, _), most in zip(kept, wide, strict=True)]
    deep = max(map(len, heads), default=0)
    lines = [Text(title, style="bold")] if title else []
    for place in range(deep):
        words = [head[place - deep + len(head)] if place >= deep - len(head) else "" for head in heads]
        lines.append(Text(_line(words, wide, left), style="bold"))
    for place, row in enumerate(zip(*(cells for _, cells in kept), strict=True)):
        lines.append(Text(_line(row, wide, left), style=styles[place] if styles else ""))
    return lines


def _line(words: Sequence[str], wide: Sequence[int], left: Sequence[bool]) -> str:
    cells = []
    for word, most, to_left in zip(words, wide, left, strict=True):
        blanks = " " * (most - _len(word))
        cells.append(word + blanks if to_left else blanks + word)
    return (" " * _GAP).join(cells).rstrip(" ")


def _broken(name: str, most: int) -> list[str]:
    """Return a head in lines of at most so many characters, its no-break spaces as blanks."""
    lines = [""]
    for word in name.split(" "):
        if lines[-1] and _len(f"{lines[-1]} {word}") > most:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip(" ")
    return [line.replace("\u00a0", " ") for line in lines]


def _kept(columns: Sequence[Column], width: int) -> list[tuple[Column, Sequence[str]]]:
    order = sorted({drop for c in columns for drop in (c.drop, c.drop_more if c.more else None) if drop is not None})
    while True:
        most = order[-1] if order else -1
        kept = [(c, _cells(c, most)) for c in columns if c.drop is None or c.drop <= most]
        if _total(kept) <= width or not order:
            return kept
        order.pop()


def _cells(column: Column, most: int) -> Sequence[str]:
    """Return the cells with their second texts where those are not dropped, one below the other."""
    if not column.more or column.drop_more > most:
        return column.cells
    wide = max(map(_len, column.more), default=0)
    return [f"{cell} {' ' * (wide - _len(more))}{more}" for cell, more in zip(column.cells, column.more, strict=True)]


def _total(kept: Sequence[tuple[Column, Sequence[str]]]) -> int:
    return sum(_width(column.name, cells) for column, cells in kept) + _GAP * (len(kept) - 1)


def _width(name: str, cells: Sequence[str]) -> int:
    return max([*(_len(word) for word in name.split(" ")), *map(_len, cells)], default=0)


def _len(text: str) -> int:
    from rich.cells import cell_len

    return cell_len(text)
