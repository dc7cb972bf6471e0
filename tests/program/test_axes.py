"""TopK, CumSum, OneHot, scatters and ReverseSequence as calls; what of them has to be constant."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from lrfdse.errors import InputError
from lrfdse.program.lower import program
from tests.program.models import Graph
from tests.program.test_lower import compared, kinds


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("largest", [0, 1])
def test_the_first_of_an_axis_of_a_transposed_tensor(axis, largest):
    g = Graph()
    x = g.op("Transpose", g.op("Relu", g.input("x", [6, 4, 5])), perm=[2, 0, 1])
    # Many of the elements are 0, of which the first are taken.
    values, indices = g.ops("TopK", x, g.integers(3), outputs=2, axis=axis, largest=largest)
    made = compared(g.model(values, g.op("Cast", indices, to=TensorProto.FLOAT)))
    assert kinds(made)["TopK"] == 1


def test_the_best_pixels_of_an_image_whose_channels_lie_innermost():
    g = Graph()
    scores = g.op("Flatten", g.conv(g.input("x", [2, 3, 9, 8]), 3, 4), axis=1)
    values, indices = g.ops("TopK", scores, g.integers(10), outputs=2)
    made = compared(g.model(values, g.op("Cast", indices, to=TensorProto.FLOAT)))
    assert kinds(made)["TopK"] == 1 and "Foreign" in kinds(made)


@pytest.mark.parametrize("place", [0, 1])
def test_one_of_two_outputs_is_enough(place):
    g = Graph()
    made = g.ops("TopK", g.input("x", [3, 7]), g.integers(2), outputs=2)[place]
    assert kinds(compared(g.model(g.op("Cast", made, to=TensorProto.FLOAT))))["TopK"] == 1


def test_a_number_that_is_an_attribute():
    g = Graph(opset=9)
    assert kinds(compared(g.model(g.ops("TopK", g.input("x", [3, 7]), outputs=2, k=2)[0])))["TopK"] == 1


def test_an_axis_of_one_element_is_sorted_too():
    g = Graph()
    x = g.op("Transpose", g.op("Relu", g.input("x", [4, 1, 5])), perm=[2, 1, 0])
    values, indices = g.ops("TopK", x, g.integers(1), outputs=2, axis=1)
    assert kinds(compared(g.model(values, g.op("Cast", indices, to=TensorProto.FLOAT))))["TopK"] == 1


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("how", [{}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1}])
def test_sums_along_an_axis_of_a_transposed_tensor(axis, how):
    g = Graph()
    x = g.op("Transpose", g.op("Relu", g.input("x", [3, 4, 5])), perm=[2, 0, 1])
    y = g.op("CumSum", x, g.constant(np.array(axis, np.int64)), **how)
    assert kinds(compared(g.model(y)))["RunningSum"] == 1


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_one_hot_vectors_of_computed_values(axis):
    g = Graph()
    index = g.input("i", [3, 4], TensorProto.INT64)
    y = g.op("OneHot", index, g.constant(np.array(5, np.int64)), g.input("v", [2]), axis=axis)
    assert kinds(compared(g.model(y)))["OneHot"] == 1


def test_what_is_not_constant_is_refused():
    g = Graph()
    count = g.input("k", [1], TensorProto.INT64)
    axis = g.input("a", [], TensorProto.INT64)
    x, i = g.input("x", [3, 4]), g.input("i", [3], TensorProto.INT64)
    values, _ = g.ops("TopK", x, count, outputs=2)
    summed = g.op("CumSum", x, axis)
    hot = g.op("OneHot", i, count, g.weight(2))
    with pytest.raises(InputError) as caught:
        program(g.model(values, summed, hot), {"k": (1,)})
    for node in ("TopK", "CumSum", "OneHot"):
        assert f"{node} (its shape or axis is computed: '{node}_" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_runs_that_are_put_where_computed_indices_say(reduction):
    g = Graph(opset=18)
    x = g.op("Transpose", g.op("Relu", g.input("x", [6, 4, 5])), perm=[2, 0, 1])
    index = g.op("Cast", g.op("Clip", g.input("i", [7, 2]), g.number(-5.0), g.number(4.0)), to=TensorProto.INT64)
    y = g.op("ScatterND", x, index, g.input("u", [7, 4]), reduction=reduction)
    assert kinds(compared(g.model(y)))["ScatterND"] == 1


def test_a_part_of_an_image_that_is_assigned():
    g = Graph()
    x = g.conv(g.input("x", [1, 3, 8, 9]), 3, 4)
    rows = np.stack(np.meshgrid([0], [1, 2], np.arange(8), indexing="ij"), -1).astype(np.int64)
    y = g.op("ScatterND", x, g.constant(rows), g.input("u", [1, 2, 8, 9]))
    assert kinds(compared(g.model(g.op("Relu", y))))["ScatterND"] == 1


@pytest.mark.parametrize("kind", ["Scatter", "ScatterElements"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_elements_that_are_put_along_an_axis(kind, axis):
    g = Graph(opset=10 if kind == "Scatter" else 18)
    x = g.op("Transpose", g.op("Relu", g.input("x", [6, 4, 5])), perm=[2, 0, 1])
    index = g.op("Cast", g.op("Relu", g.input("i", [2, 4, 3])), to=TensorProto.INT32)
    y = g.op(kind, x, index, g.input("u", [2, 4, 3]), axis=axis)
    assert kinds(compared(g.model(y)))["ScatterElements"] == 1


def test_the_mask_of_a_dropout_that_drops_nothing_and_a_diagonal_are_constants():
    g = Graph()
    x = g.input("x", [3, 4])
    y, mask = g.ops("Dropout", x, outputs=2)
    shown = g.op("Where", mask, y, g.op("EyeLike", x, k=1))
    assert "Foreign" in kinds(compared(g.model(g.op("Add", shown, g.op("EyeLike", x, k=-1)))))


@pytest.mark.parametrize("lengths", [[4, 4, 4, 4, 4, 4], [3, 3, 3, 3, 3, 3], [1, 2, 3, 4, 4, 1], [2, 2, 4, 4, 4, 1]])
@pytest.mark.parametrize("axes", [(0, 1), (1, 0)])
def test_sequences_that_are_reversed_as_far_as_they_go(lengths, axes):
    g = Graph()
    time, batch = axes
    shape = [5, 5, 5]
    shape[time], shape[batch] = 4, 6
    x = g.op("Transpose", g.op("Relu", g.input("x", [shape[2], *shape[:2]])), perm=[1, 2, 0])
    y = g.op("ReverseSequence", x, g.integers(*lengths), time_axis=time, batch_axis=batch)
    assert "Foreign" not in kinds(compared(g.model(g.op("Neg", y))))


def test_sequences_whose_lengths_are_computed_are_refused():
    g = Graph()
    y = g.op("ReverseSequence", g.input("x", [4, 6]), g.input("n", [6], TensorProto.INT64))
    with pytest.raises(InputError, match=r"ReverseSequence \(its shape or axis is computed: 'ReverseSequence_0'\)$"):
        program(g.model(y))
