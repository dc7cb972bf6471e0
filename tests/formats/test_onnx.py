import hashlib

import numpy as np
import onnx
import pytest

from lrfdse.errors import InputError
from lrfdse.formats.onnx import file_content, serialized
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite


@pytest.fixture
def external(mlp):
    """Return the path of a model whose weights lie in weights.bin beside it."""
    model = onnx.load(mlp)
    path = mlp.parent / "external.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def _relocate(path, **entries):
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer[:1]:
        for entry in tensor.external_data:
            entry.value = entries.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())


def test_external_data_are_read_and_hashed(mlp, external):
    inside, outside = load_model(mlp), load_model(external)
    assert [layer.digest for layer in inside.layers] == [layer.digest for layer in outside.layers]
    before = outside.sha256
    data = bytearray((external.parent / "weights.bin").read_bytes())
    data[0] ^= 1
    (external.parent / "weights.bin").write_bytes(data)
    assert load_model(external).sha256 != before
    assert inside.sha256 == hashlib.sha256(mlp.read_bytes()).hexdigest()


def test_a_rewritten_model_needs_no_external_data(external, kit, tmp_path):
    model = load_model(external)
    version = rewrite(model, {"fc1": kit.svd_factors(model.weight("fc1"), 2)})
    (tmp_path / "alone").mkdir()
    onnx.checker.check_model(onnx.load_from_string(file_content(version)))
    assert load_model(kit.write(version, tmp_path / "alone" / "model.onnx")).layer("fc2") == model.layer("fc2")


def test_missing_external_data(external):
    (external.parent / "weights.bin").unlink()
    with pytest.raises(InputError, match=r"'fc1.weight': 'weights.bin' is missing"):
        load_model(external)


def test_cut_short_external_data(external):
    file = external.parent / "weights.bin"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(InputError, match=r"weights\.bin holds no 384 bytes at offset 0"):
        load_model(external)


@pytest.mark.parametrize("entries", [{"length": "12"}, {"offset": "-4"}, {"offset": "x"}])
def test_wrong_external_data(external, entries):
    _relocate(external, **entries)
    with pytest.raises(InputError, match=r"'fc1\.weight'"):
        load_model(external)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "sub/../../secret.bin", "link.bin"])
def test_external_data_outside_the_folder_are_refused(external, tmp_path_factory, location):
    secret = external.parent.parent / "secret.bin"
    secret.write_bytes(b"\0" * 4096)
    (external.parent / "sub").mkdir()
    (external.parent / "link.bin").symlink_to(secret)
    _relocate(external, location=location)
    with pytest.raises(InputError, match="outside the model's folder: refused"):
        load_model(external)


def test_external_data_of_a_constant_in_a_subgraph_are_checked(make):
    text = """g (float[n, 6] x, bool c) => (float[n, 6] y) { a = MatMul (x, w)  y = If (c) <
        then_branch = yes () => (float[n, 6] p) { p = Add (a, v) },
        else_branch = no () => (float[n, 6] q) { q = Identity (a) }> }"""
    path = make(text, {"w": np.ones((6, 6), np.float32)})
    model = onnx.load(path)
    tensor = onnx.TensorProto(name="v", data_type=1, dims=[6], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/hostname")
    model.graph.node[1].attribute[0].g.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="outside the model's folder"):
        load_model(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"this is no protobuf at all, but some text", "not an ONNX model"),
        (b"\x08\x08", "it holds no graph"),
    ],
)
def test_files_that_are_no_models(tmp_path, content, message):
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_truncated_models(mlp, part):
    content = mlp.read_bytes()
    mlp.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(InputError) as caught:
        load_model(mlp)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_model(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="a folder, not an ONNX file"):
        load_model(tmp_path)


def test_old_opsets_are_refused(make):
    path = make(
        "g (float[n, 6] x) => (float[n, 6] y) { y = MatMul (x, w) }", {"w": np.ones((6, 6), np.float32)}, opset=6
    )
    with pytest.raises(InputError, match="opset 6 is too old: version 7 or newer is required"):
        load_model(path)


def test_invalid_graphs_are_refused(make):
    path = make("g (float[n, 6] x) => (float[n, 6] y) { y = MatMul (x, nowhere) }")
    with pytest.raises(InputError, match=r"not a valid ONNX model: .*nowhere"):
        load_model(path)


def test_what_is_written_is_checked(mlp):
    """A pass of ours that spoils a model must not reach a user's file."""
    version = load_model(mlp).original.clone()
    assert file_content(version) == serialized(version)
    next(node for node in version.graph if node.op_type == "Relu").op_type = "Rulu"
    with pytest.raises(onnx.checker.ValidationError, match="Rulu"):
        file_content(version)


@pytest.mark.parametrize("flat", [True, False])
def test_sparse_initializers_become_dense(make, flat):
    path = make("g (float[n, 6] x) => (float[n, 6] y) { y = MatMul (x, w) }")
    path.write_bytes(sparse(path, [3, 7] if flat else [0, 3, 1, 1], [2] if flat else [2, 2]).SerializeToString())
    wanted = np.zeros((6, 6), np.float32)
    wanted[0, 3], wanted[1, 1] = 1, 2
    np.testing.assert_array_equal(load_model(path).weight("w"), wanted.T)


@pytest.mark.parametrize(
    ("places", "sizes", "said"),
    [
        ([3, 40], [2], "sparse tensor 'w' is damaged"),
        ([0, 3, 1, 9], [2, 2], "sparse tensor 'w' is damaged"),
        ([3, -1], [2], "sparse tensor 'w' is damaged"),
        ([3], [1], "sparse tensor 'w' is damaged"),
    ],
)
def test_sparse_initializers_that_are_damaged_are_refused(make, places, sizes, said):
    path = make("g (float[n, 6] x) => (float[n, 6] y) { y = MatMul (x, w) }")
    path.write_bytes(sparse(path, places, sizes).SerializeToString())
    with pytest.raises(InputError, match=said):
        load_model(path)


def test_a_sparse_initializer_that_would_fill_the_memory_is_refused(make):
    path = make("g (float[n, 6] x) => (float[n, 6] y) { y = MatMul (x, w) }")
    path.write_bytes(sparse(path, [3, 7], [2], [2**16, 2**16]).SerializeToString())
    with pytest.raises(InputError, match="sparse tensor 'w' of 65536x65536 holds 2 elements: refused"):
        load_model(path)


def sparse(path, places, sizes, dims=(6, 6)):
    model = onnx.load(path)
    values = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])
    indices = onnx.helper.make_tensor("places", onnx.TensorProto.INT64, sizes, places)
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, dims))
    return model
