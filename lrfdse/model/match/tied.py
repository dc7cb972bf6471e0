"""Tied embeddings: a table whose rows are looked up, and by which a product multiplies as well."""

from __future__ import annotations

import onnx_ir as ir

from lrfdse.model.carriers import carrier_of


def lookups_of(root: ir.Value) -> list[ir.Node]:
    """Return the nodes that look up rows of a stored tensor; none of one that is no matrix."""
    return [usage.node for usage in root.uses() if usage.idx == 0 and carrier_of(usage.node) == "embedding"]
