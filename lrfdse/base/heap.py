"""Memory that was freed, which the C library may keep for later."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable


def give_back() -> None:
    """Give memory that this process has freed back to the system, where its C library keeps it; nothing else changes.

    Glibc keeps freed blocks of up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD), which activations of models mostly are: of
    1454 MiB that a process held of a sentence encoder of 90 MB once its layers' moments were taken, 788 were free. To
    give back so many takes a sixth of a second, and next to nothing where there are none.
    """
    if (trim := _trim()) is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    """Return glibc's malloc_trim(3), which also looks at blocks within the heap; None of other C libraries."""
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None
    return found
