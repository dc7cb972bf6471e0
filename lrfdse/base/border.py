"""The border of a loading stage: whatever is raised while a file from elsewhere is read is one line about that file."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lrfdse.base.text import one_line
from lrfdse.errors import InputError, LrfdseError


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Raise `InputError` for what a stage that reads a file raises, so that no file ends in a traceback.

    What the stage says itself passes. Anything else means that the file holds what nobody has thought of, or that
    lrfdse has a defect: the exception is the cause of the error, and its traceback is logged at level DEBUG.

    Parameters
    ----------
    path
        The file, which begins the message.
    kind
        What the file should be, with its article.

    >>> with reading(Path("x.onnx"), "an ONNX model"):
    ...     [].pop()
    Traceback (most recent call last):
    lrfdse.errors.InputError: x.onnx: cannot be used as an ONNX model: pop from empty list (IndexError)
    """
    try:
        yield
    except LrfdseError:
        raise
    except MemoryError as error:
        raise InputError(f"{path}: cannot be used as {kind}: it needs more memory than there is") from error
    except RecursionError as error:
        raise InputError(f"{path}: cannot be used as {kind}: it is nested too deeply") from error
    except Exception as error:
        logging.getLogger(__name__).debug("%s", path, exc_info=error)
        name = type(error).__name__
        text = one_line(error)
        reason = text if text == name else f"{text} ({name})"
        raise InputError(f"{path}: cannot be used as {kind}: {reason}") from error
