"""Recurrent cells in single operators: a Scan that runs one step of an LSTM or a GRU a turn.

ONNX's recurrent operators have a place for one recurrent matrix; in the body of a Scan stands any product of the state.
What this module writes, `read_scan` knows again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.model.constants import is_standard, trace

Cell = Literal["LSTM", "GRU"]
"""A GRU is one that resets the product of its state, not the state (``linear_before_reset`` is 1)."""

LEAST_OPSET = 9
"""Opset from which Scan has the form that is written, and zeros can be made of sizes (ConstantOfShape)."""

_GATES = {"LSTM": 4, "GRU": 3}
"""Gates of a cell (ONNX, operators LSTM and GRU)."""

_USUAL = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"]}
"""Activations of a direction where none are named."""


@dataclass(frozen=True, slots=True)
class Turning:
    """One direction of a recurrent layer, found in a Scan."""

    cell: Cell
    hidden: int
    reverse: bool
    factors: tuple[NDArray[Any], ...]
    """One matrix of (gates * hidden, hidden), or A of (gates * hidden, rank) and B of (rank, hidden)."""
    bias: NDArray[Any]
    """What is added to the product, shape (gates * hidden,)."""


class Body:
    """A body in the making.

    Parameters
    ----------
    opset
        Version of ONNX's own operators.
    free
        Gives a name that is not taken.
    integers
        Gives a stored vector of whole numbers, which bodies may read from around them.
    """

    def __init__(self, opset: int, free: Callable[[str], str], integers: Callable[[Sequence[int]], ir.Value]) -> None:
        self._opset, self._free, self._integers = opset, free, integers
        self.nodes: list[ir.Node] = []

    def input(self, label: str, width: int, dtype: ir.DataType) -> ir.Value:
        """Return an input of (samples, width)."""
        return ir.Value(name=self._free(label), shape=ir.Shape([None, width]), type=ir.TensorType(dtype))

    def op(self, operator: str, *inputs: ir.Value) -> ir.Value:
        """Add a node and return its output."""
        node = ir.node(operator, inputs)
        node.outputs[0].name = self._free(f"step.{operator}")
        self.nodes.append(node)
        return node.outputs[0]

    def split(self, value: ir.Value, *sizes: int) -> Sequence[ir.Value]:
        """Cut the second axis into parts of these sizes."""
        given = [value, self._integers(sizes)] if self._opset >= 13 else [value]
        attributes: dict[str, Any] = {"axis": 1} if self._opset >= 13 else {"axis": 1, "split": sizes}
        node = ir.node("Split", given, attributes, num_outputs=len(sizes))
        for part in node.outputs:
            part.name = self._free("step.Split")
        self.nodes.append(node)
        return node.outputs


def is_usual(node: ir.Node) -> bool:
    """Return whether a node is an LSTM or GRU of the usual activations, time first, all of whose steps count."""
    if not is_standard(node) or node.op_type not in _GATES or len(node.inputs) < 3:
        return False
    found = {name: attribute.value for name, attribute in node.attributes.items()}
    directions = len(directions_of(node))
    said = [str(name).lower() for name in found.get("activations", _USUAL[node.op_type] * directions)]
    given = [place < len(node.inputs) and node.inputs[place] is not None for place in (4, 7)]
    return (
        said == _USUAL[node.op_type] * directions
        and not any(given)
        and not any(found.get(name) for name in ("clip", "layout", "input_forget", "activation_alpha"))
        and (node.op_type == "LSTM" or bool(found.get("linear_before_reset")))
    )


def directions_of(node: ir.Node) -> tuple[bool, ...]:
    """Return for each direction of a recurrent node whether it runs from the last step to the first."""
    said = node.attributes["direction"].as_string() if "direction" in node.attributes else "forward"
    return {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[said]


def states_of(cell: str) -> int:
    """Return the number of states of a cell."""
    return 2 if cell == "LSTM" else 1


def step(
    write: Body, cell: str, hidden: int, given: ir.Value, product: ir.Value, states: Sequence[ir.Value]
) -> list[ir.Value]:
    """Write one step of a cell and return its new states.

    Parameters
    ----------
    write
        The body.
    cell
        "LSTM" or "GRU".
    hidden
        Width of a state.
    given
        What the input adds to the gates, (samples, gates * hidden), in ONNX's order of gates.
    product
        The same of the state.
    states
        The old ones.
    """
    if cell == "LSTM":
        gates, new = write.split(write.op("Add", given, product), 3 * hidden, hidden)
        enter, leave, forget = write.split(write.op("Sigmoid", gates), hidden, hidden, hidden)
        kept = write.op("Mul", forget, states[1])
        inner = write.op("Add", kept, write.op("Mul", enter, write.op("Tanh", new)))
        return [write.op("Mul", leave, write.op("Tanh", inner)), inner]
    parts = [write.split(each, 2 * hidden, hidden) for each in (given, product)]
    gates = write.op("Sigmoid", write.op("Add", parts[0][0], parts[1][0]))
    update, reset = write.split(gates, hidden, hidden)
    new = write.op("Tanh", write.op("Add", parts[0][1], write.op("Mul", reset, parts[1][1])))
    return [write.op("Add", new, write.op("Mul", update, write.op("Sub", states[0], new)))]


def scan_of(
    write: Body,
    cell: str,
    hidden: int,
    reverse: bool,
    gates: ir.Value,
    initial: Sequence[ir.Value],
    product_of: Callable[[ir.Value], ir.Value],
) -> ir.Node:
    """Return a Scan over steps of a cell; its outputs are the last states, then the states of all steps.

    Parameters
    ----------
    write
        An empty body.
    cell, hidden, reverse
        What is run, and whether from the last step to the first.
    gates
        What the input adds to the gates, (steps, samples, gates * hidden).
    initial
        The first states, (samples, hidden) each.
    product_of
        Writes the product of a state in the body.
    """
    dtype = gates.dtype or ir.DataType.FLOAT
    states = [write.input(label, hidden, dtype) for label in ("hidden", "cell")[: states_of(cell)]]
    given = write.input("given", _GATES[cell] * hidden, dtype)
    new = step(write, cell, hidden, given, product_of(states[0]), states)
    # A body gives a value once.
    shown = write.op("Identity", new[0])
    body = ir.Graph([*states, given], [*new, shown], nodes=write.nodes, name="step")
    for value in body.outputs:
        value.type, value.shape = ir.TensorType(dtype), ir.Shape([None, hidden])
    attributes: dict[str, Any] = {"body": body, "num_scan_inputs": 1}
    if reverse:
        attributes |= {"scan_input_directions": [1], "scan_output_directions": [1]}
    return ir.node("Scan", [*initial, gates], attributes, num_outputs=len(new) + 1)


def read_scan(node: ir.Node, opset: int) -> Turning | None:
    """Return what a node runs that is a Scan of the form of `scan_of`, whole or with two factors; None of any other."""
    if not is_standard(node) or node.op_type != "Scan" or node.attributes["num_scan_inputs"].as_int() != 1:
        return None
    said = [node.attributes[name].as_ints() if name in node.attributes else (0,) for name in _SCAN_DIRECTIONS]
    axes = [node.attributes[name].as_ints() if name in node.attributes else (0,) for name in _SCAN_AXES]
    body = node.attributes["body"].as_graph()
    cell: Cell = "LSTM" if len(body.inputs) == 3 else "GRU"
    if said[0] != said[1] or any(map(any, axes)) or len(body.inputs) != states_of(cell) + 1:
        return None
    if len(body.outputs) != len(body.inputs) or len(node.inputs) != len(body.inputs):
        return None
    for hidden in _widths(body):
        form = Body(opset, lambda label: label, _constant)
        states, given = list(body.inputs[:-1]), body.inputs[-1]
        product = ir.Value(name="product")
        new = step(form, cell, hidden, given, product, states)
        expected = [*new, form.op("Identity", new[0])]
        holes: dict[ir.Value, ir.Value] = {product: product}
        if all(_are_alike(real, made, holes) for real, made in zip(body.outputs, expected, strict=True)):
            found = _product(holes[product], states[0], hidden, _GATES[cell])
            return None if found is None else Turning(cell, hidden, said[0] == (1,), *found)
    return None


_SCAN_DIRECTIONS = ("scan_input_directions", "scan_output_directions")
_SCAN_AXES = ("scan_input_axes", "scan_output_axes")


def _widths(body: ir.Graph) -> list[int]:
    """Return widths of a state that sizes of a Split in a body tell."""
    found = []
    for node in body:
        if node.op_type == "Split":
            sizes = _sizes(node)
            found += sizes[-1:]
    return list(dict.fromkeys(found))


def _sizes(node: ir.Node) -> list[int]:
    if "split" in node.attributes:
        return list(node.attributes["split"].as_ints())
    constant = trace(node.inputs[1]) if len(node.inputs) > 1 else None
    return [] if constant is None else [int(size) for size in np.ravel(constant.array())]


def _constant(values: Sequence[int]) -> ir.Value:
    tensor = ir.tensor(np.array(values, np.int64))
    return ir.Value(name="sizes", const_value=tensor)


def _are_alike(real: ir.Value | None, made: ir.Value | None, holes: dict[ir.Value, ir.Value]) -> bool:
    """Return whether two values are computed alike; what stands for a hole is noted."""
    if real is None or made is None or real is made:
        return real is made
    if made in holes:
        if holes[made] is made:
            holes[made] = real
        return holes[made] is real
    if made.const_value is not None:
        constant = trace(real)
        return constant is not None and np.array_equal(constant.array(), made.const_value.numpy())
    one, other = real.producer(), made.producer()
    if one is None or other is None or one.op_type != other.op_type or not is_standard(one):
        return False
    settings = [{key: each.value for key, each in node.attributes.items()} for node in (one, other)]
    return (
        real.index() == made.index()
        and settings[0] == settings[1]
        and len(one.inputs) == len(other.inputs)
        and len(one.outputs) == len(other.outputs)
        and all(_are_alike(left, right, holes) for left, right in zip(one.inputs, other.inputs, strict=True))
    )


def _product(
    value: ir.Value, state: ir.Value, hidden: int, gates: int
) -> tuple[tuple[NDArray[Any], ...], NDArray[Any]] | None:
    """Return the matrices that a product of a state multiplies by, the last one first, and what it adds."""
    bias = np.zeros(gates * hidden, np.float32)
    factors: list[NDArray[Any]] = []
    while value is not state:
        node = value.producer()
        if node is None or not is_standard(node) or node.op_type not in ("Add", "MatMul"):
            return None
        source, constant = node.inputs[0], trace(node.inputs[1])
        if source is None or constant is None or constant.dtype != ir.DataType.FLOAT:
            return None
        array = constant.array()
        if node.op_type == "MatMul":
            if array.ndim != 2:
                return None
            factors.append(array.T)
        else:
            if factors or array.size not in (1, bias.size) or array.shape[-1:] != (array.size,):
                return None
            bias = bias + array
        value = source
    if len(factors) not in (1, 2) or (len(factors[0]), factors[-1].shape[1]) != (gates * hidden, hidden):
        return None
    return tuple(np.asarray(each, np.float32) for each in factors), bias.astype(np.float32)
