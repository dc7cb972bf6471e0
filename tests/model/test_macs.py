"""MACs of whole models against counts by hand from the definition of each operator."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from lrfdse.model.graph import load_model
from lrfdse.model.macs import macs_of
from tests.plugins.models import build


def array(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.fixture
def counted(tmp_path):
    def count(text, **weights):
        onnx.save(build(text, weights), tmp_path / "model.onnx")
        return macs_of(load_model(tmp_path / "model.onnx"))

    return count


def test_convolutions_products_and_layers(counted):
    found = counted(
        """net (float[N, 3, 12, 10] x) => (float[N, 5] y) {
            c = Conv<kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]>(x, w1)
            d = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8>(c, w2)
            e = Relu(d)
            u = ConvTranspose<kernel_shape=[2, 2], strides=[2, 2]>(e, w3)
            f = Flatten(e)
            y = Gemm<transB=1>(f, w4)
        }""",
        w1=array(8, 3, 3, 3),
        w2=array(8, 1, 3, 3),
        w3=array(8, 4, 2, 2),
        w4=array(5, 240),
    )
    # 6 x 5 pixels come out of the first two.
    expected = {"c": 8 * 30 * 3 * 9, "d": 8 * 30 * 9, "u": 8 * 30 * 4 * 4, "y": 240 * 5}
    assert found.nodes == expected and found.total == sum(expected.values())


def test_products_of_activations_count_with_every_head(counted):
    found = counted(
        """net (float[1, 4, 7, 8] q, float[1, 4, 8, 9] k) => (float[1, 4, 7, 5] y) {
            s = MatMul(q, k)
            y = MatMul(s, w)
        }""",
        w=array(9, 5),
    )
    assert found.nodes == {"s": 4 * 7 * 8 * 9, "y": 4 * 7 * 9 * 5}


def test_recurrent_layers_count_all_gates_at_every_step(counted):
    found = counted(
        """net (float[6, N, 10] x) => (float[6, 2, N, 5] y, float[6, N, 3] z) {
            y = LSTM<hidden_size=5, direction="bidirectional">(x, w, r)
            z = MatMul(x, v)
        }""",
        w=array(2, 20, 10),
        r=array(2, 20, 5),
        v=array(10, 3),
    )
    assert found.nodes == {"y": 6 * 2 * 4 * 5 * (10 + 5), "z": 6 * 10 * 3}


def test_sizes_that_only_a_run_shows_are_taken_from_one(counted):
    found = counted(
        """net (float[N, 3, 8] x) => (float[N, 3, 3] s, float[N, 3, 5] y) {
            sizes = Shape(x)
            numbers = Cast<to=1>(sizes)
            squares = Mul(numbers, numbers)
            roots = Sqrt(squares)
            again = Cast<to=7>(roots)
            z = Reshape(x, again)
            t = Transpose<perm=[0, 2, 1]>(z)
            s = MatMul(z, t)
            y = MatMul(x, w)
        }""",
        w=array(8, 5),
    )
    assert found.nodes == {"s": 3 * 3 * 8, "y": 3 * 8 * 5} and found.unknown == ()


def test_what_nothing_says_the_sizes_of_is_named(counted):
    found = counted(
        """net (float[1, 6] x, bool b) => (float[1, 4] y, float[1, 1] t, float[1, 6] s) {
            y = MatMul(x, w)
            t = Einsum<equation="ij,ij->i">(x, x)
            s = If(b) <
                then_branch = g1 () => (float[1, 6] p) { p = MatMul(x, v) },
                else_branch = g2 () => (float[1, 6] n) { n = Identity(x) }
            >
        }""",
        w=array(6, 4),
        v=array(6, 6),
    )
    assert found.nodes == {"y": 24}
    assert set(found.unknown) == {"t", "s"} and found.total is None
