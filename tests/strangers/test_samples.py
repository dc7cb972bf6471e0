"""Inputs and outputs whose samples lie elsewhere than along the first axis, or nowhere."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from lrfdse.errors import InputError
from lrfdse.model.data import load_data
from lrfdse.model.graph import load_model
from lrfdse.model.runtime import Runtime
from tests.strangers.conftest import FLOAT, INT64, decaying, node, normal, value

pytestmark = pytest.mark.slow


def alone(folder, feeds, output):
    """Return what onnxruntime gives for one inference."""
    return onnxruntime.InferenceSession((folder / "model.onnx").read_bytes()).run([output], feeds)[0]


def scalar(write, data=None):
    return write(
        [
            *(node("Gemm", ["x", "w", "b"], ["h"], transB=1), node("Relu", ["h"], ["r"])),
            *(node("Mul", ["r", "s"], ["q"]), node("MatMul", ["q", "v"], ["y"])),
        ],
        [value("x", FLOAT, ["n", 32]), value("s", FLOAT, [])],
        [value("y", FLOAT, ["n", 24])],
        {"w": decaying(48, 32, 1), "b": normal(48), "v": decaying(48, 24, 2)},
        data=data,
    )


def test_a_scalar_is_drawn_once_a_run(write, way):
    found = way(scalar(write))
    scalars = found.inputs.choosing.inputs["s"]
    assert scalars.shape == (64,) and len(np.unique(scalars)) == 64
    assert found.original.fidelity == 1


@pytest.mark.parametrize("many", [False, True])
def test_a_scalar_is_one_value_or_one_a_sample(write, way, many):
    s = normal(64, seed=3) if many else np.float32(2)
    x = normal(64, 32)
    folder = scalar(write, {role: {"x": x, "s": s} for role in ("calib", "eval")})
    found = way(folder)
    given = found.inputs.chosen.reference["y"]
    for sample in (0, 63):
        wanted = alone(folder, {"x": x[sample : sample + 1], "s": np.asarray(s[sample] if many else s)}, "y")
        np.testing.assert_allclose(given[sample], wanted[0], rtol=1e-5, atol=1e-5)
    assert found.inputs.choosing.one_by_one is many
    assert 0.2 < found.scores.fidelity <= 1


def stateful(write, batch=1, data=None):
    return write(
        [
            node("Gemm", ["x", "w", "b"], ["a"], transB=1),
            node("Transpose", ["st"], ["t"], perm=[1, 0, 2]),
            node("Reshape", ["t", "flat"], ["sr"]),
            node("Concat", ["a", "sr"], ["cc"], axis=1),
            node("Gemm", ["cc", "w2"], ["y"], transB=1),
            node("Mul", ["st", "half"], ["st1"]),
        ],
        [value("x", FLOAT, [batch, 40]), value("st", FLOAT, [2, batch, 16])],
        [value("y", FLOAT, [batch, 32]), value("st1", FLOAT, [2, batch, 16])],
        {
            **{"w": decaying(48, 40, 1), "b": normal(48), "flat": np.array([-1, 32]), "w2": decaying(32, 80, 2)},
            "half": np.float32([0.5]),
        },
        data=data,
    )


@pytest.mark.parametrize("batch", [1, "batch"])
@pytest.mark.parametrize("given", [None, (64, 2, 1, 16), (2, 64, 16)])
def test_a_state_beside_a_frame(write, way, batch, given):
    if batch == 1 and given == (2, 64, 16):
        pytest.skip("a batch of one")
    x, state = normal(64, 40), None if given is None else normal(*given, seed=5)
    data = None if state is None else {role: {"x": x, "st": state} for role in ("calib", "eval")}
    folder = stateful(write, batch, data)
    found = way(folder)
    assert found.inputs.judging.judged.name == "y" and not found.inputs.judging.others
    if state is not None:
        for sample in (0, 63):
            one = state[sample] if given[0] == 64 else state[:, sample : sample + 1]
            wanted = alone(folder, {"x": x[sample : sample + 1], "st": one}, "y")[0]
            np.testing.assert_allclose(found.inputs.chosen.reference["y"][sample], wanted, rtol=1e-4, atol=1e-4)
    assert found.inputs.choosing.one_by_one is (batch == 1)


def test_a_mask_of_another_first_size(write, way):
    folder = write(
        [node("MatMul", ["x", "w"], ["a"]), node("Mul", ["a", "m"], ["y"])],
        [value("x", FLOAT, [4, 32]), value("m", FLOAT, [1, 48])],
        [value("y", FLOAT, [4, 48])],
        {"w": decaying(32, 48, 1)},
    )
    found = way(folder)
    data = found.inputs.choosing
    assert data.inputs["x"].shape == (64, 4, 32) and data.inputs["m"].shape == (64, 48)
    wanted = alone(folder, {"x": data.inputs["x"][7], "m": data.inputs["m"][7:8]}, "y")
    np.testing.assert_allclose(found.inputs.chosen.reference["y"][7], wanted, rtol=1e-5)
    np.savez(folder / "bad.npz", x=normal(64, 32), m=normal(64, 48))
    with pytest.raises(InputError, match=r"input x \(4x32, float32\) has shape 64x32"):
        load_data(folder / "bad.npz", load_model(folder / "model.onnx").inputs)
    np.savez(folder / "good.npz", x=normal(64, 4, 32), m=np.ones((1, 48)))
    good = load_data(folder / "good.npz", load_model(folder / "model.onnx").inputs)
    assert list(good.shared) == ["m"] and good.count == 64


def test_a_graph_of_nodes_and_edges(write, way):
    """Message passing: sums over edges, given as a list of pairs; atoms are no batch."""
    folder = write(
        [
            *(node("Gather", ["edges", "zero"], ["from"]), node("Gather", ["edges", "one"], ["to"])),
            *(node("Gemm", ["x", "w", "b"], ["h"], transB=1), node("Gather", ["h", "from"], ["sent"])),
            *(node("Unsqueeze", ["to", "axis"], ["at"]), node("Expand", ["at", "wide"], ["spread"])),
            node("ScatterElements", ["h", "spread", "sent"], ["got"], axis=0, reduction="add"),
            *(node("Relu", ["got"], ["r"]), node("ReduceMean", ["r"], ["m"], axes=[0], keepdims=0)),
            *(node("Mul", ["m", "temperature"], ["mt"]), node("MatMul", ["mt", "v"], ["y"])),
        ],
        [value("x", FLOAT, ["atoms", 20]), value("edges", INT64, [2, "bonds"]), value("temperature", FLOAT, [])],
        [value("y", FLOAT, [12])],
        {
            **{"zero": np.int64(0), "one": np.int64(1), "axis": np.array([1]), "wide": np.array([1, 32])},
            **{"w": decaying(32, 20, 1), "b": normal(32), "v": decaying(32, 12, 2)},
        },
        opset=16,
    )
    rng = np.random.default_rng(0)
    arrays = {
        "x": normal(40, 9, 20),
        "edges": rng.integers(0, 9, (40, 2, 14)),
        "temperature": rng.uniform(1, 2, 40).astype(np.float32),
    }
    for role in ("calib", "eval"):
        np.savez(folder / f"{role}.npz", **arrays)
    found = way(folder, shape={"x": (9, 20), "edges": (2, 14)})
    reference = found.inputs.chosen.reference["y"]
    assert reference.shape == (40, 12) and found.inputs.choosing.one_by_one
    wanted = alone(folder, {name: np.asarray(array[5]) for name, array in arrays.items()}, "y")
    np.testing.assert_allclose(reference[5], wanted, rtol=1e-4, atol=1e-5)
    assert [use.rows for use in found.inputs.model.layer("w").uses] == [9]


def time_major(write, batch, data=None):
    """A sequence model with outputs (time, batch, classes), its input (batch, time, features)."""
    return write(
        [
            *(node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["r"])),
            *(node("Transpose", ["r"], ["t"], perm=[1, 0, 2]), node("MatMul", ["t", "v"], ["y"])),
        ],
        [value("x", FLOAT, [batch, 7, 20])],
        [value("y", FLOAT, [7, batch, 16])],
        {"w": decaying(20, 32, 1), "v": decaying(32, 16, 2)},
        data=data,
    )


@pytest.mark.parametrize("batch", [1, "n", 4])
def test_outputs_with_time_first(write, way, batch):
    """Labels (samples, positions) meet outputs (time, samples, classes)."""
    x = normal(62, 7, 20)
    y = (np.maximum(x @ decaying(20, 32, 1), 0) @ decaying(32, 16, 2)).argmax(axis=-1)
    folder = time_major(write, batch, data={"calib": {"x": x}, "eval": {"x": x, "labels": y}, "test": {"x": x, "y": y}})
    found = way(folder, rank=8)
    assert found.inputs.chosen.reference["y"].shape == (62, 7, 16)
    assert found.original.eval_accuracy == found.original.accuracy == 1
    assert 0.5 < found.scores.eval_accuracy < 1
    assert set(found.fits.weightings) == {"w", "v"}


def test_weightings_do_not_depend_on_where_the_samples_lie(write, way, tmp_path):
    x = normal(48, 7, 20)
    by_layout = {}
    for batch in ("n", 1, 4):
        way_of = way(time_major(write, batch, data={"calib": {"x": x}}))
        by_layout[batch] = way_of.fits.weightings
    plain = write(
        [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["r"]), node("MatMul", ["r", "v"], ["y"])],
        [value("x", FLOAT, ["n", 7, 20])],
        [value("y", FLOAT, ["n", 7, 16])],
        {"w": decaying(20, 32, 1), "v": decaying(32, 16, 2)},
        data={"calib": {"x": x}},
    )
    wanted = way(plain).fits.weightings
    for found in by_layout.values():
        np.testing.assert_allclose(found["v"], wanted["v"], rtol=1e-4, atol=1e-4 * np.abs(wanted["v"]).max())
        # Signs of rows are drawn, so this one is an estimate.
        assert np.corrcoef(found["w"].ravel(), wanted["w"].ravel())[0, 1] > 0.9


def test_a_recurrent_net_fed_time_first(write, way):
    """PyTorch's default for LSTM: x is (time, batch, features), and so is the output."""
    hidden = 16
    rng = np.random.default_rng(1)
    folder = write(
        [
            node("LSTM", ["x", "W", "R"], ["s"], hidden_size=hidden),
            node("Squeeze", ["s", "one"], ["q"]),
            node("MatMul", ["q", "v"], ["y"]),
        ],
        [value("x", FLOAT, ["time", "batch", 10])],
        [value("y", FLOAT, ["time", "batch", 24])],
        {
            "W": (rng.standard_normal((1, 4 * hidden, 10)) / 3).astype(np.float32),
            "R": (rng.standard_normal((1, 4 * hidden, hidden)) / 4).astype(np.float32),
            **{"one": np.array([1]), "v": decaying(hidden, 24, 2)},
        },
    )
    for x in (normal(30, 6, 1, 10), normal(6, 30, 10)):
        for role in ("calib", "eval"):
            np.savez(folder / f"{role}.npz", x=x)
        found = way(folder, shape={"x": (6, 1, 10)})
        assert found.inputs.chosen.reference["y"].shape == (30, 6, 24)
        one = x[3] if x.shape[0] == 30 else x[:, 3:4]
        wanted = alone(folder, {"x": one}, "y")[:, 0]
        np.testing.assert_allclose(found.inputs.chosen.reference["y"][3], wanted, rtol=1e-4, atol=1e-5)


def test_no_batch_axis(write, way):
    x = normal(64, 32)
    folder = write(
        [node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["r"]), node("MatMul", ["r", "v"], ["y"])],
        [value("x", FLOAT, [32])],
        [value("y", FLOAT, [10])],
        {"w": decaying(32, 48, 1), "v": decaying(48, 10, 2)},
    )
    random = way(folder)
    assert random.inputs.choosing.inputs["x"].shape == (64, 32)
    for role in ("calib", "eval"):
        np.savez(folder / f"{role}.npz", x=x)
    found = way(folder)
    np.testing.assert_allclose(
        found.inputs.chosen.reference["y"],
        np.maximum(x @ decaying(32, 48, 1), 0) @ decaying(48, 10, 2),
        rtol=1e-4,
        atol=1e-4,
    )
    assert found.inputs.chosen.reference["y"].shape == (64, 10)


def test_columns_are_samples_of_the_output(write, way):
    """Y = W X^T: six samples in rows of the input, in columns of the output."""
    x = normal(64, 32)
    folder = write(
        [node("Gemm", ["w", "x", "c"], ["y"], transB=1, alpha=0.5, beta=0.25)],
        [value("x", FLOAT, [6, 32])],
        [value("y", FLOAT, [48, 6])],
        {"w": decaying(48, 32, 1), "c": normal(48, 1)},
        data={"calib": {"x": x}, "eval": {"x": x}},
    )
    found = way(folder)
    wanted = 0.5 * x @ decaying(48, 32, 1).T + 0.25 * normal(48, 1)[:, 0]
    np.testing.assert_allclose(found.inputs.chosen.reference["y"], wanted, rtol=1e-4, atol=1e-4)
    assert 0 < found.scores.fidelity < 1


def test_rows_of_all_samples_in_one_axis(write, way):
    """Gemm wants matrices: exporters fold (samples, positions) into one axis before it."""
    x = normal(50, 5, 20)
    folder = write(
        [
            *(node("Reshape", ["x", "fold"], ["f"]), node("Gemm", ["f", "w", "b"], ["a"], transB=1)),
            *(node("Tanh", ["a"], ["r"]), node("Gemm", ["r", "v"], ["z"], transB=1)),
            node("Reshape", ["z", "unfold"], ["y"]),
        ],
        [value("x", FLOAT, ["n", 5, 20])],
        [value("y", FLOAT, ["n", 5, 12])],
        {
            **{"fold": np.array([-1, 20]), "unfold": np.array([-1, 5, 12])},
            **{"w": decaying(32, 20, 1), "b": normal(32), "v": decaying(12, 32, 2)},
        },
        data={"calib": {"x": x}, "eval": {"x": x}},
    )
    found = way(folder)
    assert set(found.fits.weightings) == {"w", "v"}
    assert found.inputs.chosen.reference["y"].shape == (50, 5, 12)


def test_sizes_below_0_are_open(write, way):
    folder = write(
        [node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        [value("x", FLOAT, [-1, 32])],
        [value("y", FLOAT, [-1, 48])],
        {"w": decaying(48, 32, 1), "b": normal(48)},
        data={"eval": {"x": normal(100, 32)}},
    )
    found = way(folder, shape={"x": (1, 32)})
    assert found.inputs.model.inputs[0].shape == (None, 32)
    assert [use.rows for use in found.inputs.model.layer("w").uses] == [1]
    assert found.inputs.chosen.reference["y"].shape == (100, 48)


def test_a_run_of_fixed_size_whose_samples_depend_on_each_other(write):
    """The mean over four rows is no batch: each of them belongs to one sample."""
    folder = write(
        [node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=0), node("MatMul", ["m", "w"], ["y"])],
        [value("x", FLOAT, [4, 32])],
        [value("y", FLOAT, [16])],
        {"w": decaying(32, 16, 1)},
    )
    model = load_model(folder / "model.onnx")
    assert model.inputs[0].axis is None
    np.savez(folder / "d.npz", x=normal(8, 4, 32))
    data = load_data(folder / "d.npz", model.inputs)
    found = Runtime().run(model.original, data)["y"]
    np.testing.assert_allclose(found, normal(8, 4, 32).mean(axis=1) @ decaying(32, 16, 1), rtol=1e-4, atol=1e-5)
    np.savez(folder / "d.npz", x=normal(8, 32))
    with pytest.raises(InputError, match="each of them has the shape of the input"):
        load_data(folder / "d.npz", model.inputs)
