"""A dense layer in whole numbers as models for onnxruntime and LiteRT: floats in, floats out, int8 between."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.base.privacy import load_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx
    from numpy.typing import NDArray

SCALE = 2.0**-5
"""What a level of the input is worth."""

_CALIBRATED = 4
"""Batches that onnxruntime's quantizer calibrates on."""


@dataclass(frozen=True)
class Dense:
    """A layer with its numbers: ``y = x (scales levels)^T``."""

    x: NDArray[np.float32]
    """Shape (rows, inputs)."""
    levels: NDArray[np.int8]
    """Shape (outputs, inputs), from -127 to 127."""
    scales: NDArray[np.float32]
    """Shape (outputs,)."""

    @classmethod
    def drawn(cls, rows: int, outputs: int, inputs: int, seed: int = 0) -> Dense:
        """Return a layer whose inputs are of a bell curve, and whose outputs are about as large."""
        rng = np.random.default_rng(seed)
        levels = rng.integers(-127, 127, (outputs, inputs), np.int8, endpoint=True)
        scales = (rng.uniform(0.5, 1, outputs) / 73 / np.sqrt(inputs)).astype(np.float32)
        return cls(rng.standard_normal((rows, inputs)).astype(np.float32), levels, scales)

    @cached_property
    def weight(self) -> NDArray[np.float32]:
        """What the levels stand for."""
        return self.levels.astype(np.float32) * self.scales[:, None]

    @cached_property
    def y(self) -> NDArray[np.float32]:
        """The output in floats, nothing rounded."""
        return self.x @ self.weight.T


def onnx_models(dense: Dense) -> dict[str, bytes]:
    """Return the layer as onnxruntime has it in several ways, by name.

    *static QDQ* and *static QOperator* are what its own quantizer (``quantize_static``, a scale for each output) makes
    of the layer in floats; *QDQ, float sums* and *QGemm* are written by hand and do not round the output.
    """
    return {
        "static QDQ": _static(dense, "QDQ"),
        "static QOperator": _static(dense, "QOperator"),
        "QDQ, float sums": _by_hand(dense, np.uint8),
        "QDQ, float sums, int8": _by_hand(dense, np.int8),
        "QGemm": _qgemm(dense),
    }


def _static(dense: Dense, form: str) -> bytes:
    load_onnxruntime()
    from onnx import numpy_helper
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            rng = np.random.default_rng(1)
            shape = (_CALIBRATED, *dense.x.shape)
            self._left: Iterator[Any] = iter([{"x": each} for each in rng.standard_normal(shape).astype(np.float32)])

        def get_next(self) -> Any:
            return next(self._left, None)

    node = _node("MatMul", ["x", "w"], ["y"])
    model = _model(dense, [node], [numpy_helper.from_array(np.ascontiguousarray(dense.weight.T), "w")])
    with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as folder:
        before, after = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        before.write_bytes(model.SerializeToString())
        quantize_static(
            before,
            after,
            Reader(),
            quant_format=QuantFormat[form],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return after.read_bytes()


def _by_hand(dense: Dense, kind: type[np.uint8 | np.int8]) -> bytes:
    nodes = [
        _node("QuantizeLinear", ["x", "scale", "zero"], ["rounded"]),
        _node("DequantizeLinear", ["rounded", "scale", "zero"], ["read"]),
        _node("DequantizeLinear", ["levels", "scales", "zeros"], ["w"], axis=1),
        _node("MatMul", ["read", "w"], ["y"]),
    ]
    return bytes(_model(dense, nodes, _tensors(dense, kind)).SerializeToString())


def _qgemm(dense: Dense) -> bytes:
    nodes = [
        _node("QuantizeLinear", ["x", "scale", "zero"], ["rounded"]),
        _node("QGemm", ["rounded", "scale", "zero", "levels", "scales", "zeros"], ["y"], domain="com.microsoft"),
    ]
    return bytes(_model(dense, nodes, _tensors(dense, np.uint8)).SerializeToString())


def _tensors(dense: Dense, kind: type[np.uint8 | np.int8]) -> list[Any]:
    from onnx import numpy_helper

    arrays = {
        "scale": np.array(SCALE, np.float32),
        "zero": np.array(128 if kind == np.uint8 else 0, kind),
        "levels": np.ascontiguousarray(dense.levels.T),
        "scales": dense.scales,
        "zeros": np.zeros(len(dense.scales), np.int8),
    }
    return [numpy_helper.from_array(array, name) for name, array in arrays.items()]


def _node(kind: str, reads: list[str], writes: list[str], **more: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, reads, writes, name=writes[0], **more)


def _model(dense: Dense, nodes: list[Any], tensors: list[Any]) -> onnx.ModelProto:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(dense.x.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [len(dense.x), len(dense.levels)])],
        tensors,
    )
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=versions, ir_version=8)


def litert_models(dense: Dense) -> dict[str, bytes]:
    """Return the layer in whole numbers for LiteRT, by name.

    *float32 in, out* is QUANTIZE, FULLY_CONNECTED with a scale for each output, and DEQUANTIZE; *int8 in, out* leaves
    the first and the last out, and so does less.
    """
    return {"float32 in, out": _litert(dense, floats=True), "int8 in, out": _litert(dense, floats=False)}


def _litert(dense: Dense, *, floats: bool) -> bytes:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    s: Any = schema
    (rows, inputs), outputs = dense.x.shape, len(dense.levels)
    largest = float(np.abs(dense.y).max())
    model, graph = s.ModelT(), s.SubGraphT()
    model.version, model.subgraphs, model.buffers, model.operatorCodes = 3, [graph], [s.BufferT()], []
    graph.tensors, graph.operators = [], []

    def tensor(name: str, shape: tuple[int, ...], kind: int, scales: Any = None, data: Any = None) -> int:
        made = s.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), kind, 0
        if scales is not None:
            q = s.QuantizationParametersT()
            q.scale = [float(scale) for scale in np.atleast_1d(scales)]
            q.zeroPoint, q.quantizedDimension = [0] * len(q.scale), 0
            made.quantization = q
        if data is not None:
            buffer = s.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            model.buffers.append(buffer)
            made.buffer = len(model.buffers) - 1
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operator(code: int, version: int, reads: list[int], write: int, kind: int = 0, options: Any = None) -> None:
        of = s.OperatorCodeT()
        of.builtinCode, of.deprecatedBuiltinCode, of.version = code, min(code, 127), version
        model.operatorCodes.append(of)
        made = s.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes) - 1, reads, [write]
        made.builtinOptionsType, made.builtinOptions = kind, options
        graph.operators.append(made)

    int8, float32, int32 = s.TensorType.INT8, s.TensorType.FLOAT32, s.TensorType.INT32
    read = tensor("rounded", (rows, inputs), int8, SCALE)
    weight = tensor("w", (outputs, inputs), int8, dense.scales, dense.levels)
    bias = tensor("bias", (outputs,), int32, dense.scales.astype(np.float64) * SCALE, np.zeros(outputs, np.int32))
    product = tensor("product", (rows, outputs), int8, largest / 127)
    ends = read, product
    if floats:
        ends = tensor("x", (rows, inputs), float32), tensor("y", (rows, outputs), float32)
        operator(s.BuiltinOperator.QUANTIZE, 1, [ends[0]], read, s.BuiltinOptions.QuantizeOptions, s.QuantizeOptionsT())
    options = s.BuiltinOptions.FullyConnectedOptions, s.FullyConnectedOptionsT()
    operator(s.BuiltinOperator.FULLY_CONNECTED, 12, [read, weight, bias], product, *options)
    if floats:
        options = s.BuiltinOptions.DequantizeOptions, s.DequantizeOptionsT()
        operator(s.BuiltinOperator.DEQUANTIZE, 2, [product], ends[1], *options)
    graph.inputs, graph.outputs = [ends[0]], [ends[1]]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
