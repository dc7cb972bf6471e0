"""What the convolutions of RapidOCR's text recogniser lose without training; writes results/rapidocr_convolutions.md.

The model and the images of words are those of `benchmarks.rapidocr`: 200 images calibrate, 60 choose, and the share of
300 other words that are read without a mistake is reported. All convolutions but depthwise ones are compressed, most
of them 1x1; the fully-connected layers stay as they are. Nothing is compiled: a plan costs its MACs.

Needs: pip install 'lrfdse[bench]'.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx

from benchmarks.convolutions.__main__ import other_macs
from benchmarks.convolutions.compress import WAYS, Compressor, Found
from benchmarks.machine import commit, described, machine
from benchmarks.program import parser
from benchmarks.rapidocr import words_read
from benchmarks.recogniser import HEIGHT, WIDTH, recogniser, render, vocabulary
from benchmarks.results import RAW, table, write
from lrfdse.base.threads import one_thread_each
from lrfdse.explore.plans.assemble import plan_of
from lrfdse.explore.plans.evaluator import Evaluator
from lrfdse.explore.plans.search import tables
from lrfdse.formats.onnx import file_content
from lrfdse.ir.plan import Plan
from lrfdse.repair.builder import Builder
from lrfdse.results.exploration import LayerResult
from lrfdse.search.plans.knapsack import plans

COUNTS = {"calib": 200, "eval": 60, "test": 300}
"""Images of words by role."""

LEFT_OUT = ("refined",)
"""Ways that do not apply: steps of several layers are out of reach of a model of 0.7 billion MACs."""


class ReaderCompressor(Compressor):
    """The recogniser, whose designs are chosen by predicted loss and reported by the words that they read."""

    def __init__(self, folder: Path, other: int, words: list[str]) -> None:
        super().__init__(folder, other, folder / "cache")
        self._folder, self._words = folder, words

    def _allocated(self, layers: list[LayerResult], most: float) -> Plan:
        front = plans(tables(layers, "warm", self.errors), max_latency=most - self._other)
        order = sorted(range(len(front)), key=lambda place: (float(front.error[place]), float(front.latency_us[place])))
        return plan_of(front.texts(order[0]), layers)

    def _found(self, way: str, plan: Plan, builder: Builder) -> Found:
        if way in LEFT_OUT:
            return Found(way, self._macs(plan), 0, 0.0, 0.0, {})
        corrected = way == "corrected"
        scores = Evaluator(builder, self.inputs).scores(plan, refined=corrected)
        path = self._folder / "design.onnx"
        path.write_bytes(file_content(builder.model_of(plan, corrected)))
        with np.load(self._folder / "test.npz") as stored:
            read = words_read(path, self._words, stored["x"])
        texts = {name: str(choice) for name, choice in plan.choices if not choice.is_original}
        params = sum(choice.factorization.params for _, choice in plan.choices)
        return Found(way, self._macs(plan), params, scores.fidelity or 0.0, read, texts)


def main() -> None:
    asked = parser("convolutions.reader", __doc__)
    asked.add_argument("--ratio", type=float, action="append", help="how many times fewer MACs (repeatable; 1.5)")
    asked.add_argument("--folder", type=Path, default=RAW / "rapidocr_convolutions", help="what is kept")
    options = asked.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    words = written(options.folder)
    with one_thread_each():
        reader = ReaderCompressor(options.folder, other_macs(options.folder / "one.onnx"), words)
        found = [(1.0, reader.original())]
        for ratio in options.ratio or [1.5]:
            for each in reader.at(ratio):
                if each.way not in LEFT_OUT:
                    print(ratio, each.way, each.macs, each.evaluation, each.test, flush=True)
                    found.append((ratio, each))
    about = machine("onnxruntime")
    lines = [
        "# Convolutions of RapidOCR's recogniser compressed without training",
        "",
        "Written by `python -m benchmarks.convolutions.reader`, which says how.",
        "",
        described(about),
        "",
        f"Code of commit {commit()}. {len(reader.explored)} convolutions are compressed, of "
        f"{reader.dense_macs / 1e6:,.0f} million MACs in all. Fidelity is the agreement with the original in the",
        f"positions of {COUNTS['eval']} images; words are those of {COUNTS['test']} others that are read without a "
        "mistake.",
        "",
        *(f"- **{way}**: {text}." for way, text in WAYS.items() if way not in LEFT_OUT),
        "",
        *table(
            ["fewer MACs", "way", "MACs (million)", "weights", "fidelity", "words read"],
            [
                [
                    "" if ratio == 1 else f"{ratio:g}x",
                    each.way,
                    f"{each.macs / 1e6:,.0f}",
                    f"{each.params:,}",
                    f"{each.evaluation:.1%}",
                    f"{each.test:.1%}",
                ]
                for ratio, each in found
            ],
        ),
    ]
    print("\n".join(lines))
    rows = [{"ratio": ratio, **dataclasses.asdict(each)} for ratio, each in found]
    write(options.out, "rapidocr_convolutions", lines, {"machine": about, "rows": rows})


def written(folder: Path) -> list[str]:
    """Write the model with the sizes of its images, and the data of every role; return the words that report."""
    words, first = vocabulary(sum(COUNTS.values()), 0), 0
    for role, count in COUNTS.items():
        np.savez(folder / f"{role}.npz", x=render(words[first : first + count], 0))
        first += count
    model = onnx.load(recogniser())
    sizes = model.graph.input[0].type.tensor_type.shape.dim
    sizes[2].dim_value, sizes[3].dim_value = HEIGHT, WIDTH
    onnx.save(model, folder / "model.onnx")
    sizes[0].dim_value = 1
    onnx.save(model, folder / "one.onnx")
    return words[-COUNTS["test"] :]


if __name__ == "__main__":
    main()
