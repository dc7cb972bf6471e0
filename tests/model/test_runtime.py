import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from lrfdse.errors import InputError
from lrfdse.formats.onnx import serialized
from lrfdse.model.data import Dataset, random_data
from lrfdse.model.graph import load_model
from lrfdse.model.passes.cut import exposed, read_out
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.model.samples import HELD, batch_within
from lrfdse.repair.moments import moments

RNG = np.random.default_rng(0)
W = RNG.normal(size=(6, 4)).astype(np.float32)
X = RNG.normal(size=(10, 6)).astype(np.float32)


def _data(x, labels=None):
    return Dataset({"x": x}, labels)


@pytest.mark.parametrize("batch", [1, 3, 10, 64])
def test_open_batches(make, batch):
    path = make("g (float[n, 6] x) => (float[n, 4] y) { y = MatMul (x, w) }", {"w": W})
    outputs = Runtime().run(path.read_bytes(), _data(X), batch)
    np.testing.assert_allclose(outputs["y"], X @ W, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fixed", [1, 4])
def test_fixed_batches(make, fixed):
    path = make(f"g (float[{fixed}, 6] x) => (float[{fixed}, 4] y) {{ y = MatMul (x, w) }}", {"w": W})
    outputs = Runtime().run(path.read_bytes(), _data(X))
    np.testing.assert_allclose(outputs["y"], X @ W, rtol=1e-5, atol=1e-5)


def test_a_batch_that_the_inside_fixes(make):
    text = "g (float[n, 6] x) => (float[n, 4] y) { r = Reshape (x, s)  y = MatMul (r, w) }"
    path = make(text, {"w": W, "s": np.array([1, 6])})
    outputs = Runtime().run(path.read_bytes(), _data(X))
    np.testing.assert_allclose(outputs["y"], X @ W, rtol=1e-5, atol=1e-5)


def test_samples_that_a_batch_would_mix_are_run_alone(make):
    text = """g (float[n, 6] x) => (float[n, 4] y) {
        m = ReduceMax <axes = [0], keepdims = 1> (x)  d = Sub (x, m)  y = MatMul (d, w)
    }"""
    path = make(text, {"w": W})
    outputs = Runtime().run(path.read_bytes(), _data(X))
    np.testing.assert_array_equal(outputs["y"], np.zeros((10, 4)))


def test_an_output_without_samples_axis_is_stacked(make):
    text = "g (float[1, 6] x) => (float[4] y) { a = MatMul (x, w)  y = Reshape (a, s) }"
    path = make(text, {"w": W, "s": np.array([4])})
    outputs = Runtime().run(path.read_bytes(), _data(X))
    np.testing.assert_allclose(outputs["y"], X @ W, rtol=1e-5, atol=1e-5)


def test_an_output_of_changing_size(make):
    text = "g (float[n, 6] x) => (float[n, 4] y, int64[2, k] z) { y = MatMul (x, w)  z = NonZero (x) }"
    path = make(text, {"w": W})
    x = X.copy()
    x[3, :2] = 0
    with pytest.raises(InputError, match="output 'z' changes its shape"):
        Runtime().run(path.read_bytes(), _data(x))
    assert list(Runtime().run(path.read_bytes(), _data(x), outputs=["y"])) == ["y"]


def test_errors_of_onnxruntime_are_one_line(make, capfd):
    text = "g (float[n, 6] x) => (float[n, 4] y) { z = Unheard (x)  y = MatMul (z, w) }"
    path = make(text.replace("Unheard", "Relu"), {"w": W})
    content = path.read_bytes().replace(b"Relu", b"Rulu")
    with pytest.raises(InputError, match="onnxruntime cannot load the model") as caught:
        Runtime().session(content)
    assert "\n" not in str(caught.value)
    runtime = Runtime()
    with pytest.raises(InputError, match="onnxruntime cannot run the model") as caught:
        runtime.call(runtime.session(path.read_bytes()), {"x": X[:, :3]})
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_exposed_values(mlp):
    model = load_model(mlp)
    runtime = Runtime()
    outputs = runtime.call(
        runtime.session(exposed(model.original, ["h", "x", "y", "h"])), {"x": np.ones((2, 12), np.float32)}
    )
    assert list(outputs) == ["y", "h"]
    assert outputs["h"].shape == (2, 8)


@pytest.mark.parametrize("count", [1, 5, 70])
def test_moments_are_those_of_the_inputs(mlp, count):
    model = load_model(mlp)
    data = random_data(model.inputs, count, 3)
    found = moments(model, data, batch=16)
    x = data.inputs["x"].astype(np.float64)
    h = np.maximum(x @ model.weight("fc1").T + model.bias("fc1"), 0)
    for name, rows in (("fc1", x), ("fc2", h)):
        assert found[name].count == count
        np.testing.assert_allclose(found[name].mean, rows.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found[name].second, rows.T @ rows / count, rtol=1e-4, atol=1e-4)


def test_moments_pool_uses_and_positions(make):
    rng = np.random.default_rng(1)
    square = rng.normal(size=(6, 6)).astype(np.float32)
    text = "g (float[n, 3, 6] x) => (float[n, 3, 6] y) { a = MatMul (x, w)  h = Relu (a)  y = MatMul (h, w) }"
    model = load_model(make(text, {"w": square}))
    x = rng.normal(size=(5, 3, 6)).astype(np.float32)
    found = moments(model, _data(x), ["w"])["w"]
    rows = np.concatenate([x.reshape(-1, 6), np.maximum(x.reshape(-1, 6) @ square, 0)]).astype(np.float64)
    assert found.count == 30
    np.testing.assert_allclose(found.second, rows.T @ rows / 30, rtol=1e-4, atol=1e-5)


def test_moments_along_the_axis_of_features(make):
    rng = np.random.default_rng(1)
    text = "g (float[n, 6, 3] x) => (float[n, 4, 3] y) { y = MatMul (v, x) }"
    model = load_model(make(text, {"v": np.ascontiguousarray(W.T)}))
    x = rng.normal(size=(5, 6, 3)).astype(np.float32)
    rows = np.moveaxis(x, 1, -1).reshape(-1, 6).astype(np.float64)
    found = moments(model, _data(x))["v"]
    np.testing.assert_allclose(found.second, rows.T @ rows / 15, rtol=1e-5, atol=1e-6)


def test_moments_with_a_fixed_batch_count_no_sample_twice(make):
    model = load_model(make("g (float[4, 6] x) => (float[4, 4] y) { a = Relu (x)  y = MatMul (a, w) }", {"w": W}))
    found = moments(model, _data(X))["w"]
    rows = np.maximum(X[:8], 0).astype(np.float64)
    assert found.count == 8
    np.testing.assert_allclose(found.second, rows.T @ rows / 8, rtol=1e-5, atol=1e-6)


def test_moments_of_what_a_rewritten_model_feeds_a_layer(mlp, kit):
    model = load_model(mlp)
    data = random_data(model.inputs, 20, 0)
    version = rewrite(model, {"fc1": kit.svd_factors(model.weight("fc1"), 2)})
    u, s, v = np.linalg.svd(model.weight("fc1"), full_matrices=False)
    low = (u[:, :2] * s[:2]) @ v[:2]
    rows = np.maximum(data.inputs["x"].astype(np.float64) @ low.T + model.bias("fc1"), 0)
    found = moments(model, data, ["fc2"], version=version)["fc2"]
    np.testing.assert_allclose(found.second, rows.T @ rows / 20, rtol=1e-4, atol=1e-4)


def test_nan_activations_name_the_layer(make):
    text = "g (float[n, 6] x) => (float[n, 4] y) { a = Log (x)  y = MatMul (a, w) }"
    model = load_model(make(text, {"w": W}))
    with pytest.raises(InputError, match="layer 'w' reads NaN or Inf"):
        moments(model, _data(-np.abs(X)))


def test_the_original_runs_as_its_file_does(mlp):
    """To the bit: passing through the model object changes nothing that onnxruntime computes."""
    data = random_data(load_model(mlp).inputs, 20, 0)
    (wanted,) = onnxruntime.InferenceSession(mlp.read_bytes()).run(None, dict(data.inputs))
    for model in (load_model(mlp).original, load_model(mlp).original.clone(), mlp.read_bytes()):
        np.testing.assert_array_equal(Runtime().run(model, data)["y"], wanted)


def test_sessions_use_one_core(mlp):
    options = Runtime().session(mlp.read_bytes()).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)


def test_sessions_hold_no_memory_between_runs(mlp):
    assert not Runtime().session(mlp.read_bytes()).get_session_options().enable_cpu_mem_arena


def test_a_session_is_kept_for_what_a_model_holds(mlp, kit):
    model, runtime = load_model(mlp), Runtime()
    session = runtime.session(model.original)
    assert runtime.session(model.original.clone()) is session
    assert Runtime().session(model.original) is not session
    hidden = runtime.session(read_out(model.original, ["h"]))
    assert hidden is not session and runtime.session(read_out(model.original.clone(), ["h"])) is hidden
    first, other = (rewrite(model, {"fc1": kit.svd_factors(model.weight("fc1"), rank)}) for rank in (2, 3))
    assert len({id(runtime.session(each)) for each in (model.original, first, other)}) == 3


def test_a_model_that_was_changed_has_another_session(mlp):
    model, runtime, feeds = load_model(mlp), Runtime(), {"x": np.ones((1, 12), np.float32)}
    version = model.original.clone()
    before = runtime.call(runtime.session(version), feeds)["y"]
    version.graph.initializers["fc2.bias"].const_value = ir.tensor(np.zeros(5, np.float32), name="fc2.bias")
    after = runtime.call(runtime.session(version), feeds)["y"]
    np.testing.assert_allclose(before - after, model.bias("fc2")[None], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(runtime.call(runtime.session(model.original), feeds)["y"], before)


def test_the_session_used_least_recently_is_dropped(mlp):
    one, two, three = (read_out(load_model(mlp).original, [name]) for name in ("a", "h", "y"))
    runtime = Runtime(sessions=2)
    first, second = runtime.session(one), runtime.session(two)
    assert runtime.session(one) is first
    third = runtime.session(three)
    assert runtime.session(one) is first
    assert runtime.session(three) is third
    assert runtime.session(two) is not second


def test_sessions_of_large_models_are_not_kept(mlp):
    model = load_model(mlp).original
    small, size = read_out(model, ["a"]), len(serialized(model))
    runtime = Runtime(session_bytes=size - 1)
    kept = runtime.session(small)
    assert runtime.session(model) is not runtime.session(model)
    assert runtime.session(small) is kept
    # With room for the larger alone, the smaller one goes.
    runtime = Runtime(session_bytes=size)
    kept = runtime.session(small)
    assert runtime.session(model) is runtime.session(model)
    assert runtime.session(small) is not kept
    none = Runtime(sessions=0)
    assert none.session(small) is not none.session(small)


def test_runs_are_as_large_as_leave_room_for_what_is_read():
    read = [np.zeros((2, 100), np.float32), np.zeros((2, 50), np.float64)]
    assert [batch_within(64, read, 2, room) for room in (799, 800, 8000, 10**6)] == [1, 1, 10, 64]
    assert batch_within(64, [], 2) == batch_within(64, [np.zeros((1, 0))], 1) == 64


class Counting(Runtime):
    """Keeps the bytes that each run gave."""

    def __init__(self):
        super().__init__()
        self.read = []

    def call(self, session, feeds, outputs=None):
        found = super().call(session, feeds, outputs)
        self.read.append((len(next(iter(feeds.values()))), sum(array.nbytes for array in found.values())))
        return found


@pytest.mark.parametrize("cross", [False, True])
def test_moments_of_many_rows_a_sample_hold_what_few_samples_read(make, cross):
    rng, rows, width = np.random.default_rng(0), 4096, 512
    text = f"""g (float[n, {rows}, 4] x) => (float[n, 1, 3] y) {{
        a = MatMul (x, w)  h = Relu (a)  b = MatMul (h, u)  y = ReduceMean <axes = [1]> (b) }}"""
    w, u = (rng.normal(size=sizes).astype(np.float32) for sizes in ((4, width), (width, 3)))
    model, x = load_model(make(text, {"w": w, "u": u})), rng.normal(size=(10, rows, 4)).astype(np.float32)
    runtime = Counting()
    found = moments(model, _data(x), ["u"], runtime, version=model.working.graph, cross=cross)["u"]
    assert found.count == x.shape[0] * rows
    hidden = np.maximum(x.reshape(-1, 4).astype(np.float64) @ w.astype(np.float64), 0)
    np.testing.assert_allclose(found.second, hidden.T @ hidden / len(hidden), rtol=1e-4, atol=1e-6)
    large = [(count, read) for count, read in runtime.read if read > 1 << 20]
    assert max(read for _, read in large) <= HELD / (1 + cross)
    assert max(count for count, _ in large) == 8 // (1 + cross)
