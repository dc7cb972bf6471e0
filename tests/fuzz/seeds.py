"""The small files that mutations begin with, and how each kind of file is loaded."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import pickle
import shutil
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from lrfdse.deploy.healed import HEALED, healed_content, read_healed
from lrfdse.errors import InputError
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors
from lrfdse.ir.plan import Plan
from tests.formats.tflite_models import mlp, quantized
from tests.fuzz.commands import command
from tests.fuzz.places import WAITING, base, board_json

ROOT = Path(__file__).parent.parent.parent
FRONT = ROOT / "tests" / "results" / "fixtures" / "1-board.json"
LOG = """{"time": "2026-01-01T00:00:00.000+00:00", "stage": "started", "model": "m.onnx", "target": "riscv64"}
{"time": "2026-01-01T00:00:01.000+00:00", "stage": "plans", "text": "12 evaluated", "done": 12, "total": 40}
{"time": "2026-01-01T00:00:02.000+00:00", "stage": "finished", "kind": "tool", "text": "qemu: \\u001b[31mgone\\n"}
"""
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


def _keras(kind: str, **config: Any) -> bytes:
    """Return the description of a model of one layer as Keras keeps it, without weights."""
    layer = {"module": "keras.layers", "class_name": kind, "config": {"name": "one", **config}, "registered_name": None}
    model = {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": [layer]}}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in (("metadata.json", {"keras_version": "3.15.0"}), ("config.json", model)):
            archive.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), json.dumps(part))
    return content.getvalue()


def _factors() -> dict[str, Factors]:
    """Return factors of two layers, as training leaves them."""
    rng, found = np.random.default_rng(0), {}
    for name, text in {"fc1": "tt:m=3x2,n=2x4,r=3", "fc2": "svd:r=2"}.items():
        made = Factorization.parse(text, 6, 8)
        cores = tuple(rng.normal(size=shape) for shape in made.core_shapes)
        found[name] = Factors(made, cores, rng.normal(size=6), 0.25, 0.5)
    return found


@functools.cache
def seeds(kind: str) -> tuple[bytes, ...]:
    """Return the files of a kind that mutations begin with."""
    return tuple(_seeds(kind))


def _seeds(kind: str) -> list[bytes]:
    if kind == "onnx":
        return [
            _model(MLP, w1=(8, 6), w2=(6, 4), b=(4,)),
            _model(IDS, t=(5, 6), w1=(6, 4)),
            _model(CONV, k=(1, 1, 3, 3), w=(6, 4), b=(6,)),
            _model(IF, w=(4, 4), w2=(4, 4)),
            _model(CALLS, w=(4, 4)),
        ]
    if kind == "tflite":
        return [mlp(np.random.default_rng(0)), quantized(np.random.default_rng(0))]
    if kind == "keras":
        return [_keras("Dense", units=3), _keras("Conv2D", filters=2, kernel_size=[3, 3])]
    if kind == "healed":
        return [healed_content(_factors())]
    if kind == "npz":
        x, labels = np.arange(24, dtype=np.float32).reshape(3, 8), np.array([0, 1, 2])
        return [
            _arrays(np.savez, x=x, labels=labels),
            _arrays(np.savez_compressed, x=x),
            _arrays(np.savez, x=np.asfortranarray(x), y=labels.astype(np.int8)),
        ]
    if kind == "board":
        return [board_json()]
    if kind == "log":
        return [LOG.encode(), LOG.replace("finished", "failed").encode(), LOG.rpartition('{"time"')[0].encode()]
    if kind == "study":
        return [base().study.read_bytes()]
    if kind == "artifact":
        return [path.read_bytes() for path in sorted(base().artifacts.iterdir()) if path.read_bytes()[:1] == b"{"]
    if kind == "cache":
        # What a file of the cache is called stands before its content.
        return [f"{path}\n".encode() + (base().cache / path).read_bytes() for path in base().entries()]
    folders = {
        "target": ROOT.glob("targets/*.toml"),
        "space": ROOT.glob("search_spaces/*.toml"),
        "front": ROOT.glob("tests/results/fixtures/*.json"),
    }
    if kind in ("target", "space"):
        # It is made before anything is forked that inspects its model.
        base()
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


def _load_keras(path: Path) -> None:
    """Read what it says of itself, which is all that is read of it in this process."""
    from lrfdse.base.border import reading
    from lrfdse.formats.keras.config import check_keras_file

    with reading(path, "a Keras model"):
        check_keras_file(path.read_bytes(), path)


def _load_healed(path: Path) -> None:
    """Read it as the factors of a design, whose digest stands in the same folder of a stranger's."""
    folder = _fresh(path)
    shutil.copyfile(path, folder / HEALED)
    plan = Plan(tuple((name, factors.choice) for name, factors in _factors().items()))
    read_healed(folder, plan, hashlib.sha256(path.read_bytes()).hexdigest())


def _load_npz(path: Path) -> None:
    from lrfdse.model.data import load_data
    from lrfdse.model.shapes import Port

    data = load_data(path, [Port("x", "float32", (None, 8), ("N", "8"))])
    assert data.count > 0 and data.inputs["x"].dtype == np.float32


def _load_target(path: Path) -> None:
    """Choose the designs of a small model for it."""
    cache = ("--cache", path.parent / "cache")
    command("inspect", base().folder / "model.onnx", "--target", path, *cache)


def _load_space(path: Path) -> None:
    """Count and choose the designs of a small model in it."""
    cache = ("--cache", path.parent / "cache")
    command("inspect", base().folder / "model.onnx", "--space", path, *cache)


def _fresh(path: Path) -> Path:
    """Return a new folder beside a file."""
    folder = path.parent / "place"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _load_front(path: Path) -> None:
    """Check it, show it, and ask for a design of it."""
    folder = _fresh(path)
    shutil.copyfile(path, folder / "front.json")
    outputs = [word for name in ("junit", "benchmark-json") for word in (f"--{name}", folder / f"{name}.out")]
    refusals = []
    # The model is not there, so that no design can be exported: that alone is no refusal of the file.
    for words in (
        ("check", folder, "--max-drop", "1%", "--github", "--lava", *outputs),
        ("report", folder),
        ("export", folder, "3e16259d"),
    ):
        try:
            command(*words)
        except InputError as error:
            refusals.append(error)
    if len(refusals) > 1:
        raise refusals[0]


def _load_board(path: Path) -> None:
    """Calibrate with it."""
    made = path.with_name("made.toml")
    made.unlink(missing_ok=True)
    command("calibrate", "--target", "riscv64", "--measured", path, "--output", made)
    command("calibrate", "--target", made, "--measured", path, "--output", path.with_name("again.toml"))


def _load_log(path: Path) -> None:
    """Check the folder that it is in, and look whether an exploration may write there."""
    from lrfdse.results.folder import check_output

    folder = _fresh(path)
    shutil.copyfile(path, folder / "log.jsonl")
    shutil.copyfile(FRONT, folder / "front.json")
    command("check", folder, "--max-drop", "1%", "--github", "--lava", "--junit", folder / "junit.xml")
    check_output(folder)


def _join(folder: Path, study: Path, artifacts: Path) -> None:
    """Evaluate what waits in a study."""
    joined = ("--study", f"sqlite:///{study}", "--artifacts", artifacts, "--cache", folder / "joined")
    command("worker", *joined, "--idle", "0", "--wait", "0", "--trials", WAITING)


def _load_study(path: Path) -> None:
    _join(path.parent, path, base().artifacts)


def _load_artifact(path: Path) -> None:
    """Let the study share it as its job, under the hash that it has."""
    content, study, artifacts = path.read_bytes(), path.with_name("study.db"), path.parent / "artifacts"
    shutil.copyfile(base().study, study)
    shutil.copytree(base().artifacts, artifacts, dirs_exist_ok=True)
    with contextlib.closing(sqlite3.connect(study)) as database, database:
        (text,) = database.execute("select value_json from study_user_attributes where key = 'shared'").fetchone()
        shared = json.loads(text)
        shared["job"] |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        database.execute("update study_user_attributes set value_json = ? where key = 'shared'", [json.dumps(shared)])
    (artifacts / shared["job"]["artifact"]).write_bytes(content)
    _join(path.parent, study, artifacts)


def _load_cache(path: Path) -> None:
    """Read it as the exploration does; where that finds another result in it, explore with it.

    What counts as absent is the same to the exploration whatever it holds: it explores once for each kind of result.
    """
    name, _, content = path.read_bytes().partition(b"\n")
    cache, entry = path.parent / "cache", Path(os.fsdecode(name))
    if not cache.exists():
        # In one step: whoever loads may be ended at any moment.
        shutil.copytree(base().cache, path.parent / "copy", dirs_exist_ok=True)
        (path.parent / "copy").rename(cache)
    (cache / entry).write_bytes(content)
    explored = path.parent / "explored" / entry.parts[0]
    try:
        found = base().read(cache, entry)
        if all(value is None for value in found):
            if explored.exists():
                raise InputError("it counts as absent")
            explored.mkdir(parents=True)
        elif all(map(_is_same, found, base().read(base().cache, entry))):
            return
        command(*base().explore(path.parent / "out", cache), well=(0, 3))
    finally:
        shutil.rmtree(path.parent / "out", ignore_errors=True)
        shutil.copyfile(base().cache / entry, cache / entry)


def _is_same(one: Any, other: Any) -> bool:
    return pickle.dumps(one) == pickle.dumps(other)


KINDS = MappingProxyType(
    {
        "onnx": (".onnx", _load_onnx),
        "tflite": (".tflite", _load_onnx),
        "keras": (".keras", _load_keras),
        "healed": (".npz", _load_healed),
        "npz": (".npz", _load_npz),
        "target": (".toml", _load_target),
        "space": (".toml", _load_space),
        "front": (".json", _load_front),
        "board": (".json", _load_board),
        "log": (".jsonl", _load_log),
        "study": (".db", _load_study),
        "artifact": (".json", _load_artifact),
        "cache": (".entry", _load_cache),
    }
)
"""Kind of file to its suffix and what loads it as far as lrfdse does before it explores."""
