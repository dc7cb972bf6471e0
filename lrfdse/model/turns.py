"""What layers of bodies read in one inference: the sizes of one turn, and how many turns there are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from lrfdse.base.text import one_line
from lrfdse.errors import InputError
from lrfdse.model.bodies import around, is_branching, is_repeating, named, owners_of
from lrfdse.model.constants import node_name
from lrfdse.model.seen import seen_sizes
from lrfdse.model.shapes import is_known

if TYPE_CHECKING:
    from lrfdse.model.match.match import Match
    from lrfdse.model.match.site import Site
    from lrfdse.model.shapes import Port

_LONGEST = 160
"""Characters of what onnxruntime says that a reason repeats. Chosen: it names the node and the operator by then."""

_Path = tuple[tuple[str, bool], ...]
"""The branches that a value stands in, from outside in: name of the first output of each If, and whether it is the one
that is taken where the condition holds."""


@dataclass(frozen=True, slots=True)
class Turned:
    """A layer's input in a body."""

    sizes: tuple[int, ...]
    """Its shape in one turn."""
    turns: int
    """Turns of all loops around it, in one inference."""
    holder: str
    """Name of the node of the main graph in whose body it stands."""

    def at(self, site: Site) -> Site:
        """Return the use of the layer that reads it, as one in a body."""
        return replace(site, turns=self.turns, holder=self.holder)


def refused_bodies(graph: ir.Graph, matches: Sequence[Match]) -> dict[ir.Node, str]:
    """Return why layers cannot stand where they do: in bodies of which not every turn can be seen.

    Parameters
    ----------
    graph
        The main graph.
    matches
        What was found in it and its bodies.
    """
    owners = owners_of(graph)
    found = {}
    for match in matches:
        chain = around(match.node.graph, owners)
        other = [node for node in chain if not is_repeating(node) and not is_branching(node)]
        loops = [place for place, node in enumerate(chain) if is_repeating(node)]
        branch = next((node for node in chain[: max(loops, default=0)] if is_branching(node)), None)
        if other:
            found[match.node] = f"inside the body of {named(other[0])}, of which nothing is known"
        elif branch is not None:
            loop = named(chain[loops[-1]])
            found[match.node] = f"in a branch of {named(branch)}, which one turn of {loop} takes and another may not"
    return found


def seen_in_bodies(
    model: ir.Model, groups: Sequence[list[Match]], inputs: Sequence[Port]
) -> tuple[list[list[Match]], dict[ir.Node, Turned], dict[ir.Node, str]]:
    """Return those of some layers that can be seen, what uses in bodies read, and why other layers' nodes are left.

    Where an input has open sizes, all stay and nothing is seen: who looks for their rows asks for these sizes.

    Parameters
    ----------
    model
        The model as layers are found in it.
    groups
        Its layers, each as the nodes that share one weight.
    inputs
        Its inputs.
    """
    inner = [match for group in groups for match in group if match.node.graph is not model.graph]
    if not inner or not all(is_known(port.fixed) for port in inputs):
        return list(groups), {}, {}
    turned, refused = _turns_of(model, inputs, inner)
    for match in inner:
        place = turned.get(match.node)
        if place is not None and not match.fits(place.sizes):
            refused[match.node] = f"what it reads inside of {place.holder!r} is {'x'.join(map(str, place.sizes))}"
    kept = []
    for group in groups:
        reason = next((refused[match.node] for match in group if match.node in refused), None)
        if reason is None:
            kept.append(group)
            continue
        shared = f"its weight is also used where nothing shows what reads it: {reason}"
        refused |= {match.node: refused.get(match.node, shared) for match in group}
    return kept, turned, refused


def _turns_of(
    model: ir.Model, inputs: Sequence[Port], matches: Sequence[Match]
) -> tuple[dict[ir.Node, Turned], dict[ir.Node, str]]:
    """Return what layers of bodies read in one inference on random inputs, and why it is not known of others.

    Of every If around a layer, the branch that it stands in is taken, whatever the inputs say.
    """
    owners = owners_of(model.graph)
    groups: dict[_Path, list[Match]] = {}
    for match in matches:
        groups.setdefault(_path(match.node, owners), []).append(match)
    found: dict[ir.Node, Turned] = {}
    refused: dict[ir.Node, str] = {}
    for path, group in groups.items():
        shapes, failure = _shapes(model, inputs, path, [match.source.name or "" for match in group])
        for match in group:
            chain = around(match.node.graph, owners)
            shape, loops = shapes.get(match.source.name or ""), sum(map(is_repeating, chain))
            place = f"inside the body of {named(chain[0])}"
            if shape is None:
                refused[match.node] = f"{place}, which cannot be run on random inputs: {one_line(failure, _LONGEST)}"
            elif 0 in shape[:loops]:
                refused[match.node] = f"{place}, which takes no turn on random inputs"
            else:
                found[match.node] = Turned(shape[loops:], math.prod(shape[:loops]), node_name(chain[-1]))
    return found, refused


def _path(node: ir.Node, owners: Mapping[ir.Graph, ir.Node]) -> _Path:
    found = []
    graph = node.graph
    for holder in around(graph, owners):
        if is_branching(holder):
            taken = holder.attributes["then_branch"].as_graph() is graph
            found.append((holder.outputs[0].name or "", taken))
        graph = holder.graph
    return tuple(reversed(found))


def _shapes(
    model: ir.Model, inputs: Sequence[Port], path: _Path, names: Sequence[str]
) -> tuple[dict[str, tuple[int, ...]], str]:
    """Return the shapes of values where certain branches are taken, or nothing and why."""
    taking = ir.passes.functionalize(_Taking(path))(model).model
    try:
        seen = seen_sizes(taking, inputs, list(dict.fromkeys(names)))
    except InputError as error:
        return {}, str(error)
    return {name: tuple(int(size or 0) for size in sizes) for name, sizes in seen.items()}, ""


class _Taking(ir.passes.InPlacePass):
    """Makes Ifs take certain branches, whatever their conditions say."""

    def __init__(self, path: _Path) -> None:
        self._path = dict(path)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether any branch was asked for."""
        for node in set(owners_of(model.graph).values()):
            name = node.outputs[0].name or ""
            if name in self._path and is_branching(node) and node.graph is not None:
                tensor = ir.tensor(np.array(self._path[name]))
                constant = ir.node("Constant", [], {"value": tensor})
                constant.outputs[0].name = f"{name}.taken"
                node.graph.insert_before(node, constant)
                node.replace_input_with(0, constant.outputs[0])
        return ir.passes.PassResult(model, modified=bool(self._path))
