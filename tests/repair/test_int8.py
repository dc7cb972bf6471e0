"""Models with weights as int8, rounded by what their products read on data."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.errors import InputError
from lrfdse.factorize.rounding import against_moment
from lrfdse.model.data import Dataset
from lrfdse.model.passes.int8 import int8_sites
from lrfdse.model.runtime import Runtime
from lrfdse.repair.int8 import int8_version, second_moments


def mlp(batch="n"):
    """Return a model of two products with a Relu between, its weights of few int8 levels."""
    rng = np.random.default_rng(0)
    w, u = rng.normal(size=(24, 32)), rng.normal(size=(32, 10))
    w[0], u[0] = 40, 40
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "u"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 24])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 10])],
        [numpy_helper.from_array(a.astype(np.float32), name) for name, a in (("w", w), ("u", u))],
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def inputs(count=600):
    rng = np.random.default_rng(1)
    return (rng.normal(size=(count, 8)) @ rng.normal(size=(8, 24))).astype(np.float32)


def data(array):
    return Dataset({"x": array}, None)


@pytest.mark.parametrize(("batch", "count"), [("n", 600), ("n", 3), (4, 602), (4, 3)])
def test_moments_are_those_of_what_the_products_read(batch, count):
    model, x = mlp(batch), inputs(count)
    w = model.graph.initializers["w"].const_value.numpy()
    found = second_moments(model, int8_sites(model), data(x), Runtime())
    whole = x[: count // 4 * 4] if batch == 4 and count > 4 else np.concatenate([x, x[-1:]]) if batch == 4 else x
    read = {"w": whole.astype(np.float64), "u": np.maximum(whole @ w, 0).astype(np.float64)}
    for root, rows in read.items():
        assert np.allclose(found[root], rows.T @ rows / len(rows), rtol=1e-4, atol=1e-3)


def test_of_samples_with_many_rows_so_many_are_run_as_give_enough():
    """The rows of samples spread evenly over the data: 8 for each of 32 inputs are 26 samples, and 64 are the least."""
    rows = 10
    model = mlp("n")
    model.graph.inputs[0].shape = ir.Shape(["n", rows, 24])
    model.graph.outputs[0].shape = ir.Shape(["n", rows, 10])
    x = inputs(600 * rows).reshape(600, rows, 24)
    found = second_moments(model, int8_sites(model), data(x), Runtime())
    seen = x[np.arange(64) * 600 // 64].reshape(-1, 24).astype(np.float64)
    assert np.allclose(found["w"], seen.T @ seen / len(seen), rtol=1e-4, atol=1e-3)
    every = x.reshape(-1, 24).astype(np.float64)
    whole = every.T @ every / len(every)
    assert np.linalg.norm(found["w"] - whole) < 0.15 * np.linalg.norm(whole)


def test_data_make_the_outputs_of_other_samples_come_closer():
    model, x = mlp(), inputs(1200)
    runtime, held = Runtime(), {"x": x[600:]}
    original = runtime.session(model).run(None, held)[0]
    errors = []
    for known in (None, data(x[:600])):
        made = int8_version(model, known)
        errors.append(float(((runtime.session(made).run(None, held)[0] - original) ** 2).mean()))
    assert errors[1] < 0.7 * errors[0]


def test_levels_are_those_of_the_moments():
    model, x = mlp(), inputs()
    made, sites = int8_version(model, data(x)), int8_sites(model)
    known = second_moments(model, sites, data(x), Runtime())
    for site in sites:
        wanted = against_moment(site.weight.astype(np.float64), known[site.root])
        assert np.array_equal(made.graph.initializers[f"{site.root}.int8"].const_value.numpy(), wanted.levels.T)


def test_an_output_of_zeros_runs():
    model = mlp()
    stored = model.graph.initializers["w"]
    array = stored.const_value.numpy().copy()
    array[:, :3] = 0
    stored.const_value = ir.tensor(array, name="w")
    for known in (None, data(inputs())):
        assert np.isfinite(Runtime().session(int8_version(model, known)).run(None, {"x": inputs(5)})[0]).all()


def test_calibration_with_nan_is_refused_in_a_line():
    x = inputs()
    x[3, 2] = np.nan
    with pytest.raises(InputError, match="layer 'w' reads NaN or Inf on the calibration data"):
        int8_version(mlp(), data(x))


def test_a_model_without_weights_to_gain_from_gives_none():
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    )
    assert int8_version(ir.from_proto(helper.make_model(graph, ir_version=8)), None) is None
