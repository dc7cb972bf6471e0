"""A layer as an ONNX model, in the three forms that users write: einsum, matmul, broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels.arrays import Arrays
from benchmarks.kernels.layers import Case

FORMS = ("einsum", "matmul", "broadcast")
"""Einsum of every core; Reshape, MatMul, Reshape, Transpose; MatMul with the weight on the left, no Transpose."""

_OPSET = 17
_IR_VERSION = 8


def onnx_model(case: Case, numbers: Arrays, form: str) -> Any:
    """Return an ONNX model whose graph is named main, from x (rows, inputs) to y (rows, outputs).

    Einsum and matmul contract core by core in the direction of the design, with the layouts of the reference paper's
    loops (`loops.paper`); broadcast is the form that lrfdse itself writes: no data is ever rearranged.
    """
    from onnx import TensorProto, helper

    graph = _Graph()
    {"einsum": _einsum, "matmul": _matmul, "broadcast": _broadcast}[form](graph, case, numbers)
    sizes = [case.rows, case.layer.inputs], [case.rows, case.layer.outputs]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in zip("xy", sizes, strict=True)
    )
    made = helper.make_graph(graph.nodes, "main", [x], [y], graph.constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)


class _Graph:
    """Nodes in the making; the latest value is what the next node reads."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.value = "x"

    def constant(self, array: NDArray[Any]) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> None:
        from onnx import helper

        self.value = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [self.value], **attributes))

    def reshape(self, *sizes: int) -> None:
        self.node("Reshape", [self.value, self.constant(np.array(sizes, dtype=np.int64))])

    def transpose(self, *order: int) -> None:
        self.node("Transpose", [self.value], perm=list(order))

    def finish(self, rows: int, outputs: int) -> None:
        """Give the result its shape and name."""
        self.reshape(rows, outputs)
        self.nodes[-1].output[0] = "y"


def _einsum(graph: _Graph, case: Case, numbers: Arrays) -> None:
    def contract(k: int, core: NDArray[np.float64]) -> None:
        f = case.factorization
        weight = graph.constant(core.transpose(0, 2, 1, 3).astype(np.float32))
        if f.direction == "rl":
            graph.reshape(-1, f.in_modes[k], f.bonds[k + 1])
            graph.node("Einsum", [weight, graph.value], equation="rnmk,bnk->mbr")
        else:
            graph.reshape(f.bonds[k], f.in_modes[k], -1)
            graph.node("Einsum", [weight, graph.value], equation="knmr,knb->rbm")

    if case.is_factorized:
        _chain(graph, case, numbers, contract)
    else:
        graph.node(
            "Einsum", [graph.constant(numbers.cores[0][0, ..., 0].astype(np.float32)), "x"], equation="mn,bn->bm"
        )
        graph.finish(case.rows, case.layer.outputs)


def _matmul(graph: _Graph, case: Case, numbers: Arrays) -> None:
    def contract(k: int, core: NDArray[np.float64]) -> None:
        r, m, n, s = core.shape
        if case.factorization.direction == "rl":
            graph.reshape(-1, n * s)
            matrix = core.transpose(2, 3, 1, 0).reshape(n * s, m * r)
            graph.node("MatMul", [graph.value, graph.constant(matrix.astype(np.float32))])
            if k:  # the first core's rank is 1 and its outputs are in order but for the rows
                graph.reshape(-1, m, r)
                graph.transpose(1, 0, 2)
            elif case.factorization.outputs > m or case.rows > 1:
                graph.transpose(1, 0)
        else:
            graph.reshape(r * n, -1)
            matrix = core.transpose(3, 1, 0, 2).reshape(s * m, r * n)
            graph.node("MatMul", [graph.constant(matrix.astype(np.float32)), graph.value])
            if m > 1:
                graph.reshape(s, m, -1)
                graph.transpose(0, 2, 1)

    if case.is_factorized:
        _chain(graph, case, numbers, contract)
    else:
        graph.node("MatMul", ["x", graph.constant(numbers.cores[0][0, ..., 0].T.astype(np.float32))])
        graph.finish(case.rows, case.layer.outputs)


def _chain(graph: _Graph, case: Case, numbers: Arrays, contract: Any) -> None:
    """Contract all cores; several rows are turned to the end of the index, or back from there."""
    f, rows = case.factorization, case.rows
    if f.direction == "lr" and rows > 1:
        graph.transpose(1, 0)
    order = range(len(numbers.cores))
    for k in order if f.direction == "lr" else reversed(order):
        contract(k, numbers.cores[k])
    if f.direction == "rl" and rows > 1:
        graph.reshape(f.outputs, rows)
        graph.transpose(1, 0)
    graph.finish(rows, f.outputs)


def _broadcast(graph: _Graph, case: Case, numbers: Arrays) -> None:
    matrices = case.factorization.step_matrices(list(numbers.cores))
    for step, matrix in zip(case.factorization.steps(case.rows), matrices, strict=True):
        weight = matrix.astype(np.float32)
        if step.columns == 1:
            graph.reshape(step.batch, step.inner)
            graph.node("MatMul", [graph.value, graph.constant(weight.T)])
        else:
            graph.reshape(step.batch, step.inner, step.columns)
            graph.node("MatMul", [graph.constant(weight), graph.value])
    graph.finish(case.rows, case.layer.outputs)
