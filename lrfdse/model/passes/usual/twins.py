"""Tables that products multiply by as a second, turned copy, stored once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from lrfdse.model.bodies import all_nodes
from lrfdse.model.carriers import carrier_of
from lrfdse.model.constants import is_standard, stored
from lrfdse.model.passes.emit import Emitter, Names, drop_unused


class StoreTablesOnce(ir.passes.InPlacePass):
    """Has products read the table of an embedding where their own matrix holds the same elements.

    Exporters fold the transposition of a tied table into the product, so that the file holds the table twice. A product
    whose sums run over the columns of the table reads the table itself again; every element stays as it is.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether anything is stored once that was stored twice."""
        names, changed = Names(model), False
        tables = _tables(model.graph)
        for node, place, is_turned in _products(model.graph) if tables else ():
            matrix = node.inputs[place]
            table = next((each for each in tables if _are_equal(each, matrix, is_turned)), None)
            if table is None or matrix is None:
                continue
            emit = Emitter.before(model, node, names)
            node.replace_input_with(place, emit.op("Transpose", [table], perm=[1, 0]) if is_turned else table)
            drop_unused(matrix)
            changed = True
        return ir.passes.PassResult(model, modified=changed)


def _tables(graph: ir.Graph) -> list[ir.Value]:
    """Return the stored tables that rows are looked up in, once each."""
    lookups = (node.inputs[0] for node in all_nodes(graph) if carrier_of(node) == "embedding")
    found = [table for table in lookups if table is not None and table.producer() is None and table.graph is graph]
    return list(dict.fromkeys(found))


def _products(graph: ir.Graph) -> Iterator[tuple[ir.Node, int, bool]]:
    """Yield products, where each may have a matrix, and whether the matrix is a table turned there."""
    for node in all_nodes(graph):
        if not is_standard(node) or node.op_type not in ("Gemm", "MatMul"):
            continue
        is_gemm = node.op_type == "Gemm"
        turns = is_gemm and "transB" in node.attributes and bool(node.attributes["transB"].as_int())
        yield node, 1, not turns
        if not is_gemm:
            yield node, 0, False


def _are_equal(table: ir.Value, matrix: ir.Value | None, is_turned: bool) -> bool:
    if matrix is None or matrix is table or matrix.const_value is None or matrix.producer() is not None:
        return False
    one, other = stored(table), stored(matrix)
    sizes = tuple(one.shape.numpy())
    if one.dtype != other.dtype or tuple(other.shape.numpy()) != (sizes[::-1] if is_turned else sizes):
        return False
    elements = other.numpy()
    return bool(np.array_equal(one.numpy(), elements.T if is_turned else elements))
