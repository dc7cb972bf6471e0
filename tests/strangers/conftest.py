"""Models as users have them, made small, and the way of each through everything but the compiler."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.base.store import Store
from lrfdse.explore.inputs import open_inputs, settings_for
from lrfdse.explore.layers.fits import explored_layers, open_builder, open_fits
from lrfdse.explore.layers.left import idle_layers
from lrfdse.explore.plans.evaluator import Evaluator
from lrfdse.explore.requests import data_request, files_of, fit_request
from lrfdse.formats.onnx import file_content
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.plan import Plan
from lrfdse.quality.losses import Divergences

FLOAT, FLOAT16, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
node = helper.make_node


def value(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def decaying(rows, columns, seed):
    """Return a matrix whose singular values fall by a factor of e every five."""
    rng = np.random.default_rng(seed)
    small = min(rows, columns)
    u, _ = np.linalg.qr(rng.standard_normal((rows, small)))
    v, _ = np.linalg.qr(rng.standard_normal((columns, small)))
    return ((u * np.exp(-np.arange(small) / 5)) @ v.T * 4).astype(np.float32)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes nodes, inputs, outputs and arrays as a folder's model, and data by role."""

    def written(nodes, inputs, outputs, arrays, opset=17, ir=9, domains=(), data=None, checked=True, functions=()):
        stored = [numpy_helper.from_array(np.asarray(a), name) for name, a in arrays.items()]
        graph = helper.make_graph(nodes, "g", inputs, outputs, stored)
        versions = {domain: 1 if domain == "com.microsoft" else 3 for domain in domains}
        opsets = [helper.make_opsetid(domain, version) for domain, version in {"": opset, **versions}.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=ir, functions=functions)
        if checked:
            onnx.checker.check_model(model)
        onnx.save(model, tmp_path / "model.onnx")
        for role, given in (data or {}).items():
            np.savez(tmp_path / f"{role}.npz", **given)
        return tmp_path

    return written


@dataclass
class Way:
    """What came of a model."""

    inputs: object
    scores: object
    original: object
    builder: object
    plan: Plan
    fits: object
    idle: dict

    def outputs(self):
        """Return the compressed model's outputs on the data that choose, as onnxruntime gives them for each sample."""
        return self.builder.model_of(self.plan, refined=True)

    @property
    def notes(self):
        return " | ".join(self.inputs.notes)


@pytest.fixture
def way(tmp_path):
    """Return a function that fits, corrects, refines and scores SVD of a rank: all but search and kernels."""

    def gone(folder, rank=6, min_size=8, **options):
        space = tmp_path / "space.toml"
        space.write_text(f"min_size = {min_size}\n")
        settings = settings_for(folder, "riscv64", str(space), cache=tmp_path / "cache", **options)
        inputs = open_inputs(files_of(settings), data_request(settings))
        fit, model, cache = fit_request(settings, inputs), inputs.model, Store(settings.cache)
        idle = idle_layers(model, inputs.judging.objective)
        explored = [name for name in explored_layers(settings.space, model) if name not in idle]
        fits = open_fits(fit, model, inputs.calib, explored, cache)
        builder = open_builder(fit, model, inputs.calib, fits, cache)
        evaluator = Evaluator(builder, inputs)

        def plan(of):
            return Plan(
                tuple(
                    (layer.name, Choice(of(layer) if layer.name in explored else dense(layer)))
                    for layer in model.layers
                )
            )

        def dense(layer):
            return Factorization.dense(layer.outputs, layer.inputs)

        compressed = plan(
            lambda layer: Factorization.svd(layer.outputs, layer.inputs, min(rank, layer.outputs, layer.inputs))
        )
        lost = Divergences(model, inputs.choosing if inputs.calib is None else inputs.calib, fit.loss)
        assert lost({}) == pytest.approx(0, abs=1e-5)
        content = file_content(builder.model_of(compressed, refined=True))
        onnx.checker.check_model(onnx.ModelProto.FromString(content), full_check=True)
        scores = evaluator.scores(compressed, refined=True)
        return Way(inputs, scores, evaluator.scores(plan(dense)), builder, compressed, fits, idle)

    return gone


@pytest.fixture
def kinds():
    """Return what models are written with."""
    return SimpleNamespace(
        node=node, value=value, decaying=decaying, normal=normal, FLOAT=FLOAT, FLOAT16=FLOAT16, INT64=INT64
    )
