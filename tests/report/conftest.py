"""Documents as an exploration writes them, small and made by hand."""

from __future__ import annotations

import copy
import json
import os
import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from lrfdse.cli import run
from lrfdse.results.read import document_of_plain

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
HOSTILE = "<script>alert(1)</script>"
QUOTED = """it's "quoted" & %{x} | `tick` </script>"""


def bracket(us):
    return {"us": us, "low_us": us * 0.8, "high_us": us * 1.2}


def chosen(text):
    return {"factorization": text, "storage": "float32"}


def entry(identity, params, us, accuracy, plan, **more):
    return {
        "id": identity,
        "params": params,
        "weight_bytes": 4 * params,
        "flops": 2 * params,
        "cache_regime": "warm",
        "latency": {"warm": bracket(us), "cold": bracket(2 * us)},
        "fidelity": 0.97,
        "output_error": None,
        "eval_score": {
            "value": accuracy + 0.005,
            "interval": [accuracy - 0.01, accuracy + 0.015],
            "loss_standard_error": 0.004,
        },
        "test_score": {
            "value": accuracy,
            "interval": [accuracy - 0.012, accuracy + 0.012],
            "loss_standard_error": 0.0031,
        },
        "plan": {name: chosen(text) for name, text in plan.items()},
        "origin": "knapsack",
        "refined": False,
        "on_front": True,
        "model": None,
        "board": None,
        **more,
    }


def option(text, params, us):
    return {
        **chosen(text),
        "params": params,
        "weight_bytes": 4 * params,
        "flops": 2 * params,
        "peak_activation_bytes": 640,
        "weight_error": 0.25,
        "output_error": 0.125,
        "latency": {"warm": bracket(us), "cold": bracket(2 * us)},
        "kernel_error": 1e-7,
        "schedules": ["inner:8:4x1:u1"],
    }


def layer(name, outputs, inputs, texts):
    spectrum = {
        "size": outputs,
        "effective_rank": 0.6 * outputs,
        "ranks": [1, 2, outputs],
        "values": [1.0, 0.5, 0.0],
        "errors": [0.5, 0.1, 0.0],
    }
    size = outputs * inputs + outputs
    return {
        "name": name,
        "inputs": inputs,
        "outputs": outputs,
        "uses": 1,
        "rows": 1,
        "params": size,
        "weight_bytes": 4 * size,
        "share": 0.5,
        "peak_activation_bytes": 4 * (inputs + outputs),
        "effective_rank": 0.6 * outputs,
        "spectra": {"weight": spectrum, "whitened": {**spectrum, "effective_rank": 0.3 * outputs}},
        "kept_dense": None,
        "funnel": {
            "stages": [{"stage": "raw designs", "designs": 10**10}, {"stage": "measured", "designs": len(texts)}],
            "gap": 0.0,
        },
        "options": [option("dense", size, 9.0), *(option(text, 90 + k, 2.0 + k) for k, text in enumerate(texts))],
        "failures": [{**chosen("svd:r=9"), "reason": "crashed: <b>signal 11</b>"}],
    }


def argument(name, role, elements):
    return {"name": name, "role": role, "element": "float32", "elements": elements, "bytes": 4 * elements}


def make(first="fc1", second="fc2"):
    dense = {first: "dense", second: "dense"}
    train = "tt:m=8x2,n=4x4,r=3"
    kernel = {
        "layer": first,
        "name": "fc1",
        "symbol": "lrf_fc1",
        "rows": 1,
        "relu": True,
        "arguments": [
            argument("x", "input", 16),
            argument("w0", "weight", 48),
            argument("w1", "weight", 24),
            argument("bias", "bias", 16),
            argument("y", "output", 16),
            argument("work0", "work", 12),
        ],
    }
    best = entry("aaaaaaaa", 200, 5.0, 0.9, {first: train, second: "svd:r=2"}, model="designs/aaaaaaaa/model.onnx")
    return {
        "schema_version": 2,
        "model": {"name": "net & co", "path": "../net.onnx", "sha256": "0" * 64},
        "target": {
            "name": "riscv64",
            "digest": "d1",
            "source": "riscv64",
            "isa": "riscv64",
            "core": "SpacemiT X60",
            "clock_mhz": 1600.0,
            "l1_kib": 32,
            "last_level_kib": 512,
            "provenance": {"clock_mhz": "published: 1.6 GHz"},
        },
        "meter": {"name": "model", "kind": "modelled", "bracket": "low and high", "procedure": "by counted cycles"},
        "latency": {"unit": "us", "covers": "the sum over layers"},
        "metric": "accuracy",
        "verified": True,
        "classes_hit": 8,
        "data": {
            "calib": {"path": "../calib.npz", "sha256": "1" * 64},
            "eval": {"path": "../eval.npz", "sha256": "2" * 64},
            "test": {"path": None, "sha256": None},
        },
        "space": {"source": "default", "digest": "d2", "method": "auto"},
        "settings": {
            "limits": {"max_drop": 0.01, "max_params": 5000, "max_latency_us": None},
            "meter": "auto",
            "seed": 3,
            "metric": None,
            "correct": True,
            "shape": {},
            "eval_samples": None,
            "proxy": "loss",
            "sampler": "nsga2",
            "minutes": None,
            "budget": 60,
            "accept_unverified": False,
            "keep": 8,
        },
        "versions": {"lrfdse": "0.1.0", "qemu": "7.2"},
        "command": "lrfdse explore ../net.onnx --target riscv64 --output .",
        "notes": ["latency is modelled, <i>not</i> measured"],
        "recommended": "aaaaaaaa",
        "svd_at_equal_size": "cccccccc",
        "original": entry("bbbbbbbb", 442, 20.0, 0.905, dense, origin="dense"),
        "designs": [
            entry("bbbbbbbb", 442, 20.0, 0.905, dense, origin="dense"),
            best,
            entry("cccccccc", 198, 6.0, 0.88, {first: "svd:r=2", second: "svd:r=2"}, on_front=False),
            entry("dddddddd", 300, 9.0, 0.89, {**dense, first: "svd:r=4"}, origin="uniform-svd", on_front=False),
            entry("eeeeeeee", 90, 2.0, 0.31, {**dense, first: "svd:r=1"}),
        ],
        "dominated": [entry("ffffffff", 320, 12.0, 0.85, {**dense, second: "svd:r=4"}, on_front=False)],
        "evaluated": 6,
        "plan_gap": 0.0,
        "layers": [layer(first, 16, 16, [train]), layer(second, 10, 16, ["svd:r=2"])],
        "untouched": [{"name": "conv/<1>", "op": "Conv", "params": 90, "weight_bytes": 360, "reason": "no product"}],
        "kernels": [kernel],
    }


def many_layers():
    """A document of 12 blocks of three layers, as a small transformer has them: two of them of the same size."""
    made, kinds = (
        make(),
        (("attn.out", 192, 192, "svd:r=24"), ("mlp.up", 768, 192, "svd:r=40"), ("mlp.down", 192, 768, "svd:r=40")),
    )
    names = [(f"encoder.layer.{block}.{kind}", *rest) for block in range(12) for kind, *rest in kinds]
    made["layers"] = []
    for name, outputs, inputs, text in names:
        each = layer(name, outputs, inputs, [text])
        each["options"][1] |= {"params": 24 * (outputs + inputs), "weight_bytes": 96 * (outputs + inputs)}
        made["layers"].append(each)
    params = sum(each["params"] for each in made["layers"])
    for design in (made["original"], *made["designs"], *made["dominated"]):
        dense = design["id"] == "bbbbbbbb"
        design["plan"] = {name: chosen("dense" if dense else text) for name, _, _, text in names}
        design["params"] = params if dense else params * design["params"] // 442
        design["weight_bytes"] = 4 * design["params"]
    made["original"]["plan"] = {name: chosen("dense") for name, *_ in names}
    made["kernels"] = []
    return made


@pytest.fixture
def deep():
    return many_layers()


@pytest.fixture
def read():
    """Take what a front.json holds for the document that it is."""
    return document_of_plain


@pytest.fixture
def document():
    return make()


@pytest.fixture
def hostile():
    """The same, from a model whose layers are named to break pages."""
    return make(HOSTILE, QUOTED)


@pytest.fixture
def untested(document):
    """The same without test data and labels: fidelity on the evaluation data."""
    made = copy.deepcopy(document)
    made["metric"] = "fidelity"
    for design in (made["original"], *made["designs"], *made["dominated"]):
        design["test_score"] = None
        design["eval_score"] = {"value": design["fidelity"], "interval": None, "loss_standard_error": 0.004}
    return made


@pytest.fixture
def unverified(untested):
    """The same from random inputs: nothing is recommended, and designs have output errors."""
    made = copy.deepcopy(untested)
    made |= {"verified": False, "classes_hit": 1, "recommended": None, "svd_at_equal_size": None}
    for k, design in enumerate((*made["designs"], *made["dominated"])):
        design["output_error"] = 0.125 * (k + 1)
    made["original"]["output_error"] = 0.0
    return made


@pytest.fixture
def folder_of(tmp_path):
    """Write a document as the front.json of a folder and return the folder."""

    def write(content, name="out put"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / "front.json").write_text(text, encoding="utf-8")
        return folder

    return write


@pytest.fixture(scope="session")
def whole():
    return make()


def write_model(folder):
    rng = np.random.default_rng(0)
    weights = {"fc1.weight": (32, 48), "fc1.bias": (32,), "fc2.weight": (12, 32)}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], transB=1),
            helper.make_node("Relu", ["h"], ["a"]),
            helper.make_node("Gemm", ["a", "fc2.weight"], ["y"], transB=1),
        ],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 48])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 12])],
        [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), name) for name, s in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    np.savez(folder / "calib.npz", x=rng.standard_normal((200, 48)).astype(np.float32))
    (folder / "space.toml").write_text("max_cores = 2\nmax_compiled = 4\nmin_size = 8\n")


@pytest.fixture(scope="session")
def explored(tmp_path_factory):
    """The output folder of an exploration on this machine, with the default study and store."""
    folder = tmp_path_factory.mktemp("a model's folder")
    write_model(folder)
    output = folder / "out put"
    options = ["--target", "host", "--calib", str(folder / "calib.npz"), "--space", str(folder / "space.toml")]
    options += ["--budget", "12", "--max-drop", "60%", "--keep", "1", "--cache", str(folder / "cache")]
    options += ["--accept-unverified"]
    assert run(["explore", str(folder / "net.onnx"), "--output", str(output), *options]) == 0
    return output


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as running:
        # Chromium's own sandbox does not work as root, as in most containers.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield chromium
        chromium.close()
