"""What a real exploration writes, on the machine at hand."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lrfdse.cli import run
from lrfdse.report.page.usage import c_snippet, usage_of
from lrfdse.results.read import read_document

pytestmark = pytest.mark.slow


@pytest.fixture
def document(explored):
    return json.loads((explored / "front.json").read_text())


@pytest.fixture
def whole(explored):
    return read_document(explored)


def test_report_makes_the_same_page_again(explored):
    first = (explored / "report.html").read_bytes()
    (explored / "report.html").unlink()
    assert run(["report", str(explored)]) == 0
    assert (explored / "report.html").read_bytes() == first


def test_listed_and_dominated_are_every_evaluated_design(document):
    ids = [design["id"] for part in ("designs", "dominated") for design in document[part]]
    assert len(ids) == len(set(ids))
    assert len({*ids, document["original"]["id"]}) == document["evaluated"]
    assert not any(design["on_front"] for design in document["dominated"])


def test_spectra_are_those_of_the_weights(document, explored):
    layer = document["layers"][0]
    stored = onnx.load(explored.parent / "net.onnx").graph.initializer
    weight = next(numpy_helper.to_array(t) for t in stored if t.name == "fc1.weight").astype(np.float64)
    inputs = np.load(explored.parent / "calib.npz")["x"].astype(np.float64)
    root = np.linalg.cholesky(np.cov(inputs.T, bias=True))
    for kind, matrix in (("weight", weight), ("whitened", weight @ root)):
        expected = np.linalg.svd(matrix, compute_uv=False)
        found = layer["spectra"][kind]
        assert found["values"] == pytest.approx(expected / expected[0], rel=2e-3)
        share = expected / expected.sum()
        assert found["effective_rank"] == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-3)


def test_kernels_are_described_as_their_headers_declare_them(document, explored):
    folder = explored / "designs" / document["recommended"] / "kernels"
    assert [kernel["layer"] for kernel in document["kernels"]] == ["fc1", "fc2"]
    for kernel in document["kernels"]:
        header = (folder / f"{kernel['name']}.h").read_text()
        declared = re.search(r"^void (\w+)\((.*)\);", header, re.MULTILINE)
        assert declared[1] == kernel["symbol"]
        names = [parameter.split()[-1] for parameter in declared[2].split(",")]
        assert names == [argument["name"] for argument in kernel["arguments"]]
        sizes = dict(re.findall(r"^ \*   (\w+) .*?, (\d+) floats", header, re.MULTILINE))
        assert {a["name"]: str(a["elements"]) for a in kernel["arguments"]} == sizes


def test_the_c_snippet_compiles_against_the_real_header(whole, document, explored, tmp_path):
    folder = explored / "designs" / document["recommended"] / "kernels"
    assert usage_of(whole)["c"] in {c_snippet(kernel) for kernel in whole.kernels}
    shutil.copytree(folder, here := tmp_path / "kernels")
    for kernel in whole.kernels:
        (here / "use.c").write_text(c_snippet(kernel) + "\n")
        compiler = [shutil.which("cc")] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]
        command = [*compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-cast-align", "-c", "use.c"]
        done = subprocess.run([*command, "-o", "use.o"], cwd=here, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert (here / f"{kernel.name}.weights.bin").read_bytes() in (here / "use.o").read_bytes()


def test_the_command_gives_the_same_document(document, explored, monkeypatch):
    monkeypatch.chdir(explored)
    words = shlex.split(document["command"])
    assert run([*words[1:], "--cache", str(explored.parent / "cache")]) == 0
    assert json.loads((explored / "front.json").read_text()) == document
