"""Builders of small models, and an oracle that knows nothing of the code under test."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from lrfdse.formats.onnx import file_content
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors


def build(text, weights=None, constants=None, opset=17, ir_version=8, domains=()):
    """Return a model from ONNX text, with arrays as initializers and as Constant nodes."""
    opsets = ", ".join([f'"" : {opset}', *(f'"{domain}" : 1' for domain in domains)])
    model = onnx.parser.parse_model(f"<ir_version: {ir_version}, opset_import: [{opsets}]> {text}")
    for name, array in (weights or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        if ir_version < 4:
            kind = onnx.helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
            model.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, np.shape(array)))
    for name, array in (constants or {}).items():
        tensor = numpy_helper.from_array(np.asarray(array), name)
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [name], value=tensor))
    return model


def reconstruct(factors, outputs, inputs):
    """Return the dense matrix of cores, entry by entry from the definition, cut to the layer's sizes."""
    result = np.ones((1, 1, 1))
    for core in factors.cores:
        result = np.einsum("abr,rmns->ambns", result, core)
        m = result.shape[0] * result.shape[1]
        result = result.reshape(m, -1, result.shape[-1])
    return result[:outputs, :inputs, 0]


def by_steps(f, cores, x):
    """Return rows times the chain, contracted step by step as `Factorization.steps` defines it."""
    order = range(len(cores))
    state = x
    for step, k in zip(f.steps(len(x)), reversed(order) if f.direction == "rl" else order, strict=True):
        r, m, n, s = cores[k].shape
        if f.direction == "rl":
            matrix = cores[k].reshape(r * m, n * s)
        else:
            matrix = np.moveaxis(cores[k], 0, 1).transpose(0, 3, 1, 2).reshape(m * s, r * n)
        state = np.einsum("jk,pkq->pjq", matrix, state.reshape(step.batch, step.inner, step.columns))
    return state.reshape(len(x), -1)


def random_factors(rng, factorization, outputs, shift=True):
    """Return factors with random cores, scaled so that the matrix has entries of order one."""
    cores = [rng.normal(size=shape) / np.sqrt(shape[0]) for shape in factorization.core_shapes]
    bias_shift = rng.normal(size=outputs) if shift else None
    return Factors(factorization, tuple(cores), bias_shift, 0.0, None)


def svd_factors(weight, rank):
    """Return the truncated SVD of a weight."""
    u, s, v = np.linalg.svd(weight, full_matrices=False)
    cores = ((u[:, :rank] * s[:rank])[None, :, None, :], v[:rank][:, None, :, None])
    return Factors(Factorization.svd(*weight.shape, rank), cores, None, 0.0, None)


def write(model, path):
    """Write a model and return its path."""
    path.write_bytes(file_content(model) if isinstance(model, ir.Model) else model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def kit():
    """Return the builders, for tests that hypothesis calls more than once."""
    return SimpleNamespace(
        build=build,
        reconstruct=reconstruct,
        by_steps=by_steps,
        random_factors=random_factors,
        svd_factors=svd_factors,
        write=write,
    )


@pytest.fixture
def make(tmp_path):
    """Return a function that builds a model, writes it, and returns its path."""

    def made(text, weights=None, constants=None, name="model.onnx", **versions):
        return write(build(text, weights, constants, **versions), tmp_path / name)

    return made


@pytest.fixture
def mlp(make):
    """Return the path of a 12-8-5 network with an open batch."""
    rng = np.random.default_rng(0)
    weights = {
        "fc1.weight": rng.normal(size=(8, 12)).astype(np.float32),
        "fc1.bias": rng.normal(size=8).astype(np.float32),
        "fc2.weight": rng.normal(size=(5, 8)).astype(np.float32),
        "fc2.bias": rng.normal(size=5).astype(np.float32),
    }
    text = """agraph (float[n, 12] x) => (float[n, 5] y) {
        a = Gemm <transB = 1> (x, "fc1.weight", "fc1.bias")
        h = Relu (a)
        y = Gemm <transB = 1> (h, "fc2.weight", "fc2.bias")
    }"""
    return make(text, weights)
