"""A network of convolutions from its file to its designs: one small exploration, looked at from all sides."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.cli import run
from lrfdse.explore.layers.convolutions import convolution_model
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import ConvolutionSpec
from lrfdse.ir.window import Window

SPACE = "summary = 'few designs'\nmax_compiled = 2\n"


def low_rank(rng, outputs, channels, kernel, rank):
    """Return a weight of nearly that rank."""
    size = channels * kernel**2
    weight = rng.normal(size=(outputs, rank)) @ rng.normal(size=(rank, size)) / np.sqrt(rank)
    weight = (weight + 0.1 * rng.normal(size=(outputs, size))) / np.sqrt(size)
    return weight.reshape(outputs, channels, kernel, kernel).astype(np.float32)


def write(folder):
    """Write model.onnx, and calib.npz, eval.npz and test.npz labelled by the model itself."""
    rng = np.random.default_rng(0)
    weights = {
        "big.weight": low_rank(rng, 17, 16, 3, 4),
        "deep.weight": np.ones((17, 1, 3, 3), np.float32) + 0.1,
        "point.weight": low_rank(rng, 19, 17, 1, 4),
        "head.weight": rng.normal(size=(6, 19)).astype(np.float32),
        "big.bias": 0.1 * rng.normal(size=17).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "big.weight", "big.bias"], ["a"], strides=[2, 1], pads=[1, 1, 0, 1], name="big"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "deep.weight"], ["c"], group=17, pads=[1, 1, 1, 1], name="deep"),
        helper.make_node("Conv", ["c", "point.weight"], ["d"], name="point"),
        helper.make_node("Relu", ["d"], ["e"]),
        helper.make_node("GlobalAveragePool", ["e"], ["f"]),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("Gemm", ["g", "head.weight"], ["y"], transB=1, name="head"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16, 7, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], tensors)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    base = rng.normal(size=(8, 16))
    for role in ("calib", "eval", "test"):
        images = (rng.normal(size=(120, 8)) @ base)[:, :, None, None] + rng.normal(size=(120, 16, 7, 6))
        images = images.astype(np.float32)
        labels = {} if role == "calib" else {"labels": session.run(None, {"x": images})[0].argmax(axis=1)}
        np.savez(folder / f"{role}.npz", x=images, **labels)
    return folder


@pytest.fixture(scope="module")
def explored(tmp_path_factory, shared_cache):
    here = tmp_path_factory.mktemp("convolutions")
    (here / "few.toml").write_text(SPACE)
    model = write(tmp_path_factory.mktemp("network"))
    options = ["--layers", "fc,conv", "--space", str(here / "few.toml"), "--budget", "6", "--keep", "1", "--no-int8"]
    where = ["--cache", str(shared_cache), "--output", str(here / "out"), "--max-drop", "20%"]
    assert run(["explore", str(model), "--target", "aarch64", *options, *where]) == 0
    return model, here / "out"


@pytest.fixture(scope="module")
def document(explored):
    return json.loads((explored[1] / "front.json").read_text())


def weights_of(path):
    """Return the elements of all weights of Conv nodes of one group, and of Gemm nodes."""
    model = onnx.load(path)
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    return sum(
        sizes[name]
        for node in model.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and not any(a.name == "group" and a.i > 1 for a in node.attribute)
        for name in node.input[1:]
        if name in sizes
    )


@pytest.mark.slow
def test_layers_are_of_their_kinds(document):
    facts = {layer["name"]: layer for layer in document["layers"]}
    assert {name: (each["kind"], each["kernel"]) for name, each in facts.items()} == {
        "big": ("conv", [3, 3]),
        "point": ("conv", [1, 1]),
        "head": ("fc", None),
    }
    assert facts["big"]["rows"] == 3 * 6
    assert facts["big"]["inputs"] == 16 * 9
    assert facts["big"]["options"][0]["flops"] == 2 * 18 * 16 * 9 * 17
    assert [part["reason"] for part in document["untouched"]] == ["a depthwise convolution: its channels are not mixed"]
    assert "fully-connected layers and convolutions" in document["latency"]["covers"]


@pytest.mark.slow
def test_every_option_of_a_convolution_was_run_and_is_cheaper(document):
    for layer in document["layers"]:
        dense, *others = layer["options"]
        assert others or layer["kept_dense"]
        for option in others:
            assert option["flops"] < dense["flops"]
            assert 0 < option["kernel_error"] <= 1e-4
            assert 0 < option["latency"]["warm"]["us"] <= option["latency"]["cold"]["us"]


@pytest.mark.slow
def test_kept_models_score_and_hold_what_is_reported(document, explored):
    folder, output = explored
    test = np.load(folder / "test.npz")
    kept = [each for each in document["designs"] if each["model"]]
    assert any(each["plan"]["big"]["factorization"] != "dense" for each in kept)
    for design in kept:
        session = onnxruntime.InferenceSession(output / design["model"], providers=["CPUExecutionProvider"])
        found = session.run(None, {"x": test["x"]})[0].argmax(axis=1)
        assert (found == test["labels"]).mean() == pytest.approx(design["test_score"]["value"], abs=1 / 120)
        assert weights_of(output / design["model"]) == design["params"]


@pytest.mark.slow
def test_the_latency_of_a_larger_convolution_is_near_that_inside_of_the_whole_model(document):
    whole = document["original"]["whole_model"]["operators"]
    (operator,) = [each for each in whole if each["layer"] == "big"]
    (layer,) = [each for each in document["layers"] if each["name"] == "big"]
    alone = layer["options"][0]["latency"]["warm"]["us"]
    # The same code on the same sizes; only what the caches hold before differs.
    assert operator["latency"]["warm"]["us"] == pytest.approx(alone, rel=0.3)


@pytest.mark.slow
def test_what_has_no_kernel_has_no_files(document, explored):
    _, output = explored
    folder = output / "designs" / document["recommended"]
    names = sorted(path.stem for path in (folder / "kernels").glob("*.o"))
    assert names == ["head", "point"]
    assert [each["layer"] for each in document["kernels"]] == ["point", "head"]
    assert not (folder / "bench").exists()
    assert (folder / "library").is_dir()


@pytest.mark.slow
def test_export_makes_the_same_model(document, explored, capsys):
    _, output = explored
    path = output / "designs" / document["recommended"] / "model.onnx"
    before = path.read_bytes()
    assert run(["export", str(output), document["recommended"]]) == 0
    assert path.read_bytes() == before


@pytest.mark.slow
def test_a_board_that_could_time_only_a_part_is_refused(explored, tmp_path, capsys):
    model, _ = explored
    options = ["--layers", "conv", "--runner", "true", "--output", str(tmp_path / "out"), "--cache", str(tmp_path)]
    assert run(["explore", str(model), "--target", "aarch64", *options]) == 2
    assert "pointwise convolutions, and 'big' is a larger one" in capsys.readouterr().err


def test_kinds_that_there_are_not_are_refused(tmp_path, capsys):
    assert run(["inspect", str(write(tmp_path)), "--layers", "fc,pool"]) == 2
    assert "--layers takes some of fc, conv," in capsys.readouterr().err


@pytest.mark.parametrize(
    "factorization",
    [
        Factorization.dense(7, 55),
        Factorization.svd(7, 55, 3),
        Factorization((7, 1), (5, 11), (3,)),
        Factorization((7, 1, 1), (1, 5, 11), (3, 2)),
    ],
    ids=str,
)
def test_the_model_that_is_timed_makes_the_image_of_the_layer(factorization):
    window = Window(2, (1, 17), (1, 5), (1, 2), (1, 2), (0, 3, 0, 1))
    made = convolution_model(ConvolutionSpec(7, 11, window, factorization, True, True))
    onnx.checker.check_model(made, full_check=True)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.ones((2, 11, 1, 17), np.float32)})
    assert found.shape == (2, 7, *window.out)
    assert found.min() >= 0
    assert sum(node.op_type == "Conv" for node in made.graph.node) == len(factorization.in_modes)
