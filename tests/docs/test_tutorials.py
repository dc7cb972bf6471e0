"""The commands of the tutorials and of the README are run, line by line, in a project as each says."""

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

import numpy as np
import onnx
import onnx.parser
import pytest

from lrfdse.targets.catalog import load_target
from lrfdse.toolchain.programs import MODELLING, missing_tools

TOP = Path(__file__).parents[2]
PROGRAM = "import sys; sys.argv[0] = 'lrfdse'\nfrom lrfdse.cli import main\nif __name__ == '__main__': main()"
CODES = {"lrfdse explore mynet": {0, 3}, "lrfdse explore nets/mynet": {0, 3}}
"""Commands that may end with another code than 0: the little networks of the tests promise no accuracy."""
pytestmark = [
    pytest.mark.slow,
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


def pictures(count):
    """Pictures of 16x16 pixels with a bright band a class, four classes in turn, and the classes."""
    rng, labels = np.random.default_rng(0), np.arange(count) % 4
    pixels = rng.integers(0, 60, (count, 16, 16))
    for picture, label in zip(pixels, labels, strict=True):
        picture[4 * label : 4 * label + 4] += 150
    return pixels.astype(np.uint8), labels


def write_photos(folder):
    """Write the pictures as files, a folder a class."""
    from PIL import Image

    for place, (picture, label) in enumerate(zip(*pictures(160), strict=True)):
        (folder / f"kind{label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / f"kind{label}" / f"{place}.png")


def write_net(folder):
    """Write a network that tells the bands apart, of weights that are nearly of rank 4."""
    rng = np.random.default_rng(1)
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
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")


def write_project(folder):
    """Write the network with its data, as a user has them who is past the first tutorials."""
    write_net(folder)
    pixels, labels = pictures(240)
    images = (pixels[:, None] / 255).astype(np.float32)
    np.savez(folder / "calib.npz", image=images[:80])
    for role, part in (("eval", slice(80, 160)), ("test", slice(160, 240))):
        np.savez(folder / f"{role}.npz", image=images[part], labels=labels[part])


def test_the_example(follow, tmp_path):
    # Under the example's name lies the small network: the example itself takes minutes.
    write_project(tmp_path / "examples" / "lenet300-fashion")
    doctor, inspected, explored, shown, again = follow("example.md")
    assert doctor.splitlines()[-1] == "All of it works."
    assert "256 x 96" in inspected and "Recommended: " in explored
    assert "at most 2 points" in shown
    # The run from the file finds what the first one found; only paths are written in full.
    answers = [text[text.index("Recommended: ") :].splitlines() for text in (explored, again)]
    facts = [[line for line in lines if line.startswith(("Weights", "Latency", "Accuracy"))] for lines in answers]
    assert facts[0] == facts[1] and len(facts[0]) == 3
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.skipif(find_spec("PIL") is None, reason="Pillow is not installed: pip install '.[images]'")
def test_a_model_of_ones_own(follow, tmp_path):
    write_photos(tmp_path / "photos")
    write_net(tmp_path / "mynet")
    made, inspected, dry, explored = follow("own-model.md")
    assert "class 3: kind3" in made and "256 x 96" in inspected
    assert "Nothing was written" in dry and "Designs for riscv64" in explored
    front = json.loads((tmp_path / "small" / "front.json").read_text())
    assert {design["id"] for design in front["designs"]} and front["space"]["source"] == "quick"


def test_continuous_integration(follow, tmp_path):
    write_project(tmp_path / "nets" / "mynet")
    *_, verdicts = follow("ci.md")
    assert (tmp_path / "junit.xml").is_file() and (tmp_path / "ci" / "baseline.json").is_file()
    assert "pass" in verdicts


def test_a_board(follow, tmp_path):
    write_project(tmp_path / "mynet")
    _, tried = follow("board.md")
    assert tried and not (tmp_path / "out" / "board.json").exists()


@pytest.mark.skipif(find_spec("PIL") is None, reason="Pillow is not installed: pip install '.[images]'")
def test_the_readme(tmp_path, cache):
    """What it has users type, but what installs; explorations, of minutes each, only as dry runs."""
    text = (TOP / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"(?:^ {4}(?:lrfdse|cd|make) .*\n)+", text, flags=re.MULTILINE)
    blocks = [re.sub(r"^(.* explore (?!.*--dry-run).*)$", r"\1 --dry-run", each, flags=re.MULTILINE) for each in blocks]
    # `doctor` ends with 1 where a target that ships does not work here, as one with AVX-512 may not.
    script = "".join(f"({each})\n" for each in blocks).replace("lrfdse doctor", "lrfdse doctor --target riscv64")
    assert script.count("--dry-run") == 3 and "make check" in script
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "lrfdse"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -c {shlex.quote(PROGRAM)} "$@"\n')
    command.chmod(0o755)
    example(tmp_path / "examples" / "lenet300-fashion")
    write_photos(tmp_path / "photos")
    write_net(tmp_path / "net")
    shutil.copy(tmp_path / "net" / "model.onnx", tmp_path)
    path = f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "LRFDSE_CACHE": str(cache), "PYTHONPATH": str(TOP), "PATH": path}
    ran = subprocess.run(["sh", "-euxc", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, (ran.stdout, ran.stderr)
    assert {path.name for path in (tmp_path / "net").iterdir()} >= {"calib.npz", "eval.npz", "test.npz"}
    assert ran.stdout.count("Nothing was written") == 3 and (tmp_path / "out" / "libnet.a").is_file()
