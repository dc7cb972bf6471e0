"""What standard output and standard error can show: colours and cursor movements, or plain lines."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

_NARROWEST = 100
"""Columns below which a terminal wraps lines. Chosen, not measured: ids, sizes and latencies of a design fit them."""
_UNSEEN_WIDTH = 180
"""Columns of what goes to a file or a pipe. Chosen, not measured: most plans of three layers fit on a line."""


def console() -> Console:
    """Return standard output as a console that does not cut tables where nobody sees the width.

    Colours need a terminal or ``FORCE_COLOR``, and no ``NO_COLOR``; both count where they are not empty.
    """
    coloured = colours(sys.stdout)
    if not is_terminal(sys.stdout):
        return _console(coloured, width=_UNSEEN_WIDTH, force_terminal=coloured)
    found = _console(coloured)
    # Ids must be readable whole: a narrow terminal wraps lines rather than cutting columns.
    return found if found.width >= _NARROWEST else _console(coloured, width=_NARROWEST, soft_wrap=True)


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
