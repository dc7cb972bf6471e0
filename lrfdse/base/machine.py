"""What this machine has."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_GROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
"""Where Linux says how much a container may use; "max" where that is all."""


def memory_bytes() -> int:
    """Return the bytes of memory that this machine, or the container that the process is in, has."""
    found = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):
        found = min(found, int(_GROUP_LIMIT.read_text()))
    return found
