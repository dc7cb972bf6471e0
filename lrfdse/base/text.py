"""Text from elsewhere on one safe line."""

from __future__ import annotations

import re


def one_line(error: BaseException, limit: int = 200) -> str:
    """Return an error's text as one line of at most `limit` characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else text[: limit - 3] + "..."


def clean(text: str) -> str:
    """Return `text` on one line: what a terminal, an XML file or a log would act on is replaced.

    >>> clean("a" + chr(10) + "b" + chr(27) + "[31m")
    'a b�[31m'
    """
    text = re.sub(r"[\r\n\t\x0b\x0c\x85\u2028\u2029]+", " ", text)
    return re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\u202a-\u202e\u2066-\u2069]", "\ufffd", text)
