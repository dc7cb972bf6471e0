"""Small models with decaying spectra, whose own answers are the labels."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def decaying(rng, outputs, inputs):
    u, _ = np.linalg.qr(rng.standard_normal((outputs, min(outputs, inputs))))
    v, _ = np.linalg.qr(rng.standard_normal((inputs, min(outputs, inputs))))
    return (u * np.exp(-np.arange(u.shape[1]) / 5)) @ v.T * 4


def make_folder(folder, sizes, seed=0):
    """Write a chain of Gemm and Relu as model.onnx, and calib.npz, eval.npz and test.npz labelled by itself."""
    rng = np.random.default_rng(seed)
    layers = [
        (decaying(rng, m, n).astype(np.float32), (rng.standard_normal(m) / 4).astype(np.float32))
        for n, m in itertools.pairwise(sizes)
    ]
    nodes, stored, last = [], {}, "x"
    for k, (weight, bias) in enumerate(layers, 1):
        stored |= {f"fc{k}.weight": weight, f"fc{k}.bias": bias}
        result = "y" if k == len(layers) else f"h{k}"
        nodes.append(helper.make_node("Gemm", [last, f"fc{k}.weight", f"fc{k}.bias"], [result], transB=1))
        if k < len(layers):
            nodes.append(helper.make_node("Relu", [result], [f"a{k}"]))
        last = f"a{k}"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", sizes[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", sizes[-1]])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    mix = rng.standard_normal((sizes[0], sizes[0])) * np.exp(-np.arange(sizes[0]) / 8)[:, None]

    def sample(count):
        x = (rng.standard_normal((count, sizes[0])) @ mix).astype(np.float32)
        state = x
        for k, (weight, bias) in enumerate(layers, 1):
            state = state @ weight.T + bias
            state = np.maximum(state, 0) if k < len(layers) else state
        return x, state.argmax(axis=1)

    np.savez(folder / "calib.npz", x=sample(256)[0])
    for role in ("eval", "test"):
        x, labels = sample(200)
        np.savez(folder / f"{role}.npz", x=x, labels=labels)
    return folder


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """48 -> 32 -> 6, in a folder with a space in its name."""
    return make_folder(tmp_path_factory.mktemp("small model"), (48, 32, 6))


@pytest.fixture(scope="session")
def deep_folder(tmp_path_factory):
    """Three layers that are explored, so that plans combine: 24 -> 20 -> 16 -> 12."""
    return make_folder(tmp_path_factory.mktemp("deep model"), (24, 20, 16, 12), seed=1)


@pytest.fixture(scope="session")
def chain_folder(tmp_path_factory):
    """48 -> 32 -> 24 -> 6: the model and the data of the files in tests/results/fixtures."""
    folder = tmp_path_factory.mktemp("explored once") / "chain"
    folder.mkdir()
    return make_folder(folder, (48, 32, 24, 6))


@pytest.fixture(scope="session")
def repeated_folder(tmp_path_factory):
    """24 layers of two shapes in turn: 16 -> 24 -> 16 ..."""
    return make_folder(tmp_path_factory.mktemp("repeated"), (16, 24) * 12 + (16,), seed=2)


@pytest.fixture(scope="session")
def small_space(tmp_path_factory):
    """A search space that is explored in seconds."""
    path = tmp_path_factory.mktemp("spaces") / "small.toml"
    path.write_text("max_cores = 2\nmax_compiled = 6\nmin_size = 8\n")
    return path


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """A cache that the tests of a session share, so that a kernel is compiled once."""
    return tmp_path_factory.mktemp("cache")
