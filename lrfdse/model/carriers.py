"""Operators that carry the product with a stored matrix inside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import onnx_ir as ir

from lrfdse.model.constants import FLOATS, is_root, is_standard, stored

Carrier = Literal["recurrent", "state", "attention", "embedding"]
"""What carries a product: LSTM, GRU and RNN, of what they read and of their state; com.microsoft's Attention; a Gather
on a stored matrix."""

CARRIERS: tuple[Carrier, ...] = ("recurrent", "state", "attention", "embedding")
"""All of them; each is a kind of layers, too."""

_MARK, _NAME, _JOINED = "lrfdse.carrier", "lrfdse.carrier.name", "lrfdse.joined"
"""Keys under which a product in the open notes what it was taken out of, or which nodes it stands for; they are never
written into a file."""

_RECURRENT = ("GRU", "LSTM", "RNN")


def carrier_of(node: ir.Node) -> Carrier | None:
    """Return as what a node carries a product, or None."""
    if node.domain == "com.microsoft":
        return "attention" if node.op_type == "Attention" and len(node.inputs) > 1 else None
    if not is_standard(node) or len(node.inputs) < 2:
        return None
    if node.op_type in _RECURRENT:
        return "recurrent"
    return "embedding" if node.op_type == "Gather" and _looks_up_rows(node) else None


def mark(node: ir.Node, carrier: Carrier, name: str) -> None:
    """Note of a product, or of the lookup in front of it, what it was taken out of: kind of operator, and its name."""
    node.meta[_MARK], node.meta[_NAME] = carrier, name


def taken_from(node: ir.Node) -> tuple[Carrier, str] | None:
    """Return what `mark` noted of a node, or None."""
    carrier, name = node.meta.get(_MARK), node.meta.get(_NAME)
    return None if carrier is None or name is None else (carrier, name)


def mark_joined(node: ir.Node, names: Sequence[str]) -> None:
    """Note of a product the names of the nodes that it stands for."""
    node.meta[_JOINED] = tuple(names)


def joined_in(node: ir.Node) -> tuple[str, ...]:
    """Return what `mark_joined` noted of a node; nothing of a node that stands for itself."""
    found: tuple[str, ...] = node.meta.get(_JOINED, ())
    return found


def _looks_up_rows(node: ir.Node) -> bool:
    """Return whether a Gather takes rows of a stored matrix of floating point."""
    table = node.inputs[0]
    if table is None or not is_root(table) or stored(table).dtype not in FLOATS:
        return False
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
    return len(stored(table).shape) == 2 and axis in (0, -2)
