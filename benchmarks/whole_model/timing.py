"""Times a library beside runtimes, taking turns in one process and one thread: takes a job, prints JSON.

A sample is as many runs in a row as fill a millisecond. Its processor time is that of the whole process, so that
threads of a runtime would count; the process does nothing else meanwhile.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.base.processes import end_with_parent
from lrfdse.meters.block import relative_error

SAMPLE_NS = 1_000_000
"""Nanoseconds that a sample fills at least. Chosen: thousands of times what reading the clocks takes."""

LEAST_ROUNDS = 7
"""Rounds that are made however long they take. Chosen: of fewer a median says little."""

Arrays = list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Peer:
    """Something that runs the model."""

    run: Callable[[], object]
    outputs: Callable[[], Arrays]
    """What the last run gave, in the order of the model's outputs."""


def library(path: str, name: str, given: Arrays, expected: Arrays, arena: int, alignment: int) -> Peer:
    """Return a library that was linked as a shared object."""
    function = getattr(ctypes.CDLL(path), f"{name}_run")
    made = [np.zeros_like(each) for each in expected]
    memory = np.zeros(arena + alignment, dtype=np.uint8)
    inputs = (ctypes.c_void_p * len(given))(*(each.ctypes.data for each in given))
    outputs = (ctypes.c_void_p * len(made))(*(each.ctypes.data for each in made))
    # The view keeps its memory as long as the function below lives.
    aligned = memory[-memory.ctypes.data % alignment :]
    pointer = ctypes.c_void_p(aligned.ctypes.data)

    def run() -> None:
        if status := function(inputs, outputs, pointer):
            raise RuntimeError(f"the library returned error {status} with an arena of {aligned.nbytes} bytes")

    return Peer(run, lambda: made)


def onnxruntime(path: str, given: Arrays) -> Peer:
    """Return onnxruntime with one thread, inputs and outputs bound, all its optimizations on."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for port, array in zip(session.get_inputs(), given, strict=True):
        binding.bind_cpu_input(port.name, array)
    for port in session.get_outputs():
        binding.bind_output(port.name)
    return Peer(lambda: session.run_with_iobinding(binding), binding.copy_outputs_to_cpu)


def litert(path: str, given: Arrays) -> Peer:
    """Return LiteRT with one thread; an image gets the same numbers, whatever it holds them to be."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    for detail, array in zip(interpreter.get_input_details(), given, strict=True):
        if -1 in detail["shape_signature"]:
            interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), given, strict=True):
        interpreter.set_tensor(detail["index"], array.reshape(detail["shape"]))
    details = interpreter.get_output_details()
    return Peer(interpreter.invoke, lambda: [interpreter.get_tensor(detail["index"]) for detail in details])


def iree(path: str, given: Arrays) -> Peer:
    """Return IREE's runtime on the calling thread, inputs on its device, where what a run gives stays."""
    from iree import runtime

    context = runtime.SystemContext(config=runtime.Config("local-sync"))
    module = runtime.VmModule.mmap(context.instance, path)
    context.add_vm_module(module)
    names = [name for name in module.function_names if not name.startswith("__") and "async" not in name]
    function = context.modules[module.name][names[0]]
    device = context.config.device
    inputs = [runtime.asdevicearray(device, array) for array in given]
    last: list[Any] = []

    def run() -> None:
        found = function(*inputs)
        last[:] = found if isinstance(found, list | tuple) else [found]

    return Peer(run, lambda: [np.asarray(each.to_host()) for each in last])


def random_arrays(ports: Sequence[tuple[Sequence[int], np.dtype[Any]]], seed: int) -> Arrays:
    """Return random arrays of given shapes and elements; whole numbers are 0 or 1, which every table has."""
    rng = np.random.default_rng(seed)
    return [
        np.asarray(rng.standard_normal(shape) if kind.kind == "f" else rng.integers(0, 2, shape), dtype=kind)
        for shape, kind in ports
    ]


def drawn(path: str, seed: int) -> Arrays:
    """Return random arrays for a model's inputs; sizes that it leaves open are 1."""
    ports = load_onnxruntime().InferenceSession(path, providers=["CPUExecutionProvider"]).get_inputs()
    kinds = {"float": "float32", "double": "float64"}
    return random_arrays(
        [
            (
                [size if isinstance(size, int) else 1 for size in port.shape],
                np.dtype(kinds.get(kind := port.type.removeprefix("tensor(").rstrip(")"), kind)),
            )
            for port in ports
        ],
        seed,
    )


def sampled(run: Callable[[], object]) -> Callable[[], tuple[float, float]]:
    """Return what takes a sample: processor and wall nanoseconds of one run."""
    run()
    count, spent = 1, 0
    while spent < SAMPLE_NS:
        begin = time.process_time_ns()
        for _ in range(count):
            run()
        spent = time.process_time_ns() - begin
        count = count if spent >= SAMPLE_NS else 2 * count

    def sample() -> tuple[float, float]:
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        for _ in range(count):
            run()
        return (time.process_time_ns() - cpu) / count, (time.perf_counter_ns() - wall) / count

    return sample


def in_turns(peers: Sequence[Callable[[], tuple[float, float]]], seconds: float) -> list[list[tuple[float, float]]]:
    """Return every peer's samples; each round begins with another peer."""
    found: list[list[tuple[float, float]]] = [[] for _ in peers]
    end, number = time.monotonic() + seconds, 0
    while number < LEAST_ROUNDS or time.monotonic() < end:
        for place in range(len(peers)):
            which = (number + place) % len(peers)
            found[which].append(peers[which]())
        number += 1
    return found


def error_of(peer: Peer, expected: Arrays) -> float:
    """Return the largest relative error of an output."""
    return max(relative_error(found, due) for found, due in zip(peer.outputs(), expected, strict=True))


def unordered_error(peer: Peer, expected: Arrays) -> float:
    """Return the same where the outputs come in another order: each is compared with the nearest of its size."""
    found = peer.outputs()
    return max(min(relative_error(one, due) for one in found if one.size == due.size) for due in expected)


def main(job: dict[str, Any]) -> dict[str, Any]:
    """Return samples by peer and errors against onnxruntime."""
    end_with_parent()
    with np.load(job["inputs"]) as stored:
        given = [np.ascontiguousarray(stored[name]) for name in stored.files]
    theirs = onnxruntime(job["model"], given)
    theirs.run()
    expected = [np.array(each, order="C") for each in theirs.outputs()]
    ours = library(job["library"], job["name"], given, expected, job["arena"], job["alignment"])
    ours.run()
    peers, errors = {"ours": ours, "onnxruntime": theirs}, {"ours": error_of(ours, expected)}
    if job.get("litert"):
        peers["litert"] = litert(job["litert"], given)
        if job["same_weights"]:
            peers["litert"].run()
            errors["litert"] = unordered_error(peers["litert"], expected)
    failures = []
    for name, path in job.get("iree", {}).items():
        try:
            peer = iree(path, given)
            peer.run()
            errors[f"iree {name}"] = error_of(peer, expected)
            peers[f"iree {name}"] = peer
        # Its runtime raises what it likes.
        except Exception as error:
            failures.append(f"IREE's runtime, {name}: {(str(error).strip().splitlines() or [''])[0][:200]}")
    samples = in_turns([sampled(peer.run) for peer in peers.values()], job["seconds"])
    return {
        "errors": errors,
        "samples": dict(zip(peers, samples, strict=True)),
        "load": os.getloadavg()[0],
        "failures": failures,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
