"""Operators of whole models in three forms, modelled: float32, int8 weights with float arithmetic, int8 by int8.

The layers of results/kernels.md, dense. Every schedule of an operator is timed, and the fastest counts. Rounding the
input is part of the third form. tests/kernels/operators hold what operators compute against NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.kernels.layers import Layer
from benchmarks.results import table
from lrfdse.base.events import Listener
from lrfdse.ir.factorization import Step
from lrfdse.ir.operators import Operator
from lrfdse.ir.products import FullyConnected
from lrfdse.ir.quantized import QuantizedProduct, Rounding
from lrfdse.library.tuning import timed_schedules
from lrfdse.meters.whole import open_whole_meter
from lrfdse.targets.target import Target

ROUNDING = Rounding(0.03125, -128)
"""Of the inputs. Latency does not depend on it."""


@dataclass(frozen=True, slots=True)
class Trio:
    """A layer's latencies, warm, in microseconds."""

    layer: Layer
    rows: int
    float32: float
    weights: float
    """With int8 weights."""
    both: float
    """Int8 by int8."""


def forms(layer: Layer, rows: int) -> tuple[Operator, Operator, Operator]:
    """Return a dense layer's operators: float32, int8 weights, int8 by int8."""
    step = Step(rows, layer.outputs, layer.inputs, 1)
    return FullyConnected(step), FullyConnected(step, weight="int8"), QuantizedProduct(step, ROUNDING)


def trios(layers: Sequence[Layer], rows: int, target: Target, progress: Listener) -> list[Trio]:
    """Time the three forms of layers on a target."""
    meter = open_whole_meter("model", target)
    found = []
    for layer in layers:
        timed = timed_schedules(forms(layer, rows), target, meter, progress)
        found.append(Trio(layer, rows, *(min(each)[0] for each in timed.values())))
    return found


def section(target: Target, found: Sequence[Trio]) -> list[str]:
    """Return the lines of one target."""
    heads = ("layer", "rows", "us float32", "us int8 weights", "us int8 by int8", "float32 / int8 by int8")
    each = [
        (
            f"{t.layer.inputs}→{t.layer.outputs}",
            t.rows,
            *(f"{us:.3g}" for us in (t.float32, t.weights, t.both)),
            f"{t.float32 / t.both:.2f}",
        )
        for t in found
    ]
    mean = math.exp(sum(math.log(t.float32 / t.both) for t in found) / len(found))
    return [
        f"### {target.name}: whole numbers, modelled",
        "",
        f"{target.summary}. Geometric mean of the gains: {mean:.2f}.",
        "",
        *table(heads, each),
        "",
    ]
