"""Loads one linked program and times its parts; run as a program of its own, because it may crash. Prints JSON."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""Linux's number (linux/prctl.h) of the option that ends a process with its parent."""


def main(
    library: str, image: str, parts: int, warm: int, cold: int, enough_ns: int, evict: int
) -> dict[str, list[list[float]]]:
    """Return the samples of `lrf_time_whole` (qemu/whole_timer.c) in nanoseconds, a list of all parts for each run."""
    # A program that hangs must not outlive who measures it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    call = ctypes.CDLL(library).lrf_time_whole
    found = [(ctypes.c_double * (count * parts))() for count in (warm, cold)]
    counts = (ctypes.c_long * 2)()
    numbers = [ctypes.c_long(number) for number in (parts, warm, cold)]
    status = call(image.encode(), *numbers, ctypes.c_double(enough_ns), ctypes.c_long(evict), *found, counts)
    if status:
        sys.exit(f"lrf_time_whole failed with status {status}")
    rows = [[list(each[i * parts : (i + 1) * parts]) for i in range(n)] for each, n in zip(found, counts, strict=True)]
    return {"warm": rows[0], "cold": rows[1]}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))))
