"""Times a model in the runtime that is installed; packed with the model, one file that Python 3 runs anywhere.

The file is a zip archive with this program, the model as ``model``, and ``asked.json``: the runtime, samples, the
least milliseconds of each, threads, and sizes of inputs that the model leaves open. On standard output: JSON, with
nanoseconds of one inference by sample, by the wall clock and of the processor, or "failed" and why. It needs the
runtime and NumPy.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
import zipfile
from collections.abc import Callable
from typing import Any

_WARM_NS = 100_000_000
"""Nanoseconds of inferences before any is timed. Chosen: caches and threads are warm far earlier."""


def main(archive: str) -> dict[str, Any]:
    """Return samples and what ran them."""
    with zipfile.ZipFile(archive) as packed:
        asked, content = json.loads(packed.read("asked.json")), packed.read("model")
    try:
        opened = _litert(content, asked) if asked["runtime"] == "litert" else _onnxruntime(content, asked)
    except ImportError as error:
        return {"failed": f"no {asked['runtime']} for its Python: {error}"}
    except Exception as error:  # Runtimes raise in many ways.
        return {"failed": f"it cannot run the model: {' '.join(str(error).split())}"}
    package, version, infer, outputs = opened
    began, runs = time.perf_counter_ns(), 0
    while not runs or time.perf_counter_ns() - began < _WARM_NS:
        infer()
        runs += 1
    one = (time.perf_counter_ns() - began) / runs
    if not all(map(_is_finite, outputs())):
        return {"failed": "an output is no number"}
    inner = max(1, round(1e6 * asked["min_time"] / one))
    samples, cpu = [], []
    for _ in range(asked["repeats"]):
        began, busy = time.perf_counter_ns(), time.process_time_ns()
        for _ in range(inner):
            infer()
        cpu.append((time.process_time_ns() - busy) / inner)
        samples.append((time.perf_counter_ns() - began) / inner)
    found = {"package": package, "version": version, "samples": samples, "cpu": cpu}
    return {**found, "machine": platform.machine(), **_machine()}


def _litert(content: bytes, asked: dict[str, Any]) -> tuple[str, str, Callable[[], Any], Callable[[], list[Any]]]:
    package = "ai-edge-litert"
    try:
        module = importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        # What came before it, on boards of today, has the same interface.
        package, module = "tflite-runtime", importlib.import_module("tflite_runtime.interpreter")
    interpreter = module.Interpreter(model_content=content, num_threads=asked["threads"])
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], _random(list(detail["shape"]), detail["dtype"]))
    ends = [detail["index"] for detail in interpreter.get_output_details()]
    return package, _version(package), interpreter.invoke, lambda: [interpreter.get_tensor(index) for index in ends]


def _onnxruntime(content: bytes, asked: dict[str, Any]) -> tuple[str, str, Callable[[], Any], Callable[[], list[Any]]]:
    # It else writes down what it runs, to be sent to its maker.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    module = importlib.import_module("onnxruntime")
    module.disable_telemetry_events()
    options = module.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = asked["threads"], 1
    options.log_severity_level = 4
    session = module.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    feeds = {}
    for port in session.get_inputs():
        known = asked["shape"].get(port.name)
        sizes = known or [size if isinstance(size, int) else 1 for size in port.shape]
        kind = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
        feeds[port.name] = _random(sizes, kind.get(port.type, port.type.removeprefix("tensor(").removesuffix(")")))
    return "onnxruntime", module.__version__, lambda: session.run(None, feeds), lambda: session.run(None, feeds)


def _random(sizes: list[int], dtype: Any) -> Any:
    import numpy as np

    rng, kind = np.random.default_rng(0), np.dtype(dtype)
    return (rng.normal(size=sizes) if kind.kind == "f" else rng.integers(0, 2, sizes)).astype(kind)


def _is_finite(array: Any) -> bool:
    import numpy as np

    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _machine() -> dict[str, Any]:
    """Return what the machine says of its first core."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            lines = [line.partition(":") for line in file.read(65536).split("\n\n")[0].splitlines()]
    except OSError:
        return {"cpuinfo": {}}
    return {"cpuinfo": {name.strip(): value.strip() for name, _, value in lines if name.strip()}}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[0])))
