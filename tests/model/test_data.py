import numpy as np
import pytest

from lrfdse.errors import InputError
from lrfdse.model.data import load_data, random_data
from lrfdse.model.graph import load_model

W = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)


@pytest.fixture
def floats(make):
    """Return a model of one float input."""
    return load_model(make("g (float[n, 6] x) => (float[n, 4] y) { y = MatMul (x, w) }", {"w": W}))


@pytest.fixture
def bytes_in(make):
    """Return a model of one uint8 input."""
    text = "g (uint8[n, 6] x) => (float[n, 4] y) { f = Cast <to = 1> (x)  y = MatMul (f, w) }"
    return load_model(make(text, {"w": W}))


@pytest.fixture
def two_inputs(make):
    """Return a model of two inputs, one of them called like labels, one a table's index."""
    text = """g (int64[n] ids, float[n, 6] y) => (float[n, 4] z) {
        e = Gather (table, ids)  s = Add (e, y)  z = MatMul (s, w)
    }"""
    return load_model(make(text, {"w": W, "table": np.ones((50, 6), np.float32)}))


@pytest.fixture
def npz(tmp_path):
    """Return a function that writes arrays to an npz and returns its path."""

    def written(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return written


@pytest.mark.parametrize("name", ["x", "images", "anything"])
@pytest.mark.parametrize("labels", ["labels", "y"])
def test_one_input_takes_any_name(npz, floats, name, labels):
    x = np.arange(30, dtype=np.float32).reshape(5, 6)
    data = load_data(npz(**{name: x, labels: np.arange(5)}), floats.inputs)
    assert list(data.inputs) == ["x"]
    assert data.count == 5
    np.testing.assert_array_equal(data.inputs["x"], x)
    np.testing.assert_array_equal(data.labels, np.arange(5))


def test_an_input_called_y_is_an_input(npz, two_inputs):
    data = load_data(
        npz(ids=np.zeros(3, np.int32), y=np.ones((3, 6), np.float32), labels=np.zeros(3)), two_inputs.inputs
    )
    assert set(data.inputs) == {"ids", "y"}
    assert data.inputs["ids"].dtype == np.int64
    assert data.labels.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    "spread",
    [
        "r = Reshape (ids, wide)  e = Equal (r, classes)  s = Cast <to = 1> (e)",
        "s = OneHot (ids, depth, ends)",
        "u = Unsqueeze (ids, last)  t = Gather (table, u)  s = Squeeze (t, last)",
    ],
)
def test_random_classes_are_all_that_the_model_tells_apart(make, spread):
    """Zeros and ones would try the first rows of a weight matrix and no other."""
    constants = {
        "wide": np.array([-1, 1], np.int64),
        "classes": np.arange(40, dtype=np.int32)[None],
        "depth": np.array(40, np.int32),
        "ends": np.array([0, 1], np.float32),
        "last": np.array([1], np.int64),
        "table": np.ones((40, 40), np.float32),
        "w": np.ones((40, 4), np.float32),
    }
    used = {name: array for name, array in constants.items() if name in spread or name == "w"}
    text = f"g (int32[n] ids) => (float[n, 4] z) {{ {spread}  z = MatMul (s, w) }}"
    ids = random_data(load_model(make(text, used)).inputs, 400, 0).inputs["ids"]
    assert set(ids.tolist()) == set(range(40))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float64, np.float16, np.bool_])
def test_numbers_are_converted(npz, floats, dtype):
    x = np.ones((2, 6), dtype)
    assert load_data(npz(x=x), floats.inputs).inputs["x"].dtype == np.float32


def test_bytes_stay_bytes_and_whole_floats_become_them(npz, bytes_in):
    x = np.arange(12).reshape(2, 6)
    for dtype in (np.uint8, np.int32, np.float32):
        data = load_data(npz(x=x.astype(dtype)), bytes_in.inputs)
        assert data.inputs["x"].dtype == np.uint8
        np.testing.assert_array_equal(data.inputs["x"], x)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.full((2, 6), 0.5)}, "holds values that uint8 cannot hold"),
        ({"x": np.full((2, 6), 300)}, "holds values that uint8 cannot hold"),
        ({"x": np.full((2, 6), -1)}, "holds values that uint8 cannot hold"),
        ({"x": np.full((2, 6), np.nan)}, "holds NaN or Inf"),
        ({"x": np.full((2, 6), np.inf)}, "holds NaN or Inf"),
        ({"x": np.ones((2, 5))}, r"input x \(nx6, uint8\) has shape 2x5, samples first"),
        ({"x": np.ones((2, 3, 2))}, "has shape 2x3x2"),
        ({"x": np.ones(6)}, "has shape 6"),
        ({"x": np.ones((0, 6))}, "is empty"),
        ({"x": np.array(1.0)}, "is empty"),
        ({"x": np.array([["a"] * 6])}, "holds <U1, not numbers"),
        ({"x": np.ones((2, 6), complex)}, "not numbers"),
        ({"x": np.ones((2, 6)), "z": np.ones((2, 6))}, r"holds x, z, but the model's inputs are x \(nx6, uint8\)"),
        ({"labels": np.ones(2)}, "holds no input, but the model's inputs"),
        ({"x": np.ones((2, 6)), "labels": np.ones(3)}, "arrays differ in length"),
        ({"x": np.ones((2, 6)), "labels": np.array([0.5, 1])}, "labels must be class numbers"),
        ({"x": np.ones((2, 6)), "labels": np.array([0, -1])}, "labels must be class numbers"),
        ({"x": np.ones((2, 6)), "labels": np.array([np.nan, 1])}, "labels must be class numbers"),
        ({"x": np.ones((2, 6)), "labels": np.array(["a", "b"])}, "labels must be class numbers"),
    ],
)
def test_data_that_do_not_fit(npz, bytes_in, arrays, message):
    with pytest.raises(InputError, match=message) as caught:
        load_data(npz(**arrays), bytes_in.inputs)
    assert "\n" not in str(caught.value)
    assert "data.npz" in str(caught.value)


def test_a_double_beyond_the_inputs_type(npz, floats):
    with pytest.raises(InputError, match="holds values that float32 cannot hold"):
        load_data(npz(x=np.full((2, 6), 1e300)), floats.inputs)


def test_pickled_objects_are_refused(tmp_path, floats):
    np.savez(tmp_path / "evil.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="Python objects"):
        load_data(tmp_path / "evil.npz", floats.inputs)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_damaged_files(tmp_path, floats, content):
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"not a plain .npz file"):
        load_data(tmp_path / "bad.npz", floats.inputs)


def test_truncated_file(npz, floats):
    path = npz(x=np.ones((200, 6)))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"not a plain .npz file"):
        load_data(path, floats.inputs)


def test_missing_files_folders_and_single_arrays(tmp_path, floats):
    with pytest.raises(InputError, match="no such file"):
        load_data(tmp_path / "none.npz", floats.inputs)
    with pytest.raises(InputError, match="a folder"):
        load_data(tmp_path, floats.inputs)
    np.save(tmp_path / "one.npy", np.ones((2, 6)))
    with pytest.raises(InputError, match=r"not a plain .npz file"):
        load_data(tmp_path / "one.npy", floats.inputs)


def test_halves_are_disjoint_and_interleaved(npz, floats):
    x = np.arange(42, dtype=np.float32).reshape(7, 6)
    data = load_data(npz(x=x, labels=np.arange(7)), floats.inputs)
    even, odd = data.split()
    assert even.labels.tolist() == [0, 2, 4, 6]
    assert odd.labels.tolist() == [1, 3, 5]
    np.testing.assert_array_equal(odd.inputs["x"], x[1::2])
    assert data.head(3).labels.tolist() == [0, 1, 2]
    assert data.head(100).count == 7
    with pytest.raises(InputError, match="at least 2 samples"):
        data.head(1).split()


def test_digest_tells_contents_apart(npz, floats):
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    plain = load_data(npz(x=x), floats.inputs)
    assert load_data(npz(other=x.astype(np.float64)), floats.inputs).digest == plain.digest
    assert load_data(npz(x=x, labels=[0, 1]), floats.inputs).digest != plain.digest
    assert load_data(npz(x=x + 1), floats.inputs).digest != plain.digest


def test_random_data_are_of_the_inputs_kind_and_repeatable(bytes_in, two_inputs, floats):
    assert random_data(bytes_in.inputs, 40, 0).inputs["x"].max() > 200
    ids = random_data(two_inputs.inputs, 300, 0).inputs["ids"]
    assert ids.min() == 0 and 40 < ids.max() < 50
    one, same, other = (random_data(floats.inputs, 5, seed) for seed in (0, 0, 1))
    assert one.count == 5
    assert one.digest == same.digest != other.digest


def test_random_data_need_every_size(make):
    text = """g (float[n, 6] x, float[n, t] s) => (float[n, 4] y, float[n, t] z) {
        y = MatMul (x, w)  z = Relu (s)
    }"""
    model = load_model(make(text, {"w": W}))
    with pytest.raises(InputError, match=r"--shape s=1x\?"):
        random_data(model.inputs, 1, 0)
