"""Times the peers of one case in turns, in a process of its own; a kernel may crash. Takes a job file, prints JSON.

Every round times each peer once; a sample is as many calls in a row as fill the sample time. Peers are kernels linked
with qemu/timer.c, runtimes called from Python, or IREE's own benchmark program.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MODULE_ROUNDS = 3
"""Rounds in which programs that have to be started take part."""


def native(peer: dict[str, Any], sample_ns: int) -> Callable[[], float]:
    """Return what times a linked kernel."""
    call = ctypes.CDLL(peer["library"]).lrf_time

    def sample() -> float:
        warm, cold, calls = (ctypes.c_double * 1)(), (ctypes.c_double * 1)(), ctypes.c_long()
        numbers = [ctypes.c_long(n) for n in (1, 0, sample_ns, 64)]
        status = call(peer["image"].encode(), *numbers, warm, cold, ctypes.byref(calls))
        if status:
            raise RuntimeError(f"lrf_time failed with status {status}")
        return float(warm[0])

    return sample


def repeated(call: Callable[[], object], sample_ns: int) -> Callable[[], float]:
    """Return what times a Python function."""
    count = 1

    def timed() -> float:
        begin = time.perf_counter_ns()
        for _ in range(count):
            call()
        return time.perf_counter_ns() - begin

    call()
    while timed() < sample_ns:
        count *= 2
    return lambda: timed() / count


def onnxruntime(peer: dict[str, Any], x: Any) -> tuple[Callable[[], object], Callable[[], Any]]:
    """Return a call of an ONNX model with input and output bound, and its output."""
    # Else it notes what it runs, for its maker (lrfdse/base/privacy.py; lrfdse is not imported here).
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(peer["model"], options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding), lambda: binding.copy_outputs_to_cpu()[0]


def litert(peer: dict[str, Any], x: Any) -> tuple[Callable[[], object], Callable[[], Any]]:
    """Return a call of a LiteRT model, and its output."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=peer["model"], num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    index = interpreter.get_output_details()[0]["index"]
    return interpreter.invoke, lambda: interpreter.get_tensor(index)


def numpy(peer: dict[str, Any], x: Any) -> tuple[Callable[[], object], Callable[[], Any]]:
    """Return the chain of matrix products, and its output."""
    import numpy as np

    stored = np.load(peer["model"])
    steps = []
    source = x
    for i, (batch, out, inner, columns) in enumerate(stored["steps"].tolist()):
        weight = stored[f"w{i}"]
        if columns == 1:
            into = np.empty((batch, out), dtype=np.float32)
            steps.append((source.reshape(batch, inner), weight.T, into))
        else:
            into = np.empty((batch, out, columns), dtype=np.float32)
            steps.append((weight, source.reshape(batch, inner, columns), into))
        source = into

    def call() -> None:
        for left, right, into in steps:
            np.matmul(left, right, out=into)

    return call, lambda: source


def iree_module(peer: dict[str, Any], folder: Path) -> Callable[[], float]:
    """Return what times a module by IREE's benchmark program."""
    arguments = [f"--module={peer['model']}", "--device=local-sync", "--function=main", f"--input=@{folder / 'x.npy'}"]

    def sample() -> float:
        settings = ["--benchmark_format=json", "--benchmark_min_time=0.02s"]
        command = [peer["benchmark"], *arguments, *settings]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        entry = json.loads(done.stdout[done.stdout.index("{") :])["benchmarks"][0]
        return float(entry["real_time"]) * {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}[entry["time_unit"]]

    subprocess.run([peer["run"], *arguments, f"--output=@{folder / 'y.npy'}"], capture_output=True, check=True)
    return sample


def main(path: Path) -> None:
    job = json.loads(path.read_text(encoding="utf-8"))
    os.sched_setaffinity(0, {job["core"]})
    import numpy as np

    x, expected = np.load(path.parent / "x.npy"), np.load(path.parent / "expected.npy")
    samplers: dict[str, Callable[[], float]] = {}
    results: dict[str, dict[str, Any]] = {}

    def error_of(y: Any) -> float:
        difference = np.abs(y.astype(np.float64).ravel() - expected.ravel()).max()
        return float(difference / (np.abs(expected).max() or 1.0))

    for peer in job["peers"]:
        name, kind = peer["name"], peer["kind"]
        # Who crashes is the one named last.
        print(name, file=sys.stderr, flush=True)
        try:
            if kind == "native":
                samplers[name] = native(peer, job["sample_ns"])
                samplers[name]()
                results[name] = {"ns": []}
            elif kind == "iree":
                samplers[name] = iree_module(peer, path.parent)
                results[name] = {"ns": [], "max_error": error_of(np.load(path.parent / "y.npy"))}
            else:
                call, output = {"onnxruntime": onnxruntime, "litert": litert, "numpy": numpy}[kind](peer, x)
                samplers[name] = repeated(call, job["sample_ns"])
                results[name] = {"ns": [], "max_error": error_of(output())}
        except Exception as error:
            samplers.pop(name, None)
            text = str(error).strip().splitlines()
            results[name] = {"failure": f"{type(error).__name__}: {text[0][:200] if text else ''}"}
    outside = {peer["name"] for peer in job["peers"] if peer["kind"] == "iree"}
    order = list(samplers)
    for turn in range(job["rounds"]):
        for name in order[turn % len(order) :] + order[: turn % len(order)]:
            if name in outside and turn % max(1, job["rounds"] // MODULE_ROUNDS):
                continue
            print(name, file=sys.stderr, flush=True)
            results[name]["ns"].append(samplers[name]())
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
