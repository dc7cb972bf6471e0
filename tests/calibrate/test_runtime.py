"""Whole models in the user's own runtime: here, by a command as to a board, and what cannot be timed."""

from __future__ import annotations

import json
import os
import shutil
import sys

import numpy as np
import pytest
from onnx import parser

from lrfdse.board.command import Runner
from lrfdse.calibrate.runtime import bench_runtime
from lrfdse.errors import InputError, ToolError
from lrfdse.ir.latency import Latency
from lrfdse.results.asked import Asked, MeterFacts, ModelFile, TargetFacts
from lrfdse.results.designs import DesignFacts, Score
from lrfdse.results.document import Document
from lrfdse.results.layers import Choice, Latencies
from lrfdse.results.read import read_document
from lrfdse.results.write import write_document
from lrfdse.runtimes.program import RuntimeOptions, read_timing, runtime_name
from lrfdse.targets.catalog import load_target, noun_digest
from tests.formats.tflite_models import mlp

TEXT = '<ir_version: 8, opset_import: ["" : 17]> net (float[batch, 4] x) => (float[batch, 4] y) { y = Relu(x) }'
QUICK = {"repeats": 3, "min_time": 0}
FIRST, SECOND = "00000001", "00000002"


def design(identity):
    return DesignFacts(
        id=identity,
        origin="knapsack",
        on_front=True,
        plan={"fc1": Choice(factorization="dense" if identity == FIRST else "svd:r=1")},
        params=8,
        weight_bytes=32,
        flops=16,
        cache_regime="cold",
        latency=Latencies(cold=Latency(1.0, 1.0, 1.0)),
        eval_score=Score(value=0.5),
    )


@pytest.fixture
def folder(tmp_path):
    """An output folder with an original and a design in both formats; the first's shape is fixed."""
    target = load_target("host")
    document = Document(
        model=ModelFile(name="net"),
        target=TargetFacts(name="host", source="host", digest=noun_digest(target)),
        meter=MeterFacts(name="model", kind="modelled"),
        metric="accuracy",
        settings=Asked(shape={"x": (3, 4)}),
        original=design(FIRST),
        designs=(design(FIRST), design(SECOND)),
        recommended=SECOND,
    )
    place = tmp_path / "designs" / SECOND
    place.mkdir(parents=True)
    (place / "model.tflite").write_bytes(mlp(np.random.default_rng(0)))
    (place / "model.onnx").write_bytes(parser.parse_model(TEXT).SerializeToString())
    write_document(document, tmp_path)
    return tmp_path


def original(document, folder, form):
    """The original is the design again: what is timed is not what is tested."""
    return (folder / "designs" / SECOND / f"model.{form}").read_bytes()


def package(path, text):
    path.parent.mkdir(parents=True)
    (path.parent / "__init__.py").touch()
    path.write_text(text)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "ran"), [("litert", "ai-edge-litert"), ("onnxruntime", "onnxruntime")])
def test_a_runtime_times_the_original_and_what_is_kept(folder, name, ran):
    if name == "litert":
        pytest.importorskip("ai_edge_litert")
    session = bench_runtime(folder, RuntimeOptions(name, **QUICK), None, 300, original)
    assert session.timed == (FIRST, SECOND)
    document = read_document(folder)
    for each in (document.original, *document.designs):
        (facts,) = each.whole_model.runtimes
        assert (facts.runtime, facts.package, facts.where, facts.threads) == (name, ran, "this machine", 1)
        assert facts.repeats == 3 and 0 < facts.latency.low_us <= facts.latency.us <= facts.latency.high_us
    # Asked again, the number takes the place of what it was.
    again = bench_runtime(folder, RuntimeOptions(name, threads=2, **QUICK), None, 300, original)
    assert [each.threads for each in again.document.original.whole_model.runtimes] == [2]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="the target is this machine")
def test_a_board_gets_one_file_that_its_python_runs(folder, monkeypatch, tmp_path):
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o700)
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    for template in ("env {program}", "sh -c"):
        session = bench_runtime(folder, RuntimeOptions("onnxruntime", **QUICK), Runner(template), 300, original)
        (facts,) = session.document.designs[1].whole_model.runtimes
        assert (facts.where, facts.machine) == ("board", "x86_64")
    text = (folder / "front.json").read_text()
    python.write_text("#!/bin/sh\nexec false\n")
    with pytest.raises(ToolError, match=r"design 00000001 on the board: no answer \(exit code 1\)"):
        bench_runtime(folder, RuntimeOptions("onnxruntime", **QUICK), Runner("env {program}"), 300, original)
    answer = json.dumps(
        {"package": "p", "version": "1", "machine": "m", "samples": [5.0], "cpu": [5.0], "cpuinfo": {"uarch": "qemu"}}
    )
    python.write_text(f"#!/bin/sh\necho '{answer}'\n")
    with pytest.raises(ToolError, match="calls the core qemu: not the target; nothing is written"):
        bench_runtime(folder, RuntimeOptions("onnxruntime", **QUICK), Runner("env {program}"), 300, original)
    assert (folder / "front.json").read_text() == text


def test_tflite_runtime_stands_in_for_litert(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    package(tmp_path / "site" / "ai_edge_litert" / "interpreter.py", "raise ImportError('none')")
    with pytest.raises(ToolError, match="design 00000001: no litert for its Python: "):
        bench_runtime(folder, RuntimeOptions("litert", **QUICK), None, 300, original)
    package(
        tmp_path / "site" / "tflite_runtime" / "interpreter.py",
        "import numpy as np\n"
        "class Interpreter:\n"
        "    def __init__(self, model_content, num_threads): assert model_content[4:8] == b'TFL3'\n"
        "    def allocate_tensors(self): pass\n"
        "    def get_input_details(self): return [{'index': 7, 'shape': np.array([1, 24]), 'dtype': np.float32}]\n"
        "    def set_tensor(self, index, array): self.given = index, array\n"
        "    def get_output_details(self): return [{'index': 9}]\n"
        "    def invoke(self): assert self.given[0] == 7 and self.given[1].shape == (1, 24)\n"
        "    def get_tensor(self, index): return np.ones(index, np.float32)\n",
    )
    session = bench_runtime(folder, RuntimeOptions("litert", **QUICK), None, 300, original)
    assert session.document.original.whole_model.runtimes[0].package == "tflite-runtime"


def test_what_cannot_be_timed(folder):
    place = folder / "designs" / SECOND
    (place / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(ToolError, match="design 00000001: it cannot run the model: "):
        bench_runtime(folder, RuntimeOptions("onnxruntime", **QUICK), None, 300, original)
    shutil.rmtree(place)
    with pytest.raises(InputError, match=r"is there as model\.tflite: `lrfdse export .* --format tflite`"):
        bench_runtime(folder, RuntimeOptions("litert", **QUICK), None, 300, original)
    with pytest.raises(InputError, match="--runtime takes litert or onnxruntime, but got 'tflite'"):
        runtime_name("tflite")


@pytest.mark.parametrize(
    "found",
    [
        [],
        {"samples": [1.0]},
        {"package": "", "version": "", "machine": "", "samples": [1.0], "cpuinfo": {}},
        {"package": "", "version": "", "machine": "", "samples": [1.0], "cpu": [-1.0], "cpuinfo": {}},
        {"package": "", "version": "", "machine": "", "samples": [1.0], "cpu": ["many"], "cpuinfo": {}},
        {"package": 1, "version": "", "machine": "", "samples": [1.0], "cpu": [1.0], "cpuinfo": {}},
        {"package": "", "version": "", "machine": "", "samples": [-1.0], "cpu": [1.0], "cpuinfo": {}},
        {"package": "", "version": "", "machine": "", "samples": ["many"], "cpu": [1.0], "cpuinfo": {}},
        {"package": "", "version": "", "machine": "", "samples": [], "cpu": [1.0], "cpuinfo": {}},
    ],
)
def test_an_answer_is_read_strictly(found):
    with pytest.raises(ToolError, match=r"board: (no answer|not the answer of its program)"):
        read_timing(0, json.dumps(found), "", "board")
