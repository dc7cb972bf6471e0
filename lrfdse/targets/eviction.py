"""How much memory is written to empty a machine's caches before a call that is to find them cold."""

from __future__ import annotations

from pathlib import Path

from lrfdse.targets.target import Target

EVICT_FACTOR = 2
"""How much larger than the largest cache the buffer is that is written: once over its size, an LRU cache keeps nothing
of before; twice covers caches that replace lines at random or keep what was used often. Chosen, not measured."""

LARGEST_TIMES_TARGET = 8
"""How much larger than the target's last-level cache a machine's own account of its caches may be before it is no
longer followed. An emulator or a virtual machine tells of its host's cache, which may be a thousand times the
target's (480 MiB beside 512 KiB), and all of it would be written before every cold call. Eight times the 16 MiB of the
shipped host targets is 128 MiB, more than a core reaches on all but a few server processors. Chosen, not measured."""

MOST_BYTES = 1 << 30
"""Bytes of the buffer at most, whatever a machine says of its caches. Chosen, not measured: boards have little more."""

_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20}
"""Bytes of the units in which Linux tells sizes of caches."""


def evicted_bytes(target: Target, told: int | None) -> int:
    """Return the bytes to write before a cold call.

    Parameters
    ----------
    target
        The machine as its file describes it.
    told
        Bytes of the largest cache by the machine's own account; None where it says nothing. Followed between the
        target's last-level cache and `LARGEST_TIMES_TARGET` times it, and to `MOST_BYTES`.

    Returns
    -------
    `EVICT_FACTOR` times the cache that is assumed.
    """
    least, most = eviction_bounds(target)
    return min(max(EVICT_FACTOR * (told or 0), least), most)


def eviction_bounds(target: Target) -> tuple[int, int]:
    """Return the least and the most that `evicted_bytes` gives for a target, in bytes."""
    least = EVICT_FACTOR * 1024 * target.last_level.kib
    return least, max(least, min(LARGEST_TIMES_TARGET * least, MOST_BYTES))


def largest_cache(folder: Path = _CACHES) -> int | None:
    """Return the bytes of the largest cache of this machine as Linux tells it, or None where it says nothing."""
    sizes = [path.read_text(encoding="ascii").strip() for path in folder.glob("index*/size")]
    return max((int(size[:-1]) * _UNITS[size[-1]] for size in sizes if size[-1:] in _UNITS), default=None)


def eviction_note(largest: object, evicted: object) -> str | None:
    """Return what a reader of cold numbers must know of a machine, or None where its own account was followed.

    Parameters
    ----------
    largest, evicted
        Bytes of the largest cache by the machine's own account, and bytes written before each cold call; anything but
        numbers counts as not told.

    >>> eviction_note(1 << 20, 2 << 20)
    >>> eviction_note(64 << 20, 16 << 20)
    'a cache of 64 MiB by its own account, but 16 MiB were written before a cold call: some of it may have stayed warm'
    """
    if not isinstance(largest, int | float) or not isinstance(evicted, int | float):
        return None
    if evicted >= EVICT_FACTOR * largest:
        return None
    return (
        f"a cache of {_mib(largest)} by its own account, but {_mib(evicted)} were written before a cold call: "
        "some of it may have stayed warm"
    )


def _mib(size: float) -> str:
    return f"{size / (1 << 20):g} MiB"
