"""What convolutions lose without training: two networks for Fashion-MNIST, at 2x and 3x fewer MACs.

A MobileNetV2-like and a ResNet-like network are trained (Keras, minutes of CPU time; the trained ones are kept) and
compressed on 1024 training images without labels. 5000 images that were not trained on choose, the test images report.
Nothing is compiled: a plan costs its MACs. Writes results/convolutions.md.

Needs: pip install 'lrfdse[t3f]', and apt-get install dataset-fashion-mnist.
"""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from pathlib import Path

import onnx

from benchmarks.convolutions.compress import WAYS, Compressor, Found
from benchmarks.convolutions.nets import NETWORKS
from benchmarks.convolutions.train import CALIBRATION, EVALUATION, TRAINING, more_images, trained
from benchmarks.keys import code
from benchmarks.machine import described, machine
from benchmarks.program import parser
from benchmarks.records import Records
from benchmarks.results import table, write
from lrfdse.base.folders import cache_folder
from lrfdse.base.keys import digest
from lrfdse.base.threads import one_thread_each
from lrfdse.results.effort import EFFORTS

RATIOS = (1.5, 2.0, 3.0)
"""How many times fewer MACs the compressed networks need."""
THOROUGH = (2.0,)
"""Those of them at which the way that takes minutes is taken."""
ALLOWED = 0.5
"""Points that a network may lose at 2x fewer MACs: the goal."""


def main() -> None:
    asked = parser("convolutions", __doc__)
    asked.add_argument("--model", action="append", choices=list(NETWORKS), help="only this network (repeatable)")
    asked.add_argument(
        "--ratio", type=float, action="append", help=f"how many times fewer MACs (repeatable; default: {RATIOS})"
    )
    asked.add_argument("--epochs", type=int, default=6, help="of training (default %(default)s)")
    asked.add_argument("--seed", type=int, default=0, help="of training (default %(default)s)")
    asked.add_argument("--folder", type=Path, default=cache_folder() / "bench" / "convolutions", help="what is kept")
    asked.add_argument(
        "--thorough",
        type=int,
        default=8192,
        metavar="IMAGES",
        help="that the last way is calibrated with (default %(default)s)",
    )
    asked.add_argument(
        "--thorough-at",
        type=float,
        action="append",
        metavar="RATIO",
        help=f"where it is taken, of minutes each (repeatable; default: {THOROUGH})",
    )
    options = asked.parse_args()
    about = machine("onnxruntime", "keras", "tensorflow")
    lines = [
        "# Convolutions compressed without training",
        "",
        "Written by `python -m benchmarks.convolutions`.",
        "",
        described(about),
        "",
        f"Networks trained on {TRAINING:,} images of "
        f"Fashion-MNIST for {options.epochs} epochs, compressed on {CALIBRATION:,} of them without labels "
        f"(*thorough*: on {options.thorough:,}); "
        f"{EVALUATION:,} others chose among plans, and the accuracy is that of the 10,000 test images.",
        "",
        *(f"- **{way}**: {text}." for way, text in WAYS.items()),
    ]
    numbers, records = {}, Records(options.folder / "rows.jsonl")
    with one_thread_each():
        for name in options.model or NETWORKS:
            folder = trained(name, options.folder, options.epochs, options.seed)
            compressor = Compressor(folder, other_macs(folder / "model.onnx"), options.folder / "cache")
            ratios = (1.0, *(options.ratio or RATIOS))
            found = [row for ratio in ratios for row in _rows(name, compressor, ratio, records)]
            for ratio in options.thorough_at or THOROUGH:
                found += _thorough(name, folder, options.thorough, ratio, found, records)
            found.sort(key=lambda row: row[0])
            lines += section(name, compressor, found)
            numbers[name] = [{"ratio": ratio, **dataclasses.asdict(each)} for ratio, each in found]
    write(options.out, "convolutions", lines, {"machine": about, "networks": numbers})


def _rows(name: str, compressor: Compressor, ratio: float, records: Records) -> list[tuple[float, Found]]:
    """Return what all ways give at one ratio, 1 being the network as it is; what is finished is not made again."""
    key = digest(code(Compressor), compressor.model.sha256, ratio)
    if not records.ask(key):
        made = []
        for each in [compressor.original()] if ratio == 1 else compressor.at(ratio):
            print(f"{name} {ratio}: {each.way} {each.macs:,} {each.test:.2%}", file=sys.stderr, flush=True)
            made.append(dataclasses.asdict(each))
        records.put({"key": key, "rows": made})
    kept = records.get(key) or {}
    return [(ratio, Found(**row)) for row in kept["rows"]]


def _thorough(
    name: str, folder: Path, images: int, ratio: float, found: list[tuple[float, Found]], records: Records
) -> list[tuple[float, Found]]:
    """Return what the plan that was refined at a ratio gives on more images by the effort `thorough`."""
    plan = next((each.plan for own, each in found if own == ratio and each.way == "refined"), None)
    if plan is None:
        return []
    small = EFFORTS["thorough"].small_steps
    compressor = Compressor(
        folder, other_macs(folder / "model.onnx"), folder.parent / "cache", more_images(folder, images), small
    )
    key = digest(code(Compressor), compressor.model.sha256, ratio, images, small, sorted(plan.items()))
    if not records.ask(key):
        began = time.process_time()
        each = compressor.thorough(plan)
        seconds = round(time.process_time() - began)
        print(f"{name} {ratio}: thorough {each.test:.2%} {seconds} s", file=sys.stderr, flush=True)
        records.put({"key": key, "rows": [dataclasses.asdict(each) | {"seconds": seconds}]})
    return [(ratio, Found(**row)) for row in (records.get(key) or {})["rows"]]


def section(name: str, compressor: Compressor, found: list[tuple[float, Found]]) -> list[str]:
    original = found[0][1]
    rows = [
        [
            "" if ratio == 1 else f"{ratio:g}x",
            each.way,
            f"{each.macs / 1e6:.2f}",
            f"{each.params:,}",
            f"{100 * each.test:.2f}",
            "" if each is original else f"{100 * (each.test - original.test):+.2f}",
        ]
        for ratio, each in found
    ]
    best = max((each for ratio, each in found if ratio == 2), key=lambda each: each.evaluation, default=None)
    verdict = []
    if best is not None:
        lost = 100 * (original.test - best.test)
        error = 100 * math.sqrt(original.test * (1 - original.test) / 10_000)
        held = "reached" if lost <= ALLOWED else "missed"
        verdict = [
            "",
            f"Of those with 2x fewer MACs the evaluation data choose **{best.way}**, which loses {lost:.2f} points of "
            f"test accuracy: the goal of at most {ALLOWED} is {held} (standard error of an accuracy: {error:.2f}).",
            "",
            "Its plan: " + ", ".join(f"`{layer}` {text}" for layer, text in best.plan.items()) + ".",
        ]
    convolutions = len(compressor.explored)
    return [
        "",
        f"## {name}",
        "",
        f"{convolutions} convolutions are compressed, of {compressor.dense_macs / 1e6:.2f} million MACs in all.",
        "",
        *table(["fewer MACs", "way", "MACs (million)", "weights", "test accuracy %", "change"], rows),
        *_took(found),
        *verdict,
    ]


def _took(found: list[tuple[float, Found]]) -> list[str]:
    took = [f"{each.seconds:,} s at {ratio:g}x" for ratio, each in found if each.seconds is not None]
    return (
        ["", f"*thorough* took {', '.join(took)} of CPU time, moments and fits on its images among it."] if took else []
    )


def other_macs(path: Path) -> int:
    """Return the MACs of the depthwise convolutions of a model for one image."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path))
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.value_info}
    sizes = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    constants = (node for node in model.graph.node if node.op_type == "Constant")
    sizes |= {node.output[0]: math.prod(node.attribute[0].t.dims) for node in constants}
    total = 0
    for node in model.graph.node:
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        if node.op_type == "Conv" and groups > 1:
            total += sizes[node.input[1]] * math.prod(shapes[node.output[0]][2:])
    return total


if __name__ == "__main__":
    main()
