"""A small model with decaying spectra, whose own answers are the labels."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


def decaying(rng, outputs, inputs):
    u, _ = np.linalg.qr(rng.standard_normal((outputs, min(outputs, inputs))))
    v, _ = np.linalg.qr(rng.standard_normal((inputs, min(outputs, inputs))))
    return (u * np.exp(-np.arange(u.shape[1]) / 5)) @ v.T * 4


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory):
    """model.onnx (48 -> 32 -> 6), calib.npz, eval.npz and test.npz in a folder with a space in its name."""
    folder = tmp_path_factory.mktemp("small model")
    rng = np.random.default_rng(0)
    w1, b1 = decaying(rng, 32, 48).astype(np.float32), rng.standard_normal(32).astype(np.float32) / 4
    w2, b2 = decaying(rng, 6, 32).astype(np.float32), np.zeros(6, np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("Gemm", ["a", "fc2.weight", "fc2.bias"], ["y"], transB=1),
    ]
    stored = {"fc1.weight": w1, "fc1.bias": b1, "fc2.weight": w2, "fc2.bias": b2}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 48])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    mix = rng.standard_normal((48, 48)) * np.exp(-np.arange(48) / 8)[:, None]

    def sample(count):
        x = (rng.standard_normal((count, 48)) @ mix).astype(np.float32)
        return x, (np.maximum(x @ w1.T + b1, 0) @ w2.T + b2).argmax(axis=1)

    np.savez(folder / "calib.npz", x=sample(256)[0])
    for role in ("eval", "test"):
        x, labels = sample(200)
        np.savez(folder / f"{role}.npz", x=x, labels=labels)
    return folder


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
