"""Small TensorFlow Lite models, written with the schema's own classes: no TensorFlow, no converter."""

from __future__ import annotations

import numpy as np

KINDS = {
    "float32": "FLOAT32",
    "float16": "FLOAT16",
    "int8": "INT8",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
}


class Writer:
    """One graph in the making; tensors by their numbers."""

    def __init__(self):
        from ai_edge_litert import schema_py_generated as s

        self.s, self.tensors, self.operators, self.buffers, self.codes = s, [], [], [s.BufferT()], []

    def tensor(self, shape, dtype="float32", data=None, scale=None, zero=None, axis=0, name=None, signature=None):
        s, tensor = self.s, self.s.TensorT()
        tensor.shape, tensor.type = list(shape), getattr(s.TensorType, KINDS[dtype])
        tensor.name, tensor.buffer = f"t{len(self.tensors)}" if name is None else name, 0
        if signature is not None:
            tensor.shapeSignature = list(signature)
        if data is not None:
            buffer = s.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.buffers.append(buffer)
            tensor.buffer = len(self.buffers) - 1
        if scale is not None:
            found = s.QuantizationParametersT()
            found.scale = np.atleast_1d(np.float32(scale))
            found.zeroPoint = np.atleast_1d(np.int64(0 if zero is None else zero))
            if found.zeroPoint.size < found.scale.size:
                found.zeroPoint = np.zeros(found.scale.size, np.int64)
            found.quantizedDimension = axis
            tensor.quantization = found
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def stored(self, array, **more):
        array = np.asarray(array)
        return self.tensor(array.shape, array.dtype.name, array, **more)

    def op(self, name, inputs, outputs, options=None, version=1, custom=None, **values):
        s, operator = self.s, self.s.OperatorT()
        key = (getattr(s.BuiltinOperator, name), custom, version)
        if key not in self.codes:
            self.codes.append(key)
        operator.opcodeIndex, operator.inputs, operator.outputs = self.codes.index(key), list(inputs), list(outputs)
        if options is not None:
            made = getattr(s, f"{options}T")()
            for each, value in values.items():
                assert hasattr(made, each), each
                setattr(made, each, value)
            operator.builtinOptionsType, operator.builtinOptions = getattr(s.BuiltinOptions, options), made
        self.operators.append(operator)

    def finish(self, inputs, outputs, version=3):
        import flatbuffers

        s, graph, model = self.s, self.s.SubGraphT(), self.s.ModelT()
        graph.tensors, graph.operators = self.tensors, self.operators
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        model.version, model.subgraphs, model.buffers, model.operatorCodes = version, [graph], self.buffers, []
        for code, custom, least in self.codes:
            made = s.OperatorCodeT()
            made.builtinCode, made.deprecatedBuiltinCode, made.version = code, min(code, 127), least
            made.customCode = custom
            model.operatorCodes.append(made)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def mlp(rng, batch=None):
    """Return x (1, 24) -> 32 -> ReLU -> 10, softmax."""
    w = Writer()
    signature = None if batch is None else (-1, 24)
    x = w.tensor((1, 24), name="x", signature=signature)
    h = w.tensor((1, 32), name="hidden", signature=None if batch is None else (-1, 32))
    y = w.tensor((1, 10), name="scores", signature=None if batch is None else (-1, 10))
    p = w.tensor((1, 10), name="probabilities", signature=None if batch is None else (-1, 10))
    one = w.stored(rng.normal(size=(32, 24)).astype(np.float32) / 5, name="first/MatMul")
    two = w.stored(rng.normal(size=(10, 32)).astype(np.float32) / 5, name="second/MatMul")
    bias = w.stored(rng.normal(size=32).astype(np.float32), name="first/bias")
    last = w.stored(rng.normal(size=10).astype(np.float32), name="second/bias")
    full = "FullyConnectedOptions"
    w.op("FULLY_CONNECTED", [x, one, bias], [h], full, fusedActivationFunction=1)
    w.op("FULLY_CONNECTED", [h, two, last], [y], full)
    w.op("SOFTMAX", [y], [p], "SoftmaxOptions", beta=1.0)
    return w.finish([x], [p])


def quantized(rng):
    """Return an int8 model: a convolution by channels, a pool, and a layer with a zero point of its weight."""
    w = Writer()
    x = w.tensor((1, 8, 8, 3), "int8", scale=0.05, zero=3, name="image")
    k = w.stored(
        rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8), scale=rng.uniform(0.002, 0.01, 8), name="conv/w"
    )
    scales = 0.05 * w.tensors[k].quantization.scale
    b = w.stored(rng.integers(-500, 500, 8).astype(np.int32), scale=scales, name="conv/b")
    c = w.tensor((1, 8, 8, 8), "int8", scale=0.2, zero=-128, name="conv")
    w.op("CONV_2D", [x, k, b], [c], "Conv2DOptions", version=3, strideH=1, strideW=1, padding=0)
    m = w.tensor((1, 4, 4, 8), "int8", scale=0.2, zero=-128, name="pool")
    pool = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2, "padding": 1}
    w.op("MAX_POOL_2D", [c], [m], "Pool2DOptions", version=2, **pool)
    f = w.tensor((1, 128), "int8", scale=0.2, zero=-128, name="flat")
    w.op("RESHAPE", [m, w.stored(np.array([1, 128], np.int32))], [f], "ReshapeOptions", newShape=[1, 128])
    v = w.stored(rng.integers(-127, 128, (16, 128)).astype(np.int8), scale=0.004, zero=0, name="dense/w")
    y = w.tensor((1, 16), "int8", scale=1.0, zero=1, name="scores")
    w.op("FULLY_CONNECTED", [f, v, -1], [y], "FullyConnectedOptions", version=4)
    return w.finish([x], [y])
