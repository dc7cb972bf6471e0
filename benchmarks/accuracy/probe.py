"""What predicts the loss: layers compressed alone, error proxies of an allocation, the surrogate's pick."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from benchmarks.accuracy.cases import Outputs
from benchmarks.accuracy.columns import Runs
from benchmarks.accuracy.compress import Compressor, front_of, spread_out
from benchmarks.accuracy.families import Option
from benchmarks.keys import code
from benchmarks.records import Record
from lrfdse.base.keys import digest
from lrfdse.ir.factorization import Factorization
from lrfdse.model.runtime import Runtime

Known = Callable[[str], bool]

PROXIES = ("weight error", "output error", "loss", "fidelity", "score")


def deviation(outputs: Outputs, reference: Outputs) -> float:
    """Return the squared error of the first output relative to the variance of the original's."""
    name = next(iter(reference))
    wide, before = outputs[name].astype(np.float64), reference[name].astype(np.float64)
    centred = before - before.mean(axis=0)
    return float(np.sum((wide - before) ** 2) / max(float(np.sum(centred**2)), np.finfo(np.float64).tiny))


def alone(compressor: Compressor, runs: Runs, known: Known) -> Iterator[Record]:
    """Yield, for every layer and probe ratio, what the model loses when activation-aware SVD compresses that alone.

    Beside it stand the normalized effective ranks of the layer's weight, of its inputs' covariance (a root of it), and
    of the weight times that root, whose singular values are those of the layer's outputs.
    """
    from lrfdse.factorize.spectra import normalized_effective_rank

    case = compressor.case
    for name in case.layers:
        key = digest("alone", code(alone), compressor.key, name, runs.probes)
        if known(key):
            continue
        root = compressor.fits("asvd").fitter(compressor.layer(name)).root
        weight = case.model.weight(name)
        ranks = {
            "weight": normalized_effective_rank(weight),
            "inputs": normalized_effective_rank(root),
            "outputs": normalized_effective_rank(weight @ root),
        }
        measured = []
        for ratio in runs.probes:
            option = compressor.option("asvd", name, ratio)
            if option is not None:
                loss, drop = measure(compressor, name, option)
                measured.append({"ratio": ratio, "deviation": loss, "drop": drop, **dataclasses.asdict(option)})
                measured[-1]["shape"] = str(option.shape)
        yield {
            "kind": "alone", "key": key, "model": case.name, "seed": case.seed, "layer": name,
            "effective_ranks": ranks, "measured": measured,
        }  # fmt: skip


def measure(compressor: Compressor, name: str, option: Option) -> tuple[float, float]:
    """Return the outputs' deviation and the score's drop on the data that choose, with one layer compressed."""
    case = compressor.case
    part = case.choosing
    base = case.scores(case.model.content, (part,))[part.name]
    factors = compressor.factors("any", {name: option.shape})
    outputs = Runtime().run(compressor.content(factors), part.data)
    reference = case.reference[part.name]
    return deviation(outputs, reference), base - part.score(outputs, reference)


def proxies(compressor: Compressor, runs: Runs, known: Known) -> Iterator[Record]:
    """Yield what the plans score that an allocation by each error proxy chooses, from the same options.

    Loss is that of `--proxy loss`, from a few options a layer on calibration data. Fidelity is the deviation of the
    model's outputs, score the drop of its score, both measured for every option on the data that choose with one layer
    compressed; the drop is made monotone in the deviation, because it is full of ties and noise.
    """
    case = compressor.case
    if len(case.layers) < 2 or not runs.alone:
        return
    key = digest("proxies", code(proxies), compressor.key, runs.ratios, runs.alone)
    if known(key):
        return
    tables: dict[str, dict[str, dict[Factorization, float]]] = {proxy: {} for proxy in PROXIES}
    for name in case.layers:
        chosen = spread_out(front_of(compressor.options("any", name)), runs.alone)
        tables["loss"][name] = compressor.losses(name, chosen)
        measured = [measure(compressor, name, option) for option in chosen]
        drops = _monotone([loss for loss, _ in measured], [drop for _, drop in measured])
        for option, (loss, _), drop in zip(chosen, measured, drops, strict=True):
            tables["weight error"].setdefault(name, {})[option.shape] = option.weight_error**2
            tables["output error"].setdefault(name, {})[option.shape] = option.output_error**2
            tables["fidelity"].setdefault(name, {})[option.shape] = loss
            tables["score"].setdefault(name, {})[option.shape] = drop
    results = []
    for ratio in runs.ratios:
        for proxy in PROXIES:
            plan = compressor.allocated("any", ratio, tables[proxy])
            if plan is None:
                continue
            content = compressor.content(compressor.factors("any", plan))
            scores = case.scores(content, (case.choosing, *case.reporting))
            results.append({"ratio": ratio, "proxy": proxy, "scores": scores})
    yield {"kind": "proxies", "key": key, "model": case.name, "seed": case.seed, "results": results}


def surrogate(compressor: Compressor, known: Known, most: int = 40_000) -> Iterator[Record]:
    """Yield how good the surrogate's pick is among all fitted trains of two cores, on layers of few weights."""
    case = compressor.case
    for name in case.layers:
        layer = compressor.layer(name)
        key = digest("surrogate", code(surrogate), compressor.key, name)
        if layer.outputs * layer.inputs > most or known(key):
            continue
        results = []
        for ratio in (8.0, 16.0):
            shapes = compressor.shapes("att2", name, ratio, 10_000)
            fitted = [compressor.fitted("att2", name, shape).error(True) ** 0.5 for shape in shapes]
            best = float(min(fitted))
            results.append(
                {
                    "ratio": ratio,
                    "shapes": len(shapes),
                    "best": best,
                    "first": fitted[0] / best - 1,
                    "first_three": min(fitted[:3]) / best - 1,
                    "first_five": min(fitted[:5]) / best - 1,
                }
            )
        yield {
            "kind": "surrogate", "key": key, "model": case.name, "seed": case.seed, "layer": name, "results": results,
        }  # fmt: skip


def _monotone(order: list[float], values: list[float]) -> list[float]:
    """Return the values fitted by least squares to rise with `order` (pooling neighbours), none below 0.

    >>> _monotone([3.0, 1.0, 2.0], [5.0, -1.0, 7.0])
    [6.0, 0.0, 6.0]
    """
    pools: list[tuple[float, list[int]]] = []
    for place in np.argsort(order, kind="stable").tolist():
        pools.append((values[place], [place]))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (high, before), (low, after) = pools[-2], pools[-1]
            total = high * len(before) + low * len(after)
            pools[-2:] = [(total / (len(before) + len(after)), before + after)]
    fitted = [0.0] * len(values)
    for value, places in pools:
        for place in places:
            fitted[place] = max(value, 0.0)
    return fitted


def summary(records: Mapping[str, Record]) -> dict[str, list[Record]]:
    """Return records by kind, in the order of models, seeds and layers."""
    found: dict[str, list[Record]] = {"alone": [], "proxies": [], "surrogate": []}
    for record in records.values():
        found[record["kind"]].append(record)
    return found
