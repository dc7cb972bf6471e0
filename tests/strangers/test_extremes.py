"""Outputs that hold what models seldom give: weights, no numbers, and numbers so large that the loss saturates."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import lrfdse
from lrfdse.errors import InputError
from lrfdse.explore.inputs import open_inputs, settings_for
from lrfdse.explore.requests import data_request, files_of
from lrfdse.formats.onnx import file_content
from tests.strangers.conftest import FLOAT, decaying, node, normal, value

MIX = normal(12, 32, seed=7)


def layers(write, ends, outputs, arrays, **data):
    """Write a hidden layer h of 48 units on x, and what `ends` make of it."""
    return write(
        [node("Gemm", ["x", "w", "b"], ["a"], transB=1), node("Relu", ["a"], ["h"]), *ends],
        [value("x", FLOAT, ["n", 32])],
        outputs,
        {"w": decaying(48, 32, 1), "b": normal(48), "v": decaying(5, 48, 2), **arrays},
        data=data,
    )


def samples(count=240):
    return normal(count, 12, seed=3) @ MIX


def labelled(folder, output="y"):
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    np.savez(folder / "eval.npz", x=samples(), labels=session.run([output], {"x": samples()})[0].argmax(1))
    return folder


def test_a_weight_that_is_an_output_too(write, way):
    ends = [node("Gemm", ["h", "v"], ["y"], transB=1)]
    outputs = [value("y", FLOAT, ["n", 5]), value("v", FLOAT, [5, 48]), value("c", FLOAT, [3])]
    folder = labelled(layers(write, ends, outputs, {"c": normal(3)}, calib={"x": samples()}))
    found = way(folder, rank=2)
    assert dict(found.plan.choices).keys() == {"w"}
    session = onnxruntime.InferenceSession(file_content(found.outputs()))
    y, v, c = session.run(None, {"x": samples()})
    np.testing.assert_array_equal(v, decaying(5, 48, 2))
    np.testing.assert_array_equal(c, normal(3))
    held = np.load(folder / "eval.npz")["labels"]
    # Without test data one half of them reports.
    assert found.scores.eval_accuracy == pytest.approx((y.argmax(1) == held)[::2].mean())


def test_outputs_that_are_no_numbers_are_refused_before_anything_is_compiled(write, tmp_path):
    ends = [node("Gemm", ["h", "v"], ["s"], transB=1), node("Sqrt", ["s"], ["y"])]
    folder = layers(write, ends, [value("y", FLOAT, ["n", 5])], {}, eval={"x": samples()})
    outputs = onnxruntime.InferenceSession(folder / "model.onnx").run(None, {"x": samples()})[0]
    wrong = np.isnan(outputs).any(axis=1).sum()
    with pytest.raises(InputError, match=f"output 'y' of the original model is NaN for {wrong} of 240 samples"):
        lrfdse.explore(folder, "riscv64", output=tmp_path / "out")
    assert 0 < wrong <= 240 and not (tmp_path / "out" / "front.json").exists()


@pytest.mark.parametrize("factor", [1e6, 1e25])
def test_scores_so_large_that_every_softmax_of_them_is_sure(write, way, factor):
    ends = [node("Gemm", ["h", "v"], ["s"], transB=1), node("Mul", ["s", "k"], ["y"])]
    arrays = {"k": np.float32(factor)}
    found = way(labelled(layers(write, ends, [value("y", FLOAT, ["n", 5])], arrays, calib={"x": samples()})), rank=8)
    assert found.scores.eval_accuracy > 0.8


def test_classes_of_pixels(write, tmp_path):
    weights = {"k": normal(3, 2, 1, 1), "v": normal(4, 3, 1, 1)}
    nodes = [node("Conv", ["x", "k"], ["h"]), node("Conv", ["h", "v"], ["s"]), node("Softmax", ["s"], ["y"], axis=1)]
    x = normal(12, 2, 5, 6)
    ends = [value("x", FLOAT, ["n", 2, 5, 6])], [value("y", FLOAT, ["n", 4, 5, 6])]
    folder = write(nodes, *ends, weights, data={"eval": {"x": x}})
    settings = settings_for(folder, "riscv64", layers="conv")
    inputs = open_inputs(files_of(settings), data_request(settings))
    assert (inputs.judging.judged.kind, inputs.scorer.name) == ("numbers", "mse")
    np.savez(folder / "eval.npz", x=x, labels=np.zeros((12, 5, 6), np.int64))
    with pytest.raises(InputError, match="for one a pixel give --metric MODULE:FUNCTION, or leave labels out"):
        lrfdse.explore(folder, "riscv64", layers="conv", metric="top1", output=tmp_path / "out")


def test_what_is_left_is_named_where_there_is_nothing_to_compress(write, tmp_path):
    ends = [node("Gemm", ["h", "v"], ["y"], transB=1)]
    folder = layers(write, ends, [value("y", FLOAT, ["n", 5]), value("w", FLOAT, [48, 32])], {})
    assert len(onnx.load(folder / "model.onnx").graph.output) == 2
    said = (
        r"nothing to compress: 1 layer: a side below 16 \(min_size\); left as they are: Gemm 'a': its weight 'w' is an"
    )
    with pytest.raises(InputError, match=said):
        lrfdse.explore(folder, "riscv64", output=tmp_path / "out")
