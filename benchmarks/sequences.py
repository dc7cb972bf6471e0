"""Compress recurrent classifiers and an embedding without training; writes results/sequences.md.

The models are those of ``scripts/train_sequences.py``. Each is explored once, with as many parameters as leave the
whole file a fourth of the original's weights, recurrent matrices included, which nothing compresses. Validation data
choose; every score is of test data that chose nothing.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import lrfdse
from benchmarks.machine import described, machine
from benchmarks.program import LRFDSE, parser
from benchmarks.results import RAW, table, write
from lrfdse.base.privacy import load_onnxruntime

MODELS = ("lstm", "gru", "words")


def main() -> int:
    asked = parser("sequences", __doc__, "Options after -- go to lrfdse explore.")
    asked.add_argument("--target", default="riscv64")
    asked.add_argument("--models", type=Path, default=Path.home() / ".cache" / "lrfdse" / "models", metavar="DIR")
    asked.add_argument("--only", nargs="+", choices=MODELS, default=list(MODELS))
    asked.add_argument("--seed", type=int, default=1, help="of training, which names the folder")
    asked.add_argument("--folder", type=Path, default=RAW / "sequences", metavar="DIR", help="explorations")
    asked.add_argument("--smaller", type=float, default=4.0, help="times that the weights are to be fewer")
    asked.add_argument("explore", nargs="*", help="further options of lrfdse explore")
    options = asked.parse_args()
    rows, seconds = [], {}
    for name in options.only:
        data, found = options.models / f"{name}-{options.seed}", options.folder / name
        original = weights(data / "model.onnx")
        rest = sum(part.params for part in lrfdse.inspect(data / "model.onnx", "riscv64").untouched)
        command = [LRFDSE, "explore", str(data / "model.onnx"), "--target", options.target, "--output", str(found)]
        command += ["--max-params", str(int(original / options.smaller) - rest), *options.explore]
        for part in ("calib", "eval", "test"):
            command += [f"--{part}", str(data / f"{part}.npz")]
        print(" ".join(command), flush=True)
        started = time.monotonic()
        if status := subprocess.run(command, check=False).returncode:
            return status
        seconds[name] = round(time.monotonic() - started)
        rows += compared(name, data, found, rest)
    about = machine("onnxruntime", "apache-tvm") | {"target": options.target, "seconds": seconds}
    lines = [
        "# Recurrent layers and embeddings without training",
        "",
        "Written by `python -m benchmarks.sequences`. Weights are all of the file, what cannot be compressed included;",
        f"designs were to have {options.smaller:g} times fewer. Accuracy is that of the test data, in onnxruntime.",
        "",
        described(about),
        "",
        *table(
            ["model", "design", "weights", "fewer", "MACs of the layers", "test accuracy", "lost", "plan"],
            [
                [
                    row["model"],
                    row["design"],
                    f"{row['weights']:,}",
                    f"{row['fewer']:.2f}x",
                    f"{row['macs']:,}",
                    f"{row['test']:.2f} %",
                    f"{row['lost']:+.2f}",
                    row["plan"],
                ]
                for row in rows
            ],
        ),
    ]
    print("\n".join(lines))
    write(options.out, "sequences", lines, {"machine": about, "rows": rows})
    return 0


def compared(name: str, data: Path, found: Path, rest: int) -> list[dict[str, Any]]:
    """Return the original, the recommended design and SVD of equal size, each as its file scores."""
    document = lrfdse.load(found).document
    before, size = accuracy(data / "model.onnx", data / "test.npz"), weights(data / "model.onnx")
    rows = [_row(name, "original", document.original.flops, size, size, before, before, "")]
    best = document.best
    plain = next((each for each in document.every_design() if each.id == document.svd_at_equal_size), None)
    for words, design in (("recommended", best), ("SVD at equal size", plain)):
        if design is None or design.model is None:
            continue
        file = found / design.model
        plan = ", ".join(f"{layer}={text}" for layer, text in design.plan.items() if str(text) != "dense")
        rows.append(
            _row(name, words, design.flops, weights(file), size, accuracy(file, data / "test.npz"), before, plan)
        )
    return rows


def _row(
    name: str, design: str, flops: int, size: int, original: int, test: float, before: float, plan: str
) -> dict[str, Any]:
    return {
        "model": name,
        "design": design,
        "weights": size,
        "fewer": original / size,
        "macs": flops // 2,
        "test": test,
        "lost": test - before,
        "plan": plan,
    }


def weights(model: Path) -> int:
    """Return the elements of floating point that a file stores."""
    stored = onnx.load(model).graph.initializer
    return sum(int(np.prod(tensor.dims)) for tensor in stored if tensor.data_type == onnx.TensorProto.FLOAT)


def accuracy(model: Path, part: Path) -> float:
    """Return the percentage of samples that a file classifies correctly."""
    session = load_onnxruntime().InferenceSession(str(model), providers=["CPUExecutionProvider"])
    with np.load(part) as stored:
        labels = stored["labels"]
        (logits,) = session.run(["logits"], {name: stored[name] for name in stored.files if name != "labels"})
    return 100 * float(np.mean(logits.argmax(axis=1) == labels))


if __name__ == "__main__":
    raise SystemExit(main())
