"""How many threads linear algebra uses: one a process, so that results do not depend on the number of cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

BLAS_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that libraries read once, when they are loaded."""


def use_one_thread() -> None:
    """Set one thread for what this process loads from now on, and for its children; a number that is set stays."""
    for variable in BLAS_VARIABLES:
        os.environ.setdefault(variable, "1")


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Set one thread for every process that is started inside; a number that is set stays."""
    missing = [variable for variable in BLAS_VARIABLES if variable not in os.environ]
    use_one_thread()
    try:
        yield
    finally:
        for variable in missing:
            os.environ.pop(variable, None)
