"""The design space of one layer: bonds, counts, the surrogate front, and the designs of it that are compiled."""

from lrfdse.space.count import count_designs
from lrfdse.space.front import front
from lrfdse.space.lattice import bonds, padded_size, rank_bound, rank_grid
from lrfdse.space.thin import thin

__all__ = ["bonds", "count_designs", "front", "padded_size", "rank_bound", "rank_grid", "thin"]
