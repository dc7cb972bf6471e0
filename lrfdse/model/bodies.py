"""The graphs inside of nodes: bodies of Loop and Scan, branches of If."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from lrfdse.model.constants import is_standard, node_name

REPEATING = ("Loop", "Scan")
"""Operators that run their body in turns."""


def bodies_of(node: ir.Node) -> list[ir.Graph]:
    """Return the graphs that a node holds, in the order of its attributes; none of most nodes."""
    found: list[ir.Graph] = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            found.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            found += attribute.as_graphs()
    return found


def all_nodes(graph: ir.Graph) -> list[ir.Node]:
    """Return the nodes of a graph and of all bodies in it, each before those of its own bodies."""
    return list(ir.traversal.RecursiveGraphIterator(graph))


def owners_of(graph: ir.Graph) -> dict[ir.Graph, ir.Node]:
    """Return every body inside of a graph, at any depth, and the node that holds it."""
    return {body: node for node in all_nodes(graph) for body in bodies_of(node)}


def around(graph: object, owners: Mapping[ir.Graph, ir.Node]) -> list[ir.Node]:
    """Return the nodes in whose bodies a graph stands, from inside out; none of the main graph.

    Parameters
    ----------
    graph
        The graph of a node, or of a value.
    owners
        What `owners_of` returns of the main graph.
    """
    found = []
    while isinstance(graph, ir.Graph) and graph in owners:
        found.append(owners[graph])
        graph = found[-1].graph
    return found


def reads_of(node: ir.Node) -> set[ir.Value]:
    """Return what a node reads, and what its bodies do, of the graphs around them as well."""
    bodies = bodies_of(node)
    inner = [each for body in bodies for each in all_nodes(body)]
    read = {value for each in (node, *inner) for value in each.inputs if value is not None}
    return read.union(*(body.outputs for body in bodies))


def is_repeating(node: ir.Node) -> bool:
    """Return whether a node runs its body in turns."""
    return is_standard(node) and node.op_type in REPEATING


def is_branching(node: ir.Node) -> bool:
    """Return whether a node runs one of two bodies."""
    return is_standard(node) and node.op_type == "If"


def named(node: ir.Node) -> str:
    """Return a node with bodies in words: its operator and its name."""
    return f"{node.op_type} {node_name(node)!r}"


def values_by_name(graph: ir.Graph) -> dict[str, ir.Value]:
    """Return what nodes make and bodies are fed, at any depth, by name.

    Where names are not apart (`lrfdse.model.passes.bodies.apart`), values of outer graphs come before those of inner
    ones.
    """
    found: dict[str, ir.Value] = {}
    for body in owners_of(graph):
        for value in (*body.inputs, *(value for node in body for value in node.outputs)):
            if value.name:
                found.setdefault(value.name, value)
    return found | {value.name: value for node in graph for value in node.outputs if value.name}
