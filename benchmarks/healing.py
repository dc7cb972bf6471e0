"""What training the factors of compressed networks gives back, with and without labels; writes results/healing.md.

The networks are those of ``scripts/train_models.py``, their compressed versions the best of ``benchmarks.accuracy``
that need no training. They train on the 55 000 training images; validation images choose what is kept, test images
choose nothing. Each row is a process of its own, and rows that are finished are kept in the cache. Needs: pip install
'lrfdse[heal]', and apt-get install dataset-fashion-mnist.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.cases import KINDS, open_case
from benchmarks.accuracy.columns import RUNS
from benchmarks.accuracy.compress import Compressor
from benchmarks.accuracy.correct import Corrections
from benchmarks.accuracy.families import FAMILIES
from benchmarks.keys import code
from benchmarks.machine import described, machine
from benchmarks.program import apart, parser
from benchmarks.records import Records
from benchmarks.results import table, write
from lrfdse.base.folders import cache_folder
from lrfdse.base.keys import digest
from lrfdse.base.store import Store
from lrfdse.explore.training_data import among
from lrfdse.healing.feeding import Feeders
from lrfdse.healing.losses import Teacher
from lrfdse.healing.train import Training, train
from lrfdse.ir.choice import Choice
from lrfdse.ir.factors import Factors, packed, unpacked
from lrfdse.model.data import Dataset, load_data
from lrfdse.model.graph import Model, load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.quality.objective import objective_for
from lrfdse.quality.outputs import hits

_NEAR = 4.0
"""Layers share the weights among options at ratios from a fourth of the network's to so many times it. Chosen: it takes
a fraction of the time of all, and no layer's share was beyond it."""

_CANDIDATES = 2
"""Shapes of least surrogate error at a ratio that are fitted. Chosen, as most of `benchmarks.accuracy.columns.RUNS`."""

DATA = Path("/usr/share/datasets/fashion-mnist")

SHARES: Mapping[Teacher, float] = {"outputs": 0.0, "both": 0.5, "labels": 1.0}
"""Part of the loss that labels have."""

UNITS = (("lenet300", 32.0), ("lenet300", 16.0), ("mlp1024", 32.0), ("conv512", 64.0))
"""What is healed: network and times that its layers have fewer weights."""


@dataclass(frozen=True)
class Start:
    """How a network is compressed before it is trained: the column of results/accuracy.md that is best at its ratio."""

    kind: str
    """A family of `benchmarks.accuracy.families`."""
    allocated: bool
    """Whether layers share the weights by predicted loss; else each has the same ratio."""
    sweeps: int
    """Of the refinement."""
    more: bool = False
    """Whether on 8192 images; else on 2048."""

    @property
    def text(self) -> str:
        """What the page says of it."""
        shared = "layers share the weights" if self.allocated else "every layer at the ratio"
        refined = f", {self.sweeps} sweeps" if self.sweeps else ""
        return f"{FAMILIES[self.kind].title}, {shared}, corrected{refined}, {8192 if self.more else 2048:,} images"


STARTS = {
    "lenet300": Start("any", True, 4, more=True),
    "mlp1024": Start("any", True, 4),
    "conv512": Start("att3", False, 0),
}

GOALS = {("lenet300", 32.0): 86.86, ("lenet300", 16.0): 88.8}
"""Percent of test images that were asked for: half a point above the column without training, and T3F from scratch."""

KNOWN = {
    ("lenet300", 32.0): "86.36 without training",
    ("lenet300", 16.0): "88.09 without training; 88.82 T3F from scratch",
    ("mlp1024", 32.0): "88.06 without training",
    ("conv512", 64.0): "90.62 without training",
}
"""The best column of results/accuracy.md, on 8192 images where it says so, and what 15 epochs of T3F from scratch
reached in a tensor train of two cores at 16x, in percent of test images."""

TRAINED_ON = 55_000
"""Training images that train, as in ``scripts/fashion.py``; the last 5000 are the validation images."""


def main() -> int:
    asked = parser("healing", __doc__)
    asked.add_argument("--models", nargs="+", choices=sorted({name for name, _ in UNITS}), default=["lenet300"])
    asked.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of training, which name the folders")
    asked.add_argument("--ratios", nargs="+", type=float, default=sorted({ratio for _, ratio in UNITS}))
    asked.add_argument("--teachers", nargs="+", choices=list(SHARES), default=list(SHARES))
    asked.add_argument("--epochs", type=int, default=Training().epochs, help="default: %(default)s")
    asked.add_argument("--trained", type=Path, default=cache_folder() / "models", metavar="DIR")
    asked.add_argument("--cache", type=Path, default=cache_folder(), metavar="DIR")
    asked.add_argument("--one", nargs=4, metavar=("MODEL", "SEED", "RATIO", "TEACHER"), help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.one:
        name, seed, ratio, teacher = options.one
        print(json.dumps(row_of(name, int(seed), float(ratio), teacher, options)))
        return 0
    made_by = code(train, Feeders, among, Compressor, Corrections, open_case)
    known = Records(options.cache / "healing" / "rows.jsonl")
    for name, ratio in (each for each in UNITS if each[0] in options.models and each[1] in options.ratios):
        for seed in options.seeds:
            folder = options.trained / f"{name}-{seed}"
            if not (folder / "about.json").is_file():
                print(f"{folder}: not found, so not run", file=sys.stderr)
                continue
            model = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
            for teacher in options.teachers:
                key = digest("healing", name, seed, ratio, teacher, options.epochs, model, made_by)
                if known.ask(key):
                    continue
                more = ["--epochs", str(options.epochs), "--trained", str(options.trained)]
                more += ["--cache", str(options.cache)]
                row = apart("healing", "--one", name, str(seed), str(ratio), teacher, *more)
                known.put({"key": key, **row})
                print(json.dumps(row), flush=True)
    rows = known.asked()
    if options.teachers != list(SHARES):
        return 0
    about = machine("onnxruntime", "tensorflow") | {"epochs": options.epochs}
    lines = lines_of(rows, about, options.epochs)
    print("\n".join(lines))
    write(options.out, "healing", lines, {"machine": about, "rows": rows})
    return 0


def row_of(name: str, seed: int, ratio: float, teacher: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return what a compressed network scores before and after training by a teacher, and what that took."""
    folder = options.trained / f"{name}-{seed}"
    factors, calib = compressed(name, seed, ratio, options.trained, options.cache)
    model, runtime = load_model(folder / "model.onnx", kinds=KINDS), Runtime()
    parts = {part: load_data(folder / f"{part}.npz", model.inputs) for part in ("eval", "test")}

    def scores(version: Mapping[str, Factors]) -> dict[str, float]:
        return {part: accuracy(model, version, data, runtime) for part, data in parts.items()}

    source, share = model.inputs[0].name, next(share for known, share in SHARES.items() if known == teacher)
    before, original = scores(factors), scores({})
    given = parts["eval"].inputs[source]
    images = _idx("train-images-idx3", 16)[: TRAINED_ON * 784].reshape(-1, *given.shape[1:]).astype(given.dtype)
    labels = _idx("train-labels-idx1", 8)[:TRAINED_ON].astype(np.int64)
    began, started = time.process_time(), time.monotonic()
    data = Dataset({source: images}, labels if share else None)
    feeders = Feeders(model, data, runtime, among(data, calib))
    training = Training(options.epochs, share=share, seed=seed)
    found = train(model, factors, feeders, objective_for(model.original, "softmax"), training)
    after = scores(found.factors)
    kept = after["eval"] >= before["eval"]
    return {
        "model": name,
        "seed": seed,
        "ratio": ratio,
        "weights": sum(each.factorization.params for each in factors.values()),
        "plan": {layer: str(each.factorization) for layer, each in factors.items()},
        "teacher": teacher,
        "original": original,
        "before": before,
        "after": after if kept else before,
        "kept": kept,
        "steps": found.steps,
        "cpu_minutes": (time.process_time() - began) / 60,
        "minutes": (time.monotonic() - started) / 60,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _idx(name: str, header: int) -> NDArray[np.uint8]:
    with gzip.open(DATA / f"{name}-ubyte.gz") as file:
        return np.frombuffer(file.read(), np.uint8, offset=header)


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation of values.

    >>> spread([88.0, 89.0, 90.0]), spread([88.0])
    ('89.00 ± 1.00', '88.00')
    """
    found = f"{np.mean(values):.2f}"
    return found if len(values) < 2 else f"{found} ± {np.std(values, ddof=1):.2f}"


def compressed(name: str, seed: int, ratio: float, trained: Path, cache: Path) -> tuple[dict[str, Factors], Dataset]:
    """Return a network's factors without training, from the cache where they were made before, and what they fit."""
    case, start, runs, store = open_case(name, seed, trained), STARTS[name], RUNS[name], Store(cache)
    grid = tuple(known for known in runs.grid if ratio / _NEAR <= known <= _NEAR * ratio)
    made = Compressor(case, store, start.more, _CANDIDATES, grid)
    key = digest("healing", made.key, ratio, start.text)
    known = store.get("healing", key, lambda found: {layer: made.parsed(layer, text) for layer, text in found.items()})
    plan = known or (made.allocated(start.kind, ratio) if start.allocated else made.uniform(start.kind, ratio))
    assert plan is not None
    plan = {layer: shape for layer, shape in plan.items() if not shape.is_dense}
    store.put("healing", key, {layer: str(shape) for layer, shape in plan.items()})

    def read(stored: Mapping[str, NDArray[Any]]) -> dict[str, Factors]:
        own = {layer: _under(f"{k}.", stored) for k, layer in enumerate(plan)}
        return {layer: unpacked(Choice(shape), own[layer]) for layer, shape in plan.items()}

    if (factors := store.get_arrays("healing", key, read)) is not None:
        return factors, made.calib
    corrected = Corrections(case, made.calib)(made.factors(start.kind, plan), start.sweeps)
    arrays = {f"{k}.{name}": a for k, layer in enumerate(plan) for name, a in packed(corrected[layer]).items()}
    store.put_arrays("healing", key, arrays)
    # As the cache gives them, in float32.
    return read(arrays), made.calib


def _under(head: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names begin so, by the rest of the name."""
    return {name.removeprefix(head): array for name, array in arrays.items() if name.startswith(head)}


def accuracy(model: Model, factors: Mapping[str, Factors], data: Dataset, runtime: Runtime) -> float:
    """Return the percentage of samples that a version gets right in onnxruntime."""
    assert data.labels is not None
    return 100 * float(hits(runtime.run(rewrite(model, factors), data), data.labels).mean())


def _goal(wanted: float | None, scores: Sequence[float]) -> str:
    """Return a goal and whether it was reached, or nothing where none was set."""
    if wanted is None:
        return ""
    missed = wanted - float(np.mean(scores))
    return f"{wanted:g}: {'reached' if missed <= 0 else f'missed by {missed:.2f}'}"


def lines_of(rows: Sequence[Mapping[str, Any]], about: dict[str, object], epochs: int) -> list[str]:
    """Return the page."""
    units = [each for each in UNITS if any((row["model"], row["ratio"]) == each for row in rows)]
    left = [f"{name} {ratio:g}x" for name, ratio in UNITS if (name, ratio) not in units]

    def of(name: str, ratio: float, teacher: str) -> list[Mapping[str, Any]]:
        return [r for r in rows if (r["model"], r["ratio"], r["teacher"]) == (name, ratio, teacher)]

    heads = [
        "network",
        "ratio",
        "weights",
        "original",
        "before",
        *SHARES,
        "best on validation",
        "gained",
        "known before",
        "goal",
    ]
    body = []
    for name, ratio in units:
        first = of(name, ratio, "outputs")
        means = {teacher: spread([r["after"]["test"] for r in of(name, ratio, teacher)]) for teacher in SHARES}
        best = [
            max(each, key=lambda row: row["after"]["eval"])
            for each in zip(*(of(name, ratio, teacher) for teacher in SHARES), strict=True)
        ]
        body.append(
            [
                name,
                f"{ratio:g}x",
                f"{first[0]['weights']:,}",
                spread([r["original"]["test"] for r in first]),
                spread([r["before"]["test"] for r in first]),
                *means.values(),
                spread([row["after"]["test"] for row in best]),
                spread([row["after"]["test"] - row["before"]["test"] for row in best]),
                KNOWN[name, ratio],
                _goal(GOALS.get((name, ratio)), [row["after"]["test"] for row in best]),
            ]
        )
    seeds = sorted({row["seed"] for row in rows})
    return [
        "# Healing",
        "",
        "Written by `python -m benchmarks.healing`. " + described(about),
        "",
        "Percent of 10 000 test images right, mean and standard deviation over seeds "
        f"({', '.join(map(str, seeds))}; a seed is of the network's training, the calibration draw and of healing).",
        "*before*: fitted and corrected without training on images without labels, as in the column of",
        "[accuracy.md](accuracy.md) that is best at the ratio, its options at ratios near it. Then",
        f"{epochs} epochs on 55 000 training images (4096 of them held out, none that was fitted to before), by the",
        "original's *outputs* without labels, by *labels*, and by *both*. 5 000 validation images decide whether the",
        "trained factors are kept, and which of the three is *best on validation*; test images choose nothing, and the",
        "goal is held against that.",
        "",
        *(f"- {name}: {STARTS[name].text}." for name in dict.fromkeys(name for name, _ in units)),
        *(["", f"Not run: {', '.join(left)}."] if left else []),
        "",
        *table(heads, body),
        "",
        "## What it costs",
        "",
        "A process of its own for each row; peak memory is that of the process. Time is of training and of scoring, by",
        "the wall clock on a machine that was shared.",
        "",
        *table(
            [
                "network",
                "seed",
                "ratio",
                "teacher",
                "validation",
                "test",
                "kept",
                "steps",
                "CPU min",
                "wall min",
                "peak MiB",
            ],
            [
                [
                    row["model"],
                    row["seed"],
                    f"{row['ratio']:g}x",
                    row["teacher"],
                    f"{row['before']['eval']:.2f} -> {row['after']['eval']:.2f}",
                    f"{row['before']['test']:.2f} -> {row['after']['test']:.2f}",
                    "yes" if row["kept"] else "no",
                    f"{row['steps']:,}",
                    f"{row['cpu_minutes']:.2f}",
                    f"{row['minutes']:.2f}",
                    f"{row['peak_mib']:,.0f}",
                ]
                for row in rows
            ],
        ),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
