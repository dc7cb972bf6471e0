"""Loads one linked kernel and times it; run as a program of its own, because a kernel may crash. Prints JSON."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""Linux's number (linux/prctl.h) of the option that ends a process with its parent."""


def main(library: str, image: str, warm: int, cold: int, sample_ns: int, evict: int) -> dict[str, object]:
    """Return the samples of `lrf_time` (qemu/timer.c) in nanoseconds a call."""
    # A kernel that hangs must not outlive who measures it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    call = ctypes.CDLL(library).lrf_time
    warm_ns, cold_ns, calls = (ctypes.c_double * warm)(), (ctypes.c_double * cold)(), ctypes.c_long()
    status = call(
        image.encode(),
        ctypes.c_long(warm),
        ctypes.c_long(cold),
        ctypes.c_long(sample_ns),
        ctypes.c_long(evict),
        warm_ns,
        cold_ns,
        ctypes.byref(calls),
    )
    if status:
        sys.exit(f"lrf_time failed with status {status}")
    return {"core": core, "calls": calls.value, "warm_ns": list(warm_ns), "cold_ns": list(cold_ns)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:]))))
