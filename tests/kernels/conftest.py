"""Runs kernels of the host target inside this machine, every array flush against an inaccessible page."""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lrfdse.ir.kernel import Artifact

_PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None, use_errno=True)

Arrays = list[NDArray[Any]]
Run = Callable[[Artifact, Arrays], list[NDArray[np.float32]]]


class _Guarded:
    """`size` elements in shared memory between two inaccessible pages, flush with the first or the last byte."""

    def __init__(self, size: int, element: str, at_end: bool) -> None:
        kind = np.dtype(element)
        body = -(-kind.itemsize * size // _PAGE) * _PAGE
        self._memory = mmap.mmap(-1, body + 2 * _PAGE)
        origin = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        offset = _PAGE + (body - kind.itemsize * size if at_end else 0)
        self.address = origin + offset
        self.elements = np.frombuffer(self._memory, dtype=kind, count=size, offset=offset)
        for guard in (origin, origin + _PAGE + body):
            assert _LIBC.mprotect(ctypes.c_void_p(guard), _PAGE, 0) == 0

    def fill(self, values: NDArray[Any] | float) -> None:
        np.copyto(np.ndarray(self.elements.shape, self.elements.dtype, self._memory, self.offset), values)

    @property
    def offset(self) -> int:
        origin = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        return self.address - origin


@pytest.fixture
def run_on_host(tmp_path: Path) -> Run:
    """Return a function that runs a kernel once for each end of its arrays and returns both outputs.

    The kernel runs in a child process: one that touches an inaccessible page fails the test and not the session.
    Outputs and work buffers hold NaN before the call.
    """
    if platform.machine() != "x86_64":
        pytest.skip("the host targets that ship are x86-64")
    numbers = iter(range(10**6))

    def run(artifact: Artifact, arrays: Arrays) -> list[NDArray[np.float32]]:
        stem = tmp_path / f"kernel{next(numbers)}"
        stem.with_suffix(".o").write_bytes(artifact.object_code)
        # -z defs refuses a symbol that nobody defines, and nothing is linked in that could define it.
        command = ["gcc", "-shared", "-nostdlib", "-Wl,-z,defs", "-o", f"{stem}.so", f"{stem}.o"]
        subprocess.run(command, check=True)
        symbol = getattr(ctypes.CDLL(f"{stem}.so"), artifact.symbol)
        outputs = []
        for at_end in (True, False):
            given = iter(arrays)
            buffers = [_Guarded(a.size, a.storage.element, at_end) for a in artifact.arguments]
            for argument, buffer in zip(artifact.arguments, buffers, strict=True):
                buffer.fill(np.nan if argument.role in ("output", "work") else next(given))
            child = os.fork()
            if child == 0:
                symbol(*(ctypes.c_void_p(b.address) for b in buffers))
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert status == 0, f"{artifact.spec} as {artifact.schedule} died with wait status {status}"
            roles = [a.role for a in artifact.arguments]
            outputs.append(buffers[roles.index("output")].elements.copy())
        return outputs

    return run
