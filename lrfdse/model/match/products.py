"""Finding fully-connected layers: products of an activation and a constant matrix, with what can be fused to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.ir.int8 import LARGEST
from lrfdse.ir.layer import Kind
from lrfdse.model.bodies import all_nodes, bodies_of
from lrfdse.model.carriers import Carrier, carrier_of, joined_in, taken_from
from lrfdse.model.constants import FLOATS, Constant, is_root, is_standard, node_name, stored, trace, vector_along
from lrfdse.model.match.match import Found
from lrfdse.model.match.site import Site
from lrfdse.model.match.tied import lookups_of

FeatureAxis = Literal[-1, -2]

_BIASES: Mapping[Carrier, int] = {"recurrent": 3, "attention": 2}
"""Input of an operator that holds the bias of the product that it carries."""


@dataclass(frozen=True, slots=True)
class Product:
    """A Gemm or MatMul node and the constant matrix that it applies, before shapes are known."""

    node: ir.Node
    constant: Constant
    source: ir.Value
    in_axis: FeatureAxis
    out_axis: FeatureAxis
    flip: bool
    """Whether W of shape (outputs, inputs) is the stored matrix transposed."""
    alpha: float
    kind: Kind = "fc"

    @property
    def root(self) -> ir.Value:
        """The stored matrix."""
        return self.constant.root

    @property
    def form(self) -> Hashable:
        """How W comes from the stored matrix."""
        return self.flip, self.constant.form

    @property
    def outputs(self) -> int:
        """Rows of W."""
        return int(stored(self.constant.root).shape.numpy()[int(self.flip)])

    @property
    def inputs(self) -> int:
        """Columns of W."""
        return int(stored(self.constant.root).shape.numpy()[1 - int(self.flip)])

    def weight(self) -> NDArray[Any]:
        """Return W of shape (outputs, inputs) in the type of its use, alpha not applied."""
        array = self.constant.stored_form()
        assert self.constant.dtype is not None
        return (array.T if self.flip else array).astype(self.constant.dtype.numpy(), copy=False)

    def scales(self) -> NDArray[np.float32] | None:
        """Return what a level of each output of W is worth, shape (outputs,); None where W is stored in floating point.

        A factor alpha is not in it.
        """
        found = self.constant.scales()
        return None if found is None else np.broadcast_to(found.astype(np.float32).reshape(-1), (self.outputs,))

    def fits(self, sizes: Sequence[int | None] | None) -> bool:
        """Return whether a shape of the source is known, and one that the product takes."""
        if sizes is None or None in sizes or not sizes:
            return False
        return sizes[self.in_axis if len(sizes) > 1 else -1] == self.inputs

    def site(self, fixed: Sequence[int | None], free: Sequence[int | None] | None) -> Site:
        """Return the use, for a source of shape `fixed` in the timed inference, and `free` as the model fixes it."""
        rank = len(fixed)
        in_axis, out_axis = (self.in_axis, self.out_axis) if rank > 1 else (-1, -1)
        add, value, bias, relu = _fused(self, rank)
        constant = trace(value)
        return Site(
            node=_name(self.node),
            output=self.node.outputs[0].name or "",
            source=self.source.name or "",
            in_axis=in_axis,
            out_axis=out_axis,
            rank=rank,
            fixed=tuple(int(size or 0) for size in fixed),
            free=tuple(free) if free is not None and len(free) == rank else (None,) * rank,
            add=add.outputs[0].name if add is not None else None,
            bias_root=constant.root.name if constant is not None and bias is not None else None,
            bias=bias,
            relu=relu,
            joined=joined_in(self.node),
            looked_up=tuple(each.outputs[0].name or "" for each in lookups_of(self.root))
            if self.kind == "tied"
            else (),
        )


READ = "int8 with zero points of 0 and constant scales"
"""The quantized weights that are read."""


def find_products(graph: ir.Graph, known: set[ir.Value], kind: Kind = "fc") -> Found:
    """Return the products of an activation and a constant matrix, in graph order, and why others are none.

    Parameters
    ----------
    graph
        The main graph, whose bodies are looked through as well.
    known
        Its values that depend on constants alone.
    kind
        Where the products stand in the file: for themselves, or in a node that they were taken out of.
    """
    products: list[Product] = []
    refused: dict[ir.Node, str] = {}
    for node in all_nodes(graph):
        if is_standard(node) and node.op_type in ("Gemm", "MatMul") and _like(kind) == _kind(node):
            found = _product(node, known)
            if isinstance(found, Product):
                if (kind == "tied") != (_like(kind) == "fc" and bool(lookups_of(found.root))):
                    continue
                products.append(dataclasses.replace(found, kind=kind))
            elif found is not None and kind != "tied":
                refused[node] = found
    return products, refused


def _looked_up(root: ir.Value) -> tuple[str, ...]:
    return tuple(node.outputs[0].name or "" for node in lookups_of(root))


def _like(kind: Kind) -> Kind:
    """Return the kind that products of a kind look like, as long as nobody asks what else reads their matrix."""
    return "fc" if kind == "tied" else kind


def _kind(node: ir.Node) -> Kind:
    if joined_in(node):
        return "joint"
    taken = taken_from(node)
    return "fc" if taken is None else taken[0]


def _name(node: ir.Node) -> str:
    """Return what a product is called that stands for itself, for others, or in the place of an operator's own."""
    if joined := joined_in(node):
        return "+".join(joined)
    taken = taken_from(node)
    return node_name(node) if taken is None else taken[1]


def _fused(product: Product, rank: int) -> tuple[ir.Node | None, ir.Value | None, NDArray[np.float64] | None, bool]:
    """Return the Add that follows, the bias value, the bias as a vector (beta folded in), and whether a Relu follows.

    `rank` is that of the product's output.
    """
    node, size = product.node, product.outputs
    if (taken := taken_from(node)) is not None and taken[0] in _BIASES and _in_front(node, taken[0]):
        return None, *_carried_bias(node, taken[0]), False
    axis: FeatureAxis = -1 if rank == 1 else product.out_axis
    add: ir.Node | None = None
    value: ir.Value | None = None
    bias: NDArray[np.float64] | None = None
    if node.op_type == "Gemm" and len(node.inputs) > 2 and node.inputs[2] is not None:
        value = node.inputs[2]
        bias = _bias(value, size, axis, rank)
        if bias is not None:
            bias = bias * _float(node, "beta")
    elif follower := only_reader(node.outputs[0], "Add"):
        value = follower.inputs[1] if follower.inputs[0] is node.outputs[0] else follower.inputs[0]
        bias = _bias(value, size, axis, rank)
        add = follower if bias is not None else None
    if bias is None:
        # A Gemm whose C is no vector keeps adding it behind the product, so nothing after it can be fused.
        open_end = node.op_type == "MatMul" or value is None or add is not None
        value = None
        end = node.outputs[0] if open_end else None
    else:
        end = (add or node).outputs[0]
    return add, value, bias, end is not None and only_reader(end, "Relu") is not None


def _in_front(product: ir.Node, carrier: Carrier) -> bool:
    """Return whether a product stands in front of the operator that it was taken out of, which is still there."""
    return all(carrier_of(usage.node) == carrier for usage in product.outputs[0].uses())


def _carried_bias(product: ir.Node, carrier: Carrier) -> tuple[ir.Value | None, NDArray[np.float64] | None]:
    """Return the bias that the operator adds which a product was taken out of, and the part of it that is its own."""
    (usage,) = product.outputs[0].uses()
    inputs, place = usage.node.inputs, _BIASES[carrier]
    value = inputs[place] if place < len(inputs) else None
    if value is None or not is_root(value):
        return None, None
    array = stored(value).numpy().astype(np.float64)
    # A recurrent layer's biases of the input come first in each direction, those of the recurrence behind.
    return value, (array[:, : array.shape[1] // 2] if carrier == "recurrent" else array).reshape(-1)


def _product(node: ir.Node, known: set[ir.Value]) -> Product | str | None:
    left, right = node.inputs[0], node.inputs[1]
    if left is None or right is None:
        return None
    constants = trace(left), trace(right)
    if all(value in known or constant for value, constant in zip((left, right), constants, strict=True)):
        return "a product of constants: fold constants first"
    for value, constant in zip((left, right), constants, strict=True):
        if constant is None and (reason := unusable(value, known)):
            return reason
    on_right = constants[1] is not None
    constant = constants[1] or constants[0]
    if constant is None:
        return None
    if len(constant.shape) != 2:
        return f"its weight has {len(constant.shape)} dimensions instead of 2"
    if constant.dtype not in FLOATS:
        return f"its weight is of type {constant.dtype}"
    if 0 in constant.shape:
        return "its weight is empty"
    turned = [
        bool(node.attributes[name].as_int()) if name in node.attributes else False for name in ("transA", "transB")
    ]
    by_output = (on_right ^ turned[1] if on_right else turned[0]) ^ constant.transposed
    if reason := _unread(constant, int(by_output)):
        return reason
    if node.op_type == "MatMul":
        axis: FeatureAxis = -1 if on_right else -2
        return Product(node, constant, left if on_right else right, axis, axis, on_right ^ constant.transposed, 1.0)
    alpha = _float(node, "alpha")
    if on_right:
        in_axis: FeatureAxis = -2 if turned[0] else -1
        return Product(node, constant, left, in_axis, -1, (not turned[1]) ^ constant.transposed, alpha)
    in_axis = -1 if turned[1] else -2
    return Product(node, constant, right, in_axis, -2, turned[0] ^ constant.transposed, alpha)


def _unread(constant: Constant, axis: int) -> str | None:
    """Return why a quantized matrix is not read, or None; `axis` of the stored one is that of outputs."""
    scales = constant.scales()
    if scales is None:
        return None
    if (kind := stored(constant.root).dtype) != ir.DataType.INT8:
        return f"its weight is quantized to {kind}, and int8 alone is read"
    if scales.size > 1 and scales.shape[axis] == 1:
        return "its int8 weight has a scale for each input instead of each output"
    if (stored(constant.root).numpy() < -LARGEST).any():
        return f"its int8 weight holds levels below -{LARGEST}, which symmetric int8 leaves out"
    if not (np.isfinite(scales) & (scales > 0)).all():
        return "its int8 weight has scales that are no positive numbers"
    return None


def unusable(value: ir.Value, known: set[ir.Value]) -> str | None:
    """Return why a value that is no stored tensor cannot be a weight, or None if it is an activation."""
    node = value.producer()
    if value in known and node is not None:
        if node.op_type == "DequantizeLinear":
            return f"its weight is quantized in a form other than {READ}"
        return f"its weight is computed from constants by {node.op_type} {node_name(node)!r}: fold constants first"
    if node is not None and is_standard(node) and node.op_type == "DequantizeLinear" and trace(node.inputs[0]):
        return f"its weight is quantized in a form other than {READ}"
    return None


def only_reader(value: ir.Value, op: str) -> ir.Node | None:
    """Return the single node that reads `value`, if it is an `op` and in the same graph."""
    usages = list(value.uses())
    if value.is_graph_output() or len(usages) != 1:
        return None
    node = usages[0].node
    same = value.producer()
    return node if is_standard(node) and node.op_type == op and same is not None and node.graph is same.graph else None


def _bias(value: ir.Value | None, size: int, axis: FeatureAxis, rank: int) -> NDArray[np.float64] | None:
    constant = trace(value)
    if constant is None or constant.dtype not in FLOATS:
        return None
    return vector_along(constant.array(), size, axis, rank)


def _float(node: ir.Node, name: str) -> float:
    return node.attributes[name].as_float() if name in node.attributes else 1.0


def every_node(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Node | None]]:
    """Yield each node with the outermost node whose subgraph holds it, None in the main graph."""
    for node in graph:
        yield node, None
        for body in bodies_of(node):
            for inner in all_nodes(body):
                yield inner, node
