"""Explore large models from an empty cache: time, CPU time and memory by stage.

The models are VGG-16's fully-connected layers, with synthetic weights of full rank and singular values ``i^-0.7``; the
sentence encoder of `benchmarks.accuracy.minilm`, calibrated with 240 documents of 128 tokens and chosen by 60; and the
text recogniser of `benchmarks.recogniser` with the data of `benchmarks.rapidocr`. `lrfdse explore` runs as a child
process, two workers, one BLAS thread each; CPU time and memory (proportional set size) are those of its whole process
tree, and a stage is what the run's log last told of. Writes results/scale.md, with the earlier runs of other names that
results/scale.json holds.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import lrfdse
from benchmarks import recogniser
from benchmarks.accuracy import minilm
from benchmarks.machine import commit, described, machine
from benchmarks.mlp import write_mlp
from benchmarks.program import LRFDSE, ONE_THREAD, parser
from benchmarks.results import RAW, page, table
from lrfdse.base.files import write_atomically

SIZES = (25088, 4096, 4096, 1000)
DECAY = 0.7
MIB = 1 << 20
_NAMED = 5
"""Layers that the page names; of more it has the number."""


def main() -> int:
    asked = parser("scale", __doc__, "Options after -- go to lrfdse explore.")
    asked.add_argument("--what", choices=("layers", "minilm", "recogniser"), default="layers", help="is explored")
    asked.add_argument("--sizes", default=",".join(map(str, SIZES)), help="inputs, then outputs of every layer")
    asked.add_argument("--samples", type=int, default=0, help="calibration samples (default: none)")
    asked.add_argument("--target", default="riscv64")
    asked.add_argument("--folder", type=Path, default=RAW / "scale", metavar="DIR", help="model, cache and output")
    asked.add_argument("--name", help="of the row in the results (default: by samples)")
    asked.add_argument("explore", nargs="*", help="further options of lrfdse explore")
    options = asked.parse_args()
    sizes = tuple(map(int, options.sizes.split(",")))
    samples = "no data" if not options.samples else f"{options.samples} calibration samples"
    name = options.name or (samples if options.what == "layers" else options.what)
    folder = options.folder / name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if options.what == "layers":
        given = [str(write_model(folder / "model.onnx", sizes))]
        if options.samples:
            np.savez(folder / "calib.npz", x=inputs(options.samples, sizes[0]))
            given += ["--calib", str(folder / "calib.npz")]
    else:
        sizes, given = (), (encoder if options.what == "minilm" else reader)(folder)
    command = [LRFDSE, "explore", *given, "--target", options.target]
    command += ["--output", str(folder / "out"), "--cache", str(folder / "cache"), "--workers", "2", *options.explore]
    found = measured(command, folder / "out" / "log.jsonl", folder / "stderr.log")
    kept: dict[str, object] = {
        "sizes": sizes,
        "options": options.explore,
        "target": options.target,
        "commit": commit(),
        "compiled": {},
        "plans": 0,
    }
    if (folder / "out" / "front.json").is_file():
        document = lrfdse.load(folder / "out").document
        kept["compiled"] = {layer.name: len(layer.options) - 1 for layer in document.layers}
        kept["plans"] = document.evaluated or 0
    add(options.out, name, found | kept | {"machine": machine("scipy", "onnxruntime", "apache-tvm")})
    return int(found["status"])


def encoder(folder: Path) -> list[str]:
    """Write the sentence encoder and its data, and return what an exploration of them is given."""
    onnx.save(minilm.build(), folder / "model.onnx")
    return [
        str(folder / "model.onnx"),
        *_roles(folder, dict(zip(("calib", "eval"), minilm.background(0), strict=True))),
        *(each for name in ("input_ids", "attention_mask") for each in ("--shape", f"{name}=1x{minilm.SHORT}")),
    ]


def reader(folder: Path) -> list[str]:
    """Write the text recogniser's data, and return what an exploration of it is given."""
    words, found = recogniser.vocabulary(360, 0), {}
    for role, first, count in (("calib", 0, 200), ("eval", 200, 60), ("test", 260, 100)):
        found[role] = {"x": recogniser.render(words[first : first + count], 0)}
    return [str(recogniser.recogniser()), "--shape", recogniser.SHAPE, *_roles(folder, found)]


def _roles(folder: Path, data: Mapping[str, Mapping[str, Any]]) -> list[str]:
    for role, arrays in data.items():
        np.savez(folder / f"{role}.npz", **arrays)
    return [each for role in data for each in (f"--{role}", str(folder / f"{role}.npz"))]


def write_model(path: Path, sizes: tuple[int, ...]) -> Path:
    rng = np.random.default_rng(0)
    layers = [(weight(m, n, rng), np.zeros(m, np.float32)) for n, m in itertools.pairwise(sizes)]
    return write_mlp(path, "layers", "x", layers)


def weight(outputs: int, inputs: int, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float32]]:
    rank = min(outputs, inputs)
    left = rng.standard_normal((outputs, rank), dtype=np.float32)
    left *= np.arange(1, rank + 1, dtype=np.float32) ** -DECAY
    made = left @ rng.standard_normal((rank, inputs), dtype=np.float32)
    made *= np.sqrt(2 * outputs) / np.linalg.norm(made)
    return made


def inputs(count: int, size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return samples that vary mostly in a few directions, as activations do."""
    rng = np.random.default_rng(1)
    few = rng.standard_normal((64, size), dtype=np.float32) * np.arange(1, 65, dtype=np.float32)[:, None] ** -0.5
    mixed = rng.standard_normal((count, 64), dtype=np.float32) @ few
    return mixed + np.float32(0.3) * rng.standard_normal((count, size), dtype=np.float32)


def measured(command: list[str], log: Path, errors: Path) -> dict[str, Any]:
    began = time.monotonic()
    stages: dict[str, dict[str, float]] = {}
    before, at = 0.0, began
    with errors.open("w") as file:
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=file, env=os.environ | ONE_THREAD)
        while child.poll() is None:
            time.sleep(1.0)
            cpu, memory = used(child.pid)
            now = time.monotonic()
            stage = stages.setdefault(last_stage(log), {"wall_s": 0.0, "cpu_s": 0.0, "peak_mib": 0.0})
            stage["wall_s"] += now - at
            # The tree's time falls when the child itself ends.
            stage["cpu_s"] += max(cpu - before, 0.0)
            stage["peak_mib"] = max(stage["peak_mib"], memory)
            before, at = max(cpu, before), now
    total = {
        "wall_s": time.monotonic() - began,
        "cpu_s": before,
        "peak_mib": max((stage["peak_mib"] for stage in stages.values()), default=0.0),
    }
    return {"status": child.returncode, "stages": stages, "total": total, "longest_silence_s": silence(log)}


def used(root: int) -> tuple[float, float]:
    """Return CPU seconds of a process and all that it started, ended ones among them, and their memory in MiB."""
    parents: dict[int, tuple[int, float]] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(fields[1]), sum(map(int, fields[11:15])) / tick
    tree = {root}
    while more := {pid for pid, (parent, _) in parents.items() if parent in tree and pid not in tree}:
        tree |= more
    cpu = sum(parents[pid][1] for pid in tree if pid in parents)
    return cpu, sum(proportional(pid) for pid in tree) / MIB


def proportional(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return 1024 * int(line.split()[1])
    return 0


def last_stage(log: Path) -> str:
    told = [event["stage"] for event in events(log) if event["stage"] not in ("note", "started")]
    return told[-1] if told else "open"


def silence(log: Path) -> float:
    """Return the longest time in seconds between two events."""
    times = [datetime.datetime.fromisoformat(event["time"]) for event in events(log)]
    return max(((b - a).total_seconds() for a, b in itertools.pairwise(times)), default=0.0)


def events(log: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(OSError):
        for line in log.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                yield json.loads(line)


def add(out: Path, name: str, found: dict[str, Any]) -> None:
    """Add the run to what ``scale.json`` holds, and write all of it as a table."""
    path = out / "scale.json"
    runs = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    runs[name] = found
    write_atomically(path, json.dumps(runs, indent=1) + "\n")
    lines = page_of(runs)
    page(out, "scale", lines)
    print("\n".join(lines))


def page_of(runs: dict[str, dict[str, Any]]) -> list[str]:
    """Return the page: a table a run."""
    lines = [
        "# Exploring large layers",
        "",
        "Written by `python -m benchmarks.scale`, which says how: `lrfdse explore` from an empty cache. Wall time",
        "depends on what else the machine does (its load average is below), CPU time hardly.",
    ]
    for title, run in runs.items():
        made = run["compiled"]
        compiled = ", ".join(f"{count} of {layer}" for layer, count in made.items())
        if len(made) > _NAMED:
            compiled = f"{sum(made.values())} designs of {len(made)} layers"
        stages = [*run["stages"].items(), ("**all**", run["total"])]
        lines += [
            "",
            f"## {title}{': ' if run['sizes'] else ''}{'→'.join(map(str, run['sizes']))} on {run['target']}",
            "",
            described(run["machine"]),
            "",
            *([f"Code of commit {run['commit']}.", ""] if run.get("commit") else []),
            *([f"Options: `{' '.join(run['options'])}`.", ""] if run.get("options") else []),
            f"Compiled and measured: {compiled}. {run['plans']} plans. Exit status {run['status']}. The longest time",
            f"between two events of the log was {run['longest_silence_s']:.0f} s.",
            "",
            *table(
                ["stage", "wall s", "CPU s", "peak MiB"],
                [[s, f"{r['wall_s']:.0f}", f"{r['cpu_s']:.0f}", f"{r['peak_mib']:.0f}"] for s, r in stages],
            ),
        ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
