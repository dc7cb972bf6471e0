"""The kinds of layers: how each is found in a graph, and how its factors are written there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from lrfdse.ir.layer import Kind
from lrfdse.model.constants import known_values
from lrfdse.model.match.match import Found, Match, grouped
from lrfdse.model.match.products import find_products
from lrfdse.model.passes.place import Writer
from lrfdse.model.passes.products import write_products


@dataclass(frozen=True, slots=True)
class LayerKind:
    """One kind of layers."""

    noun: str
    """What such a layer is called."""
    find: Callable[[ir.Graph, set[ir.Value]], Found]
    """Finds its nodes in a main graph whose values that depend on constants alone are given."""
    write: Writer
    """Puts factors in the place of one use."""


KINDS: Mapping[Kind, LayerKind] = {
    "fc": LayerKind("fully-connected layer", find_products, write_products),
}
"""The kinds by name, in the order in which they are looked for."""


def find_layers(graph: ir.Graph, kinds: Collection[Kind]) -> tuple[list[list[Match]], dict[ir.Node, str]]:
    """Return layers as groups of nodes that share one weight, in graph order, and why other nodes are none.

    Parameters
    ----------
    graph
        The main graph.
    kinds
        Names of the kinds.
    """
    known = known_values(graph)
    matches: list[Match] = []
    refused: dict[ir.Node, str] = {}
    for name in kinds:
        found, others = KINDS[name].find(graph, known)
        matches += found
        refused |= others
    order = {node: place for place, node in enumerate(graph)}
    groups, conflicts = grouped(sorted(matches, key=lambda match: order[match.node]))
    return groups, refused | conflicts
