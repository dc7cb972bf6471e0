"""The tutorials' commands are run, line by line, in a project as each says."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lrfdse.targets.catalog import load_target
from lrfdse.toolchain.programs import MODELLING, missing_tools

TOP = Path(__file__).parents[2]
PROGRAM = "import sys; sys.argv[0] = 'lrfdse'\nfrom lrfdse.cli import main\nif __name__ == '__main__': main()"
CODES = {"lrfdse explore mynet": {0, 3}}
"""Commands that may end with another code than 0: the little network of the test promises no accuracy."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "LRFDSE_TUTORIALS" not in os.environ,
        reason="six explorations, minutes each: LRFDSE_TUTORIALS=1 runs them",
    ),
    pytest.mark.skipif(
        bool(missing_tools(load_target("riscv64"), MODELLING)), reason="zig, QEMU or LLVM 22 is not installed"
    ),
]


def commands(name):
    """The commands of a page: indented lines, which are those that need no board."""
    text = (TOP / "docs" / "tutorials" / name).read_text(encoding="utf-8")
    return re.findall(r"^    (lrfdse .*)$", text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def follow(tmp_path, cache):
    def run(name):
        printed = []
        for line in commands(name):
            words = [sys.executable, "-c", PROGRAM, *shlex.split(line)[1:]]
            environment = {**os.environ, "LRFDSE_CACHE": str(cache), "PYTHONPATH": str(TOP)}
            ran = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
            allowed = next((codes for start, codes in CODES.items() if line.startswith(start)), {0})
            assert ran.returncode in allowed, (line, ran.stdout, ran.stderr)
            printed.append(ran.stdout)
        return printed

    return run


def example(folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(TOP / "examples" / "lenet300-fashion", folder)


def test_the_example(follow, tmp_path):
    example(tmp_path / "examples" / "lenet300-fashion")
    doctor, inspected, explored, shown, again = follow("example.md")
    assert doctor.splitlines()[-1] == "All of it works."
    assert "fc1" in inspected and "Recommended: " in explored
    assert "at most 2 points" in shown
    # The run from the file finds what the first one found; only paths are written in full.
    answers = [text[text.index("Recommended: ") :].splitlines() for text in (explored, again)]
    facts = [[line for line in lines if line.startswith(("Weights", "Latency", "Accuracy"))] for lines in answers]
    assert facts[0] == facts[1] and len(facts[0]) == 3
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.skipif(find_spec("PIL") is None, reason="Pillow is not installed: pip install '.[images]'")
def test_a_model_of_ones_own(follow, tmp_path):
    import numpy as np
    import onnx.parser
    from PIL import Image

    rng = np.random.default_rng(0)
    for label in range(4):
        folder = tmp_path / "photos" / f"kind{label}"
        folder.mkdir(parents=True)
        for place in range(40):
            pixels = rng.integers(0, 60, (16, 16))
            pixels[4 * label : 4 * label + 4] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{place}.png")
    text = """<ir_version: 8, opset_import: ["" : 17]>
    net (float[N,1,16,16] image) => (float[N,4] logits) {
        flat = Flatten(image)  h = Gemm<transB = 1>(flat, w1, b1)  a = Relu(h)  logits = Gemm<transB = 1>(a, w2, b2)
    }"""
    model = onnx.parser.parse_model(text)
    bands = np.repeat(np.eye(4), 64, axis=1)
    wide = np.repeat(bands, 24, axis=0) / 64 + 0.002 * rng.standard_normal((96, 256))
    weights = {"w1": wide, "b1": np.zeros(96), "w2": np.repeat(np.eye(4), 24, axis=1), "b2": np.zeros(4)}
    for name, array in weights.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
    (tmp_path / "mynet").mkdir()
    onnx.save(model, tmp_path / "mynet" / "model.onnx")
    made, inspected, dry, explored = follow("own-model.md")
    assert "class 3: kind3" in made and "256 x 96" in inspected
    assert "Nothing was written" in dry and "Designs for riscv64" in explored
    front = json.loads((tmp_path / "small" / "front.json").read_text())
    assert {design["id"] for design in front["designs"]} and front["space"]["source"] == "svd"


def test_continuous_integration(follow, tmp_path):
    example(tmp_path / "nets" / "lenet")
    *_, verdicts = follow("ci.md")
    assert (tmp_path / "junit.xml").is_file() and (tmp_path / "ci" / "baseline.json").is_file()
    assert "pass" in verdicts


def test_a_board(follow, tmp_path):
    example(tmp_path / "examples" / "lenet300-fashion")
    _, tried = follow("board.md")
    assert tried and not (tmp_path / "out" / "board.json").exists()
