"""Models of the usual kinds: onnxruntime on the model and the interpreter on its program agree."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx_ir as ir
import pytest

from lrfdse.ir.program import Program
from lrfdse.model.runtime import Runtime
from lrfdse.program.lower import program
from lrfdse.program.memory import plan
from tests.program import models
from tests.program.interpreter import run

CLOSE = 1e-5
"""The largest difference, as a share of an output's largest element."""


def compared(model: ir.Model, seed: int = 0) -> Program:
    """Lower a model, check its outputs and its memory plan, and return the program."""
    feeds = models.feeds_of(model, seed)
    runtime = Runtime()
    want = runtime.call(runtime.session(model), feeds)
    made = program(model)
    got = run(made, feeds)
    assert list(got) == list(want)
    for name, array in want.items():
        assert got[name].shape == array.shape and got[name].dtype == array.dtype
        assert np.abs(got[name] - array).max() <= CLOSE * np.abs(array).max(), name
    memory = plan(made)
    assert memory.size == memory.bound
    return made


def kinds(made: Program) -> dict[str, int]:
    return dict(Counter(type(call.operator).__name__ for call in made.calls))


def test_a_cnn_of_one_channel_moves_nothing():
    made = compared(models.lenet5())
    assert kinds(made) == {"Convolution": 2, "Pool": 2, "FullyConnected": 3, "Softmax": 1}
    # 6x28x28 and 6x14x14 floats are alive at once, each in whole cache lines.
    assert plan(made).size == 4 * 6 * 28 * 28 + (4 * 6 * 14 * 14 + 32)


@pytest.mark.parametrize("batch", [1, 2])
def test_inverted_residuals(batch):
    made = compared(models.mobilenet(batch))
    # One transposition at the border; batch normalization, clips and residuals are in epilogues.
    assert kinds(made) == {"Copy": 1, "Convolution": 4, "FullyConnected": 8, "Reduction": 1}


@pytest.mark.parametrize("batch", [1, 2])
def test_squeeze_and_excitation(batch):
    made = compared(models.squeeze_excite(batch))
    # The product with the gate stands alone, because what is gated is also pooled.
    assert kinds(made) == {"Copy": batch + 1, "FullyConnected": 4, "Convolution": 1, "Reduction": 1, "Elementwise": 1}


def test_a_residual_network():
    assert kinds(compared(models.resnet())) == {
        "Copy": 1,
        "Convolution": 6,
        "Pool": 1,
        "Reduction": 1,
        "FullyConnected": 1,
    }


def test_a_u_net():
    made = kinds(compared(models.unet()))
    assert made == {
        "Copy": 5,
        "Convolution": 5,
        "Pool": 2,
        "TransposedConvolution": 1,
        "Interpolation": 1,
        "FullyConnected": 1,
    }


@pytest.mark.parametrize("spelled", [False, True], ids=["LayerNormalization", "in single operators"])
def test_an_encoder(spelled):
    made = compared(models.bert(spelled=spelled))
    assert kinds(made) == {
        "Gather": 1,
        "Foreign": 1,  # the cast of the mask
        "Elementwise": 2,  # the mask; embeddings of positions
        "Normalization": 5,
        "FullyConnected": 13,
        "BatchedProduct": 4,
        "Softmax": 2,
        "Copy": 3,  # of the keys, a layer each; of an output that is read further
    }


def test_an_encoder_of_several_samples():
    compared(models.bert(batch=3))


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(
    ("cell", "attributes"),
    [("LSTM", {}), ("GRU", {}), ("GRU", {"linear_before_reset": 1})],
    ids=["lstm", "gru", "gru, reset after"],
)
def test_recurrent_cells(cell, attributes, direction):
    made = kinds(compared(models.recurrent(cell, direction, **attributes)))
    both = 2 if direction == "bidirectional" else 1
    assert made["Recurrence"] == both and made["FullyConnected"] == both + 1


def test_one_dimensional_convolutions():
    assert kinds(compared(models.audio())) == {
        "Convolution": 3,
        "FullyConnected": 2,
        "Pool": 1,
        "Reduction": 1,
        "Softmax": 1,
    }
