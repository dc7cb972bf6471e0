"""The small files that mutations begin with, and how each kind of file is loaded."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

ROOT = Path(__file__).parent.parent.parent
RUN_BYTES = 1 << 24
"""A model whose inputs take more in one run is loaded, but not run: a size may be honest and slow."""

MLP = "m (float[N,8] x) => (float[N,4] y) { h = MatMul(x, w1) r = Relu(h) y = Gemm(r, w2, b) }"
IDS = "m (int64[N,3] x) => (float[N,3,4] y) { e = Gather(t, x) i = Identity(w1) y = MatMul(e, i) }"
CONV = """m (float[1,1,4,4] x) => (float[1,6] y) {
    c = Conv<kernel_shape=[3,3]>(x, k) f = Flatten(c) s = Shape(f) g = Reshape(f, s) y = Gemm<transB=1>(g, w, b) }"""
IF = """m (float[1,4] x, bool[1] c) => (float[1,4] y) { h = MatMul(x, w)
    y = If(c) <then_branch = t () => (float[1,4] a) { a = Relu(h) },
               else_branch = e () => (float[1,4] a) { a = MatMul(h, w2) }> }"""
CALLS = """<ir_version: 8, opset_import: ["" : 17, "own" : 1]>
m (float[2,4] x) => (float[2,4] y) { h = own.twice(x) y = MatMul(h, w) }
<domain: "own", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }"""


def _model(text: str, **sizes: tuple[int, ...]) -> bytes:
    head = "" if text.startswith("<") else '<ir_version: 8, opset_import: ["" : 17]> '
    model = onnx.parser.parse_model(head + text)
    rng = np.random.default_rng(0)
    for name, shape in sizes.items():
        model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    return bytes(model.SerializeToString())


def _arrays(save: Callable[..., None], **arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    save(content, **arrays)
    return content.getvalue()


def seeds(kind: str) -> list[bytes]:
    """Return the files of a kind that mutations begin with."""
    if kind == "onnx":
        return [
            _model(MLP, w1=(8, 6), w2=(6, 4), b=(4,)),
            _model(IDS, t=(5, 6), w1=(6, 4)),
            _model(CONV, k=(1, 1, 3, 3), w=(6, 4), b=(6,)),
            _model(IF, w=(4, 4), w2=(4, 4)),
            _model(CALLS, w=(4, 4)),
        ]
    if kind == "npz":
        x, labels = np.arange(24, dtype=np.float32).reshape(3, 8), np.array([0, 1, 2])
        return [
            _arrays(np.savez, x=x, labels=labels),
            _arrays(np.savez_compressed, x=x),
            _arrays(np.savez, x=np.asfortranarray(x), y=labels.astype(np.int8)),
        ]
    folders = {
        "target": ROOT.glob("targets/*.toml"),
        "space": ROOT.glob("search_spaces/*.toml"),
        "front": ROOT.glob("tests/results/fixtures/*.json"),
    }
    return [path.read_bytes() for path in sorted(folders[kind])]


def _load_onnx(path: Path) -> None:
    from lrfdse.formats.onnx import serialized
    from lrfdse.model.data import random_data
    from lrfdse.model.graph import load_model
    from lrfdse.model.runtime import Runtime

    model = load_model(path)
    serialized(model.original)
    data = random_data(model.inputs, 64, 0)
    if sum(4 * np.prod([float(size or 1) for size in port.fixed or ()]) for port in model.inputs) <= RUN_BYTES:
        Runtime().run(model.original, data.head(4))


def _load_npz(path: Path) -> None:
    from lrfdse.model.data import load_data
    from lrfdse.model.shapes import Port

    data = load_data(path, [Port("x", "float32", (None, 8), ("N", "8"))])
    assert data.count > 0 and data.inputs["x"].dtype == np.float32


def _load_target(path: Path) -> None:
    from lrfdse.targets.catalog import load_target

    load_target(str(path))


def _load_space(path: Path) -> None:
    from lrfdse.targets.catalog import load_search_space

    load_search_space(str(path))


def _load_front(path: Path) -> None:
    from lrfdse.results.read import read_document

    read_document(path)


KINDS = MappingProxyType(
    {
        "onnx": (".onnx", _load_onnx),
        "npz": (".npz", _load_npz),
        "target": (".toml", _load_target),
        "space": (".toml", _load_space),
        "front": (".json", _load_front),
    }
)
"""Kind of file to its suffix and what loads it as far as lrfdse does before it explores."""
