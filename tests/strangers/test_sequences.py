"""Recurrent layers, embeddings and fused operators as users have them, through everything but the compiler."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from lrfdse.errors import InputError
from lrfdse.formats.onnx import file_content
from lrfdse.model.graph import load_model
from tests.strangers.conftest import FLOAT, INT64, decaying, node, normal, value
from tests.strangers.test_graphs import same_after_rewriting

INT32 = onnx.TensorProto.INT32


def cells(gates, inputs, hidden, directions=1, seed=5):
    """Return the arrays of a recurrent layer; the input matrix is one whose ranks fall."""
    matrix = np.stack([decaying(gates * hidden, inputs, seed + d) / 4 for d in range(directions)])
    recurrent = normal(directions, gates * hidden, hidden, seed=seed + 2) / hidden
    return {"w": matrix, "r": recurrent, "b": normal(directions, 2 * gates * hidden, seed=seed + 3) / 8}


def head(inputs, outputs=8, seed=9):
    return {"v": decaying(inputs, outputs, seed)}


def low_rank(count, *sizes, rank=6, seed=1):
    """Return samples whose features depend on few numbers."""
    mixed = normal(count, *sizes[:-1], rank, seed=seed) @ normal(rank, sizes[-1], seed=seed + 1)
    return (mixed / np.sqrt(rank)).astype(np.float32)


def made(found):
    return onnx.ModelProto.FromString(file_content(found.outputs()))


def shapes(model):
    return {tuple(tensor.dims) for tensor in model.graph.initializer}


def test_a_time_major_lstm_classifier(write, way):
    """Time first, an open batch, the last state decides: the usual export of a recurrent classifier."""
    x = low_rank(160, 5, 24)
    folder = write(
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("LSTM", ["t", "w", "r", "b"], ["", "h"], hidden_size=12, name="lstm"),
            node("Squeeze", ["h", "first"], ["s"]),
            node("MatMul", ["s", "v"], ["y"]),
        ],
        [value("x", FLOAT, ["n", 5, 24])],
        [value("y", FLOAT, ["n", 8])],
        cells(4, 24, 12) | head(12) | {"first": np.array([0])},
        data={"calib": {"x": x[:96]}, "eval": {"x": x[96:]}},
    )
    found = way(folder, rank=8)
    assert set(found.fits.weightings) == {"w", "v"}
    # What varies has six directions, and the head eight outputs: the rank takes them all.
    assert found.scores.fidelity == 1.0 and found.scores.output_error < 1e-3
    assert [each.op_type for each in made(found).graph.node][:3] == ["Transpose", "MatMul", "LSTM"]
    assert (24, 8) in shapes(made(found)) and (1, 48, 8) in shapes(made(found))


def test_a_bidirectional_gru_with_lengths_and_a_state(write, way):
    """Steps that do not count, and a state that the caller keeps."""
    x = low_rank(64, 6, 20)
    lengths = np.random.default_rng(0).integers(1, 7, 64).astype(np.int32)
    state = normal(64, 2, 1, 10, seed=3) / 4
    folder = write(
        [
            node(
                "GRU",
                ["x", "w", "r", "b", "lengths", "state"],
                ["y", "h"],
                hidden_size=10,
                direction="bidirectional",
            ),
        ],
        [value("x", FLOAT, [6, 1, 20]), value("lengths", INT32, [1]), value("state", FLOAT, [2, 1, 10])],
        [value("y", FLOAT, [6, 2, 1, 10]), value("h", FLOAT, [2, 1, 10])],
        cells(3, 20, 10, directions=2),
        data={
            role: {"x": x[some, :, None, :], "lengths": lengths[some, None], "state": state[some]}
            for role, some in (("calib", slice(40)), ("eval", slice(40, 64)))
        },
    )
    found = way(folder, rank=8)
    assert found.scores.output_error < 1e-3
    assert {(20, 8), (2, 30, 8)} <= shapes(made(found))


def test_a_streaming_lstm_returns_its_states(write, way):
    """One frame a call; both states go in and come out."""
    frames = low_rank(48, 1, 1, 24)
    folder = write(
        [node("LSTM", ["x", "w", "r", "b", "", "h0", "c0"], ["y", "h1", "c1"], hidden_size=12)],
        [value("x", FLOAT, [1, 1, 24]), value("h0", FLOAT, [1, 1, 12]), value("c0", FLOAT, [1, 1, 12])],
        [value("y", FLOAT, [1, 1, 1, 12]), value("h1", FLOAT, [1, 1, 12]), value("c1", FLOAT, [1, 1, 12])],
        cells(4, 24, 12),
        data={
            role: {
                "x": frames[some],
                "h0": normal(24, 1, 1, 12, seed=7) / 4,
                "c0": normal(24, 1, 1, 12, seed=8) / 4,
            }
            for role, some in (("calib", slice(24)), ("eval", slice(24, 48)))
        },
    )
    found = way(folder, rank=6)
    assert found.scores.output_error < 1e-3


def test_a_recurrent_layer_whose_input_never_varies(write, way):
    """A style vector that the user holds constant: the bias takes all of it."""
    x = np.repeat(low_rank(1, 3, 24), 40, axis=0)
    folder = write(
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("RNN", ["t", "w", "r", "b"], ["", "h"], hidden_size=12),
            node("Squeeze", ["h", "first"], ["s"]),
            node("Add", ["s", "z"], ["a"]),
            node("MatMul", ["a", "v"], ["y"]),
        ],
        [value("x", FLOAT, ["n", 3, 24]), value("z", FLOAT, ["n", 12])],
        [value("y", FLOAT, ["n", 8])],
        cells(1, 24, 12) | head(12) | {"first": np.array([0])},
        data={"calib": {"x": x, "z": normal(40, 12, seed=4)}},
    )
    found = way(folder, rank=2)
    assert np.isfinite(found.scores.output_error)


@pytest.mark.parametrize("kind", [INT32, INT64])
def test_an_embedding_by_numbers_from_the_end(write, way, kind):
    """Indices below 0 count from the end; the calibration data read a tenth of the table's rows."""
    rng = np.random.default_rng(0)
    number = np.int32 if kind == INT32 else np.int64
    table = low_rank(200, 24, rank=4)
    # Rows that are never read are the largest: whoever counts all rows alike keeps them and loses the others.
    table[20:] = 50 * normal(180, 24, seed=6)
    seen = rng.integers(-200, -180, (120, 5)).astype(number)
    folder = write(
        [
            node("Gather", ["words", "i"], ["e"], name="embedding"),
            node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
            node("MatMul", ["m", "v"], ["y"]),
        ],
        [value("i", kind, ["n", 5])],
        [value("y", FLOAT, ["n", 8])],
        {"words": table} | head(24),
        data={"calib": {"i": seen[:80]}, "eval": {"i": seen[80:]}},
    )
    found = way(folder, rank=6)
    assert found.scores.fidelity == 1.0 and found.scores.output_error < 1e-3
    assert {(200, 6), (6, 24)} <= shapes(made(found))


def test_one_calibration_sample_of_an_embedding(write, way):
    folder = write(
        [node("Gather", ["words", "i"], ["e"]), node("MatMul", ["e", "v"], ["y"])],
        [value("i", INT64, ["n"])],
        [value("y", FLOAT, ["n", 8])],
        {"words": decaying(60, 24, 1)} | head(24),
        data={"calib": {"i": np.array([3])}},
    )
    with pytest.raises(InputError, match="one sample says nothing of what layers read: calibration needs 2 or more"):
        way(folder, rank=4)


def test_a_table_that_is_the_head_as_well_stays_whole(write, way):
    """Tied weights of a language model: neither use may change without the other."""
    folder = write(
        [
            node("Gather", ["words", "i"], ["e"], name="embedding"),
            node("MatMul", ["e", "w"], ["a"]),
            node("Relu", ["a"], ["p"]),
            node("Transpose", ["words"], ["t"], perm=[1, 0]),
            node("MatMul", ["p", "t"], ["y"], name="lm_head"),
        ],
        [value("i", INT64, ["n"])],
        [value("y", FLOAT, ["n", 60])],
        {"words": decaying(60, 24, 1), "w": decaying(24, 24, 2)},
        data={"calib": {"i": np.arange(60)}},
    )
    found = way(folder, rank=8)
    reasons = {part.name: part.reason for part in found.inputs.model.untouched}
    assert reasons == {
        "embedding": "its weight 'words' is also read by MatMul 'lm_head'",
        "lm_head": "a tied embedding, which `--layers fc,recurrent,attention,embedding,tied` explores",
    }
    assert (60, 24) in shapes(made(found))


def test_a_table_that_is_the_head_as_well_shares_its_factors(write, way):
    """The same with `--layers fc,tied`: one pair of factors is looked up and multiplied by."""
    folder = write(
        [
            node("Gather", ["words", "i"], ["e"], name="embedding"),
            node("MatMul", ["e", "w"], ["a"]),
            node("Relu", ["a"], ["p"]),
            node("Transpose", ["words"], ["t"], perm=[1, 0]),
            node("MatMul", ["p", "t"], ["y"], name="lm_head"),
        ],
        [value("i", INT64, ["n"])],
        [value("y", FLOAT, ["n", 60])],
        {"words": decaying(60, 24, 1), "w": decaying(24, 24, 2)},
        data={"calib": {"i": np.tile(np.arange(60), 3)}, "eval": {"i": np.arange(60)}},
    )
    found = way(folder, rank=16, layers=("fc", "tied"))
    assert not found.inputs.model.untouched
    assert {(60, 16), (16, 24)} <= shapes(made(found)) and (60, 24) not in shapes(made(found))
    assert set(found.fits.weightings) == {"words", "w"}
    assert found.scores.fidelity >= 0.9


def test_an_lstm_whose_state_is_compressed(write, way):
    """Steps seen one by one, twelve directions of the state, and a head behind the last of them."""
    x = low_rank(160, 5, 24)
    arrays = cells(4, 24, 32)
    arrays["r"] = decaying(128, 32, 11)[None] / 2
    folder = write(
        [
            node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
            node("LSTM", ["t", "w", "r", "b"], ["", "h"], hidden_size=32, name="lstm"),
            node("Squeeze", ["h", "first"], ["s"]),
            node("MatMul", ["s", "v"], ["y"]),
        ],
        [value("x", FLOAT, ["n", 5, 24])],
        [value("y", FLOAT, ["n", 8])],
        arrays | head(32) | {"first": np.array([0])},
        data={"calib": {"x": x[:96]}, "eval": {"x": x[96:]}},
    )
    found = way(folder, rank=12, layers=("fc", "recurrent", "state"))
    # Nothing tells derivatives behind a value in a body; in front of it they are found as ever.
    assert set(found.fits.weightings) == {"w", "v"}
    assert "Scan" in [each.op_type for each in made(found).graph.node]
    assert {(32, 12), (12, 128)} <= shapes(made(found)) and (1, 128, 32) not in shapes(made(found))
    assert found.scores.fidelity >= 0.95


def test_a_transformer_layer_as_onnxruntime_optimises_it(write, way):
    """Attention with packed weights, FusedMatMul, FusedGemm behind a Reshape, SkipLayerNormalization."""
    width, x = 16, low_rank(80, 6, 16, rank=8)
    folder = write(
        [
            node("Attention", ["x", "qkv", "shift"], ["a"], domain="com.microsoft", num_heads=2, name="attention"),
            node("FusedMatMul", ["a", "out"], ["o"], domain="com.microsoft", transB=1, alpha=0.5, name="out"),
            node("SkipLayerNormalization", ["o", "x", "one", "zero"], ["n"], domain="com.microsoft", epsilon=1e-5),
            node("Reshape", ["n", "flat"], ["f"]),
            node("FusedGemm", ["f", "up", "rise"], ["u"], domain="com.microsoft", activation="Relu", name="up"),
            node("Gemm", ["u", "down"], ["y"], name="down"),
        ],
        [value("x", FLOAT, ["n", 6, width])],
        [value("y", FLOAT, ["m", 8])],
        {
            "qkv": decaying(width, 3 * width, 1),
            "shift": normal(3 * width),
            "out": decaying(width, width, 2),
            "one": np.ones(width, np.float32),
            "zero": np.zeros(width, np.float32),
            "flat": np.array([-1, 6 * width]),
            "up": decaying(6 * width, 20, 3),
            "rise": normal(20),
            "down": decaying(20, 8, 4),
        },
        domains=("com.microsoft",),
        checked=False,
        data={"calib": {"x": x}},
    )
    model = load_model(folder / "model.onnx")
    assert {layer.name: layer.kind for layer in model.layers} == {
        "qkv": "attention",
        "out": "fc",
        "up": "fc",
        "down": "fc",
    }
    assert model.untouched == ()
    found = way(folder, rank=8)
    assert found.scores.fidelity > 0.8
    assert {each.op_type for each in made(found).graph.node} == {
        "Add",
        "Attention",
        "MatMul",
        "Mul",
        "Relu",
        "Reshape",
        "SkipLayerNormalization",
    }


def test_layers_within_functions_of_an_export(write, way):
    """PyTorch's exporter can keep modules as functions, one calling another; weights come in or stand inside."""
    own = "pkg.torch"
    inner = helper.make_function(
        own,
        "Linear",
        ["p", "k"],
        ["q"],
        [node("MatMul", ["p", "k"], ["q"])],
        [helper.make_opsetid("", 17)],
    )
    constant = node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(decaying(48, 24, 2), "c"))
    outer = helper.make_function(
        own,
        "Block",
        ["s", "k"],
        ["z"],
        [
            constant,
            node("Linear", ["s", "k"], ["a"], domain=own),
            node("Relu", ["a"], ["r"]),
            node("MatMul", ["r", "c"], ["z"]),
        ],
        [helper.make_opsetid("", 17), helper.make_opsetid(own, 3)],
    )
    folder = write(
        [node("Block", ["x", "w"], ["h"], domain=own), node("Gemm", ["h", "v"], ["y"])],
        [value("x", FLOAT, ["n", 32])],
        [value("y", FLOAT, ["n", 8])],
        {"w": decaying(32, 48, 1)} | head(24),
        domains=(own,),
        functions=[inner, outer],
        data={"calib": {"x": normal(96, 32)}},
    )
    found = way(folder, rank=8)
    assert sorted((layer.inputs, layer.outputs) for layer in found.inputs.model.layers) == [(24, 8), (32, 48), (48, 24)]
    assert found.inputs.model.untouched == ()
    same_after_rewriting(folder, {"x": normal(5, 32)})


def test_a_recurrent_layer_of_ir_version_3(write):
    """Weights are inputs of the graph as well."""
    arrays = cells(4, 24, 12) | head(12) | {"first": np.array([1, 2, 12])}
    stored = [value(name, INT64 if name == "first" else FLOAT, a.shape) for name, a in arrays.items()]
    folder = write(
        [
            node("LSTM", ["x", "w", "r", "b"], ["", "h"], hidden_size=12),
            node("Reshape", ["h", "first"], ["s"]),
            node("MatMul", ["s", "v"], ["y"]),
        ],
        [value("x", FLOAT, [5, 2, 24]), *stored],
        [value("y", FLOAT, [1, 2, 8])],
        arrays,
        opset=8,
        ir=3,
    )
    after = same_after_rewriting(folder, {"x": normal(5, 2, 24)})
    assert {each.name for each in after.graph.input} >= {"x", "r"}


def test_a_model_of_nothing_but_an_embedding(write, way):
    """Word vectors as a model: the table is all there is."""
    folder = write(
        [node("Gather", ["words", "i"], ["y"])],
        [value("i", INT64, ["n"])],
        [value("y", FLOAT, ["n", 24])],
        {"words": low_rank(60, 24, rank=4)},
        data={"calib": {"i": np.arange(60)}},
    )
    assert way(folder, rank=5).scores.output_error < 1e-5


def test_a_gather_that_picks_no_rows_is_no_embedding(write):
    """Constant indices and another axis: a permutation, a table of positions."""
    folder = write(
        [
            node("Gather", ["t", "order"], ["p"]),
            node("Gather", ["t", "i"], ["e"], axis=1),
            node("MatMul", ["x", "w"], ["a"]),
            node("Add", ["a", "p"], ["y"]),
        ],
        [value("x", FLOAT, [3, 24]), value("i", INT64, [2])],
        [value("y", FLOAT, [3, 24]), value("e", FLOAT, [30, 2])],
        {"t": decaying(30, 24, 1), "order": np.array([4, 1, 7]), "w": decaying(24, 24, 2)},
    )
    model = load_model(folder / "model.onnx")
    assert [layer.name for layer in model.layers] == ["w"]
    same_after_rewriting(folder, {"x": normal(3, 24), "i": np.array([0, 3])})


def test_the_file_that_comes_out_needs_no_part_of_the_one_that_went_in(write, way):
    """Every tensor of the compressed file is read, and no name of what was taken out is left in it."""
    folder = write(
        [
            node("Gather", ["words", "i"], ["e"]),
            node("Transpose", ["e"], ["t"], perm=[1, 0, 2]),
            node("LSTM", ["t", "w", "r"], ["", "h"], hidden_size=12),
            node("Squeeze", ["h", "first"], ["s"]),
            node("MatMul", ["s", "v"], ["y"]),
        ],
        [value("i", INT64, ["n", 5])],
        [value("y", FLOAT, ["n", 8])],
        {"words": decaying(60, 24, 1), "first": np.array([0])}
        | {k: a for k, a in cells(4, 24, 12).items() if k != "b"}
        | head(12),
        data={"calib": {"i": np.random.default_rng(0).integers(0, 60, (64, 5))}},
    )
    found = way(folder, rank=8)
    after = made(found)
    read = {name for each in after.graph.node for name in each.input}
    assert {tensor.name for tensor in after.graph.initializer} <= read
    session = onnxruntime.InferenceSession(after.SerializeToString())
    (y,) = session.run(None, {"i": np.zeros((3, 5), np.int64)})
    assert y.shape == (3, 8)
