"""Compress recurrent classifiers and an embedding without training; writes results/sequences.md.

The models are those of ``scripts/train_sequences.py``. The layers of each, recurrent inputs and embeddings among them,
get ranks that leave the whole file a fourth of the original's weights, recurrent matrices included: these stay whole,
or with ``--states`` may be factors, too. How the layers share the weights is chosen by the divergence from the
original on validation data, which tells designs apart that differ by a few of their labels; every score is of test
data that chose nothing. The best few are refined as `lrfdse explore` refines what it may recommend, and chosen from
again; with ``--thorough`` so are the same designs on more calibration samples, with the small steps of that effort.
Beside each design stands the truncated SVD of the weights at the same ranks. Nothing is compiled.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.machine import described, machine
from benchmarks.program import parser
from benchmarks.results import RAW, table, write
from lrfdse.base.privacy import load_onnxruntime
from lrfdse.base.store import Store
from lrfdse.explore.layers.fits import FitRequest, open_builder, open_fits
from lrfdse.formats.onnx import file_content
from lrfdse.ir.choice import Choice
from lrfdse.ir.cost import cost_of
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.layer import DEFAULT_KINDS, Layer
from lrfdse.ir.plan import Plan
from lrfdse.model.data import load_data
from lrfdse.model.graph import Model, load_model
from lrfdse.quality.objective import objective_for
from lrfdse.results.effort import EFFORTS

MODELS = ("lstm", "gru", "words")

SHARES = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Parts of the weights that a layer may get of what all may have. Chosen."""

REFINED = 2
"""Designs that are refined, those of least divergence. Chosen: half of what an exploration does."""

HELD = (1.0, 0.5, 0.4, 0.3)
"""Parts of its own weights that a recurrent matrix may keep; 1 leaves it whole. Chosen."""

SMALLEST = 0.05
"""Part of a file's weights below which a layer stays whole. Chosen: it could save no more than that."""


def main() -> int:
    asked = parser("sequences", __doc__)
    asked.add_argument("--models", type=Path, default=Path.home() / ".cache" / "lrfdse" / "models", metavar="DIR")
    asked.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    asked.add_argument("--seeds", nargs="+", type=int, default=[1], help="of training, which name the folders")
    asked.add_argument("--smaller", type=float, default=4.0, help="times that the weights are to be fewer")
    asked.add_argument("--states", action="store_true", help="compress recurrent matrices as well")
    asked.add_argument(
        "--thorough", action="store_true", help="also refine as by --effort thorough, on the samples of calib-more.npz"
    )
    options = asked.parse_args()
    rows, began = [], time.process_time()
    for name, seed in itertools.product(options.only, options.seeds):
        for states in (False, True) if options.states and name != "words" else (False,):
            for row in compared(options.models / f"{name}-{seed}", options.smaller, states, options.thorough):
                if not states or row["design"] != "original":
                    rows.append({"model": name, "seed": seed} | row)
                    print(rows[-1], flush=True)
    about = machine("onnxruntime") | {"cpu_seconds": round(time.process_time() - began)}
    lines = lines_of(rows, about, options.smaller)
    print("\n".join(lines))
    write(options.out, "sequences", lines, {"machine": about, "rows": rows})
    return 0


def lines_of(rows: Sequence[Mapping[str, Any]], about: dict[str, object], smaller: float) -> list[str]:
    """Return the page."""
    return [
        "# Recurrent layers and embeddings without training",
        "",
        "Written by `python -m benchmarks.sequences`. Weights are all of the file; designs were to have",
        f"{smaller:g} times fewer. Recurrent matrices stay whole, but in rows that say *states*, where they may be",
        "factors (`--layers fc,recurrent,state`). How layers share the weights was chosen by the mean divergence from",
        "the original on validation data; labels chose nothing. Accuracy is that of test data, which chose nothing, in",
        "onnxruntime. *SVD* is that of the weights, at the ranks of the design that is corrected. The two of least",
        "divergence were *refined* as explorations do, each but where it grew, and the one of least is shown.",
        "*Thorough* is the same two refined as by `--effort thorough`, with small steps, on 8,192 calibration samples",
        "in place of 2,048.",
        "",
        described(about),
        "",
        *table(
            [
                "model",
                "seed",
                "design",
                "weights",
                "fewer",
                "MACs",
                "validation",
                "test",
                "lost",
                "ranks",
            ],
            [
                [
                    row["model"],
                    row["seed"],
                    row["design"],
                    f"{row['weights']:,}",
                    f"{row['fewer']:.2f}x",
                    f"{row['macs']:,}",
                    f"{row['eval']:.2f} %",
                    f"{row['test']:.2f} %",
                    f"{row['lost']:.2f}",
                    row["ranks"],
                ]
                for row in rows
            ],
        ),
    ]


def compared(folder: Path, smaller: float, states: bool = False, thorough: bool = False) -> list[dict[str, Any]]:
    """Return the original, the chosen designs, and SVD of the ranks of one, each as its file scores."""
    kinds = (*DEFAULT_KINDS, "state") if states else DEFAULT_KINDS
    model = load_model(folder / "model.onnx", kinds=kinds)
    content = model.content
    # MACs of recurrent matrices count, too, whether they are layers here or not.
    counted = load_model(folder / "model.onnx", kinds=(*DEFAULT_KINDS, "state")).layers
    size, before = weights(content), {part: accuracy(content, folder / f"{part}.npz") for part in ("eval", "test")}
    explored = [layer for layer in model.layers if layer.weights >= SMALLEST * size]
    room = size / smaller - (size - sum(layer.weights for layer in explored))
    plans = shared(model, explored, room)

    def row(design: str, made: bytes, plan: Plan | None) -> dict[str, Any]:
        scores = {part: accuracy(made, folder / f"{part}.npz") for part in ("eval", "test")}
        chosen = {} if plan is None else {layer.name: plan[layer.name].factorization for layer in explored}
        flops = [
            cost_of(layer, chosen.get(layer.name, Factorization.dense(layer.outputs, layer.inputs)), 1).flops
            for layer in counted
        ]
        return {
            "design": design,
            "weights": weights(made),
            "fewer": size / weights(made),
            "macs": sum(flops) // 2,
            **scores,
            "lost": before["test"] - scores["test"],
            "ranks": ", ".join(f"{name} {each.ranks[0]}" for name, each in chosen.items() if each.ranks),
        }

    calib, names = load_data(folder / "calib.npz", model.inputs), [layer.name for layer in explored]
    store = Store(RAW / "sequences")
    request = FitRequest("auto", correct=True, loss=objective_for(model.original, "softmax"))
    ours = open_builder(request, model, calib, open_fits(request, model, calib, names, store), store)
    also = ", states" if states else ""
    made = {plan: file_content(ours.model_of(plan)) for plan in plans}

    def lost(made: bytes) -> float:
        return divergence(content, made, folder / "eval.npz")

    plans = sorted(plans, key=lambda plan: lost(made[plan]))
    best = plans[0]
    refined = {
        plan: min(file_content(ours.model_of(plan, refined=True)), made[plan], key=lost) for plan in plans[:REFINED]
    }
    finest = min(refined, key=lambda plan: lost(refined[plan]))
    more = []
    if thorough:
        began, calib = time.process_time(), load_data(folder / "calib-more.npz", model.inputs)
        request = dataclasses.replace(request, small_steps=EFFORTS["thorough"].small_steps)
        theirs = open_builder(request, model, calib, open_fits(request, model, calib, names, store), store)
        longer = {plan: file_content(theirs.model_of(plan, refined=True)) for plan in plans[:REFINED]}
        longest = min(longer, key=lambda plan: lost(longer[plan]))
        more = [row("thorough" + also, longer[longest], longest) | {"seconds": round(time.process_time() - began)}]
    without = FitRequest("svd")
    plain = open_builder(without, model, None, open_fits(without, model, None, names, store), store)
    return [
        row("original", content, None),
        row("fitted and corrected" + also, made[best], best),
        row("refined" + also, refined[finest], finest),
        *more,
        row("SVD" + also, file_content(plain.model_of(best)), best),
    ]


def shared(model: Model, explored: Sequence[Layer], room: float) -> list[Plan]:
    """Return plans in which the explored layers share so many weights, one for each way of `SHARES` that adds up.

    Of each there are as many as there are ways of `HELD` for the recurrent matrices among them.
    """
    states = [layer for layer in explored if layer.kind == "state"]
    others = [layer for layer in explored if layer.kind != "state"]
    ways = [each for each in itertools.product(SHARES, repeat=len(others)) if abs(sum(each) - 1) < 1e-9]
    found = []
    for way, held in itertools.product(ways or [(1.0,) * len(others)], itertools.product(HELD, repeat=len(states))):
        ranks = {
            layer.name: max(1, int(part * layer.weights / (layer.outputs + layer.inputs)))
            for layer, part in zip(states, held, strict=True)
            if part < 1
        }
        left = room - sum(
            ranks[layer.name] * (layer.outputs + layer.inputs) if layer.name in ranks else layer.weights
            for layer in states
        )
        if left <= 0:
            continue
        ranks |= {
            layer.name: max(1, int(part * left / (layer.outputs + (layer.table or layer.inputs))))
            for layer, part in zip(others, way, strict=True)
        }
        found.append(
            Plan(
                tuple(
                    (
                        layer.name,
                        Choice(
                            Factorization.svd(layer.outputs, layer.inputs, min(ranks[layer.name], layer.inputs))
                            if layer.name in ranks
                            else Factorization.dense(layer.outputs, layer.inputs)
                        ),
                    )
                    for layer in model.layers
                )
            )
        )
    return found


def weights(model: bytes) -> int:
    """Return the elements of floating point that a file stores."""
    stored = onnx.ModelProto.FromString(model).graph.initializer
    return sum(int(np.prod(tensor.dims)) for tensor in stored if tensor.data_type == onnx.TensorProto.FLOAT)


def accuracy(model: bytes, part: Path) -> float:
    """Return the percentage of samples that a file classifies correctly."""
    with np.load(part) as stored:
        labels = stored["labels"]
    return 100 * float(np.mean(logits(model, part).argmax(axis=1) == labels))


def divergence(original: bytes, model: bytes, part: Path) -> float:
    """Return the mean Kullback-Leibler divergence of a file's class probabilities from those of another, in nats."""
    scores = [logits(each, part).astype(np.float64) for each in (original, model)]
    theirs, ours = (each - np.logaddexp.reduce(each, axis=1, keepdims=True) for each in scores)
    return float((np.exp(theirs) * (theirs - ours)).sum(axis=1).mean())


def logits(model: bytes, part: Path) -> NDArray[np.float32]:
    """Return the logits of a file on one part of the data, (samples, classes)."""
    session = load_onnxruntime().InferenceSession(model, providers=["CPUExecutionProvider"])
    with np.load(part) as stored:
        (found,) = session.run(["logits"], {name: stored[name] for name in stored.files if name != "labels"})
    return np.asarray(found)


if __name__ == "__main__":
    raise SystemExit(main())
