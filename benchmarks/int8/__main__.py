"""Int8 weights with float arithmetic: writes results/int8.md.

Speed: the layers of results/kernels.md as kernels with float32 and with int8 weights, modelled (docs/meter.md).
Accuracy: models by SVD at several sizes, corrected as plans are, in float32, in int8 with fits that know the rounding,
and rounded to int8 afterwards (docs/int8.md).

Measured kernels and fits are kept in the cache, so that a run that was ended goes on where it was.
"""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.int8.accuracy import rows
from benchmarks.int8.accuracy import section as accuracy_of
from benchmarks.int8.speed import speed
from benchmarks.kernels.layers import LAYERS, QUICK, named
from benchmarks.machine import described, machine
from benchmarks.program import parser
from benchmarks.results import TOP, write
from lrfdse.base.folders import cache_folder
from lrfdse.base.store import Store
from lrfdse.targets.catalog import load_target

TARGETS = ("riscv64", "aarch64-a55")
EXAMPLE = TOP / "examples" / "lenet300-fashion"


def main() -> None:
    asked = parser("int8", __doc__)
    asked.add_argument("--quick", action="store_true", help="six layers")
    asked.add_argument("--target", action="append", help="only this target (repeatable)")
    asked.add_argument("--layer", action="append", help="only this layer, by name (repeatable)")
    asked.add_argument("--model", action="append", type=Path, help="folder of a model with calib and test (repeatable)")
    asked.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that compile and emulate")
    options = asked.parse_args()
    layers = named(options.layer or QUICK) if options.quick or options.layer else list(LAYERS)
    cache, lines, numbers = Store(cache_folder()), [], {}
    for name in options.target or TARGETS:
        found, numbers[name] = speed(load_target(name), layers, cache, options.jobs)
        lines += found
    losses = []
    for folder in options.model or [EXAMPLE]:
        losses += accuracy_of(folder.name, list(rows(folder, cache)))
    head = [
        "# Int8 weights",
        "",
        "Written by `python -m benchmarks.int8`.",
        "",
        described(machine("onnxruntime")),
        "",
        "## Speed",
        "",
        "One call at one row with the weights just used, of a kernel with float32 weights and of one with int8 weights",
        "of the same factorization; arithmetic is in float32 in both. Every output was checked against float64 of the",
        "same weights. *longer* says what takes more of the float32 kernel at the target's peak rates.",
        "",
    ]
    accuracy = [
        "## Accuracy",
        "",
        "On test data, which chose nothing, in onnxruntime, as points against the original. Layers of 2,000 weights",
        "or more are dense or SVDs of one compression, corrected as plans are in float32 and in *int8, fitted to it*;",
        "*int8, afterwards* is the float32 version with its weights rounded against what they read. Bytes are of the",
        "weights of the layers, scales and biases included.",
        "",
    ]
    write(options.out, "int8", [*head, *lines, *accuracy, *losses], numbers)


if __name__ == "__main__":
    main()
