"""Explore the RapidOCR text recogniser, a real model that lrfdse was not tuned for; writes results/rapidocr.md.

The model comes with the package rapidocr-onnxruntime (``pip install 'lrfdse[bench]'``, Apache-2.0); nothing is
downloaded.
Calibration, evaluation and test data are rendered here from words of Python's own documentation: synthetic and
English only, so the numbers say how well a design keeps what the model does on such images, not on photographs.
Designs are chosen and reported by fidelity to the original model; for the designs whose models are kept, the share of
test words that are read without a mistake is added.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lrfdse
from benchmarks.machine import described, machine
from benchmarks.program import LRFDSE, parser
from benchmarks.recogniser import SHAPE, alphabet_of, decoded, recogniser, render, vocabulary
from benchmarks.results import RAW, table, write
from lrfdse.base.privacy import load_onnxruntime


def main() -> int:
    asked = parser("rapidocr", __doc__, "Options after -- go to lrfdse explore.")
    asked.add_argument("--target", default="riscv64")
    asked.add_argument("--folder", type=Path, default=RAW / "rapidocr", metavar="DIR", help="data and exploration")
    asked.add_argument("--calib", type=int, default=200, help="images for calibration (default %(default)s)")
    asked.add_argument("--eval", type=int, default=60, help="images that choose (default %(default)s)")
    asked.add_argument("--test", type=int, default=100, help="images that report (default %(default)s)")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("explore", nargs="*", help="further options of lrfdse explore")
    options = asked.parse_args()

    model = recogniser()
    data = options.folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    counts = {"calib": options.calib, "eval": options.eval, "test": options.test}
    words = vocabulary(sum(counts.values()), options.seed)
    parts = {}
    for name, count in counts.items():
        parts[name], words = words[:count], words[count:]
        np.savez_compressed(data / f"{name}.npz", x=render(parts[name], options.seed))

    found = options.folder / options.target
    command = [LRFDSE, "explore", str(model), "--target", options.target]
    command += ["--shape", SHAPE, "--output", str(found), *options.explore]
    for name in counts:
        command += [f"--{name}", str(data / f"{name}.npz")]
    print(" ".join(command), flush=True)
    started = time.monotonic()
    status = subprocess.run(command, check=False).returncode
    if status:
        return status
    report(model, found, parts["test"], np.load(data / "test.npz")["x"], time.monotonic() - started, options.out)
    return 0


def report(model: Path, found: Path, words: list[str], images: NDArray[np.float32], seconds: float, out: Path) -> None:
    """Print the designs of an exploration, and write them to ``rapidocr.md`` in `out`."""
    front = lrfdse.load(found).document
    rows: list[dict[str, Any]] = []
    designs = {design.id: design for design in (front.original, *front.designs)}
    for design in sorted(designs.values(), key=lambda design: -design.charged.us):
        original = design.id == front.original.id
        kept = model if original else found / design.model if design.model else None
        rows.append(
            {
                "design": design.id + (" (original)" if original else ""),
                "params": design.params,
                "flops": design.flops,
                "latency_us": design.charged.us,
                "fidelity": design.fidelity,
                "words_read": words_read(kept, words, images) if kept else None,
                "head": str(design.plan[front.layers[-1].name]),
            }
        )
    about = machine("onnxruntime", "apache-tvm") | {"meter": front.meter.name, "seconds": round(seconds)}
    lines = [
        f"# {model.name} on {front.target.name}",
        "",
        f"Written by `python -m benchmarks.rapidocr`: {len(front.layers)} fully-connected layers, explored end to",
        "end with no setting but the input's shape. Latency is of these layers, by the meter",
        f"`{front.meter.name}` (`model` is modelled). Fidelity is taken on the rendered images that choose; the share",
        "of words read without a mistake on",
        f"{len(words)} others, for the designs that were kept.",
        "",
        described(about),
        "",
        *table(
            ["design", "params", "MFLOP", "latency us", "fidelity", "words read", "head"],
            [
                [
                    r["design"],
                    f"{r['params']:,}",
                    f"{r['flops'] / 1e6:.2f}",
                    f"{r['latency_us']:,.0f}",
                    f"{r['fidelity']:.2%}",
                    "" if r["words_read"] is None else f"{r['words_read']:.0%}",
                    r["head"],
                ]
                for r in rows
            ],
        ),
    ]
    print("\n".join(lines))
    write(out, "rapidocr", lines, {"machine": about, "designs": rows})


def words_read(model: Path, words: list[str], images: NDArray[np.float32]) -> float:
    """Return the share of words that a model reads without a mistake."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    alphabet = alphabet_of(session.get_modelmeta().custom_metadata_map["character"])
    right = 0
    for word, image in zip(words, images, strict=True):
        (scores,) = session.run(None, {"x": image[None]})
        right += decoded(scores[0], alphabet) == word
    return right / len(words)


if __name__ == "__main__":
    sys.exit(main())
