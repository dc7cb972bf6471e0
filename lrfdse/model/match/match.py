"""What a matcher finds: one node that applies a constant matrix to an activation, before shapes are known."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.ir.layer import Kind
from lrfdse.model.constants import node_name, readers, stored
from lrfdse.model.match.site import Site
from lrfdse.model.match.tied import lookups_of


class Match(Protocol):
    """A node that applies a constant matrix W: a row of its result is ``alpha W x`` of a row x of what it reads."""

    @property
    def kind(self) -> Kind:
        """The kind of layers that it belongs to."""
        ...

    @property
    def node(self) -> ir.Node:
        """The node."""
        ...

    @property
    def root(self) -> ir.Value:
        """The stored tensor that W comes from; nodes with one root are the uses of one layer."""
        ...

    @property
    def source(self) -> ir.Value:
        """The activation that it reads."""
        ...

    @property
    def alpha(self) -> float:
        """The factor of W."""
        ...

    @property
    def form(self) -> Hashable:
        """How W comes from the stored tensor; all uses of one root must have it in common."""
        ...

    def weight(self) -> NDArray[Any]:
        """Return W of shape (outputs, inputs) in the type of its use, alpha not applied."""
        ...

    def scales(self) -> NDArray[Any] | None:
        """Return what a level of each output of W is worth; None where W is stored in floating point."""
        ...

    def fits(self, sizes: Sequence[int | None] | None) -> bool:
        """Return whether a shape of the source is known, and one that the node takes."""
        ...

    def site(self, fixed: Sequence[int | None], free: Sequence[int | None] | None) -> Site:
        """Return the use, for a source of shape `fixed` in the timed inference, and `free` as the model fixes it."""
        ...


Found = tuple[Sequence[Match], Mapping[ir.Node, str]]
"""What a matcher returns of a graph: its matches in graph order, and why nodes that look like one are none."""


def grouped(matches: Iterable[Match]) -> tuple[list[list[Match]], dict[ir.Node, str]]:
    """Return layers as groups of matches that share one weight, in their order, and why other matches are none."""
    groups: dict[ir.Value, list[Match]] = {}
    for match in matches:
        groups.setdefault(match.root, []).append(match)
    layers: list[list[Match]] = []
    refused: dict[ir.Node, str] = {}
    for root, group in groups.items():
        if reason := _conflict(root, group):
            refused |= {match.node: reason for match in group}
        else:
            layers.append(group)
    return layers, refused


def _conflict(root: ir.Value, group: Sequence[Match]) -> str | None:
    nodes = [match.node for match in group]
    if group[0].kind == "tied":
        # Rows are looked up as they are stored.
        if any(match.alpha != 1.0 or match.scales() is not None for match in group):
            return f"its weight {root.name!r} is a table as well, and the product scales it"
        if any(match.weight().dtype != stored(root).numpy().dtype for match in group):
            return f"its weight {root.name!r} is a table as well, and the product takes it in another type"
        if tuple(stored(root).shape.numpy()) != group[0].weight().shape:
            return f"its weight {root.name!r} is a table as well, whose rows are what the product sums over"
        nodes += lookups_of(root)
    for reader in readers(root):
        if reader is None:
            return f"its weight {root.name!r} is an output of the model"
        if reader not in nodes:
            return f"its weight {root.name!r} is also read by {reader.op_type} {node_name(reader)!r}"
    if any((match.form, match.alpha) != (group[0].form, group[0].alpha) for match in group):
        return f"its weight {root.name!r} is used in different forms (transposed, scaled or in another type)"
    return None
