"""A layer as a LiteRT model, written with the schema's own classes: no TensorFlow, no converter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels.arrays import Arrays
from benchmarks.kernels.layers import Case

LITERT_FORMS = ("matmul", "broadcast")
"""FULLY_CONNECTED with RESHAPE and TRANSPOSE between; BATCH_MATMUL with the weight on the left, nothing between."""


def litert_model(case: Case, numbers: Arrays, form: str) -> bytes:
    """Return the flatbuffer of a model from x (rows, inputs) to y (rows, outputs), float32."""
    graph = _Graph(case.rows, case.layer.inputs)
    if form == "broadcast":
        _steps(graph, case, numbers)
    else:
        _contractions(graph, case, numbers)
    graph.reshape(case.rows, case.layer.outputs)
    return graph.finish()


def _steps(graph: _Graph, case: Case, numbers: Arrays) -> None:
    matrices = case.factorization.step_matrices(list(numbers.cores))
    for step, matrix in zip(case.factorization.steps(case.rows), matrices, strict=True):
        if step.columns == 1:
            graph.reshape(step.batch, step.inner)
            graph.fully_connected(matrix)
        else:
            graph.reshape(step.batch, step.inner, step.columns)
            graph.left_multiply(matrix)


def _contractions(graph: _Graph, case: Case, numbers: Arrays) -> None:
    """Contract core by core as `forms` does for its form "matmul", with the weight always on the right."""
    f, rows = case.factorization, case.rows
    if not case.is_factorized:
        graph.fully_connected(numbers.cores[0][0, ..., 0])
        return
    if f.direction == "rl":
        for k in reversed(range(len(numbers.cores))):
            r, m, n, s = numbers.cores[k].shape
            graph.reshape(-1, n * s)
            graph.fully_connected(numbers.cores[k].transpose(1, 0, 2, 3).reshape(m * r, n * s))
            if m > 1:
                graph.reshape(-1, m, r)
                graph.transpose(1, 0, 2)
        if rows > 1:
            graph.reshape(f.outputs, rows)
            graph.transpose(1, 0)
        return
    # From the other end, b stands before what is contracted: (b, k n) times (m r) gives (b, m, r).
    for k, core in enumerate(numbers.cores):
        r, m, n, s = core.shape
        graph.reshape(rows * int(np.prod(f.out_modes[:k])), r * n, -1)
        if graph.sizes[2] > 1:
            graph.transpose(0, 2, 1)
        graph.reshape(-1, r * n)
        graph.fully_connected(core.transpose(1, 3, 0, 2).reshape(m * s, r * n))
        columns = int(np.prod(f.in_modes[k + 1 :]))
        if columns > 1:
            graph.reshape(-1, columns, m * s)
            graph.transpose(0, 2, 1)


class _Graph:
    """One subgraph in the making; the latest tensor is what the next operator reads."""

    def __init__(self, rows: int, inputs: int) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._s: Any = schema
        self._codes: list[int] = []
        self._operators: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]
        self._tensors: list[Any] = []
        self.sizes: tuple[int, ...] = (rows, inputs)
        self._value = self._tensor(self.sizes)

    def reshape(self, *sizes: int) -> None:
        """Reshape; one size may be -1."""
        total = int(np.prod(self.sizes))
        known = int(np.prod([size for size in sizes if size > 0]))
        whole = tuple(total // known if size == -1 else size for size in sizes)
        if whole == self.sizes:
            return
        options = self._s.ReshapeOptionsT()
        options.newShape = list(whole)
        operator = self._s.BuiltinOperator.RESHAPE, self._s.BuiltinOptions.ReshapeOptions, options
        self._operator(*operator, [self._constant(np.array(whole, dtype=np.int32))], whole)

    def transpose(self, *order: int) -> None:
        """Exchange axes."""
        options = self._s.TransposeOptionsT()
        operator = self._s.BuiltinOperator.TRANSPOSE, self._s.BuiltinOptions.TransposeOptions, options
        sizes = tuple(self.sizes[axis] for axis in order)
        self._operator(*operator, [self._constant(np.array(order, dtype=np.int32))], sizes)

    def fully_connected(self, matrix: NDArray[np.float64]) -> None:
        """Multiply the last axis by a matrix (outputs, inputs)."""
        options = self._s.FullyConnectedOptionsT()
        options.keepNumDims = len(self.sizes) > 2
        operator = self._s.BuiltinOperator.FULLY_CONNECTED, self._s.BuiltinOptions.FullyConnectedOptions, options
        weight = self._constant(matrix.astype(np.float32))
        self._operator(*operator, [weight, -1], (*self.sizes[:-1], matrix.shape[0]))

    def left_multiply(self, matrix: NDArray[np.float64]) -> None:
        """Multiply each (inner, columns) matrix of the batch by a matrix (outputs, inner) from the left."""
        batch, _, columns = self.sizes
        options = self._s.BatchMatMulOptionsT()
        weight = self._constant(matrix.astype(np.float32)[None])
        operator = self._s.BuiltinOperator.BATCH_MATMUL, self._s.BuiltinOptions.BatchMatMulOptions, options
        self._operator(*operator, [weight], (batch, matrix.shape[0], columns), first=True)

    def finish(self) -> bytes:
        """Return the model."""
        import flatbuffers

        s = self._s
        graph = s.SubGraphT()
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = [0], [self._value]
        model = s.ModelT()
        model.version, model.subgraphs, model.buffers = 3, [graph], self._buffers
        model.operatorCodes = []
        for code in self._codes:
            made = s.OperatorCodeT()
            made.builtinCode, made.deprecatedBuiltinCode, made.version = code, min(code, 127), 1
            model.operatorCodes.append(made)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _operator(
        self, code: int, kind: int, options: Any, given: Sequence[int], sizes: tuple[int, ...], *, first: bool = False
    ) -> None:
        if code not in self._codes:
            self._codes.append(code)
        made = self._s.OperatorT()
        made.opcodeIndex = self._codes.index(code)
        made.inputs = [*given, self._value] if first else [self._value, *given]
        made.builtinOptionsType, made.builtinOptions = kind, options
        self.sizes, self._value = sizes, self._tensor(sizes)
        made.outputs = [self._value]
        self._operators.append(made)

    def _constant(self, array: NDArray[Any]) -> int:
        buffer = self._s.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), dtype=np.uint8)
        self._buffers.append(buffer)
        kind = self._s.TensorType.FLOAT32 if array.dtype == np.float32 else self._s.TensorType.INT32
        return self._tensor(array.shape, kind, len(self._buffers) - 1)

    def _tensor(self, sizes: tuple[int, ...], kind: int = 0, buffer: int = 0) -> int:
        tensor = self._s.TensorT()
        tensor.shape, tensor.type, tensor.buffer = list(sizes), kind, buffer
        tensor.name = f"t{len(self._tensors)}"
        self._tensors.append(tensor)
        return len(self._tensors) - 1
