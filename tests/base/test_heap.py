"""Freed memory that the C library keeps goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

CODE = """
import resource
from lrfdse.base.heap import give_back

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

# Freed, it tells glibc that blocks of this size are used again and again: from then on they come from the heap.
large = bytearray(b"x") * (31 << 20)
del large
blocks = [bytearray(b"x") * (1 << 20) for _ in range(200)]
full = held()
# The last one stands above all others: without a look at what lies below, nothing can be given back.
del blocks[:-1]
freed = held()
give_back()
print(full, freed, held())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep less")
def test_what_was_freed_is_given_back():
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    full, freed, left = map(int, ran.stdout.split())
    assert freed > full - 50
    assert left < full - 150
