"""What the search over plans gains: hypervolume against evaluated plans; writes results/search.md.

Six ways to spend the same budget of evaluated plans, on three models: plans spread over the knapsack's front by the
proxy `loss` or by `output`, NSGA-II from nothing, the knapsack's plans (by `loss`) for half of the budget and then
NSGA-II or level switches (`evolution`) on from them, and plans at random. Every way begins with the original model.
The per-layer tables are those of `lrfdse explore` for the target, so latency under the meter `model` is modelled.
Scores are on the data that choose, of models whose layers were fitted one by one (`--no-correct`); a plan that several
ways try is evaluated once.

The hypervolume is that of the designs found, over (log params, log latency, loss) between the original model and the
least params and latency of any plan and a loss of `WORST_LOSS`; 1 would be the smallest and fastest plan without loss.

The models: the example; a classifier of scikit-learn's digits, trained here; and RapidOCR's recogniser as in
`benchmarks.rapidocr` (both need the `bench` extra).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import described, machine
from benchmarks.mlp import write_mlp
from benchmarks.program import parser
from benchmarks.results import RAW, TOP, table, write
from lrfdse.base.events import silent
from lrfdse.base.store import Store
from lrfdse.explore.inputs import open_inputs, settings_for
from lrfdse.explore.layers.fits import explored_layers, open_fits
from lrfdse.explore.layers.options import study_layers
from lrfdse.explore.plans.assemble import assemble, metric_of, plan_of, warm_words
from lrfdse.explore.plans.evaluator import Evaluator
from lrfdse.explore.plans.proxy import predicted_errors
from lrfdse.explore.plans.search import tables
from lrfdse.explore.plans.stages import told_apart
from lrfdse.explore.requests import data_request, files_of, fit_request, kernel_request
from lrfdse.ir.plan import Design
from lrfdse.meters.meter import open_meter
from lrfdse.repair.builder import Builder
from lrfdse.results.settings import Data, Settings
from lrfdse.search.plans.knapsack import plans_by_regime
from lrfdse.search.plans.spread import spread
from lrfdse.search.plans.tables import PlanFront
from lrfdse.search.samplers.builtin import open_sampler
from lrfdse.search.samplers.protocol import Observation, Space

WORST_LOSS = 0.10
WAYS = ("knapsack", "knapsack by output", "nsga2", "knapsack, nsga2", "knapsack, evolution", "random")


class Task:
    """A model with its tables, and what is known of its plans."""

    def __init__(self, settings: Settings) -> None:
        inputs, cache = open_inputs(files_of(settings), data_request(settings)), Store(settings.cache)
        model, calib = inputs.model, inputs.calib
        fit = fit_request(settings, inputs)
        fits = open_fits(fit, model, calib, explored_layers(settings.space, model), cache)
        kernels = kernel_request(settings, open_meter(settings.meter, settings.target))
        self._target = settings.target
        self._layers = study_layers(settings.space, kernels, model, fits, cache, silent)
        self._evaluator = Evaluator(Builder(model, fits), inputs)
        self._metric = metric_of(inputs)
        self._known: dict[tuple[str, ...], Design] = {}
        self.fronts = {}
        for proxy in ("output", "loss"):
            errors = predicted_errors(proxy, fit, inputs, self._layers, self._evaluator, cache, silent)
            warm, cold = tables(self._layers, "warm", errors), tables(self._layers, "cold", errors)
            most = max(1.0, 0.25 * len(self._layers))
            self.fronts[proxy] = plans_by_regime(warm, cold, warm_words(settings.target), max_error=most)
        # The samplers see the errors of the last: evolution takes the plan of the least sum.
        self.space = Space(tuple(warm))
        self.base = self.design(tuple("dense" for _ in self.space.choices))

    def design(self, plan: tuple[str, ...]) -> Design:
        """Return what is known of a plan, evaluating it at its first use."""
        if plan not in self._known:
            named = plan_of(dict(zip(self.space.choices, plan, strict=True)), self._layers)
            scores = self._evaluator.scores(named, report=False)
            self._known[plan] = assemble(named, self._layers, self._target, scores, "")
        return self._known[plan]

    def observation_of(self, plan: tuple[str, ...]) -> Observation:
        """Return a plan as samplers see it."""
        design = self.design(plan)
        return Observation(plan, (design.latency.us, float(design.params), design.score(self._metric)))

    def point(self, plan: tuple[str, ...]) -> tuple[float, float, float]:
        """Return what a plan gains of what could be gained: in params, in latency, and in loss avoided."""
        design = self.design(plan)
        choices = [table.choices for table in self.space.tables]
        least = (
            sum(min(c.params for c in each) for each in choices),
            sum(min(c.latency_us for c in e) for e in choices),
        )
        base = (self.base.params, self.base.latency.us)
        gained = [
            float(np.log(b / own) / np.log(b / low))
            for b, own, low in zip(base, (design.params, design.latency.us), least, strict=True)
        ]
        loss = self.base.score(self._metric) - design.score(self._metric)
        return gained[0], min(gained[1], 1.0), min(1.0, 1 - loss / WORST_LOSS)


def tried(task: Task, way: str, budget: int, seed: int) -> Iterator[tuple[str, ...]]:
    """Yield the plans that a way tries, the original model first."""
    dense = tuple("dense" for _ in task.space.choices)
    plans = [dense]
    yield dense
    first, _, then = way.partition(", ")
    share = (budget // 2 if then else budget) if first.startswith("knapsack") else 0
    for plan in from_knapsack(task, task.fronts["output" if first.endswith("output") else "loss"], share):
        if plan not in plans and len(plans) < budget:
            plans.append(plan)
            yield plan
    if first.startswith("knapsack") and not then:
        return
    sampler = open_sampler(then or way)
    while (left := budget - len(plans)) > 0:
        observed = [task.observation_of(plan) for plan in plans]
        new = sampler.propose(task.space, observed, set(plans), seed, min(left, sampler.batch or left))
        if not new:
            return
        plans.extend(new)
        yield from new


def from_knapsack(task: Task, front: PlanFront, count: int) -> Iterator[tuple[str, ...]]:
    """Yield plans as `lrfdse explore` takes them: a quarter over the front, the others where losses are of use."""
    worst = float(np.quantile(front.error, 0.1)) if count else 0.0
    for i in spread(told_apart(front), count // 4):
        yield (plan := plan_at(task, front, i))
        if task.point(plan)[2] >= 0:
            worst = max(worst, float(front.error[i]))
    near = front.taken(np.flatnonzero(front.error <= worst))
    yield from (plan_at(task, near, i) for i in spread(told_apart(near), count))


def plan_at(task: Task, front: PlanFront, i: int) -> tuple[str, ...]:
    texts = front.texts(i)
    return tuple(texts[layer] for layer in task.space.choices)


def hypervolume(points: list[tuple[float, float, float]]) -> float:
    """Return the volume of the union of the boxes from the origin to the points, by slices of the last axis."""
    inside = sorted((p for p in points if min(p) > 0), key=lambda p: -p[2])
    volume = 0.0
    for i, (_, _, high) in enumerate(inside):
        low = inside[i + 1][2] if i + 1 < len(inside) else 0.0
        area, reached = 0.0, 0.0
        for x, y, _ in sorted(inside[: i + 1], key=lambda p: -p[0]):
            area += x * max(0.0, y - reached)
            reached = max(reached, y)
        volume += area * (high - low)
    return volume


def digits(folder: Path) -> Path:
    """Train a classifier of scikit-learn's digits and write it with its data."""
    from sklearn.datasets import load_digits
    from sklearn.neural_network import MLPClassifier

    if (folder / "test.npz").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = (images[order] / 16).astype(np.float32), labels[order]
    trained = MLPClassifier((256, 128), max_iter=60, random_state=0).fit(images[:1000], labels[:1000])
    pairs = zip(trained.coefs_, trained.intercepts_, strict=True)
    layers = [(weight.T.astype(np.float32), bias.astype(np.float32)) for weight, bias in pairs]
    write_mlp(folder / "model.onnx", "digits", "image", layers)
    np.savez_compressed(folder / "calib.npz", image=images[:1000])
    np.savez_compressed(folder / "eval.npz", image=images[1000:1400], labels=labels[1000:1400])
    np.savez_compressed(folder / "test.npz", image=images[1400:], labels=labels[1400:])
    return folder


def prepared(name: str, target: str, folder: Path, cache: Path) -> Settings:
    if name == "rapidocr":
        from benchmarks.recogniser import SHAPE, recogniser, render, vocabulary
        from lrfdse.cli.values import parse_shapes

        words, files = vocabulary(132, 0), {}
        for role, part in {"calib": words[:120], "eval": words[120:]}.items():
            files[role] = folder / name / f"{role}.npz"
            files[role].parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(files[role], x=render(part, 0))
        model, data = recogniser(), Data(files["calib"], files["eval"])
        settings = settings_for(model, target, "default", data, folder / name, parse_shapes([SHAPE]), cache=cache)
    else:
        model = digits(folder / "digits") if name == "digits" else TOP / "examples" / "lenet300-fashion"
        settings = settings_for(model, target, output=folder / name, cache=cache)
    return dataclasses.replace(settings, workers=1)


def one_model(name: str, options: argparse.Namespace) -> dict[str, Any]:
    task = Task(prepared(name, options.target, options.folder, options.folder / "cache"))
    curves: dict[str, list[list[float]]] = {}
    for way in WAYS:
        seeds = range(1 if way in WAYS[:2] else options.seeds)
        curves[way] = []
        for seed in seeds:
            points, curve = [], []
            for plan in tried(task, way, options.budget, seed):
                points.append(task.point(plan))
                curve.append(round(hypervolume(points), 5))
            curves[way].append(curve)
            print(f"{name} {way} seed {seed}: {curve[-1]:.4f} after {len(curve)} plans", flush=True)
    return {
        "model": name,
        "layers": len(task.space.tables),
        "plans": task.space.size,
        "seeds": options.seeds,
        "curves": curves,
    }


def at(curves: list[list[float]], plans: int) -> NDArray[np.float64]:
    return np.array([curve[min(plans, len(curve)) - 1] for curve in curves])


def page_of(about: dict[str, object], found: list[dict[str, Any]], target: str, budget: int) -> list[str]:
    """Return the page: a row for each model and way."""
    marks = [m for m in (10, 20, 40, 60, 100, 200) if m <= budget]
    rows = []
    for each in found:
        for way in WAYS:
            cells = []
            for mark in marks:
                values = at(each["curves"][way], mark)
                cells.append(f"{values.mean():.4f}" + (f" ± {values.std():.4f}" if len(values) > 1 else ""))
            rows.append([each["model"], each["layers"], f"{each['plans']:.3g}", each["seeds"], way, *cells])
    return [
        "# What the search over plans gains",
        "",
        "Written by `python -m benchmarks.search`, which says what is compared.",
        f"Target {target}; mean ± standard deviation over seeds; the knapsack has no seed.",
        "The numbers are hypervolumes: more is better.",
        "",
        described(about),
        "",
        *table(["model", "layers", "plans in all", "seeds", "way", *(f"{m} plans" for m in marks)], rows),
    ]


def main() -> None:
    asked = parser("search", __doc__)
    asked.add_argument("--models", default="lenet300-fashion,digits,rapidocr")
    asked.add_argument("--target", default="riscv64")
    asked.add_argument("--budget", type=int, default=60, help="plans (default %(default)s)")
    asked.add_argument("--seeds", type=int, default=5)
    asked.add_argument("--folder", type=Path, default=RAW / "search", metavar="DIR", help="data and cache")
    asked.add_argument("--keep", action="store_true", help="do not run again what the folder holds results of")
    asked.add_argument("--one", help=argparse.SUPPRESS)
    options = asked.parse_args()
    if options.one:
        (options.folder / f"{options.one}.json").write_text(json.dumps(one_model(options.one, options)))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    found = []
    for name in options.models.split(","):
        file = options.folder / f"{name}.json"
        if options.keep and file.is_file():
            found.append(json.loads(file.read_text()))
            continue
        # A process for each model: what one holds in memory is no part of the next one's.
        subprocess.run([sys.executable, "-m", "benchmarks.search", *sys.argv[1:], "--one", name], check=True)
        found.append(json.loads(file.read_text()))
    about = machine("optuna", "onnxruntime")
    lines = page_of(about, found, options.target, options.budget)
    print("\n".join(lines))
    write(options.out, "search", lines, {"machine": about, "models": found})


if __name__ == "__main__":
    main()
