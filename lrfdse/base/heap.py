"""Memory that was freed, which the C library may keep for later."""

from __future__ import annotations

import ctypes
import functools
import gc
from collections.abc import Callable


def give_back(cycles: bool = False) -> None:
    """Give memory that this process has freed back to the system, where its C library keeps it; nothing else changes.

    Glibc keeps freed blocks of up to 32 MiB (mallopt(3), M_MMAP_THRESHOLD), which activations of models mostly are. Of
    1.3 GB that a process held of a sentence encoder of 90 MB once its layers' moments were taken, 0.4 were such blocks
    and 0.2 belonged to graphs that nothing referred to but they themselves.

    Parameters
    ----------
    cycles
        Whether to look for such graphs first: a third of a second there; to give blocks back alone takes milliseconds.
    """
    if cycles:
        gc.collect()
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
