"""What numbers owe to code, so that finished ones count for as long as it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from lrfdse.base.keys import code_key


def code(*things: Callable[..., Any]) -> str:
    """Return a name for all the code that functions and classes can run, of the benchmarks and of lrfdse.

    The versions of the libraries used there are part of it, comments and docstrings are not.
    """
    return code_key(*things, beside=(Path(__file__).parent,)).digest
