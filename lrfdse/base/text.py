"""Text on one line: what comes from elsewhere made safe, numbers with their nouns."""

from __future__ import annotations

import re
from collections.abc import Sequence


def one_line(what: BaseException | str, limit: int = 200) -> str:
    """Return a text, or an error's, as one line of at most `limit` characters on which no terminal or file acts.

    White space and characters that do not print become single blanks. An error without a text is its type's name.

    >>> one_line("wrong" + chr(10) + "  model" + chr(7)), one_line(ValueError()), one_line("far too long", 8)
    ('wrong model', 'ValueError', 'far t...')
    """
    kept = "".join(character if character.isprintable() else " " for character in str(what))
    text = " ".join(kept.split()) or (type(what).__name__ if isinstance(what, BaseException) else "")
    return text if len(text) <= limit else text[: limit - 3] + "..."


def clean(text: str) -> str:
    """Return `text` on one line: what a terminal, an XML file or a log would act on is replaced.

    >>> clean("a" + chr(10) + "b" + chr(27) + "[31m")
    'a b�[31m'
    """
    text = re.sub(r"[\r\n\t\x0b\x0c\x85\u2028\u2029]+", " ", text)
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]", "\ufffd", text)


def counted(count: float, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not one.

    >>> counted(1, "design"), counted(12345, "plan"), counted(1.0, "point")
    ('1 design', '12,345 plans', '1 point')
    """
    return f"{f'{count:,}' if isinstance(count, int) else f'{count:g}'} {noun}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], most: int) -> str:
    """Return names between commas, and how many more there are than `most`.

    >>> listed(["a", "b"], 2), listed(["a", "b", "c", "d"], 2)
    ('a, b', 'a, b and 2 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def free_name(wanted: str, taken: set[str] | set[str | None]) -> str:
    """Return `wanted`, with a number behind it where that is taken, and take it.

    >>> taken = {"x"}
    >>> free_name("x", taken), free_name("x", taken), free_name("y", taken)
    ('x.2', 'x.3', 'y')
    """
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted}.{number}"
    taken.add(name)
    return name
