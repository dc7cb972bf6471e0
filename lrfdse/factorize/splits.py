"""What trains of equal modes have in common: the SVD of the first unfolding, from which each rank is cut."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.factorize.linalg import full_svd, is_direct, leading_split
from lrfdse.factorize.thresholds import DEFAULT, Thresholds

if TYPE_CHECKING:
    from collections.abc import Hashable

    from numpy.typing import NDArray

    from lrfdse.ir.factorization import Array

_MOST = 1 << 22
"""Elements of singular vectors that are kept for one matrix: 32 MB. Of the 119 trains that are fitted shortly of the
300x784 layer of examples/lenet300-fashion, 88 of 90 that have the modes of one before then find its SVD."""


class Splits:
    """Full SVDs of unfoldings of one matrix, the latest ones kept; fits in several threads may share it."""

    def __init__(self, most: int = _MOST) -> None:
        self._most, self._held = most, 0
        self._kept: OrderedDict[Hashable, tuple[Array, Array, Array]] = OrderedDict()
        self._lock = threading.Lock()

    def split(
        self, name: Hashable, matrix: NDArray[Any], rank: int, thresholds: Thresholds = DEFAULT
    ) -> tuple[Array, Array]:
        """Return what `lrfdse.factorize.linalg.leading_split` does of a matrix, to the last digit.

        Parameters
        ----------
        name
            Tells the matrix from the others that are asked for here.
        matrix, rank, thresholds
            As there.
        """
        rank = min(rank, *matrix.shape)
        if matrix.size >= thresholds.large or not is_direct(matrix.shape, rank, thresholds):
            return leading_split(matrix, rank, thresholds)
        u, s, vt = self._svd(name, matrix)
        return u[:, :rank], s[:rank, None] * vt[:rank]

    def _svd(self, name: Hashable, matrix: NDArray[Any]) -> tuple[Array, Array, Array]:
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
                return self._kept[name]
        found = full_svd(np.asarray(matrix, dtype=np.float64))
        with self._lock:
            if name not in self._kept:
                self._kept[name] = found
                self._held += _elements(found)
            while self._held > self._most:
                self._held -= _elements(self._kept.popitem(last=False)[1])
        return found


def _elements(parts: tuple[Array, ...]) -> int:
    return sum(part.size for part in parts)
