"""The kinds of layers: how each is found in a graph, and how its factors are written there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial

import onnx_ir as ir

from lrfdse.ir.layer import Kind
from lrfdse.model.bodies import all_nodes
from lrfdse.model.constants import known_values
from lrfdse.model.match.convolutions import find_convolutions
from lrfdse.model.match.match import Found, Match, grouped
from lrfdse.model.match.products import find_products
from lrfdse.model.passes.carried.opened import could_be_opened
from lrfdse.model.passes.convolutions import write_convolutions
from lrfdse.model.passes.place import Writer
from lrfdse.model.passes.products import write_products, write_tied
from lrfdse.model.turns import refused_bodies


@dataclass(frozen=True, slots=True)
class LayerKind:
    """One kind of layers."""

    noun: str
    """What such a layer is called."""
    find: Callable[[ir.Graph, set[ir.Value]], Found]
    """Finds its nodes in a graph and its bodies; the values that depend on constants alone are given."""


KINDS: Mapping[Kind, LayerKind] = {
    "fc": LayerKind("fully-connected layer", find_products),
    "conv": LayerKind("convolution", find_convolutions),
    "recurrent": LayerKind("recurrent input", partial(find_products, kind="recurrent")),
    "state": LayerKind("recurrent weight", partial(find_products, kind="state")),
    "attention": LayerKind("attention input", partial(find_products, kind="attention")),
    "embedding": LayerKind("embedding", partial(find_products, kind="embedding")),
    "tied": LayerKind("tied embedding", partial(find_products, kind="tied")),
    "joint": LayerKind("joint product", partial(find_products, kind="joint")),
}
"""The kinds by name, in the order in which they are looked for."""

WRITERS: Mapping[Kind, Writer] = {
    "fc": write_products,
    "conv": write_convolutions,
    "recurrent": write_products,
    "state": write_products,
    "attention": write_products,
    "embedding": write_products,
    "tied": write_tied,
    "joint": write_products,
}
"""What puts factors in the place of one use, by kind. Apart from `KINDS`: who reads a model depends on no writer."""


def find_layers(graph: ir.Graph, kinds: Collection[Kind]) -> tuple[list[list[Match]], dict[ir.Node, str]]:
    """Return layers as groups of nodes that share one weight, in graph order, and why other nodes are none.

    Bodies are looked through as well.

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
    for name, kind in KINDS.items():
        found, others = kind.find(graph, known)
        refused |= others
        if name in kinds:
            matches += found
        else:
            nodes = [match.node for match in found] or [
                node for node in all_nodes(graph) if could_be_opened(node, known) == name
            ]
            refused |= {node: _not_asked(name, kinds) for node in nodes}
    order = {node: place for place, node in enumerate(all_nodes(graph))}
    inner = refused_bodies(graph, matches)
    matches = [match for match in matches if match.node not in inner]
    groups, conflicts = grouped(sorted(matches, key=lambda match: order[match.node]))
    return groups, refused | inner | conflicts


def _not_asked(name: Kind, kinds: Collection[Kind]) -> str:
    """Return why a node is left that would be a layer of another kind than those that are looked for."""
    asked = ",".join(each for each in KINDS if each in kinds or each == name)
    noun = KINDS[name].noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}, which `--layers {asked}` explores"
