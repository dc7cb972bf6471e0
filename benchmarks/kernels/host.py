"""Wall clock on the machine at hand: all peers of a case in turns on one pinned core."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kernels.arrays import Arrays
from benchmarks.kernels.foreign import Built, Runtime
from benchmarks.kernels.rows import Row, failed, too_slow
from lrfdse.errors import KernelError
from lrfdse.ir.latency import TOLERANCE
from lrfdse.meters.host_meter import machine_lock
from lrfdse.meters.image import Image
from lrfdse.toolchain.zig import link, timer

ROUNDS = 15
SAMPLE_NS = 300_000
RUNNER = Path(__file__).with_name("host_runner.py")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def measure(peers: dict[str, Built | Runtime], numbers: Arrays, timeout: float, rounds: int = ROUNDS) -> dict[str, Row]:
    """Time all peers of a case in turns, and check what each computed.

    `peers` is emptied on the way: each holds the case's weights, and 25088x4096 take 400 MB a peer.

    Returns
    -------
    A row for each peer; the ones that crash or hang are taken out, and the others are timed without them.
    """
    rows: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(prefix="lrfdse-bench-", dir=_memory_folder()) as name:
        folder = Path(name)
        np.save(folder / "x.npy", numbers.x.astype(np.float32))
        np.save(folder / "expected.npy", numbers.expected)
        images: dict[str, tuple[Image, Path]] = {}
        jobs: dict[str, dict[str, Any]] = {}
        for i, peer in enumerate(list(peers)):
            try:
                jobs[peer] = _prepared(peer, peers.pop(peer), numbers, folder / str(i), images)
            except KernelError as error:
                rows[peer] = failed(str(error))
        # The lock that lrfdse's own timing takes.
        with machine_lock():
            while jobs:
                results, culprit, reason = _run(list(jobs.values()), folder, timeout * len(jobs), rounds)
                if culprit is None:
                    break
                rows[culprit] = reason
                del jobs[culprit]
        for peer in jobs:
            rows[peer] = _row(results[peer], images.get(peer))
    return rows


def _prepared(
    peer: str, made: Built | Runtime, numbers: Arrays, folder: Path, images: dict[str, tuple[Image, Path]]
) -> dict[str, Any]:
    folder.mkdir()
    if isinstance(made, Runtime):
        suffix = {"numpy": ".npz"}.get(made.kind, ".bin")
        path = folder / f"model{suffix}"
        path.write_bytes(made.model)
        return {"name": peer, "kind": made.kind, "model": str(path), **(made.programs or {})}
    image = Image(made.artifact, made.given, numbers.expected)
    library = link(made.artifact, timer(len(made.artifact.arguments)), folder, shared=True)
    image.write(folder / "image")
    images[peer] = image, folder / "image"
    return {"name": peer, "kind": "native", "library": str(library), "image": str(folder / "image")}


def _run(
    jobs: list[dict[str, Any]], folder: Path, timeout: float, rounds: int
) -> tuple[dict[str, Any], str | None, Row]:
    """Return every peer's samples, or the peer that ended the run and why."""
    job = {"core": _idlest_core(), "rounds": rounds, "sample_ns": SAMPLE_NS, "peers": jobs}
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    environment = os.environ | dict.fromkeys(_THREADS, "1")
    command = [sys.executable, str(RUNNER), str(folder / "job.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        _, err = process.communicate()
        return {}, _last_named(err, jobs), too_slow()
    if process.returncode == 0:
        return json.loads(out.splitlines()[-1]), None, failed("")
    number = -process.returncode
    reason = f"crashed ({signal.Signals(number).name})" if number > 0 else f"failed: {err.strip()[-200:]}"
    return {}, _last_named(err, jobs), failed(reason)


def _last_named(text: str, jobs: list[dict[str, Any]]) -> str:
    names = {job["name"] for job in jobs}
    return next((line for line in reversed(text.splitlines()) if line in names), jobs[0]["name"])


def _row(result: dict[str, Any], image: tuple[Image, Path] | None) -> Row:
    if "failure" in result:
        return failed(result["failure"])
    try:
        error = image[0].check(image[1]) if image else result["max_error"]
    except KernelError as wrong:
        return failed(str(wrong))
    if not error <= TOLERANCE:
        return failed(f"wrong output: relative error {error:.3g}")
    least, low, median, high = (float(v) / 1e3 for v in np.quantile(result["ns"], [0, 0.25, 0.5, 0.75]))
    return Row(us=median, low_us=low, high_us=high, least_us=least, max_error=error)


def _memory_folder() -> str | None:
    """Return a folder in memory, where what a kernel writes is never written back to a disk."""
    folder = Path("/dev/shm")
    return str(folder) if os.access(folder, os.W_OK) else None


def _idlest_core() -> int:
    """Return the core that did least in the last moment."""

    def idle() -> dict[int, int]:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
        cores = [line.split() for line in lines if line.startswith("cpu") and not line.startswith("cpu ")]
        return {int(fields[0][3:]): int(fields[4]) for fields in cores}

    before = idle()
    time.sleep(0.2)
    after = idle()
    allowed = os.sched_getaffinity(0)
    return max((core for core in after if core in allowed), key=lambda core: after[core] - before[core])
