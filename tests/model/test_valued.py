"""Inputs fixed to a value or to sizes: onnxruntime, fed them by hand, is what the changed model is held against."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import lrfdse
from lrfdse.cli import run
from lrfdse.errors import InputError
from lrfdse.explore.inputs import open_inputs
from lrfdse.explore.plans.share import fetch
from lrfdse.model.data import load_data
from lrfdse.model.graph import load_model
from lrfdse.model.valued import read_model
from lrfdse.search.study.opening import join_study
from tests.plugins.models import build

RATES = """rates (float[n, 24] x, int64 sr) => (float[n, 5] y) {
    fast = Constant<value_int=16000>()
    is_fast = Equal(sr, fast)
    h = If(is_fast) <
        then_branch = high () => (float[n, 32] a) { b = MatMul(x, w16)  a = Relu(b) },
        else_branch = low () => (float[n, 32] c) { d = MatMul(x, w8)  e = Tanh(d)  c = Add(e, e) }
    >
    y = MatMul(h, v)
}"""
TYPES = """types (float[n, 6] x, {type} s) => (float[n, 6] y, {type} t) {{
    f = Cast<to=1>(s)
    y = Mul(x, f)
    t = Identity(s)
}}"""

LENGTHS = """lengths (float[n, 24] x, float[t, 6] z) => (float[n, 5] y, float[u, v] r) {
    sizes = Shape(z)
    first = Constant<value_ints=[0]>()
    four = Constant<value_ints=[4]>()
    count = Gather(sizes, first)
    is_long = Greater(count, four)
    h = If(is_long) <
        then_branch = high () => (float[n, 32] a) { b = MatMul(x, w16)  a = Relu(b) },
        else_branch = low () => (float[n, 32] c) { d = MatMul(x, w8)  e = Tanh(d)  c = Add(e, e) }
    >
    y = MatMul(h, v)
    r = Relu(z)
}"""


def weights():
    rng = np.random.default_rng(0)
    shapes = {"w16": (24, 32), "w8": (24, 32), "v": (32, 5)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@pytest.fixture
def rates(tmp_path):
    path = tmp_path / "rates.onnx"
    onnx.save(build(RATES, weights()), path)
    return path


def ran(model, **feeds):
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, feeds)


@pytest.mark.parametrize(("rate", "kept", "gone"), [(16000, "w16", "w8"), (8000, "w8", "w16")])
def test_an_if_that_the_value_decides_is_the_branch_that_is_taken(rates, rate, kept, gone):
    proto, _ = read_model(rates, {"sr": str(rate)})
    onnx.checker.check_model(proto)
    x = np.random.default_rng(1).normal(size=(7, 24)).astype(np.float32)
    np.testing.assert_array_equal(ran(proto, x=x)[0], ran(rates.read_bytes(), x=x, sr=np.array(rate))[0])
    assert [value.name for value in proto.graph.input] == ["x"]
    assert "If" not in {node.op_type for node in proto.graph.node}
    stored = {tensor.name for tensor in proto.graph.initializer}
    assert kept in stored and gone not in stored


@pytest.fixture
def lengths(tmp_path):
    path = tmp_path / "lengths.onnx"
    onnx.save(build(LENGTHS, weights()), path)
    return path


@pytest.mark.parametrize(("count", "kept", "gone"), [(9, "w16", "w8"), (3, "w8", "w16")])
def test_an_if_that_sizes_decide_is_the_branch_that_is_taken(lengths, count, kept, gone):
    model = load_model(lengths, {"x": (2, 24), "z": (count, 6)})
    assert [layer.name for layer in model.layers] == [kept, "v"]
    onnx.checker.check_model(model.proto)
    rng = np.random.default_rng(1)
    feeds = {"x": rng.normal(size=(2, 24)), "z": rng.normal(size=(count, 6))}
    feeds = {name: array.astype(np.float32) for name, array in feeds.items()}
    for found, wanted in zip(ran(model.proto, **feeds), ran(lengths.read_bytes(), **feeds), strict=True):
        np.testing.assert_array_equal(found, wanted)
    # At other sizes it would be wrong, so that it takes no others.
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        ran(model.proto, **feeds | {"z": np.zeros((12 - count, 6), np.float32)})
    assert gone not in {tensor.name for tensor in model.proto.graph.initializer}


def test_sizes_that_decide_nothing_change_nothing(lengths, rates):
    plain = load_model(lengths)
    assert {layer.name for layer in plain.layers} == {"w16", "w8", "v"}
    assert load_model(lengths, {"x": (2, 24)}).sha256 == plain.sha256, "a size that decides is left open"
    sized = {load_model(lengths, {"x": (2, 24), "z": (count, 6)}).sha256 for count in (2, 3, 9)}
    assert len(sized | {plain.sha256}) == 4
    assert load_model(rates, {"x": (3, 24)}).sha256 == load_model(rates).sha256
    # What a value has decided needs no sizes.
    fixed = load_model(rates, {"x": (3, 24)}, value={"sr": "16000"})
    assert fixed.sha256 == load_model(rates, value={"sr": "16000"}).sha256
    assert fixed.inputs[0].shape == (None, 24)


def test_layers_of_the_branch_are_found_and_the_digest_tells_values_apart(rates):
    assert {layer.name for layer in load_model(rates).layers} == {"w16", "w8", "v"}
    found = {rate: load_model(rates, value={"sr": rate}) for rate in ("16000", "8000")}
    assert [layer.name for layer in found["16000"].layers] == ["w16", "v"]
    assert [layer.name for layer in found["8000"].layers] == ["w8", "v"]
    digests = {model.sha256 for model in (load_model(rates), *found.values())}
    assert len(digests) == 3
    assert load_model(rates, value={"sr": "+8000"}).sha256 == found["8000"].sha256


@pytest.mark.parametrize(
    ("type_", "text", "fed"),
    [
        ("float", "-1.5e-1", np.float32(-0.15)),
        ("float[1]", "3", np.full(1, 3, np.float32)),
        ("float16", "0.1", np.float16(0.1)),
        ("double[1, 6]", "0.1", np.full((1, 6), 0.1)),
        ("int64", "-3", np.int64(-3)),
        ("int32[1]", "7", np.full(1, 7, np.int32)),
        ("uint8", "255", np.uint8(255)),
        ("bool", "true", np.bool_(True)),
        ("bool[1]", "0", np.zeros(1, np.bool_)),
    ],
)
def test_values_of_every_type(tmp_path, type_, text, fed):
    path = tmp_path / "m.onnx"
    onnx.save(build(TYPES.format(type=type_), {}), path)
    proto, _ = read_model(path, {"s": text})
    x = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    for one, other in zip(ran(proto, x=x), ran(path.read_bytes(), x=x, s=np.asarray(fed)), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_an_old_file_whose_stored_tensors_are_inputs_as_well(tmp_path):
    made = build(
        "g (float[n, 4] x, float s) => (float[n, 4] y) { a = MatMul(x, w)  y = Mul(a, s) }",
        {"w": np.eye(4, dtype=np.float32)},
    )
    made.ir_version = 3
    made.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4, 4]))
    onnx.save(made, tmp_path / "m.onnx")
    proto, _ = read_model(tmp_path / "m.onnx", {"s": "2"})
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    np.testing.assert_array_equal(ran(proto, x=x)[0], 2 * x)


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"rate": "16000"}, "--value rate: the model has no such input; its inputs are x, sr"),
        ({"sr": "1.5"}, "--value sr=1.5: input 'sr' takes whole numbers of int64"),
        ({"sr": "9" * 19}, "--value sr=9999999999999999999: input 'sr' takes whole numbers of int64"),
        ({"sr": "true"}, "--value sr=true: input 'sr' takes whole numbers of int64"),
        ({"x": "1"}, r"--value x=1: input 'x' \(\?x24\) has open sizes; only inputs of fixed sizes can be fixed"),
    ],
)
def test_what_cannot_be_fixed_is_one_line(rates, value, line):
    with pytest.raises(InputError, match=line) as caught:
        load_model(rates, value=value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("type_", "text", "said"),
    [
        ("bool", "2", "true or false"),
        ("float16", "1e6", "finite numbers of float16"),
        ("string", "1", "no numbers"),
        ("float[2000, 2000]", "1", "4,000,000 elements"),
    ],
)
def test_what_a_type_cannot_hold(tmp_path, type_, text, said):
    path = tmp_path / "m.onnx"
    onnx.save(
        build(f"g (float[n, 6] x, {type_} s) => (float[n, 6] y, {type_} t) {{ y = Relu(x)  t = Identity(s) }}", {}),
        path,
    )
    with pytest.raises(InputError, match=said):
        read_model(path, {"s": text})


def test_a_model_has_an_input_left(tmp_path):
    onnx.save(build("g (float[2, 6] x) => (float[2, 6] y) { y = Relu(x) }", {}), tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"m\.onnx would have no input left to feed"):
        read_model(tmp_path / "m.onnx", {"x": "1"})


def test_data_that_hold_it_too_are_refused(rates, tmp_path):
    np.savez(tmp_path / "calib.npz", x=np.zeros((5, 24), np.float32), sr=np.array(16000))
    model = load_model(rates, value={"sr": "16000"})
    with pytest.raises(InputError, match=r"calib\.npz: holds sr, which --value fixes: leave one of them out"):
        load_data(tmp_path / "calib.npz", model.inputs, fixed=("sr",))


def test_a_library_has_the_value_inside(rates, tmp_path):
    options = {"shape": {"x": (3, 24)}, "meter": "none"}
    fast = lrfdse.build(rates, "host", tmp_path / "fast", value={"sr": 16000}, **options).facts
    slow = lrfdse.build(rates, "host", tmp_path / "slow", value={"sr": 8000}, **options).facts
    # Outputs were compared with onnxruntime's when they were built.
    assert [port.name for port in fast.inputs] == [port.name for port in slow.inputs] == ["x"]
    assert fast.weight_bytes == slow.weight_bytes < 4 * (2 * 24 * 32 + 32 * 5)


@pytest.mark.slow
def test_explorations_keep_the_value(rates, tmp_path, capsys):
    rng = np.random.default_rng(2)
    mix = rng.normal(size=(6, 24))
    for role in ("calib", "eval"):
        np.savez(tmp_path / f"{role}.npz", x=(rng.normal(size=(64, 6)) @ mix).astype(np.float32))
    out, cache = tmp_path / "out", tmp_path / "cache"
    words = ["explore", rates, "--target", "riscv64", "--value", "sr=8000", "--output", out, "--cache", cache]
    words += ["--calib", tmp_path / "calib.npz", "--eval", tmp_path / "eval.npz", "--effort", "quick"]
    study, store = tmp_path / "study.journal", tmp_path / "store"
    words += ["--workers", 1, "--study", study, "--study-name", "one", "--artifacts", store]
    assert run([str(each) for each in words]) in (0, 3), capsys.readouterr().err
    document = lrfdse.load(out).document
    assert document.settings.value == {"sr": "8000"}
    assert 'value = ["sr=8000"]' in (out / "explore.toml").read_text()
    assert [layer.name for layer in document.layers] == ["w8", "v"]
    assert 0 <= document.original.whole_model.weight_bytes - 4 * (24 * 32 + 32 * 5) <= 64
    x = np.load(tmp_path / "eval.npz")["x"]
    wanted = ran(rates.read_bytes(), x=x, sr=np.array(8000))[0]
    designs = {design.id: design for design in document.every_design()}
    kept = sorted(folder.name for folder in (out / "designs").iterdir())
    assert kept
    for identity in kept:
        found = ran((out / "designs" / identity / "model.onnx").read_bytes(), x=x)[0]
        if identity == document.original.id:
            np.testing.assert_array_equal(found, wanted)
        else:
            agreed = float((found.argmax(axis=1) == wanted.argmax(axis=1)).mean())
            assert agreed == pytest.approx(designs[identity].fidelity, abs=0.02)
    # Whoever helps gets the model as it was read.
    request, files = fetch(join_study(str(study), "one"), store, tmp_path / "elsewhere")
    inputs = open_inputs(files, request.data)
    assert [port.name for port in inputs.model.inputs] == ["x"]
    assert [layer.name for layer in inputs.model.layers] == ["w8", "v"]
    # What was explored is found again: by the same options from a file, and by an export.
    assert run(["explore", "--config", str(out / "explore.toml"), "--cache", str(cache)]) in (0, 3)
    assert run(["export", str(out), kept[0]]) == 0, capsys.readouterr().err


def test_inspection_and_refusals_on_the_command_line(rates, capsys):
    assert run(["inspect", str(rates), "--value", "sr=16000", "--json"]) == 0
    assert '"w8"' not in capsys.readouterr().out
    assert run(["inspect", str(rates), "--value", "sr=fast"]) == 2
    assert "--value takes NAME=NUMBER such as sr=16000, but got 'sr=fast'" in capsys.readouterr().err
