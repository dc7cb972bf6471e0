"""TensorFlow Lite files in: every operator against LiteRT, and what cannot be read."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.errors import InputError
from lrfdse.formats import format_of
from lrfdse.formats.notes import notes_of_format
from lrfdse.formats.tflite.convert import RULES, as_onnx
from lrfdse.formats.tflite.flatbuffer import read_graph
from lrfdse.formats.tflite.verify import check
from lrfdse.model.graph import load_model
from tests.formats.tflite_models import Writer, mlp, quantized

pytest.importorskip("ai_edge_litert")
IMAGE = (1, 6, 5, 4)


def litert(content, feeds):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    for detail, array in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), feeds, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def ours(model, feeds):
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([port.name for port in session.get_inputs()], feeds, strict=True)))


def images(name, kernel, options, out, *, same, dilation=1, stride=1, activation=0, **more):
    """A convolution or a pool of an image."""

    def build(w, rng):
        x, y = w.tensor(IMAGE), w.tensor(out)
        inputs = [x]
        if kernel is not None:
            outputs = kernel[3] if name == "DEPTHWISE_CONV_2D" else kernel[0]
            inputs += [w.stored(rng.normal(size=kernel).astype(np.float32)), w.stored(np.ones(outputs, np.float32))]
            more.update(dilationHFactor=dilation, dilationWFactor=dilation)
        values = {"strideH": stride, "strideW": stride, "padding": 0 if same else 1, **more}
        w.op(name, inputs, [y], options, fusedActivationFunction=activation, **values)
        return [x], [y]

    return build


def simple(name, *shapes, out=None, options=None, constants=(), dtype="float32", **values):
    """An operator on tensors of these shapes, and behind them constants."""

    def build(w, rng):
        inputs = [w.tensor(shape, dtype) for shape in shapes]
        y = w.tensor(shapes[0] if out is None else out)
        w.op(name, [*inputs, *(w.stored(array) for array in constants)], [y], options, **values)
        return inputs, [y]

    return build


def between_convolutions(name, out, options=None, constant=None, places=1, **values):
    """An operator on images that have their channels first, and a convolution behind it."""

    def build(w, rng):
        x = w.tensor(IMAGE)
        made = []
        for _ in range(places):
            c = w.tensor(IMAGE)
            kernel, bias = w.stored(rng.normal(size=(4, 1, 1, 4)).astype(np.float32)), w.stored(np.ones(4, np.float32))
            w.op("CONV_2D", [x, kernel, bias], [c], "Conv2DOptions", strideH=1, strideW=1, padding=1)
            made.append(c)
        y = w.tensor(out)
        w.op(name, [*made, *([] if constant is None else [w.stored(constant)])], [y], options, **values)
        return [x], [y]

    return build


def i32(*numbers):
    return np.array(numbers, np.int32)


def multiple(w, rng):
    """SPLIT, UNPACK and PACK: operators of several outputs."""
    x = w.tensor((2, 6))
    one, two = w.tensor((2, 3)), w.tensor((2, 3))
    w.op("SPLIT", [w.stored(i32(1)), x], [one, two], "SplitOptions", numSplits=2)
    first, second = w.tensor((3,)), w.tensor((3,))
    w.op("UNPACK", [two], [first, second], "UnpackOptions", num=2, axis=0)
    y = w.tensor((3, 2))
    w.op("PACK", [first, second], [y], "PackOptions", valuesCount=2, axis=1)
    return [x], [one, y]


def halved(w, rng):
    """Weights in float16 behind a DEQUANTIZE, as the converter writes them."""
    x, y, real = w.tensor((1, 6)), w.tensor((1, 5)), w.tensor((5, 6))
    stored = w.stored(rng.normal(size=(5, 6)).astype(np.float16))
    w.op("DEQUANTIZE", [stored], [real])
    w.op("FULLY_CONNECTED", [x, real, -1], [y], "FullyConnectedOptions", fusedActivationFunction=3)
    return [x], [y]


def hybrid(w, rng):
    """Weights in int8, computed in float."""
    x, y = w.tensor((1, 64)), w.tensor((1, 16))
    weight = w.stored(rng.integers(-127, 128, (16, 64)).astype(np.int8), scale=0.01, name="dense/w")
    w.op("FULLY_CONNECTED", [x, weight, -1], [y], "FullyConnectedOptions", version=3)
    return [x], [y]


def transposed(w, rng):
    x, y = w.tensor(IMAGE), w.tensor((1, 12, 10, 3))
    kernel, bias = w.stored(rng.normal(size=(3, 3, 3, 4)).astype(np.float32)), w.stored(np.ones(3, np.float32))
    values = {"strideH": 2, "strideW": 2, "padding": 0}
    sizes = w.stored(i32(1, 12, 10, 3))
    w.op("TRANSPOSE_CONV", [sizes, kernel, x, bias], [y], "TransposeConvOptions", version=3, **values)
    return [x], [y]


def lookup(w, rng):
    ids, y = w.tensor((1, 4), "int32"), w.tensor((1, 4, 3))
    w.op("GATHER", [w.stored(rng.normal(size=(7, 3)).astype(np.float32)), ids], [y], "GatherOptions", axis=0)
    return [ids], [y]


def three_axes(keep):
    def build(w, rng):
        x, y = w.tensor((2, 3, 6)), w.tensor((2, 3, 5) if keep else (6, 5))
        operands = [w.stored(rng.normal(size=shape).astype(np.float32)) for shape in ((5, 6), (5,))]
        w.op("FULLY_CONNECTED", [x, *operands], [y], "FullyConnectedOptions", version=5, keepNumDims=keep)
        return [x], [y]

    return build


CONV, DEPTH, POOL = "Conv2DOptions", "DepthwiseConv2DOptions", "Pool2DOptions"
POOLED = {"filterHeight": 3, "filterWidth": 2}
SIZE = np.array([12, 10], np.int32)
CASES = {
    "conv same": images("CONV_2D", (3, 3, 2, 4), CONV, (1, 3, 3, 3), same=True, stride=2, activation=3),
    "conv valid": images("CONV_2D", (3, 2, 3, 4), CONV, (1, 4, 1, 3), same=False, dilation=2),
    "conv groups": images("CONV_2D", (6, 3, 3, 2), CONV, (1, 6, 5, 6), same=True, activation=1),
    "depthwise": images("DEPTHWISE_CONV_2D", (1, 3, 3, 8), DEPTH, (1, 3, 3, 8), same=True, stride=2, depthMultiplier=2),
    "max pool": images("MAX_POOL_2D", None, POOL, (1, 3, 3, 4), same=True, stride=2, **POOLED),
    "average pool": images("AVERAGE_POOL_2D", None, POOL, (1, 3, 3, 4), same=True, stride=2, **POOLED),
    "transposed conv": transposed,
    "bilinear": simple("RESIZE_BILINEAR", IMAGE, out=(1, 12, 10, 4), options="ResizeBilinearOptions", constants=[SIZE]),
    "bilinear, half": simple(
        *("RESIZE_BILINEAR", IMAGE),
        out=(1, 12, 10, 4),
        options="ResizeBilinearOptions",
        constants=[SIZE],
        version=3,
        halfPixelCenters=True,
    ),
    "bilinear, corners": simple(
        *("RESIZE_BILINEAR", IMAGE),
        out=(1, 12, 10, 4),
        options="ResizeBilinearOptions",
        constants=[SIZE],
        alignCorners=True,
    ),
    "nearest": simple(
        "RESIZE_NEAREST_NEIGHBOR", IMAGE, out=(1, 12, 10, 4), options="ResizeNearestNeighborOptions", constants=[SIZE]
    ),
    "blocks": simple("DEPTH_TO_SPACE", IMAGE, out=(1, 12, 10, 1), options="DepthToSpaceOptions", blockSize=2),
    "space": simple("SPACE_TO_DEPTH", (1, 6, 4, 3), out=(1, 3, 2, 12), options="SpaceToDepthOptions", blockSize=2),
    "dense": three_axes(True),
    "dense, flattened": three_axes(False),
    "half weights": halved,
    "hybrid": hybrid,
    "batches": simple("BATCH_MATMUL", (2, 3, 4), (2, 5, 4), out=(2, 3, 5), options="BatchMatMulOptions", adjY=True),
    "add": simple("ADD", (2, 3, 4), (3, 4), options="AddOptions", fusedActivationFunction=1),
    "divide": simple("DIV", (2, 3), (1, 3), options="DivOptions"),
    "power": simple("POW", (2, 3), constants=[np.float32(2.0)], options="PowOptions"),
    "softmax": simple("SOFTMAX", (2, 7), options="SoftmaxOptions", beta=2.0),
    "log softmax": simple("LOG_SOFTMAX", (2, 7), options="LogSoftmaxOptions"),
    "leaky": simple("LEAKY_RELU", (2, 7), options="LeakyReluOptions", alpha=0.2),
    "gelu": simple("GELU", (2, 7), options="GeluOptions", approximate=False),
    "gelu, tanh": simple("GELU", (2, 7), options="GeluOptions", approximate=True),
    "difference": simple("SQUARED_DIFFERENCE", (2, 7), (1, 7), options="SquaredDifferenceOptions"),
    "unit": simple("L2_NORMALIZATION", (2, 7), options="L2NormOptions"),
    **{
        name: simple(name, (2, 7))
        for name in ("ABS", "NEG", "EXP", "SIN", "COS", "FLOOR", "CEIL", "ELU", "HARD_SWISH", "LOGISTIC", "TANH")
    },
    **{name: simple(name, (2, 7)) for name in ("RELU", "RELU6", "RELU_N1_TO_1", "SQUARE")},
    "minimum": simple("MINIMUM", (2, 7), (2, 7), options="MaximumMinimumOptions"),
    "mean of images": between_convolutions("MEAN", (1, 4), "ReducerOptions", i32(1, 2)),
    "largest": between_convolutions("REDUCE_MAX", (1, 6, 1, 4), "ReducerOptions", i32(2), keepDims=True),
    "sum": simple("SUM", (2, 3, 4), out=(2, 4), options="ReducerOptions", constants=[i32(1)]),
    "image plus image": between_convolutions("ADD", IMAGE, "AddOptions", places=2),
    "image times channels": between_convolutions("MUL", IMAGE, "MulOptions", np.arange(4, dtype=np.float32)),
    "image to vector": between_convolutions("RESHAPE", (1, 120), "ReshapeOptions", i32(1, 120), newShape=[1, 120]),
    "joined images": between_convolutions("CONCATENATION", (1, 6, 5, 8), "ConcatenationOptions", places=2, axis=-1),
    "prelu": between_convolutions("PRELU", IMAGE, constant=np.full((1, 1, 4), 0.3, np.float32)),
    "padded image": between_convolutions(
        "PAD", (1, 8, 8, 4), "PadOptions", np.array([[0, 0], [1, 1], [1, 2], [0, 0]], np.int32)
    ),
    "mirrored": simple(
        "MIRROR_PAD",
        (2, 5),
        out=(2, 8),
        options="MirrorPadOptions",
        constants=[np.array([[0, 0], [1, 2]], np.int32)],
        mode=0,
    ),
    "turned": simple("TRANSPOSE", (2, 3, 4), out=(4, 2, 3), options="TransposeOptions", constants=[i32(2, 0, 1)]),
    "wider": simple("EXPAND_DIMS", (2, 3), out=(2, 1, 3), options="ExpandDimsOptions", constants=[i32(1)]),
    "narrower": simple("SQUEEZE", (2, 1, 3), out=(2, 3), options="SqueezeOptions", squeezeDims=[1]),
    "cut": simple("SLICE", (4, 6), out=(2, 5), options="SliceOptions", constants=[i32(1, 1), i32(2, -1)]),
    "strided": simple(
        *("STRIDED_SLICE", (4, 6)),
        out=(3,),
        options="StridedSliceOptions",
        constants=[i32(1, 5), i32(2, 0), i32(1, -2)],
        shrinkAxisMask=1,
        endMask=2,
    ),
    "several outputs": multiple,
    "lookup": lookup,
}


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_litert_computes(name, tmp_path):
    w, rng = Writer(), np.random.default_rng(1)
    inputs, outputs = CASES[name](w, rng)
    content, path = w.finish(inputs, outputs), tmp_path / "model.tflite"
    model = as_onnx(read_graph(content, path), path)
    onnx.checker.check_model(model, full_check=True)
    shapes = [tuple(w.tensors[index].shape) for index in inputs]
    is_table = w.tensors[inputs[0]].type == w.s.TensorType.INT32
    feeds = [
        rng.integers(0, 7, s).astype(np.int32) if is_table else rng.normal(size=s).astype(np.float32) for s in shapes
    ]
    for one, other in zip(ours(model, feeds), litert(content, feeds), strict=True):
        assert one.shape == other.shape
        # LiteRT rounds what an int8 weight reads to int8.
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=0.15 if name == "hybrid" else 1e-5)


def test_a_float_model_is_confirmed_and_its_layers_are_named(tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(mlp(np.random.default_rng(0), batch=1))
    model = load_model(path)
    assert [(layer.name, layer.inputs, layer.outputs) for layer in model.layers] == [
        ("first", 24, 32),
        ("second", 32, 10),
    ]
    assert [str(port) for port in model.inputs] == ["x (batchx24, float32)"]
    feed = np.random.default_rng(1).normal(size=(3, 24)).astype(np.float32)
    np.testing.assert_allclose(ours(model.proto, [feed])[0], litert(path.read_bytes(), [feed])[0], atol=1e-6)


def test_a_quantized_model_becomes_real_numbers_and_says_so(tmp_path):
    path = tmp_path / "model.tflite"
    content = quantized(np.random.default_rng(0))
    path.write_bytes(content)
    model, _ = format_of(path).read(path)
    (note,) = notes_of_format(model)
    assert "2 quantized weights became float32" in note and "outputs are real numbers" in note
    levels = np.random.default_rng(2).integers(-128, 128, (1, 8, 8, 3), np.int8)
    (theirs,) = litert(content, [levels])
    (real,) = ours(model, [levels])
    assert real.dtype == np.float32
    assert np.abs(real - (theirs.astype(np.float64) - 1)).max() <= 2.0, "within two steps of the output"


def test_a_wrong_conversion_is_refused_and_named(tmp_path):
    path, rng = tmp_path / "model.tflite", np.random.default_rng(0)
    for content, place in ((mlp(rng), "second/MatMul"), (quantized(rng), "dense/w")):
        graph = read_graph(content, path)
        check(content, graph, as_onnx(graph, path), path)
        damaged = [
            dataclasses.replace(tensor, data=tensor.data[::-1]) if tensor.name == place else tensor
            for tensor in graph.tensors
        ]
        wrong = dataclasses.replace(graph, tensors=tuple(damaged))
        with pytest.raises(InputError, match=r"operator \d, FULLY_CONNECTED, was read wrongly"):
            check(content, wrong, as_onnx(wrong, path), path)


def test_what_onnxruntime_cannot_run_is_one_line_and_nothing_beside_it(tmp_path, capfd):
    path, content = tmp_path / "model.tflite", mlp(np.random.default_rng(0))
    graph = read_graph(content, path)
    model = as_onnx(graph, path)
    x = model.graph.input[0].name
    # An index behind the end, which shows only when it runs.
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1000]), "far"))
    nodes = [
        onnx.helper.make_node("ArgMax", [x], ["place"], axis=-1, keepdims=0),
        onnx.helper.make_node("Add", ["place", "far"], ["index"]),
        onnx.helper.make_node("Gather", [x, "index"], ["row"], axis=0),
        *model.graph.node,
    ]
    nodes[3].input[0] = "row"
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    with pytest.raises(InputError, match="what was read of it cannot be run: ") as caught:
        check(content, graph, model, path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_all_that_cannot_be_read_is_named_in_one_line(tmp_path):
    w, path = Writer(), tmp_path / "model.tflite"
    x, y, z, out = (w.tensor((1, 4)) for _ in range(4))
    w.op("CUSTOM", [x], [y], custom="Secret\nOp")
    w.op("CUMSUM", [y, w.stored(i32(0))], [z])
    w.op("CUMSUM", [z, w.stored(i32(0))], [out])
    path.write_bytes(w.finish([x], [out]))
    with pytest.raises(InputError) as caught:
        format_of(path).read(path)
    text = str(caught.value)
    assert "2 x CUMSUM" in text and "CUSTOM 'Secret Op'" in text and "\n" not in text


def spoiled(content, **more):
    """Return a model with something changed in it."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as s

    model = s.ModelT.InitFromObj(s.Model.GetRootAs(content, 0))
    graph = model.subgraphs[0]
    if "version" in more:
        model.version = more["version"]
    if "shape" in more:
        graph.tensors[4].shape = more["shape"]
    if "read" in more:
        graph.operators[0].inputs = more["read"]
    if "buffer" in more:
        graph.tensors[4].buffer = more["buffer"]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"version": 4}, "schema version 4 is unknown"),
        ({"shape": [40000, 40000]}, "takes 6400000000 bytes, but 3072 are stored"),
        ({"shape": [-1, 24]}, "its sizes are -1x24"),
        ({"read": [0, 99, 6]}, "reads or writes a tensor that is not there"),
        ({"buffer": 99}, "its buffer 99 is not there"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_damaged_file_is_one_line(more, text, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(spoiled(mlp(np.random.default_rng(0)), **more))
    with pytest.raises(InputError, match=text) as caught:
        format_of(path).read(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_a_file_that_is_cut_short_is_told(tmp_path):
    path, content = tmp_path / "model.tflite", mlp(np.random.default_rng(0))
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(
        InputError, match=r"model\.tflite: damaged, or cut short: it refers to what lies behind its end$"
    ):
        format_of(path).read(path)


def test_another_identifier_is_told(tmp_path):
    path, content = tmp_path / "model.tflite", mlp(np.random.default_rng(0))
    path.write_bytes(content[:4] + b"TFL9" + content[8:])
    with pytest.raises(InputError, match="lacks the identifier TFL3"):
        format_of(path).read(path)


def test_tensors_that_share_their_bytes_are_bounded(tmp_path):
    """A file of 64 MB could claim a thousand tensors of that size."""
    w, path = Writer(), tmp_path / "model.tflite"
    one = w.stored(np.ones((1024, 1024), np.int8), scale=0.1)
    for _ in range(40):
        other = w.tensor((1024, 1024), "int8", scale=0.1)
        w.tensors[other].buffer = w.tensors[one].buffer
    x, y = w.tensor((1, 1024)), w.tensor((1, 1024))
    w.op("FULLY_CONNECTED", [x, one, -1], [y], "FullyConnectedOptions")
    path.write_bytes(w.finish([x], [y]))
    with pytest.raises(InputError, match="share their bytes"):
        format_of(path).read(path)


def test_every_rule_has_a_case():
    """Operators whose rule differs from another's only in the name are named here."""
    alike = {"SUB", "MAXIMUM", "EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "LOGICAL_AND", "LOGICAL_OR"}
    alike |= {
        "NOT_EQUAL",
        "LOGICAL_NOT",
        "SELECT",
        "SELECT_V2",
        "ROUND",
        "SIGN",
        "SQRT",
        "LOG",
        "RSQRT",
        "CAST",
        "QUANTIZE",
    }
    alike |= {"PADV2", "SPLIT_V", "EMBEDDING_LOOKUP", "SHAPE", "TILE", "BROADCAST_TO", "ARG_MAX", "ARG_MIN"}
    alike |= {"REDUCE_MIN", "REDUCE_PROD"}
    seen = set()
    for build in CASES.values():
        w = Writer()
        build(w, np.random.default_rng(0))
        names = {value: key for key, value in vars(w.s.BuiltinOperator).items() if isinstance(value, int)}
        seen |= {names[code] for code, _, _ in w.codes}
    assert set(RULES) - seen <= alike
