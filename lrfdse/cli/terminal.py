"""What standard output and standard error can show: colours and cursor movements, or plain lines."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_LEAST = 20
"""Columns that texts are wrapped to on a terminal that says it has fewer. Chosen, not measured: words fit them."""

_UNSEEN_WIDTH = 180
"""Columns of what goes to a file or a pipe. Chosen, not measured: most plans of three layers fit on a line."""


def console() -> Console:
    """Return standard output as a console that does not cut tables where nobody sees the width.

    Colours need a terminal or ``FORCE_COLOR``, and no ``NO_COLOR``; both count where they are not empty.
    """
    coloured = colours(sys.stdout)
    if not is_terminal(sys.stdout):
        return _console(coloured, width=_UNSEEN_WIDTH, force_terminal=coloured)
    return _console(coloured)


def print_line(out: Console, line: Text | str, style: str | None = None) -> None:
    """Print a line as it is: a terminal that is narrower wraps it, and it can be copied whole."""
    out.print(line, style=style, soft_wrap=True, highlight=False)


def print_lines(out: Console, lines: Iterable[Text]) -> None:
    """Print lines as `print_line` does, such as those of a table."""
    for line in lines:
        print_line(out, line)


def print_table(out: Console, table: Table) -> None:
    """Print a table without blanks at the ends of its lines."""
    from rich.text import Text

    for parts in out.render_lines(table, pad=False):
        line = Text.assemble(*((part.text, part.style or "") for part in parts))
        line.rstrip()
        print_line(out, line)


def plain_table(title: str, texts: Sequence[str], numbers: Sequence[str]) -> Table:
    """Return a table without lines whose columns of texts stand on the left and of numbers on the right, yet empty."""
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="bold")
    for name in texts:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def print_wrapped(out: Console, text: str, indent: int = 0, style: str | None = None) -> None:
    """Print a text broken between words, its second and later lines indented."""
    for line in textwrap.wrap(text, max(_LEAST, out.width), subsequent_indent=" " * indent) or [""]:
        print_line(out, line, style)


def _console(coloured: bool, **more: Any) -> Console:
    """Return a console that prints names as they are: a layer may be called "[bold]" or ":x:"."""
    from rich.console import Console

    return Console(no_color=not coloured, markup=False, emoji=False, highlight=False, **more)


def is_terminal(stream: TextIO) -> bool:
    """Return whether a person sees `stream` on something that moves its cursor: no file, no pipe, no CI log."""
    return stream.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("CI")


def colours(stream: TextIO) -> bool:
    """Return whether to colour what goes to `stream`."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or is_terminal(stream)
