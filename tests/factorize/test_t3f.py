"""T3F as an independent implementation: its TT-SVD, its product, and its trains in both directions."""

from __future__ import annotations

import importlib
import os

import numpy as np
import onnx
import pytest

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.errors import ToolError
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.t3f import from_t3f, to_t3f
from lrfdse.formats.onnx import file_content
from lrfdse.ir.factorization import Factorization
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite

PATHS = [
    Factorization((3, 4), (4, 5), (4,)),
    Factorization((4, 3), (5, 4), (7,), "lr"),
    Factorization((2, 3, 2), (5, 2, 2), (3, 4)),
    Factorization((12, 1), (4, 5), (3,)),
    Factorization.svd(12, 20, 5),
]


@pytest.fixture(scope="module")
def t3f():
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    pytest.importorskip("tensorflow", reason="the t3f extra is not installed")
    return pytest.importorskip("t3f", reason="the t3f extra is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=str)
def test_tt_svd_is_that_of_t3f(t3f, path):
    weight = np.random.default_rng(0).standard_normal((12, 20))
    theirs = t3f.to_tt_matrix(weight, shape=(path.out_modes, path.in_modes), max_tt_rank=list(path.bonds))
    ours = Fitter(weight).fit(path)
    np.testing.assert_allclose(dense_weight(ours.cores), t3f.full(theirs).numpy(), atol=1e-10)
    shape, cores = from_t3f(theirs, path.direction)
    assert shape == path
    assert Fitter(weight).measured(shape, cores).weight_error == pytest.approx(ours.weight_error, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=str)
def test_the_chain_is_the_product_of_t3f(t3f, kit, path):
    import tensorflow

    rng = np.random.default_rng(1)
    factors, x = Fitter(rng.standard_normal((12, 20))).fit(path), rng.standard_normal((6, 20))
    theirs = t3f.matmul(to_t3f(factors.cores, "float64"), tensorflow.constant(x.T)).numpy().T
    np.testing.assert_allclose(kit.by_steps(factors.factorization, factors.cores, x), theirs, atol=1e-12)


@pytest.mark.slow
def test_there_and_back(t3f):
    path = PATHS[2]
    weight = np.random.default_rng(2).standard_normal((12, 20)).astype(np.float32)
    train = t3f.to_tt_matrix(weight, shape=(path.out_modes, path.in_modes), max_tt_rank=list(path.bonds))
    shape, cores = from_t3f(train)
    assert shape == path
    np.testing.assert_allclose(dense_weight(cores), t3f.full(train).numpy(), atol=1e-6)
    for ours, theirs in zip(from_t3f(to_t3f(cores))[1], train.tt_cores, strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())
    with pytest.raises(ValueError, match="not a TT-matrix"):
        from_t3f(t3f.to_tt_tensor(np.ones((3, 4, 5)), max_tt_rank=2))


@pytest.mark.slow
def test_a_layer_that_t3f_trained_becomes_a_design_and_goes_back(t3f, tmp_path):
    """What `t3f.nn.KerasDense` holds and computes, ``x @ matrix + b``, after a few steps of training."""
    import tensorflow

    rng = np.random.default_rng(3)
    # T3F's own initializers ask NumPy for `np.int`, which NumPy 2 has no more.
    first = 0.3 * rng.standard_normal((20, 12)).astype(np.float32)
    matrix = t3f.get_variable("trained", initializer=t3f.to_tt_matrix(first, shape=((4, 5), (3, 4)), max_tt_rank=3))
    bias = tensorflow.Variable(0.1 * tensorflow.ones(12))
    x = tensorflow.constant(rng.standard_normal((64, 20)), tensorflow.float32)
    wanted = tensorflow.tanh(x @ tensorflow.constant(rng.standard_normal((20, 12)), tensorflow.float32))
    losses = []
    for _ in range(20):
        with tensorflow.GradientTape() as tape:
            loss = tensorflow.reduce_mean((t3f.matmul(x, matrix) + bias - wanted) ** 2)
        losses.append(float(loss))
        for each, slope in zip(variables := [*matrix.tt_cores, bias], tape.gradient(loss, variables), strict=True):
            each.assign_sub(0.3 * slope)
    assert losses[-1] < 0.9 * losses[0]
    theirs = (t3f.matmul(x, matrix) + bias).numpy()

    # In: its dense weight in a model, its cores as the layer's design.
    gemm = onnx.helper.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["y"])
    ports = [onnx.helper.make_tensor_value_info(*port) for port in (("x", 1, ["n", 20]), ("y", 1, ["n", 12]))]
    stored = {"fc.weight": t3f.full(matrix).numpy(), "fc.bias": bias.numpy()}
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = onnx.helper.make_graph([gemm], "g", ports[:1], ports[1:], tensors)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "fc.onnx")
    model = load_model(tmp_path / "fc.onnx")
    shape, cores = from_t3f(t3f.transpose(matrix))
    largest = np.abs(theirs).max()
    # The design with its cores, and what a fit of its shape finds of the dense weight alone.
    for design in (Fitter(model.weight("fc")).measured(shape, cores), Fitter(model.weight("fc")).fit(shape)):
        content = file_content(rewrite(model, {"fc": design}))
        session = load_onnxruntime().InferenceSession(content, providers=["CPUExecutionProvider"])
        assert "Gemm" not in [node.op_type for node in onnx.ModelProto.FromString(content).graph.node]
        (ours,) = session.run(None, {"x": x.numpy()})
        back = t3f.transpose(to_t3f(design.cores))
        assert np.abs(ours - theirs).max() <= 1e-5 * largest
        assert np.abs((t3f.matmul(x, back) + bias).numpy() - theirs).max() <= 1e-5 * largest
        assert [tuple(core.shape) for core in back.tt_cores] == [tuple(core.shape) for core in matrix.tt_cores]


def test_without_t3f_the_message_names_the_extra(monkeypatch):
    def refuse(name, *rest):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ToolError, match=r"t3f is not installed: pip install 'lrfdse\[t3f\]'"):
        to_t3f([np.ones((1, 2, 2, 1))])
