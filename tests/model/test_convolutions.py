"""Convolutions as layers: found, read as patches, rewritten; against onnxruntime and plain loops in NumPy."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.errors import InputError
from lrfdse.factorize.tt import carried_ranks, tt_svd
from lrfdse.formats.onnx import file_content
from lrfdse.ir.convolution import cuts, filters
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.repair.moments import moments


@dataclasses.dataclass(frozen=True)
class Case:
    """A convolution of a model, and what it is fed."""

    channels: int
    outputs: int
    kernel: tuple[int, ...]
    image: tuple[int, ...]
    attributes: dict[str, object] = dataclasses.field(default_factory=dict)
    bias: bool = True


CASES = {
    "pointwise": Case(7, 5, (1, 1), (5, 3)),
    "pointwise with stride and pads": Case(7, 5, (1, 1), (5, 7), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    "square": Case(5, 7, (3, 3), (7, 11), {"pads": [1, 1, 1, 1]}),
    "stride and asymmetric pads": Case(3, 11, (3, 5), (11, 13), {"strides": [2, 3], "pads": [0, 1, 2, 3]}),
    "dilated": Case(5, 3, (3, 2), (13, 11), {"dilations": [3, 2], "strides": [1, 2], "pads": [2, 0, 1, 1]}),
    "same, more at the end": Case(5, 7, (2, 3), (7, 8), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}, bias=False),
    "same, more at the beginning": Case(5, 7, (4, 2), (7, 9), {"auto_pad": "SAME_LOWER"}),
    "valid": Case(3, 5, (3, 3), (7, 7), {"auto_pad": "VALID", "strides": [2, 1]}),
    "one channel": Case(1, 5, (5, 3), (7, 7)),
    "row filter": Case(5, 3, (1, 5), (4, 9), {"pads": [0, 2, 0, 2], "strides": [2, 1]}),
    "column filter": Case(5, 3, (5, 1), (9, 4), {"pads": [2, 0, 2, 0], "strides": [2, 2]}),
    "sequence": Case(7, 5, (3,), (17,), {"strides": [2], "dilations": [2], "pads": [1, 3]}),
    "sequence, pointwise": Case(7, 5, (1,), (11,), bias=False),
    "whole image": Case(3, 7, (5, 7), (5, 7)),
}


def write(path, case, group=1, **changes):
    """Write a model of one convolution and a Relu; return its weight and bias."""
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(case.outputs, case.channels // group, *case.kernel)).astype(np.float32)
    bias = rng.normal(size=case.outputs).astype(np.float32)
    tensors = [numpy_helper.from_array(weight, "w"), *([numpy_helper.from_array(bias, "b")] if case.bias else [])]
    attributes = {**case.attributes, **changes, **({"group": group} if group > 1 else {})}
    nodes = [
        helper.make_node("Conv", ["x", "w", *(["b"] if case.bias else [])], ["a"], name="conv", **attributes),
        helper.make_node("Relu", ["a"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", case.channels, *case.image])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * (2 + len(case.image)))
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return weight, bias if case.bias else None


def by_loops(x, weight, case, pads):
    """Return all patches, (batch, positions, inputs) with channels innermost, and the convolution without its bias."""
    kernel, axes = case.kernel, range(len(case.kernel))
    strides = case.attributes.get("strides", [1] * len(kernel))
    dilations = case.attributes.get("dilations", [1] * len(kernel))
    padded = np.pad(x, [(0, 0), (0, 0), *((pads[a], pads[a + len(kernel)]) for a in axes)])
    out = [(padded.shape[2 + a] - dilations[a] * (kernel[a] - 1) - 1) // strides[a] + 1 for a in axes]
    found = []
    for position in itertools.product(*map(range, out)):
        columns = []
        # Width is the outer axis of a patch, height the next one, channels are innermost.
        for tap in itertools.product(*(range(kernel[a]) for a in reversed(axes))):
            tap = tap[::-1]
            place = tuple(position[a] * strides[a] + tap[a] * dilations[a] for a in axes)
            columns.append(padded[(slice(None), slice(None), *place)])
        found.append(np.concatenate(columns, axis=1))
    rows = np.stack(found, axis=1).astype(np.float64)
    matrix = weight.transpose(0, *reversed([2 + a for a in axes]), 1).reshape(len(weight), -1)
    return rows, (rows @ matrix.T).transpose(0, 2, 1).reshape(len(x), len(weight), *out)


def pads_of(case):
    """Return the pads that the case has in words of ONNX's `pads`, from the sizes of the output alone."""
    mode = case.attributes.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        return case.attributes.get("pads", [0] * (2 * len(case.kernel)))
    strides = case.attributes.get("strides", [1] * len(case.kernel))
    total = [
        max((math.ceil(size / stride) - 1) * stride + tap - size, 0)
        for size, stride, tap in zip(case.image, strides, case.kernel, strict=True)
    ]
    small, large = [each // 2 for each in total], [each - each // 2 for each in total]
    return [*small, *large] if mode == "SAME_UPPER" else [*large, *small]


def chains(layer):
    """Yield every structure that cuts between the axes allow, at the ranks that its bonds carry."""
    allowed = cuts(layer.uses[0].window, layer.channels)
    for count in range(1, len(allowed) + 1):
        for chosen in itertools.combinations(allowed, count):
            modes = [chosen[0], *(b // a for a, b in itertools.pairwise([*chosen, layer.inputs]))]
            out = (layer.outputs, *[1] * (len(modes) - 1))
            most = (layer.outputs * layer.inputs,) * (len(modes) - 1)
            yield Factorization(out, tuple(modes), carried_ranks(Factorization(out, tuple(modes), most)))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_products_over_patches_are_the_convolution(tmp_path, case):
    weight, bias = write(tmp_path / "m.onnx", case)
    model = load_model(tmp_path / "m.onnx", kinds=("conv",))
    (layer,) = model.layers
    (site,) = model.sites[layer.name]
    x = np.random.default_rng(0).normal(size=(3, case.channels, *case.image)).astype(np.float32)
    rows, expected = by_loops(x, weight, case, pads_of(case))
    assert (layer.kind, layer.outputs, layer.inputs) == ("conv", case.outputs, rows.shape[2])
    assert layer.rows == rows.shape[1]
    assert layer.flops == 2 * rows.shape[1] * weight.size
    assert layer.uses[0].relu
    found = np.concatenate(list(site.blocks(x)))
    np.testing.assert_array_equal(found, rows.reshape(-1, layer.inputs))
    run = Runtime().run(model.original, Dataset({"x": x}, None), 3, ["y"])["y"]
    shift = 0 if bias is None else bias.reshape(-1, *[1] * len(case.kernel))
    np.testing.assert_allclose(run, np.maximum(expected + shift, 0), rtol=1e-4, atol=1e-4)
    pooled = moments(model, Dataset({"x": x}, None))[layer.name]
    flat = rows.reshape(-1, layer.inputs)
    assert pooled.count == len(flat)
    np.testing.assert_allclose(pooled.second, flat.T @ flat / len(flat), atol=1e-9)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_chains_of_full_rank_are_the_convolution(tmp_path, case):
    weight, bias = write(tmp_path / "m.onnx", case)
    model = load_model(tmp_path / "m.onnx", kinds=("conv",))
    (layer,) = model.layers
    x = np.random.default_rng(1).normal(size=(2, case.channels, *case.image)).astype(np.float32)
    shift = np.random.default_rng(2).normal(size=case.outputs)
    _, products = by_loops(x, weight, case, pads_of(case))
    total = shift + (0 if bias is None else bias)
    expected = np.maximum(products + total.reshape(-1, *[1] * len(case.kernel)), 0)
    seen = 0
    for factorization in chains(layer):
        factors = Factors(factorization, tt_svd(model.weight(layer.name), factorization), shift, 0.0, None)
        version = rewrite(model, {layer.name: factors})
        run = Runtime().run(version, Dataset({"x": x}, None), 2, ["y"])["y"]
        np.testing.assert_allclose(run, expected, rtol=1e-3, atol=1e-3, err_msg=str(factorization))
        convolutions = [node for node in version.graph if node.op_type == "Conv"]
        assert len(convolutions) == len(factorization.in_modes)
        # What the model says of its intermediate images is what was counted.
        parts = filters(factorization, layer.uses[0].window, layer.channels)
        stored = sum(math.prod(node.inputs[1].const_value.shape) for node in convolutions)
        assert stored == factorization.params
        assert [part.outputs for part in parts] == [node.inputs[1].const_value.shape[0] for node in convolutions]
        seen += 1
    assert seen >= 1


def test_counted_images_are_those_of_the_rewritten_model(tmp_path):
    case = CASES["stride and asymmetric pads"]
    write(tmp_path / "m.onnx", case)
    model = load_model(tmp_path / "m.onnx", kinds=("conv",))
    (layer,) = model.layers
    for factorization in chains(layer):
        cores = tuple(np.ones(shape) for shape in factorization.core_shapes)
        version = rewrite(model, {layer.name: Factors(factorization, cores, None, 0.0, None)})
        inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(file_content(version)))
        shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in inferred.graph.value_info}
        made = [shapes[node.output[0]] for node in inferred.graph.node if node.op_type == "Conv"]
        parts = filters(factorization, layer.uses[0].window, layer.channels)
        assert [(part.outputs, *part.window.out) for part in parts] == [tuple(shape[1:]) for shape in made]


@pytest.mark.parametrize(
    ("group", "channels", "outputs", "reason"),
    [(6, 6, 6, "depthwise"), (6, 6, 12, "depthwise"), (2, 6, 4, "a convolution of 2 groups")],
)
def test_several_groups_are_no_matrix(tmp_path, group, channels, outputs, reason):
    write(tmp_path / "m.onnx", Case(channels, outputs, (3, 3), (5, 5)), group)
    with pytest.raises(InputError, match=reason):
        load_model(tmp_path / "m.onnx", kinds=("fc", "conv"))


def test_convolutions_that_nobody_asked_for_say_how_to_ask(tmp_path):
    write(tmp_path / "m.onnx", CASES["square"])
    with pytest.raises(InputError, match="--layers fc,conv"):
        load_model(tmp_path / "m.onnx", kinds=("fc",))
