"""Cores in float16: rounded to the nearest, after powers of two were moved between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lrfdse.errors import PlanError

if TYPE_CHECKING:
    from lrfdse.ir.factorization import Array


def halved(cores: Sequence[Array]) -> tuple[Array, ...]:
    """Return cores of which every element is a float16, as float64.

    Powers of two, which cost no digit, are moved from core to core before, so that the largest elements of all are
    alike: so a chain is refused only where its product leaves the range, and loses digits below 6.1e-5, where float16
    has fewer, only where its product is about as small.

    Raises
    ------
    PlanError
        An element is beyond the largest float16.
    """
    import numpy as np

    limits = np.finfo(np.float16)
    largest = [float(np.abs(core).max(initial=0.0)) for core in cores]
    shifts = [0] * len(cores)
    if min(largest) > 0:
        exponents = [int(np.frexp(each)[1]) for each in largest]
        common, left = divmod(sum(exponents), len(exponents))
        shifts = [common + (place < left) - each for place, each in enumerate(exponents)]
    moved = [np.ldexp(core, shift) for core, shift in zip(cores, shifts, strict=True)]
    with np.errstate(over="ignore"):
        found = tuple(core.astype(np.float16).astype(np.float64) for core in moved)
    if not all(np.isfinite(core).all() for core in found):
        most = max(float(np.abs(core).max(initial=0.0)) for core in moved)
        raise PlanError(f"weights of up to {most:.3g} are beyond float16, whose largest number is {limits.max:.0f}")
    return found
