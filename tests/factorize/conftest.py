from __future__ import annotations

from collections.abc import Callable

import pytest

from lrfdse.ir.factors import Moments


@pytest.fixture(scope="session")
def moments_of() -> Callable[..., Moments]:
    """Make moments of rows x, or of rows that a compressed model feeds a layer whose outputs should be y."""

    def made(x, y=None):
        seen = Moments(len(x), x.mean(axis=0), x.T @ x / len(x))
        if y is None:
            return seen
        centred = y - y.mean(axis=0)
        cross = centred.T @ (x - x.mean(axis=0)) / len(x)
        return Moments(
            seen.count, seen.mean, seen.second, cross, y.mean(axis=0), float((centred**2).sum(axis=1).mean())
        )

    return made
