"""What is refused and how; pieces of graphs and the calls that they become."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from lrfdse.errors import InputError
from lrfdse.ir.operators import Copy, Elementwise, Foreign, Normalization
from lrfdse.ir.products import BatchedProduct, Convolution, FullyConnected, Place
from lrfdse.model.runtime import Runtime
from lrfdse.program.lower import program
from tests.program.interpreter import run
from tests.program.models import Graph, feeds_of


def compared(model, shapes=None):
    """Return the program after its outputs were compared."""
    feeds = feeds_of(model)
    if shapes:
        rng = np.random.default_rng(0)
        feeds |= {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    runtime = Runtime()
    want = runtime.call(runtime.session(model), feeds)
    made = program(model, shapes)
    for name, array in run(made, feeds).items():
        np.testing.assert_allclose(array, want[name], rtol=0, atol=1e-5 * max(1.0, np.abs(want[name]).max()))
    return made


def kinds(made):
    return dict(Counter(type(call.operator).__name__ for call in made.calls))


def functions(call):
    return [each.function for each in call.operator.epilogue.instructions]


# What is refused.


def test_open_sizes_are_named_with_the_option_that_fixes_them():
    g = Graph()
    x = g.input("x", ["n", "t", 4])
    with pytest.raises(InputError, match=r"^m\.onnx: .* open sizes: fix them with --shape x=1x\?x4$"):
        program(g.model(g.op("Relu", x)), path=Path("m.onnx"))
    assert compared(g.model(g.op("Relu", x)), {"x": (2, 3, 4)}).inputs[0].shape == (2, 3, 4)


def test_negative_sizes_are_open():
    g = Graph()
    model = g.model(g.op("Relu", g.input("x", [-1, 3])))
    assert program(model).inputs[0].shape == (1, 3)
    assert model.graph.inputs[0].shape[0] == -1


def test_all_that_cannot_be_compiled_is_named_at_once():
    g = Graph()
    x = g.input("x", [3, 3])
    a = g.op("Cast", g.op("NonZero", x), to=TensorProto.FLOAT)
    sizes = g.op("Cast", g.op("ReduceMax", x, axes=[0], keepdims=0), to=TensorProto.INT64)
    b = g.op("Reshape", g.op("Relu", x), sizes)
    c, d = g.op("Det", g.op("MatMul", x, x)), g.op("Det", x)
    with pytest.raises(InputError) as error:
        program(g.model(a, b, c, d), path=Path("m.onnx"))
    assert str(error.value) == (
        "m.onnx: these operators cannot be compiled: NonZero (its output has no static shape: 'NonZero_0'); "
        "Reshape (its shape or axis is computed: 'Reshape_5'); Det (nothing stands for it: 'Det_7', 'Det_8')"
    )


def test_operators_that_no_rule_and_no_compiler_knows_are_named():
    g = Graph()
    x = g.input("x", [3, 3])
    y = g.op("Det", x)
    z = g.op("CumSum", x, g.integers(0))
    with pytest.raises(InputError, match=r"Det \(nothing stands for it: 'Det_0'\)$"):
        program(g.model(y, z))


@pytest.mark.parametrize(
    ("inputs", "attributes", "said"),
    [
        (["", "", "", "", "p"], {}, "peepholes"),
        (["", "l"], {}, "sequence_lens"),
        ([], {"clip": 3.0}, "a clip"),
        (
            [],
            {"activations": ["Relu", "Tanh", "Tanh"], "input_forget": 1},
            "activations Relu, Tanh, Tanh, input_forget",
        ),
    ],
)
def test_what_a_recurrent_layer_has_that_nothing_computes_is_named(inputs, attributes, said):
    g = Graph()
    given = {"": "", "p": g.weight(1, 6), "l": g.constant(np.array([5, 3], np.int32))}
    weights = g.weight(1, 8, 3), g.weight(1, 8, 2)
    x = g.input("x", [5, 2, 3])
    y = g.op("LSTM", x, *weights, *(given[name] for name in inputs), hidden_size=2, **attributes)
    with pytest.raises(InputError, match=rf"LSTM \(with {said}: 'LSTM_0'\)$"):
        program(g.model(y))


def test_control_flow_that_does_not_fold_is_refused():
    value = helper.make_tensor_value_info("r", TensorProto.FLOAT, [2])
    on = [helper.make_tensor_value_info(name, TensorProto.BOOL, []) for name in ("on", "go")]
    turn = helper.make_tensor_value_info("i", TensorProto.INT64, [])
    nodes = [helper.make_node("Identity", ["on"], ["go"]), helper.make_node("Relu", ["x"], ["r"])]
    body = helper.make_graph(nodes, "body", [turn, on[0]], [on[1], value])
    g = Graph()
    g.input("x", [2])
    with pytest.raises(InputError, match=r"Loop \(control flow: 'Loop_0'\)"):
        program(g.model(g.op("Loop", g.input("n", [], TensorProto.INT64), "", body=body)))


def test_operators_of_other_domains_are_refused():
    g = Graph()
    x = g.input("x", [2])
    y = g.op("Splash", x, domain="my.domain")
    with pytest.raises(InputError, match=r"Splash \(of the domain my\.domain: 'Splash_0'\)"):
        program(g.model(y))


def test_parts_of_no_elements_are_left_out_of_what_is_put_together():
    g = Graph()
    x = g.input("x", [2, 5])
    empty = g.op("Slice", g.op("Relu", x), g.integers(3), g.integers(3), g.integers(1))
    model = g.model(g.op("Concat", g.op("Neg", x), empty, x, axis=1))
    made = compared(model)
    assert made.outputs[0].shape == (2, 10)
    with pytest.raises(InputError, match=r"Slice \(a tensor without elements"):
        program(g.model(empty))


def test_element_types_without_arrays_are_refused():
    g = Graph()
    x = g.input("x", [2], TensorProto.UINT32)
    with pytest.raises(InputError, match=r"Add \(elements of uint32"):
        program(g.model(g.op("Add", x, x), element=TensorProto.UINT32))


def test_a_model_that_onnxruntime_cannot_load_is_the_models_fault():
    g = Graph()
    with pytest.raises(InputError, match=r"^m\.onnx: onnxruntime cannot load the model: "):
        program(g.model(g.op("MatMul", g.input("x", [2, 3]), g.weight(4, 5))), path=Path("m.onnx"))


# What stays outside of the arena.


def test_an_output_that_is_an_input_or_a_constant_is_copied():
    g = Graph()
    x = g.input("x", [2, 3])
    made = compared(g.model(g.op("Identity", x), g.op("Identity", g.weight(4))))
    assert kinds(made) == {"Copy": 2}


def test_an_output_that_is_read_further_is_copied():
    g = Graph()
    x = g.op("Relu", g.input("x", [2, 3]))
    y = g.op("MatMul", x, g.weight(3, 2))
    made = compared(g.model(x, y))
    assert kinds(made) == {"Elementwise": 1, "FullyConnected": 1, "Copy": 1}


def test_two_outputs_of_one_tensor():
    g = Graph()
    x = g.op("Relu", g.input("x", [2, 3]))
    made = compared(g.model(x, g.op("Identity", x)))
    assert kinds(made)["Copy"] >= 1


def test_constants_are_stored_once():
    g = Graph()
    w = g.rng.standard_normal((4, 4)).astype(np.float32)
    x = g.op("MatMul", g.input("x", [2, 4]), g.constant(w))
    made = compared(g.model(g.op("MatMul", g.op("Relu", x), g.constant(w.copy()))))
    assert len(made.constants) == 1


def test_unread_inputs_are_there_and_unread_nodes_are_not():
    g = Graph()
    x, _ = g.input("x", [2]), g.input("unused", [3])
    g.op("Exp", x)
    made = compared(g.model(g.op("Relu", x)))
    assert [each.name for each in made.inputs] == ["x", "unused"] and len(made.calls) == 1


# Fusion.


def test_a_value_that_escapes_ends_an_epilogue():
    g = Graph()
    x = g.op("MatMul", g.input("x", [5, 4]), g.weight(4, 3))
    a = g.op("Relu", x)
    b = g.op("Tanh", a)
    made = compared(g.model(g.op("Softmax", a), g.op("Add", a, b)))
    assert [type(call.operator) for call in made.calls[:1]] == [FullyConnected]
    assert functions(made.calls[0]) == ["max"]


def test_a_residual_that_is_computed_later_is_waited_for():
    g = Graph()
    x = g.input("x", [5, 4])
    y = g.op("MatMul", x, g.weight(4, 4))
    late = g.op("Softmax", x)
    made = compared(g.model(g.op("Relu", g.op("Add", y, late))))
    assert [type(call.operator).__name__ for call in made.calls] == ["Softmax", "FullyConnected"]
    assert made.calls[1].operator.epilogue.sources == ("same",)


@pytest.mark.parametrize("rows", [1, 5])
def test_a_bias_is_read_by_channel(rows):
    g = Graph()
    y = g.linear(g.input("x", [rows, 4]), 4, 3)
    made = compared(g.model(g.op("Sigmoid", y)))
    (call,) = made.calls
    assert call.operator.epilogue.sources == ("channel",) and functions(call) == ["add", "sigmoid"]
    assert call.nodes == ("MatMul_0", "Add_1", "Sigmoid_2") or len(call.nodes) >= 2


def test_a_normalization_in_single_operators_is_one_with_its_scale_and_shift():
    for axes in ([-1], [1], [2, 1]):
        g = Graph()
        x = g.input("x", [2, 6, 5])
        centred = g.op("Sub", x, g.op("ReduceMean", x, axes=axes))
        variance = g.op("ReduceMean", g.op("Mul", centred, centred), axes=axes)
        root = g.op("Sqrt", g.op("Add", g.number(1e-3), variance))
        y = g.op("Div", centred, root)
        made = compared(g.model(g.op("Add", g.op("Mul", y, g.weight(5)), g.weight(5))))
        found = [c.operator for c in made.calls if isinstance(c.operator, Normalization)]
        assert len(found) == 1 and found[0].epsilon == pytest.approx(1e-3) and found[0].centred
        assert "Reduction" not in kinds(made)


def test_a_normalization_behind_a_transposition_is_found():
    g = Graph()
    x = g.input("x", [2, 6, 5])
    centred = g.op("Transpose", g.op("Sub", x, g.op("ReduceMean", x, axes=[1])), perm=[0, 2, 1])
    variance = g.op("ReduceMean", g.op("Pow", centred, g.number(2.0)), axes=[2])
    y = g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.number(1e-5))))
    assert "Reduction" not in kinds(compared(g.model(g.op("Neg", y))))


def test_a_root_mean_square_is_a_normalization():
    g = Graph()
    x = g.input("x", [3, 8])
    mean = g.op("ReduceMean", g.op("Pow", x, g.number(2.0)), axes=[-1])
    root = g.op("Reciprocal", g.op("Sqrt", g.op("Add", mean, g.number(1e-6))))
    made = compared(g.model(g.op("Mul", g.op("Mul", x, root), g.weight(8))))
    (call,) = made.calls
    assert isinstance(call.operator, Normalization) and not call.operator.centred


@pytest.mark.parametrize("exact", [True, False], ids=["erf", "tanh"])
def test_gelu_is_an_epilogue(exact):
    g = Graph()
    x = g.linear(g.input("x", [3, 8]), 8, 16)
    if exact:
        y = g.erf_gelu(x)
    else:
        cube = g.op("Mul", g.op("Pow", x, g.number(3.0)), g.number(0.044715))
        inner = g.op("Tanh", g.op("Mul", g.op("Add", x, cube), g.number(0.7978845608)))
        y = g.op("Mul", g.op("Mul", x, g.number(0.5)), g.op("Add", inner, g.number(1.0)))
    assert kinds(compared(g.model(y))) == {"FullyConnected": 1}


# Layouts.


def test_heads_are_read_where_they_lie():
    g = Graph()
    q, v = (g.op("Transpose", g.input(name, [1, 5, 2, 4]), perm=[0, 2, 1, 3]) for name in "qv")
    scores = g.op("MatMul", q, g.weight(1, 2, 4, 5))
    made = compared(g.model(g.op("Transpose", g.op("MatMul", g.op("Softmax", scores), v), perm=[0, 2, 1, 3])))
    products = [call.operator for call in made.calls if isinstance(call.operator, BatchedProduct)]
    assert products[0].left == products[1].right == products[1].result == Place(4, 8)
    assert "Copy" not in kinds(made)


def test_a_product_with_a_transposed_input_has_columns():
    g = Graph()
    x = g.op("Transpose", g.input("x", [3, 6, 5]), perm=[0, 2, 1])
    y = g.op("Transpose", g.op("MatMul", x, g.weight(6, 4)), perm=[0, 2, 1])
    (call,) = compared(g.model(y)).calls
    assert (call.operator.step.batch, call.operator.step.columns) == (3, 5)


def test_a_vector_broadcast_between_axes_is_read_by_row():
    g = Graph()
    x = g.input("x", [1, 6, 7])
    (call,) = compared(g.model(g.op("Mul", x, g.weight(6, 1)))).calls
    assert isinstance(call.operator, Elementwise)
    assert (call.operator.channels, call.operator.epilogue.sources) == (7, ("row",))


def test_pixel_shuffles_and_channel_shuffles_are_one_copy_each():
    g = Graph()
    x = g.input("x", [1, 8, 4, 6])
    y = g.op("DepthToSpace", x, blocksize=2)
    z = g.op(
        "Reshape",
        g.op("Transpose", g.op("Reshape", x, g.integers(1, 2, 4, 4, 6)), perm=[0, 2, 1, 3, 4]),
        g.integers(1, 8, 4, 6),
    )
    assert kinds(compared(g.model(y, z))) == {"Copy": 2}


def test_the_first_rows_of_a_tensor_need_no_copy():
    g = Graph()
    x = g.op("Relu", g.input("x", [5, 4]))
    y = g.op("Slice", x, g.integers(0), g.integers(3), g.integers(0))
    assert "Copy" not in kinds(compared(g.model(g.op("Softmax", y))))


def test_a_convolution_over_a_whole_image_is_a_product():
    g = Graph()
    x = g.op("Relu", g.conv(g.input("x", [2, 3, 6, 5]), 3, 4))
    y = g.op("Conv", x, g.weight(7, 4, 6, 5), g.weight(7))
    made = compared(g.model(y))
    assert kinds(made) == {"Copy": 1, "Convolution": 1, "FullyConnected": 1}


@pytest.mark.parametrize(
    "attributes",
    [
        {"group": 2},
        {"group": 4},
        {"dilations": [2, 1], "pads": [1, 0, 2, 3]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 3]},
        {"auto_pad": "VALID"},
    ],
    ids=str,
)
def test_convolutions(attributes):
    g = Graph()
    x = g.input("x", [2, 4, 9, 8])
    attributes = {"pads": [0] * 4, **attributes} if "auto_pad" not in attributes else attributes
    groups = attributes.get("group", 1)
    y = g.op("Conv", x, g.weight(8, 4 // groups, 3, 2), g.weight(8), kernel_shape=[3, 2], **attributes)
    made = compared(g.model(y))
    assert [c.operator.groups for c in made.calls if isinstance(c.operator, Convolution)] == [groups]


@pytest.mark.parametrize("attributes", [{}, {"strides": [2, 1], "pads": [2, 0, 1, 0]}, {"group": 2}], ids=str)
def test_a_convolution_along_columns_runs_along_rows(attributes):
    g = Graph()
    x = g.input("x", [2, 4, 20, 1])
    y = g.op("Conv", x, g.weight(8, 4 // attributes.get("group", 1), 3, 1), g.weight(8), **attributes)
    made = compared(g.model(g.op("Relu", y)))
    (window,) = (c.operator.window for c in made.calls if isinstance(c.operator, Convolution))
    assert (window.image, window.kernel) == ((1, 20), (1, 3)) and window.out[0] == 1 < window.out[1]


def test_a_convolution_with_borders_beside_a_column_stays():
    g = Graph()
    y = g.op("Conv", g.input("x", [1, 4, 20, 1]), g.weight(8, 4, 3, 1), pads=[0, 1, 0, 1])
    made = compared(g.model(y))
    assert [c.operator.window.image for c in made.calls if isinstance(c.operator, Convolution)] == [(20, 1)]


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 3], "pads": [1, 0, 0, 1], "output_padding": [1, 2]},
        {"strides": [2, 2], "output_shape": [12, 11]},
        {"dilations": [2, 2], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    ],
    ids=str,
)
def test_transposed_convolutions(attributes):
    g = Graph()
    x = g.input("x", [2, 3, 6, 5])
    y = g.op("ConvTranspose", x, g.weight(3, 4, 3, 3), g.weight(4), kernel_shape=[3, 3], **attributes)
    assert "Foreign" not in kinds(compared(g.model(y)))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_padding(mode):
    g = Graph(opset=19)
    x = g.input("x", [2, 3, 4, 5])
    y = g.op("Pad", x, g.integers(0, 0, 2, 1, 0, 0, 1, 3), mode=mode)
    assert set(kinds(compared(g.model(y)))) == {"Copy"}


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("transform", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize("scale", [0.6, 1.7])
def test_resizing(mode, transform, scale):
    g = Graph()
    x = g.input("x", [1, 2, 7, 9])
    scales = g.constant(np.array([1, 1, scale, 2], np.float32))
    y = g.op("Resize", x, "", scales, mode=mode, coordinate_transformation_mode=transform)
    assert "Interpolation" in kinds(compared(g.model(y)))


@pytest.mark.parametrize("nearest", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("transform", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
def test_the_nearest_pixel_is_that_of_onnxruntime_to_the_last_bit(nearest, transform):
    rng = np.random.default_rng(1)
    for scale in (0.6, 0.3, 1.2, 1.5):
        for size in (5, 9, 11, 25):
            g = Graph(opset=19)
            scales = g.constant(np.array([1, 1, rng.uniform(0.1, 3.0), scale], np.float32))
            y = g.op(
                "Resize",
                g.input("x", [1, 2, size, size]),
                "",
                scales,
                mode="nearest",
                coordinate_transformation_mode=transform,
                nearest_mode=nearest,
            )
            assert "Interpolation" in kinds(compared(g.model(y)))


@pytest.mark.parametrize("transform", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"])
@pytest.mark.parametrize("outside", [0, 1])
def test_cubic_resizing_goes_by_the_scales(transform, outside):
    g = Graph()
    scales = g.constant(np.array([1, 1, 1.5, 0.7], np.float32))
    y = g.op(
        "Resize",
        g.input("x", [2, 3, 7, 9]),
        "",
        scales,
        mode="cubic",
        coordinate_transformation_mode=transform,
        exclude_outside=outside,
        cubic_coeff_a=-0.5,
    )
    assert "Foreign" not in kinds(compared(g.model(y)))


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_size_of_one_pixel_and_a_size_that_stays(mode):
    for sizes in ([1, 1, 0.17, 0.3], [1, 1, 1.2, 1.1]):
        g = Graph()
        scales = g.constant(np.array(sizes, np.float32))
        x = g.input("x", [1, 2, 6, 5])
        y = g.op("Resize", x, "", scales, mode=mode, coordinate_transformation_mode="pytorch_half_pixel")
        compared(g.model(y))


@pytest.mark.parametrize(
    ("opset", "operator", "sizes", "factors"),
    [(18, "Resize", (5, 10), (1.4, 0.7)), (10, "Resize", (5, 10), (1.4, 0.7)), (9, "Upsample", (5, 5), (1.4, 1.4))],
)
def test_sizes_that_scales_give_are_those_of_onnxruntime(opset, operator, sizes, factors):
    """In float64, 0.7 of 10 pixels and 1.4 of 5 are less than seven, where the scales are float32."""
    g = Graph(opset=opset)
    scales = g.constant(np.array([1, 1, *factors], np.float32))
    inputs = [scales] if opset < 11 else ["", scales]
    y = g.op("Relu", g.op(operator, g.input("x", [1, 2, *sizes]), *inputs, mode="linear"))
    assert compared(g.model(y)).outputs[0].shape == (1, 2, 7, 7)


def test_before_opset_11_smaller_images_take_the_pixel_behind():
    g = Graph(opset=10)
    x = g.input("x", [1, 2, 7, 9])
    compared(g.model(g.op("Resize", x, g.constant(np.array([1, 1, 0.6, 1.7], np.float32)), mode="nearest")))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gathering(axis):
    g = Graph()
    x = g.op("Transpose", g.op("Relu", g.input("x", [3, 4, 5])), perm=[2, 0, 1])
    y = g.op("Gather", x, g.constant(np.array([[2, 0, -1], [1, 1, 2]], np.int64)), axis=axis)
    assert kinds(compared(g.model(y)))["Gather"] == 1


def test_softmax_before_opset_13_is_over_all_axes_behind():
    g = Graph(opset=11)
    x = g.input("x", [2, 3, 4])
    made = compared(g.model(g.op("Softmax", x, axis=1)))
    assert made.calls[0].operator.size == 12


@pytest.mark.parametrize("kind", ["ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"])
@pytest.mark.parametrize("axes", [[0], [1, 2], [0, 2]])
def test_reductions(kind, axes):
    g = Graph()
    x = g.input("x", [3, 4, 5])
    assert "Foreign" not in kinds(compared(g.model(g.op(kind, x, axes=axes, keepdims=0))))


def test_layer_normalization_over_several_axes():
    g = Graph()
    x = g.input("x", [3, 4, 5])
    y = g.op("LayerNormalization", x, g.weight(4, 5), g.weight(4, 5), axis=1)
    assert kinds(compared(g.model(y))) == {"Normalization": 1}


def test_whole_numbers_are_foreign_and_equal_nodes_equal_operators():
    g = Graph()
    x, y = (g.input(name, [4], TensorProto.INT64) for name in ("x", "y"))
    a, b = g.op("Add", x, y), g.op("Add", y, x)
    made = compared(g.model(g.op("Cast", a, to=TensorProto.FLOAT), g.op("Cast", b, to=TensorProto.FLOAT)))
    adds = [call.operator for call in made.calls if call.operator.name == "Add"]
    assert all(isinstance(each, Foreign) for each in adds) and len(set(adds)) == 1


def test_copies_of_other_elements():
    g = Graph()
    x = g.input("x", [2, 3], TensorProto.INT64)
    made = compared(g.model(g.op("Transpose", x), element=TensorProto.INT64))
    (call,) = made.calls
    assert isinstance(call.operator, Copy) and call.operator.element == "int64"


def test_models_stay_as_they_are():
    g = Graph()
    model = g.model(g.op("Relu", g.linear(g.input("x", ["n", 4]), 4, 3)))
    before = ir.to_proto(model).SerializeToString()
    program(model)
    assert ir.to_proto(model).SerializeToString() == before


# Constants behind products.


def test_what_only_scales_and_shifts_is_part_of_weight_and_bias():
    g = Graph()
    x = g.op("Relu", g.input("x", [1, 3, 6, 5]))
    y = g.op("ConvTranspose", x, g.weight(3, 4, 2, 2), g.weight(4), strides=[2, 2])
    y = g.op("Relu", g.batch_norm(y, 4))
    y = g.op("Conv", y, g.weight(4, 1, 1, 1), group=4)
    y = g.op("Div", g.op("Sub", g.number(2.0), g.op("Neg", g.op("Mul", y, g.weight(4, 1, 1)))), g.number(3.0))
    made = compared(g.model(g.op("Softmax", y)))
    products = [call for call in made.calls if not isinstance(call.operator, Copy)][1:3]
    assert [functions(call) for call in products] == [["add", "max"], ["add"]]


def test_a_value_that_is_read_twice_is_not_scaled_away():
    g = Graph()
    y = g.op("MatMul", g.input("x", [5, 4]), g.weight(4, 3))
    a = g.op("Mul", y, g.weight(3))
    made = compared(g.model(g.op("Mul", a, g.op("Sigmoid", a)), g.op("Add", g.op("Tanh", y), y)))
    assert "Foreign" not in kinds(made)
    g = Graph()
    y = g.op("MatMul", g.input("x", [5, 4]), g.weight(4, 3))
    a = g.op("Mul", y, g.weight(3))
    (call,) = compared(g.model(g.op("Mul", a, g.op("Add", g.op("Sigmoid", a), y)))).calls
    assert functions(call)[0] == "mul"


def test_a_shared_weight_stays_as_it_is():
    g = Graph()
    w = g.weight(4, 4)
    x = g.op("Mul", g.op("MatMul", g.input("x", [5, 4]), w), g.weight(4))
    made = compared(g.model(g.op("MatMul", g.op("Relu", x), w)))
    assert [functions(call) for call in made.calls] == [["mul", "max"], []]


def test_a_bias_alone_stays_the_same_array():
    g = Graph()
    b = g.weight(3)
    y = g.op("Add", g.op("MatMul", g.input("x", [5, 4]), g.weight(4, 3)), b)
    made = compared(g.model(g.op("Add", y, g.op("Softmax", y))))
    assert len(made.constants) == 2


def test_numbers_in_a_row_are_one_and_those_that_do_nothing_go():
    g = Graph()
    x = g.op("Tanh", g.input("x", [5, 4]))
    y = g.op("Div", g.op("Mul", x, g.number(3.0)), g.number(6.0))
    y = g.op("Sub", g.op("Add", g.number(5.0), y), g.number(1.0))
    z = g.op("Mul", g.op("Sub", g.op("Sigmoid", y), g.number(0.0)), g.number(1.0))
    (call,) = compared(g.model(g.op("Mul", z, y))).calls
    assert functions(call) == ["tanh", "mul", "add", "sigmoid", "mul"]


def test_a_factor_of_one_behind_a_product_leaves_no_epilogue():
    g = Graph()
    y = g.op("Add", g.op("Softmax", g.input("x", [2, 3, 4])), g.number(0.0))
    made = compared(g.model(g.op("Mul", g.op("MatMul", y, g.op("Transpose", y, perm=[0, 2, 1])), g.number(1.0))))
    products = [call for call in made.calls if isinstance(call.operator, BatchedProduct)]
    assert functions(products[0]) == []


# Operators of onnxruntime's own.


def with_domain(model):
    model.graph.opset_imports["com.microsoft"] = 1
    return model


@pytest.mark.parametrize("turned", [(0, 0), (1, 0), (0, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("constant", [False, True])
def test_fused_products(turned, constant):
    g = Graph()
    a = g.input("a", [2, 5, 3] if turned[0] else [2, 3, 5])
    shape = [4, 5] if turned[1] else [5, 4]
    b = g.weight(*shape) if constant else g.input("b", [2, *shape])
    attributes = {"transA": turned[0], "transB": turned[1], "alpha": 0.25}
    y = g.op("FusedMatMul", a, b, domain="com.microsoft", **attributes)
    assert "Foreign" not in kinds(compared(with_domain(g.model(y))))


def test_quick_gelu_and_simplified_normalization():
    g = Graph()
    y = g.op("QuickGelu", g.input("x", [3, 8]), alpha=1.5, domain="com.microsoft")
    y = g.op("SimplifiedLayerNormalization", y, g.weight(8), epsilon=1e-3)
    made = compared(with_domain(g.model(y)))
    assert kinds(made) == {"Elementwise": 1, "Normalization": 1} and not made.calls[1].operator.centred


def test_an_operator_of_onnxruntime_without_a_rule_is_refused():
    g = Graph()
    y = g.op("BiasGelu", g.input("x", [3, 8]), g.weight(8), domain="com.microsoft")
    with pytest.raises(InputError, match=r"BiasGelu \(of the domain com\.microsoft: 'BiasGelu_0'\)$"):
        program(with_domain(g.model(y)))


def test_softmax_and_pooling_of_sequences():
    g = Graph()
    x = g.op("MaxPool", g.input("x", [2, 3, 10]), kernel_shape=[3], strides=[2], pads=[1, 1])
    x = g.op("AveragePool", x, kernel_shape=[2], count_include_pad=1, pads=[1, 0])
    assert "Foreign" not in kinds(compared(g.model(g.op("Softmax", x, axis=1))))


def test_causal_attention_with_groups_of_heads():
    g = Graph(opset=23)
    q = g.input("q", [1, 4, 6, 8])
    k, v = (g.input(name, [1, 2, 6, 8]) for name in "kv")
    made = compared(g.model(g.op("Attention", q, k, v, is_causal=1)))
    assert kinds(made)["BatchedProduct"] == 2 and "Foreign" not in kinds(made)


@pytest.mark.parametrize("element", [TensorProto.UINT32, TensorProto.BFLOAT16])
def test_an_input_of_another_type_that_nothing_reads_is_refused_too(element):
    g = Graph()
    x, _ = g.input("x", [2]), g.input("other", [2], element)
    with pytest.raises(InputError, match=r"an input \(elements of [a-z0-9]+: 'other'"):
        program(g.model(g.op("Relu", x)))


def test_an_output_of_strings_is_refused():
    g = Graph()
    x = g.op("Relu", g.input("x", [2]))
    words = g.constant(np.array(["a", "b"], dtype=object))
    model = ir.to_proto(g.model(x))
    model.graph.output.append(helper.make_tensor_value_info(words, TensorProto.STRING, [2]))
    with pytest.raises(InputError, match=r"an output \(strings: 'c0'"):
        program(ir.from_proto(model))


def test_a_joint_projection_of_queries_keys_and_values_is_copied_twice():
    g = Graph()
    y = g.linear(g.input("x", [1, 6, 16]), 16, 48)
    y = g.op("Transpose", g.op("Reshape", y, g.integers(1, 6, 3, 2, 8)), perm=[2, 0, 3, 1, 4])
    q, k, v = (g.op("Gather", y, g.constant(np.array(place, np.int64)), axis=0) for place in range(3))
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2]))
    context = g.op("Transpose", g.op("MatMul", g.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    made = compared(g.model(g.linear(g.op("Reshape", context, g.integers(1, 6, 16)), 16, 16)))
    copies = [call.operator for call in made.calls if isinstance(call.operator, Copy)]
    # Keys are turned; values, which do not begin where their array does, are copied in whole rows.
    assert [copy.shape for copy in copies] == [(16, 6), (6, 16)]


def test_parts_of_a_split_that_nothing_reads():
    for opset, given in ((11, {"split": [1, 4, 2]}), (13, {}), (18, {"num_outputs": 3})):
        g = Graph(opset=opset)
        x = g.input("x", [4, 7])
        sizes = [g.integers(1, 4, 2)] if opset == 13 else []
        parts = g.ops("Split", x, *sizes, outputs=3, axis=1, **given)
        compared(g.model(g.op("Relu", parts[0]), g.op("Neg", parts[2])))
        g = Graph(opset=opset)
        parts = g.ops(
            "Split", g.input("x", [4, 7]), *([g.integers(1, 4, 2)] if opset == 13 else []), outputs=3, axis=1, **given
        )
        compared(g.model(g.op("Relu", parts[1])))


def test_a_part_of_a_split_without_elements():
    g = Graph()
    compared(g.model(g.ops("Split", g.input("x", [4, 3]), g.integers(4, 0), outputs=2)[0]))


def test_whole_numbers_of_64_bits_that_are_no_floats_pad():
    g = Graph(opset=19)
    x = g.input("x", [3], TensorProto.INT64)
    y = g.op("Pad", x, g.integers(1, 2), g.constant(np.array(2**62 + 1, np.int64)))
    made = program(g.model(y, element=TensorProto.INT64))
    assert run(made, {"x": np.array([5, 6, 7])})["v0_0"].tolist() == [2**62 + 1, 5, 6, 7, 2**62 + 1, 2**62 + 1]


def test_the_logarithm_of_a_sum_of_endless_exponents():
    g = Graph()
    model = g.model(g.op("ReduceLogSumExp", g.input("x", [4, 3]), axes=[1], keepdims=0))
    x = np.array([[-np.inf] * 3, [np.inf, 1, 2], [-np.inf, 0, 0], [3e38, -3e38, 1]], np.float32)
    runtime = Runtime()
    want = runtime.call(runtime.session(model), {"x": x})["v0_0"]
    np.testing.assert_allclose(run(program(model), {"x": x})["v0_0"], want, rtol=1e-6)
    assert want[0] == -np.inf and want[1] == np.inf


def test_numbers_that_round_what_they_are_added_to_stay():
    def rounded(g, x):
        return g.op("Sub", g.op("Add", x, g.number(12582912.0)), g.number(12582912.0))

    g = Graph()
    (call,) = program(g.model(g.op("Tanh", rounded(g, g.op("Add", g.input("x", [9]), g.number(0.25)))))).calls
    assert functions(call) == ["add", "add", "sub", "tanh"]
    g = Graph()
    product = g.op("Gemm", g.input("x", [2, 3]), g.weight(3, 4), g.weight(4))
    made = program(g.model(g.op("Tanh", rounded(g, product))))
    assert functions(made.calls[0]) == ["add", "add", "sub", "tanh"]


def test_factors_whose_product_float32_does_not_hold_stay_two():
    for one, other in ((1e20, 1e20), (1e-30, 1e-30)):
        g = Graph()
        (call,) = program(g.model(g.op("Mul", g.op("Mul", g.input("x", [9]), g.number(one)), g.number(other)))).calls
        assert functions(call) == ["mul", "mul"]
