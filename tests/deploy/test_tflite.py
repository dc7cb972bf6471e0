"""Designs as TensorFlow Lite files: what LiteRT computes against the ONNX model of the same design."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest

from lrfdse.deploy.tflite import tflite_file
from lrfdse.errors import InputError
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.tt import tt_svd
from lrfdse.formats.onnx import as_proto
from lrfdse.formats.tflite.flatbuffer import read_graph
from lrfdse.formats.tflite.litert import run
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.ir.storage import FLOAT16, FLOAT32, INT8
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from tests.formats.test_tflite import litert, ours
from tests.formats.tflite_models import Writer, mlp, quantized

pytest.importorskip("ai_edge_litert")
SHAPES = ("svd:r=6", "tt:m=4x8,n=4x6,r=5", "tt:m=4x8,n=4x6,r=5,lr", "tt:m=2x4x4,n=4x2x3,r=3x4", "tt:m=6x6,n=5x5,r=4")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.tflite"
    path.write_bytes(mlp(np.random.default_rng(0), batch=1))
    return load_model(path)


def names(content, path):
    return [operator.name for operator in read_graph(content, path).operators]


def test_a_repair_is_no_chain_and_refused(model):
    factors = {"first": Fitter(model.weight("first"), None).fit(Factorization.repaired(32, 24, 3), INT8)}
    with pytest.raises(InputError, match=r"dense\+r=3@int8: layers with a repair are written as ONNX"):
        tflite_file(model, factors)


@pytest.mark.parametrize("storage", [FLOAT32, FLOAT16, INT8], ids=str)
@pytest.mark.parametrize("text", SHAPES)
def test_litert_computes_the_design(model, text, storage):
    factorization = Factorization.parse(text, 32, 24)
    fitted = Fitter(model.weight("first"), None).fit(factorization, storage)
    shifted = dataclasses.replace(fitted, bias_shift=np.linspace(-1, 1, 32))
    made = tflite_file(model, {"first": shifted})
    feed = np.random.default_rng(1).normal(size=(3, 24)).astype(np.float32)
    (wanted,) = ours(as_proto(rewrite(model, {"first": shifted})), [feed])
    (found,) = litert(made, [feed])
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()
    (original,) = litert(model.path.read_bytes(), [feed])
    assert np.abs(found - original).max() > 1e-3, "the design is another model than the original"
    used = names(made, model.path)
    assert "TRANSPOSE" not in used and used[-2:] == ["FULLY_CONNECTED", "SOFTMAX"]
    assert used.count("DEQUANTIZE") == (len(factorization.steps()) if storage != FLOAT32 else 0)


def test_a_pair_is_two_layers_and_nothing_else_changes(model):
    factorization = Factorization.svd(32, 24, 4)
    made = tflite_file(model, {"first": Fitter(model.weight("first"), None).fit(factorization)})
    assert names(made, model.path) == ["FULLY_CONNECTED", "FULLY_CONNECTED", "FULLY_CONNECTED", "SOFTMAX"]
    graph, before = read_graph(made, model.path), read_graph(model.path.read_bytes(), model.path)
    kept = {tensor.name for tensor in graph.tensors if "/lrfdse/" not in tensor.name}
    assert kept == {tensor.name for tensor in before.tensors} - {"first/MatMul", "first/bias"}
    # 4 * (32 + 24) numbers of a weight instead of 32 * 24, and the tables of a few more tensors.
    assert len(made) < len(model.path.read_bytes()) - 4 * (32 * 24 - 4 * (32 + 24)) + 1500


def test_a_design_that_changes_nothing_gives_what_the_original_gives(model):
    feed = np.random.default_rng(1).normal(size=(3, 24)).astype(np.float32)
    same = litert(tflite_file(model, {}), [feed])
    np.testing.assert_array_equal(same, litert(model.path.read_bytes(), [feed]))


@pytest.mark.parametrize(("padding", "stride"), [(0, 1), (0, 2), (1, 1)], ids=["same", "same, stride", "valid"])
def test_convolutions_become_chains(tmp_path, padding, stride):
    w, rng, path = Writer(), np.random.default_rng(0), tmp_path / "model.tflite"
    size = -(-8 // stride) if padding == 0 else 6
    x, y = w.tensor((1, 8, 8, 6), name="image"), w.tensor((1, size, size, 10), name="out")
    operands = [w.stored(rng.normal(size=(10, 3, 3, 6)).astype(np.float32), name="conv/w")]
    operands.append(w.stored(rng.normal(size=10).astype(np.float32), name="conv/b"))
    values = {"strideH": stride, "strideW": stride, "padding": padding, "fusedActivationFunction": 1}
    w.op("CONV_2D", [x, *operands], [y], "Conv2DOptions", **values)
    path.write_bytes(w.finish([x], [y]))
    model = load_model(path, kinds=("conv",))
    (layer,) = model.layers
    for text in ("svd:r=5", "tt:m=10x1,n=3x18,r=6", "tt:m=10x1x1,n=1x9x6,r=7x4"):
        factorization = Factorization.parse(text, 10, 54)
        factors = {layer.name: Factors(factorization, tt_svd(model.weight(layer.name), factorization), None, 0.0, None)}
        made = tflite_file(model, factors)
        assert set(names(made, path)) <= {"CONV_2D", "PAD"}
        feed = rng.normal(size=(1, 8, 8, 6)).astype(np.float32)
        (found,), (wanted,) = litert(made, [feed]), ours(as_proto(rewrite(model, factors)), [feed])
        assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_a_design_is_read_again(model, tmp_path):
    """What was written is a TensorFlow Lite model that can be explored as any other."""
    factors = {"first": Fitter(model.weight("first"), None).fit(Factorization.svd(32, 24, 4), INT8)}
    path = tmp_path / "design.tflite"
    path.write_bytes(tflite_file(model, factors))
    assert [(layer.inputs, layer.outputs) for layer in load_model(path).layers] == [(24, 4), (4, 32), (32, 10)]


@pytest.mark.parametrize("storage", [FLOAT32, INT8], ids=str)
def test_layers_of_a_quantized_model_compute_the_design_between_levels(tmp_path, storage):
    """What the chains give, on the levels that LiteRT fed them, against products in NumPy: within one step."""
    path, rng = tmp_path / "levels.tflite", np.random.default_rng(0)
    path.write_bytes(quantized(rng))
    model = load_model(path, kinds=("fc", "conv"))
    convolution = Factorization.parse("tt:m=8x1x1,n=1x9x3,r=6x3", 8, 27)
    cores = tt_svd(model.weight("conv"), convolution)
    dense = Fitter(model.weight("dense"), None).fit(Factorization.parse("tt:m=4x4,n=8x16,r=6", 16, 128), storage)
    factors = {"conv": Factors(convolution, cores, np.linspace(-1, 1, 8), 0.0, None), "dense": dense}
    made = tflite_file(model, factors)
    graph = read_graph(made, path)
    kinds = [operator.name for operator in graph.operators]
    assert kinds.count("QUANTIZE") == 2 and kinds.count("DEQUANTIZE") == (2 if storage is FLOAT32 else 4)
    assert [kind for kind in kinds if kind in ("MAX_POOL_2D", "TRANSPOSE")] == ["MAX_POOL_2D"]
    feed = rng.integers(-128, 128, (1, 8, 8, 3), np.int8)
    (known,) = run(made, [{graph.inputs[0]: feed}], str(path), everything=True)
    real = {t.name: t.quantization.values(known[t.index]) for t in graph.tensors if t.is_level and t.index in known}
    patches = np.lib.stride_tricks.sliding_window_view(
        np.pad(real["image"][0], ((1, 1), (1, 1), (0, 0))), (3, 3), (0, 1)
    )
    rows = patches.transpose(0, 1, 4, 3, 2).reshape(64, 27)
    bias = model.bias("conv") + np.linspace(-1, 1, 8)
    # The levels of the convolution's output begin at 0: that is its ReLU.
    wanted = {"conv": np.maximum(rows @ dense_weight(factors["conv"].cores).T + bias, 0.0).reshape(1, 8, 8, 8)}
    wanted["scores"] = real["flat"] @ dense_weight(dense.cores).T
    for tensor in graph.tensors:
        if tensor.name in wanted:
            step = tensor.quantization.step
            low, high = tensor.quantization.values(np.array([-128, 127]))
            gaps = np.abs(np.clip(wanted[tensor.name], low, high) - real[tensor.name])
            assert gaps.max() <= 0.51 * step and np.ptp(real[tensor.name]) > 20 * step


def test_a_file_that_changed_is_told(tmp_path):
    path = tmp_path / "levels.tflite"
    path.write_bytes(mlp(np.random.default_rng(0)))
    changed = load_model(path)
    path.write_bytes(mlp(np.random.default_rng(1)))
    assert hashlib.sha256(path.read_bytes()).hexdigest() != changed.sha256
    with pytest.raises(InputError, match="changed since it was explored"):
        tflite_file(changed, {})
