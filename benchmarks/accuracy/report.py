"""The benchmark's page: goals, the question that users ask, tables, and what predicts the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.accuracy.columns import Row, Runs
from benchmarks.accuracy.latency import Latencies
from benchmarks.accuracy.pooled import Pooled, chosen, pooled
from benchmarks.accuracy.predictors import predictors
from benchmarks.machine import described
from benchmarks.records import Record
from benchmarks.results import table

GOALS = (
    ("lenet300", 8.0, 88.9, "fine-tuned TT reached 88.8"),
    ("lenet300", 16.0, 87.3, "fine-tuned TT reached 87.3"),
    ("lenet300", 32.0, 82.0, "fine-tuned TT reached 84.9"),
    ("mlp1024", 16.0, 88.9, "fine-tuned SVD reached 89.0"),
    ("mlp1024", 32.0, 86.9, "fine-tuned SVD reached 87.1"),
    ("conv512", 64.0, 88.0, "without fine-tuning SVD had 75.8"),
    ("rapidocr-head", 2.0, 95.0, "without fine-tuning SVD had 92.7"),
    ("rapidocr-head", 4.0, 75.0, "without fine-tuning SVD had 57.3"),
    ("minilm", 2.0, 61.0, "without fine-tuning SVD had 56.4"),
)
"""Model, ratio, test score wanted, what was known when the goal was set."""

ABOUT = {
    "lenet300": "LeNet-300-100 on Fashion-MNIST: layers 784x300 and 300x100; % of 10 000 test images right",
    "mlp1024": "MLP 784-1024-1024-10 on Fashion-MNIST: layers 784x1024 and 1024x1024; % of 10 000 test images right",
    "conv512": "Two convolutions, 3136x512, 10 classes on Fashion-MNIST: the layer 3136x512; % of 10 000 images right",
    "rapidocr-head": "RapidOCR's recogniser, its head 120x6625 alone; % of 150 rendered words read without a mistake",
    "rapidocr": "RapidOCR's recogniser, all 9 fully-connected layers; % of 150 rendered words read without a mistake",
    "minilm": "MiniLM, all 36 layers: Pearson x 100 with human similarities of the 1225 pairs of 50 documents",
}

MOST_DROP = 1.0
"""Points of the score on the data that choose which count as equal accuracy."""


def document(
    rows: Sequence[Row],
    records: Mapping[str, list[Record]],
    timed: Latencies,
    runs: Mapping[str, Runs],
    target: str,
    about: dict[str, object],
) -> tuple[list[str], dict[str, Any]]:
    """Return the page's lines, and all numbers as JSON values."""
    groups = pooled(rows, timed)
    seeds = ", ".join(f"{group.model} {len(group.seeds)}" for group in groups if group.family == "dense")
    lines = [
        "# Accuracy without training",
        "",
        f"Written by `python -m benchmarks.accuracy`. {described(about)}",
        "",
        "Ratio: weights of the compressed layers, dense over factorized; the 10-class heads stay dense. Factors are",
        "fitted on calibration data without labels (2048 training images; 200 rendered words; 240 documents), every",
        "choice is made on calibration and validation data, and every score is of test data that chose nothing: mean",
        f"and standard deviation over seeds ({seeds}).",
        "A seed is of training and of the calibration draw; of the draw alone for models that are not trained here.",
        "Trains have exactly two or three cores, are no plain SVD and need fewer MACs than the dense layer; *any path*",
        "chooses among all kinds fitted to outputs. *Allocated*: the layers share the weights by the",
        "knapsack on predicted loss (on weight error where the kind knows only weights). *Corrected*: fitted in graph",
        "order on what the compressed model feeds each layer, as far as that helps calibration samples held out; *in",
        "sweeps*: and then refined on the loss of the whole model. The bias is corrected everywhere.",
        *(_latency_is(target) if timed else ["Nothing was timed (`--target none`)."]),
        "",
        *_goals(groups),
        *_question(groups, rows, timed),
        *_never_below(groups),
    ]
    for name, run in runs.items():
        lines += _model(name, run, groups)
    lines += predictors(records)
    found = {
        "rows": [{**row.to_json(), "title": row.title, "latency_us": timed.get(row.key)} for row in rows],
        "records": dict(records),
    }
    return lines, found


def _latency_is(target: str) -> list[str]:
    return [
        f"Latency is modelled ({target}, the meter `model` of docs/meter.md), of all fully-connected layers of the",
        "first seed's designs, microseconds a sample; it is no measurement.",
    ]


def _goals(groups: Sequence[Pooled]) -> list[str]:
    lines = ["## Goals", "", "The column is the one of the best score on validation data, seed by seed.", ""]
    rows = []
    for model, ratio, goal, note in GOALS:
        best = chosen([g for g in groups if (g.model, g.ratio) == (model, ratio)])
        if best is None:
            continue
        reached = "yes" if best.test >= goal else f"no, by {goal - best.test:.2f}"
        rows.append([model, f"{ratio:g}x", goal, best.score, reached, best.title, note])
    return [*lines, *table(["model", "ratio", "goal", "test", "reached", "column", "known before"], rows), ""]


def _question(groups: Sequence[Pooled], rows: Sequence[Row], timed: Latencies) -> list[str]:
    lines = [
        "## At equal accuracy, which factorization is smallest, which is fastest?",
        "",
        "For every kind, over its columns and ratios, the design of fewest parameters and the one of least modelled",
        f"latency that lose at most {MOST_DROP:g} point on validation data. Parameters and MACs are of the compressed",
        "layers; latencies are known at the ratios of the tables below.",
        "",
    ]
    heads = ["model", "kind", "smallest", "params", "MACs", "test", "lost", "fastest", "us", "MACs", "test", "lost"]
    if not timed:
        lines = [
            "## At equal accuracy, which factorization is smallest?",
            "",
            "For every kind, over its columns and ratios, the design of fewest parameters that loses at most",
            f"{MOST_DROP:g} point on validation data. Parameters and MACs are of the compressed layers.",
            "",
        ]
        del heads[7:]
    table_rows: list[list[str]] = []
    told: list[str] = []
    for model in dict.fromkeys(g.model for g in groups):
        own = [g for g in groups if g.model == model]
        base = next(g for g in own if g.family == "dense")
        equal = [g for g in own if g is not base and _is_equal(g, base)]
        smallest, fastest = {}, {}
        for family in dict.fromkeys(g.family for g in equal):
            kind = [g for g in equal if g.family == family]
            small = smallest[family] = min(kind, key=lambda g: g.params)
            fast = min((g for g in kind if g.us is not None), key=lambda g: g.us or 0.0, default=None)
            cells = ["-"] * 5 if timed else []
            if fast is not None:
                fastest[family] = fast
                cells = [
                    f"{fast.short} {fast.ratio:g}x",
                    f"{fast.us:,.1f}",
                    _thousands(fast.macs),
                    fast.score,
                    _lost(base, fast),
                ]
            best = [model, small.kind, f"{small.short} {small.ratio:g}x", _thousands(small.params)]
            best += [_thousands(small.macs), small.score, _lost(base, small)]
            table_rows.append([*best, *cells])
        told += _answer(model, base, smallest, fastest, rows, timed)
    return [*lines, *table(heads, table_rows), "", *told, ""]


def smallest_rows(rows: Sequence[Row]) -> list[Row]:
    """Return the first seed's rows of the smallest designs at equal accuracy, one a model and kind."""
    groups = pooled(rows, {})
    best: dict[tuple[str, str], Pooled] = {}
    for group in groups:
        base = next(g for g in groups if (g.model, g.family) == (group.model, "dense"))
        key = group.model, group.family
        if group is not base and _is_equal(group, base) and (key not in best or group.params < best[key].params):
            best[key] = group
    keys = {group.keys[0] for group in best.values()}
    return [row for row in rows if row.key in keys]


def _is_equal(group: Pooled, base: Pooled) -> bool:
    return group.seeds == base.seeds and base.choosing - group.choosing <= MOST_DROP


def _answer(
    model: str,
    base: Pooled,
    smallest: Mapping[str, Pooled],
    fastest: Mapping[str, Pooled],
    rows: Sequence[Row],
    timed: Latencies,
) -> list[str]:
    if not smallest:
        return [f"- **{model}**: nothing loses so little."]
    small = min(smallest.values(), key=lambda g: g.params)
    parts = [
        f"smallest is {small.kind} ({small.short} {small.ratio:g}x), {base.params / small.params:.1f} times below dense"
    ]
    plain = [smallest[f] for f in ("svd", "asvd") if f in smallest]
    if plain and small.family not in ("svd", "asvd"):
        parts[-1] += f" and {min(g.params for g in plain) / small.params:.2f} times below the smallest SVD"
    if fastest and base.us:
        fast = min(fastest.values(), key=lambda g: g.us or 0.0)
        times = base.us / (fast.us or 1)
        parts.append(f"fastest is {fast.kind} ({fast.short} {fast.ratio:g}x), {times:.1f} times the dense speed")
        svd = [fastest[f] for f in ("svd", "asvd") if f in fastest]
        if svd and fast.family not in ("svd", "asvd"):
            parts[-1] += f" and {min(g.us or 0.0 for g in svd) / (fast.us or 1):.2f} times that of the fastest SVD"
    lines = [f"- **{model}**: {'; '.join(parts)}."]
    row = next(r for r in rows if r.key == small.keys[0])
    if len(row.plan) <= 9:
        layers = [
            f"{name} `{text}`" + (f" {timed[row.key][name]:,.1f} us" if row.key in timed else "")
            + (f" (dense {timed[base.keys[0]][name]:,.1f})" if base.keys[0] in timed else "")
            for name, text in row.plan.items()
        ]  # fmt: skip
        lines.append(f"  By layer, first seed: {', '.join(layers)}.")
    return lines


def _never_below(groups: Sequence[Pooled]) -> list[str]:
    lines = [
        "## Any path, allocated, beside SVD",
        "",
        "Test score of *any path*, allocated and corrected without sweeps (uniform where there is one layer), less",
        "that of the better of SVD and activation-aware SVD, uniform or allocated, not corrected.",
        "",
    ]
    rows = []
    for model, ratio in dict.fromkeys((g.model, g.ratio) for g in groups if g.family == "any"):
        own = [g for g in groups if (g.model, g.ratio) == (model, ratio) and not g.more]
        ours = max((g for g in own if g.family == "any"), key=lambda g: (g.allocated, g.corrected, -g.sweeps))
        rivals = [g for g in own if g.family in ("svd", "asvd") and not g.corrected]
        if rivals:
            rival = max(rivals, key=lambda g: g.test)
            difference = f"{ours.test - rival.test:+.2f}"
            rows.append([model, f"{ratio:g}x", ours.score, rival.score, difference, rival.title])
    return [*lines, *table(["model", "ratio", "any path", "best SVD", "difference", "which"], rows), ""]


def _model(name: str, runs: Runs, groups: Sequence[Pooled]) -> list[str]:
    own = [g for g in groups if g.model == name]
    base = next((g for g in own if g.family == "dense"), None)
    if base is None:
        return []
    extra = "".join(f"; {part} {value:.2f}" for part, value in base.others.items())
    speed = "" if base.us is None else f", {base.us:,.1f} us in all fully-connected layers"
    lines = [
        f"## {name}",
        "",
        f"{ABOUT[name]}. Original: {base.score}{extra}; {_thousands(base.params)} weights, "
        f"{_thousands(base.macs)} MACs in these layers{speed}.",
        f"Cells: test score, parameters, MACs{'' if base.us is None else ', modelled latency in us'}.",
        "",
    ]
    rows = []
    for title in dict.fromkeys(g.title for g in own if g.family != "dense"):
        cells = [next((g for g in own if (g.title, g.ratio) == (title, ratio)), None) for ratio in runs.ratios]
        rows.append([title, *("-" if g is None else _cell(g) for g in cells)])
    best = [chosen([g for g in own if g.ratio == ratio]) for ratio in runs.ratios]
    rows.append(["**best on validation**", *("-" if g is None else f"**{g.score}**" for g in best)])
    return [*lines, *table(["", *(f"{ratio:g}x" for ratio in runs.ratios)], rows), ""]


def _cell(group: Pooled) -> str:
    parts = [group.score, _thousands(group.params), _thousands(group.macs)]
    parts += [f"{value:.1f} {part}" for part, value in group.others.items()]
    return " · ".join([*parts, *([] if group.us is None else [f"{group.us:,.1f}"])])


def _lost(base: Pooled, group: Pooled) -> str:
    return f"{base.test - group.test:.2f}"


def _thousands(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2f}M"
    return f"{value / 1e3:.1f}k"
