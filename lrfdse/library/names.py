"""Names of a library: the C identifier that every symbol begins with, and text that is safe inside a C comment."""

from __future__ import annotations

import re

from lrfdse.base.text import clean
from lrfdse.errors import InputError

DEFAULT = "net"
"""The name of a library where none is given."""

_LONGEST = 40
"""Characters of a name. Chosen: C99 promises 31 significant characters of an external name, linkers keep them all."""

_KEYWORDS = (
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const "
    "consteval constexpr constinit const_cast continue decltype default delete do double dynamic_cast else enum "
    "explicit export extern false float for friend goto if import inline int long module mutable namespace new "
    "noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires "
    "restrict return short signed sizeof static static_assert static_cast struct switch template this "
    "thread_local throw true try typedef typeid typename typeof union unsigned using virtual void volatile "
    "wchar_t while xor xor_eq main"
)
"""Words that C or C++ keeps for itself, and the program's own entry."""


def checked_name(name: str) -> str:
    """Return the name of a library, which becomes part of symbols, macros and file names.

    >>> checked_name("mobilenet_v2")
    'mobilenet_v2'

    Raises
    ------
    InputError
        It is no C identifier in ASCII that begins with a letter, is longer than 40 characters, or a word of C or C++.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or len(name) > _LONGEST or name in _KEYWORDS.split():
        raise InputError(
            f"--name {clean(name)!r}: a C identifier is needed, a letter and at most {_LONGEST - 1} letters, digits or "
            "underscores, and no word of C or C++"
        )
    return name


def macro(name: str) -> str:
    """Return what a library's macros begin with.

    >>> macro("mobilenet_v2")
    'MOBILENET_V2'
    """
    return name.upper()


def comment(text: str) -> str:
    """Return a text that ends no C comment, begins none, and stays on its line.

    >>> comment("a */ b" + chr(10) + "c" + chr(92))
    'a * / b c/'
    """
    return clean(text).replace("\\", "/").replace("*/", "* /").replace("/*", "/ *").replace("??", "? ?")
