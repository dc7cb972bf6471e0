"""Which layers a search space explores."""

from __future__ import annotations

import fnmatch

from lrfdse.ir.layer import Layer
from lrfdse.ir.space import SearchSpace


def reason_to_keep_dense(layer: Layer, space: SearchSpace) -> str | None:
    """Say why the search space leaves the layer as it is, or None where it is explored."""
    if min(layer.outputs, layer.table or layer.inputs) < space.min_size:
        return f"a side below {space.min_size} (min_size)"
    if not any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in space.include):
        return "not in include"
    if any(fnmatch.fnmatchcase(layer.name, pattern) for pattern in space.exclude):
        return "in exclude"
    return None
