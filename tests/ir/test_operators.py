"""Operators: sizes of their ports, held against NumPy and onnxruntime's shapes."""

import pytest

from lrfdse.ir.epilogue import ARITY, VALUE, Epilogue, Instruction, Operand
from lrfdse.ir.factorization import Step
from lrfdse.ir.products import BatchedProduct, Convolution, FullyConnected, Place, TransposedConvolution
from lrfdse.ir.window import Window


def test_an_instruction_takes_as_many_operands_as_its_function():
    for function, count in ARITY.items():
        Instruction(function, (VALUE,) * count)
        with pytest.raises(ValueError, match="operands"):
            Instruction(function, (VALUE,) * (count + 1))


@pytest.mark.parametrize(
    "operand", [Operand("result", 0), Operand("input", 0)], ids=["a result before there is one", "no such input"]
)
def test_an_epilogue_reads_only_what_exists(operand):
    with pytest.raises(ValueError, match="reads"):
        Epilogue((Instruction("add", (VALUE, operand)),))


def test_a_bias_comes_first():
    epilogue = Epilogue(
        (
            Instruction("mul", (VALUE, Operand("input", 0))),
            Instruction("max", (Operand("result", 0), Operand("number", number=1.0))),
        ),
        ("same",),
    )
    assert epilogue.after_bias() == Epilogue(
        (
            Instruction("add", (VALUE, Operand("input", 0))),
            Instruction("mul", (Operand("result", 0), Operand("input", 1))),
            Instruction("max", (Operand("result", 1), Operand("number", number=1.0))),
        ),
        ("channel", "same"),
    )


def test_ports_follow_the_sizes():
    assert [p.size for p in FullyConnected(Step(6, 4, 3, 2), Epilogue().after_bias()).ports] == [36, 12, 4, 48]
    # Two heads of four elements side by side in rows of eight.
    heads = BatchedProduct(2, 5, 4, 7, Place(4, 8), Place(28, 7), Place(35, 7))
    assert [p.size for p in heads.ports] == [4 + 4 * 8 + 4, 56, 70]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "pad"), [(1, 0), (2, 0), (2, 1), (3, 0), (3, 1), (5, 2)])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("ceil", [False, True])
def test_windows_are_counted_as_by_onnx(stride, kernel, pad, dilation, ceil):
    import onnx

    size = 11
    node = onnx.helper.make_node(
        "MaxPool",
        ["x"],
        ["y"],
        kernel_shape=[kernel],
        strides=[stride],
        pads=[pad, pad],
        dilations=[dilation],
        ceil_mode=int(ceil),
    )
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 1, size])
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y]))
    inferred = onnx.shape_inference.infer_shapes(model).graph.output[0].type.tensor_type.shape.dim[2].dim_value
    window = Window(1, (1, size), (1, kernel), (1, stride), (1, dilation), (0, pad, 0, pad), ceil)
    assert window.out == (1, inferred)


def test_a_transposed_convolution_has_the_sizes_of_its_gradient_swapped():
    window = Window(1, (8, 8), (2, 2), (2, 2))
    forward, backward = Convolution(window, 3, 5), TransposedConvolution(window, 5, 3)
    assert forward.ports[0].size == backward.ports[-1].size
    assert forward.ports[-1].size == backward.ports[0].size
    assert forward.macs == backward.macs
