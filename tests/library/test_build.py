"""`lrfdse build` from a model's file to a library: what users give, and what they get."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import onnx
import pytest

import lrfdse
from lrfdse.base.folders import private_folder
from lrfdse.cli import run
from lrfdse.errors import InputError
from lrfdse.toolchain.programs import require_zig
from tests.library.conftest import TARGETS
from tests.plugins.models import build as model_of

MLP = """mlp (float[batch, 20] x) => (float[batch, 7] y) {
    a = MatMul(x, w1)
    b = Add(a, b1)
    c = Relu(b)
    y = Gemm<transB=1>(c, w2, b2)
}"""
CNN = """cnn (float[1, 3, 12, 12] x) => (float[1, 10] y, float[1, 8, 6, 6] features) {
    a = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1]>(x, w1, b1)
    b = Relu(a)
    features = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(b)
    d = Conv<kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=8>(features, w2, b2)
    e = HardSwish(d)
    f = Conv<kernel_shape=[1, 1]>(e, w3, b3)
    g = GlobalAveragePool(f)
    h = Flatten(g)
    i = Gemm<transB=1>(h, w4, b4)
    y = Softmax<axis=-1>(i)
}"""
BERT = """bert (int64[1, 9] ids) => (float[1, 9, 16] y) {
    e = Gather(table, ids)
    x = LayerNormalization<axis=-1>(e, scale, shift)
    q = MatMul(x, wq)
    k = MatMul(x, wk)
    v = MatMul(x, wv)
    heads = Constant<value_ints=[1, 9, 2, 8]>()
    q4 = Reshape(q, heads)
    k4 = Reshape(k, heads)
    v4 = Reshape(v, heads)
    qt = Transpose<perm=[0, 2, 1, 3]>(q4)
    kt = Transpose<perm=[0, 2, 3, 1]>(k4)
    vt = Transpose<perm=[0, 2, 1, 3]>(v4)
    s = MatMul(qt, kt)
    scaled = Mul(s, eighth)
    p = Softmax<axis=-1>(scaled)
    o = MatMul(p, vt)
    ot = Transpose<perm=[0, 2, 1, 3]>(o)
    rows = Constant<value_ints=[1, 9, 16]>()
    joined = Reshape(ot, rows)
    r = Add(x, joined)
    h = MatMul(r, w1)
    hb = Add(h, b1)
    root = Mul(hb, half)
    erf = Erf(root)
    one = Add(erf, unit)
    gelu = Mul(hb, one)
    y = MatMul(gelu, w2)
}"""
SHAPES = {
    "mlp": {"w1": (20, 33), "b1": (33,), "w2": (7, 33), "b2": (7,)},
    "cnn": {
        "w1": (8, 3, 3, 3),
        "b1": (8,),
        "w2": (8, 1, 3, 3),
        "b2": (8,),
        "w3": (16, 8, 1, 1),
        "b3": (16,),
        "w4": (10, 16),
        "b4": (10,),
    },
    "bert": {
        "table": (50, 16),
        "scale": (16,),
        "shift": (16,),
        **{name: (16, 16) for name in ("wq", "wk", "wv")},
        "w1": (16, 40),
        "b1": (40,),
        "w2": (40, 16),
    },
}
NUMBERS = {"eighth": 8**-0.5, "half": 2**-0.5, "unit": 1.0}
MODELS = {"mlp": MLP, "cnn": CNN, "bert": BERT}


@pytest.fixture
def model_file(tmp_path):
    """Write one of the models above and return its path."""

    def write(name):
        rng = np.random.default_rng(3)
        weights = {key: rng.standard_normal(shape).astype(np.float32) / 3 for key, shape in SHAPES[name].items()}
        used = {key: np.float32(number) for key, number in NUMBERS.items() if name == "bert"}
        path = tmp_path / f"{name}.onnx"
        onnx.save(model_of(MODELS[name], {**weights, **used}), path)
        return path

    return write


def complaint(capsys, *arguments):
    """Run `lrfdse build` and return its exit code and the one line that it ends with."""
    code = run(["build", *map(str, arguments)])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("lrfdse: ")]
    assert len(lines) == 1, lines
    return code, lines[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--name", "1net"), "--name '1net'"),
        (("--weights", "disk"), "--weights 'disk'"),
        (("--shape", "z=1x20"), "no such input"),
        (("--shape", "x=1x21"), "does not fit"),
        (("--target", "z80"), "z80"),
        (("--meter", "stopwatch"), "stopwatch"),
        (("--meter", "host"), "runs under qemu-riscv64"),
        (("--meter", "none", "--tune"), "--tune takes a meter"),
    ],
)
def test_options_that_do_not_fit_are_one_line(options, said, model_file, tmp_path, capsys):
    arguments = ("--target", "riscv64", *options)
    code, line = complaint(capsys, model_file("mlp"), *arguments, "-o", tmp_path / "out")
    assert code == 2
    assert said in line
    assert not (tmp_path / "out").exists()


def test_open_sizes_are_named_all_at_once(tmp_path, capsys):
    text = "g (float[batch, width] x, float[1, n] z) => (float[a, b] y, float[c, d] t) { y = Relu(x) t = Relu(z) }"
    onnx.save(model_of(text), tmp_path / "open.onnx")
    code, line = complaint(capsys, tmp_path / "open.onnx", "--target", "host", "-o", tmp_path / "out")
    assert code == 2
    assert "--shape x=1x?" in line
    assert "--shape z=1x?" in line


def test_operators_that_nothing_compiles_are_named_all_at_once(tmp_path, capsys):
    text = """g (float[2, 8] x) => (int64[a, b] y, float[2, 8] z) {
        y = NonZero(x)
        noise = RandomNormalLike(x)
        z = Add(x, noise)
    }"""
    onnx.save(model_of(text), tmp_path / "odd.onnx")
    code, line = complaint(capsys, tmp_path / "odd.onnx", "--target", "host", "-o", tmp_path / "out")
    assert code == 2
    assert "NonZero" in line
    assert "RandomNormalLike" in line


def test_a_folder_of_somebody_elses_is_refused_before_anything_runs(model_file, tmp_path, capsys):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("x")
    code, line = complaint(capsys, model_file("mlp"), "--target", "riscv64", "-o", tmp_path / "thesis")
    assert (code, "not made by `lrfdse build`" in line) == (2, True)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter1.tex"]


def test_a_model_that_is_not_there_is_one_line(tmp_path, capsys):
    code, line = complaint(capsys, tmp_path / "none.onnx", "--target", "riscv64", "-o", tmp_path / "out")
    assert (code, "no such file" in line) == (2, True)
    code, line = complaint(capsys, tmp_path, "--target", "riscv64", "-o", tmp_path / "out")
    assert (code, "holds no model.onnx" in line) == (2, True)


def test_without_zig_nothing_begins(model_file, tmp_path, capsys, monkeypatch):
    """A target's tools are looked for before the model is read."""
    import importlib.util

    there = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *more: None if name == "ziglang" else there(name, *more)
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    for meter in ("auto", "none"):
        arguments = ("--target", "riscv64", "--meter", meter, "-o", tmp_path / "out")
        code, line = complaint(capsys, model_file("mlp"), *arguments)
        assert code == 4
        assert "pip install 'ziglang" in line


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("target", TARGETS)
def test_the_example_of_a_model_passes_its_own_test_vectors(target, name, model_file, tmp_path, native, capsys):
    machine = native(target)
    arguments = ["build", str(model_file(name)), "--target", target, "-o", str(tmp_path / "out"), "--meter", "none"]
    assert run([*arguments, "--name", name, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts == json.loads((tmp_path / "out" / f"{name}.json").read_text())
    assert facts["checked"]
    assert facts["max_error"] < 1e-5
    assert facts["arena_bytes"] >= facts["arena_bound"] > 0
    cache = str(private_folder("zig"))
    compiler = f"CC={require_zig().path} cc -target {machine.link or machine.instruction_set.zig}"
    made = subprocess.run(
        ["make", compiler, "CFLAGS=-O1 -Wall -Wextra -Wpedantic -Werror", "check"],
        cwd=tmp_path / "out",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache},
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.endswith(f"{name}: right\n")


@pytest.mark.slow
def test_from_python_with_a_model_in_memory_and_a_batch(model_file, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    model = onnx.load(model_file("mlp"))
    events = []
    built = lrfdse.build(model, "riscv64", tmp_path / "out", shape={"x": (3, 20)}, progress=events.append)
    facts = built.facts
    assert facts.inputs[0].shape == (3, 20)
    assert facts.outputs[0].shape == (3, 7)
    assert facts.macs == 3 * (20 * 33 + 33 * 7)
    assert facts.meter.kind == "modelled"
    assert sum(each.warm.us for each in facts.operators) == pytest.approx(facts.warm.us, rel=0.6)
    assert {"program", "operators", "library"} <= {event.stage for event in events}
    shown = repr(built)
    assert "modelled" in shown and "(us)" in shown
    assert all(each.symbol in shown for each in facts.operators)
    assert "make check" in shown


@pytest.mark.slow
def test_a_folder_is_made_again_with_another_name_and_weights(model_file, tmp_path):
    path, out = model_file("mlp"), tmp_path / "out"
    lrfdse.build(path, "aarch64", out, meter="none")
    (out / "mine.c").write_text("mine")
    lrfdse.build(path, "aarch64", out, meter="none", name="other", weights="file")
    names = {each.name for each in out.iterdir() if not each.name.startswith(".")}
    assert names == {
        "Makefile",
        "README.md",
        "example.c",
        "libother.a",
        "mine.c",
        "other.h",
        "other.json",
        "other_weights.bin",
        "test_vectors.h",
    }


@pytest.mark.slow
def test_the_same_model_makes_the_same_library(model_file, tmp_path):
    for name in ("one", "two"):
        lrfdse.build(model_file("cnn"), "riscv64", tmp_path / name, meter="none")
    one, two = ({each.name: each.read_bytes() for each in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two


def test_weights_are_in_the_library_or_in_a_file(model_file, tmp_path):
    with pytest.raises(InputError, match="--weights"):
        lrfdse.build(model_file("mlp"), "host", tmp_path / "out", weights="both")  # type: ignore[arg-type]


@pytest.mark.slow
def test_functions_are_kept_for_later_libraries(model_file, tmp_path):
    path, cache = model_file("mlp"), tmp_path / "cache"
    first = lrfdse.build(path, "aarch64", tmp_path / "one", meter="none", cache=cache)
    kept = {each: each.stat().st_mtime_ns for each in (cache / "operators").rglob("*.npz")}
    assert len(kept) == len({each.symbol for each in first.facts.operators})
    damaged, whole = sorted(kept)
    damaged.write_bytes(damaged.read_bytes()[:100])
    second = lrfdse.build(path, "aarch64", tmp_path / "two", meter="none", cache=cache)
    assert second.facts == first.facts
    assert (tmp_path / "one" / "libnet.a").read_bytes() == (tmp_path / "two" / "libnet.a").read_bytes()
    assert whole.stat().st_mtime_ns == kept[whole]
    assert damaged.stat().st_mtime_ns != kept[damaged]


def test_where_rounding_alone_changes_outputs_more_counts_as_right(native, tmp_path):
    """Digits are lost to a large addend that is taken away again; optimizations fold both into nothing."""
    text = """coarse (float[1, 8, 6, 6] x) => (float[1, 4, 6, 6] y) {
        a = Conv<kernel_shape=[1, 1]>(x, w)
        b = Add(a, up)
        y = Add(b, down)
    }"""
    weight = np.random.default_rng(0).standard_normal((4, 8, 1, 1)).astype(np.float32)
    up = np.full((4, 1, 1), 3e4, np.float32)
    notes = []
    model = model_of(text, {"w": weight, "up": up, "down": -up})
    target = native("riscv64")
    built = lrfdse.build(model, target.name, tmp_path / "out", meter="none", progress=notes.append)
    assert 1e-4 < built.facts.tolerance < 1e-2
    assert built.facts.max_error <= built.facts.tolerance
    assert any("rounding alone" in event.text for event in notes if event.stage == "note")


def test_where_digits_cancel_more_counts_as_right_though_two_ways_of_computing_agree(native, tmp_path):
    """Nothing here is optimized, so that onnxruntime gives the same bits twice; the last bits of weights decide."""
    text = """cancelling (float[1, 200] x) => (float[1, 8] y) {
        a = MatMul(x, w)
        b = MatMul(x, v)
        y = Sub(a, b)
    }"""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((200, 8)).astype(np.float32)
    other = (weight * (1 + 5e-4 * rng.standard_normal(weight.shape))).astype(np.float32)
    target = native("riscv64")
    model = model_of(text, {"w": weight, "v": other})
    built = lrfdse.build(model, target.name, tmp_path / "out", meter="none")
    assert built.facts.tolerance > 5e-4
    assert 1e-4 < built.facts.max_error <= built.facts.tolerance


def test_classes_in_floats_are_whole_when_weights_are_moved_by_their_last_bit(native, tmp_path):
    """Else a class would be met by no value, all outputs would change, and any code would be near enough."""
    text = """classes (int64[6, 1] x) => (float[6, 8] y) {
        f = Cast<to = 1>(x)
        e = Equal(f, listed)
        s = Cast<to = 1>(e)
        y = MatMul(s, w)
    }"""
    weight = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    model = model_of(text, {"listed": np.arange(40, dtype=np.float32)[None], "w": weight})
    built = lrfdse.build(model, native("host").name, tmp_path / "out", meter="none")
    assert built.facts.tolerance == 1e-4


def test_an_output_that_is_the_same_everywhere_is_said_to_tell_little(native, tmp_path):
    """Above a threshold that is drawn like any other input nothing is ever seen; as a setting it is fixed."""
    text = """gate (float[1, 24] x, float[1] least) => (float[1, 8] y) {
        a = MatMul(x, w)
        size = Abs(least)
        b = Mul(size, far)
        c = Greater(a, b)
        y = Where(c, a, zero)
    }"""
    weight = np.random.default_rng(0).standard_normal((24, 8)).astype(np.float32)
    # A draw of less than 1e-5 from nothing would be needed.
    constants = {"w": weight, "far": np.array(1e6, np.float32), "zero": np.zeros((1, 8), np.float32)}
    model = model_of(text, constants)
    target = native("host")
    for value, known in ({}, False), ({"least": "0"}, True):
        notes = []
        lrfdse.build(model, target.name, tmp_path / str(known), meter="none", value=value, progress=notes.append)
        said = [event.text for event in notes if event.stage == "note"]
        assert any("'y' is the same in every element" in text and "--value" in text for text in said) != known


WAKE = """wake (float[1, 24] x) => (float[1, 1] y) {
    a = MatMul(x, w)
    b = Add(a, shift)
    y = Sigmoid(b)
}"""


@pytest.mark.parametrize(("gain", "saturates"), [(2.0, False), (0.01, True)])
def test_an_output_next_to_nothing_does_not_count_as_wrong(gain, saturates, tmp_path):
    """What onnxruntime's approximation of a sigmoid is off by is much of an output of 1e-6."""
    weight = (gain * np.random.default_rng(5).standard_normal((24, 1))).astype(np.float32)
    model = model_of(WAKE, {"w": weight, "shift": np.full(1, -14.0, np.float32)})
    built = lrfdse.build(model, "host", tmp_path / "out", meter="none")
    assert built.facts.max_error <= built.facts.tolerance
    assert (1e-4 < built.facts.tolerance <= 0.5) if saturates else built.facts.tolerance == 1e-4
    # By that output, zeros in its place would be wrong.
    assert built.facts.tolerance < 1


@pytest.mark.slow
def test_a_quantized_model_is_computed_in_whole_numbers(tmp_path):
    text = """mlp (float[2, 60] x) => (float[2, 9] y) {
        q = QuantizeLinear(x, s0, z0)
        d = DequantizeLinear(q, s0, z0)
        w = DequantizeLinear<axis=0>(levels, scales)
        a = Gemm<transB=1>(d, w, b)
        r = Relu(a)
        v = DequantizeLinear(others, s1)
        y = MatMul(r, v)
    }"""
    rng = np.random.default_rng(0)
    model = model_of(
        text,
        {
            "s0": np.float32(0.02),
            "z0": np.int8(-5),
            "levels": rng.integers(-127, 127, (40, 60), np.int8),
            "scales": rng.uniform(1e-3, 2e-3, 40).astype(np.float32),
            "b": rng.standard_normal(40).astype(np.float32),
            "others": rng.integers(-127, 127, (40, 9), np.int8),
            "s1": np.float32(1e-3),
        },
    )
    notes = []
    built = lrfdse.build(model, "host", tmp_path / "out", meter="none", progress=notes.append)
    assert [each.kind for each in built.facts.operators] == ["QuantizedProduct", "FullyConnected"]
    assert built.facts.weight_bytes < 2 * (40 * 60 + 40 * 9)
    # No level of this input lies between two.
    assert built.facts.max_error < 1e-5 < built.facts.tolerance
    assert any("rounds to 8 bits" in event.text for event in notes if event.stage == "note")


@pytest.mark.slow
def test_the_meter_chooses_schedules(model_file, tmp_path):
    """Every candidate of every operator is timed, and what is built of the fastest is right and no slower."""
    events = []
    plain = lrfdse.build(model_file("cnn"), "riscv64", tmp_path / "plain")
    best = lrfdse.build(model_file("cnn"), "riscv64", tmp_path / "best", tune=True, progress=events.append)
    tried = [event.text for event in events if event.stage == "tune"]
    assert len([text for text in tried if text.startswith("Convolution")]) > 1
    assert best.facts.max_error < 1e-5
    assert [each.kind for each in best.facts.operators] == [each.kind for each in plain.facts.operators]
    for one, other in zip(best.facts.operators, plain.facts.operators, strict=True):
        assert one.schedule == other.schedule or any(one.schedule in text for text in tried)
    # Candidates were timed behind each other, not in the model: what is gained there may be lost in the caches here.
    assert best.facts.warm.us < 1.05 * plain.facts.warm.us


@pytest.mark.slow
def test_without_an_emulator_a_library_is_said_not_to_have_run(model_file, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    events = []
    built = lrfdse.build(model_file("mlp"), "armv7", tmp_path / "out", meter="none", progress=events.append)
    assert (built.facts.checked, built.facts.max_error, built.facts.warm) == (False, None, None)
    assert [event.text for event in events if event.stage == "note"] == [
        "nothing here runs code for armv7: the library was not run, and has no latency"
    ]
    assert "onnxruntime" not in repr(built)
    with pytest.raises(lrfdse.ToolError, match="apt-get install"):
        lrfdse.build(model_file("mlp"), "armv7", tmp_path / "out")


@pytest.mark.slow
def test_a_library_that_was_metered_before_is_not_metered_again(model_file, tmp_path):
    path, cache = model_file("mlp"), tmp_path / "cache"

    def warm(folder, **options):
        return lrfdse.build(path, "host", tmp_path / folder, cache=cache, **options).facts.warm.us

    first = warm("first")
    (kept,) = (cache / "libraries").rglob("*.json")
    stored = kept.read_text()
    # What no meter would say shows where the number comes from.
    plain = json.loads(stored)
    find_warm(plain)["us"] = 123456.0
    kept.write_text(json.dumps(plain))
    assert first != 123456.0 and warm("second") == 123456.0
    # With the weights in a file it is another library.
    assert warm("third", weights="file") != 123456.0


def find_warm(plain):
    """The warm latency of the whole in what the store holds, whatever is around it."""
    if "warm" in plain and "parts" in plain:
        return plain["warm"]
    return next(found for value in plain.values() if isinstance(value, dict) and (found := find_warm(value)))
