"""Gram matrices of the shorter sides of a weight's unfoldings: computed at few bonds, traced down to the others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.ir.factorization import Array

    Bond = tuple[int, int]

_CHUNK = 1 << 22
"""Elements of an unfolding that are held in double precision at a time: 32 MB. Chosen."""


def grams(weight: NDArray[np.floating], bonds: Sequence[Bond]) -> Iterator[tuple[Bond, Array]]:
    """Yield each bond with the Gram matrix of the shorter side of the unfolding there, in no particular order.

    The leading side of the bond ``(a, b)`` has ``a b`` indices, the trailing one ``(M/a)(N/b)``. A side whose two sizes
    divide those of a longer one is what is left of it when the other digits are summed over, so the products are taken
    at the longest sides alone.

    Parameters
    ----------
    weight : array, shape (M, N)
        The weight.
    bonds
        Bonds of the divisor lattice.
    """
    outputs, inputs = weight.shape
    leading = {bond: bond for bond in bonds if bond[0] * bond[1] <= outputs * inputs // (bond[0] * bond[1])}
    trailing = {(outputs // a, inputs // b): (a, b) for a, b in bonds if (a, b) not in leading}
    for sides, is_leading in ((leading, True), (trailing, False)):
        for host, guests in _hosted(list(sides)):
            whole = _gram(weight, host, is_leading)
            for side in guests:
                yield sides[side], _traced(whole, host, side, is_leading)


def _hosted(sides: Sequence[Bond]) -> list[tuple[Bond, list[Bond]]]:
    """Return the sides that divide no other, each with those that divide it and were not given to another before."""
    groups: list[tuple[Bond, list[Bond]]] = []
    for side in sorted(sides, key=lambda side: (-side[0] * side[1], side)):
        for host, guests in groups:
            if host[0] % side[0] == 0 and host[1] % side[1] == 0:
                guests.append(side)
                break
        else:
            groups.append((side, [side]))
    return groups


def _gram(weight: NDArray[np.floating], side: Bond, is_leading: bool) -> Array:
    (m, n), (c, d) = weight.shape, side
    total = np.zeros((c * d, c * d))
    if is_leading:
        blocks = weight.reshape(c, m // c, d, n // d)
        step = max(1, _CHUNK // (c * n))
        for start in range(0, m // c, step):
            part = blocks[:, start : start + step].transpose(0, 2, 1, 3).astype(np.float64).reshape(c * d, -1)
            total += part @ part.T
        return total
    blocks = weight.reshape(m // c, c, n // d, d)
    step = max(1, _CHUNK // (c * n))
    for start in range(0, m // c, step):
        part = blocks[start : start + step].transpose(0, 2, 1, 3).astype(np.float64).reshape(-1, c * d)
        total += part.T @ part
    return total


def _traced(gram: Array, host: Bond, side: Bond, is_leading: bool) -> Array:
    """Return the Gram matrix of a side of fewer digits: the first ones of a leading side, the last of a trailing."""
    (c, d), (e, f) = host, side
    if host == side:
        return gram
    if is_leading:
        tensor = gram.reshape(e, c // e, f, d // f, e, c // e, f, d // f)
        found = np.einsum("apbqcpdq->abcd", tensor)
    else:
        tensor = gram.reshape(c // e, e, d // f, f, c // e, e, d // f, f)
        found = np.einsum("paqbpcqd->abcd", tensor)
    return np.asarray(found.reshape(e * f, e * f))
