"""Dense layers on the machine at hand: our operators in three forms beside int8 in onnxruntime and LiteRT.

Processor time of one thread, all peers in turns, medians. Ours are called in a loop of C, the runtimes from Python, as
whoever uses them does; floats go in and come out.
"""

from __future__ import annotations

import ctypes
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.int8.runtimes import SCALE, Dense, litert_models, onnx_models
from benchmarks.int8.speed import mean
from benchmarks.kernels.foreign import run
from benchmarks.kernels.layers import Layer
from benchmarks.results import table
from lrfdse.base.privacy import load_onnxruntime
from lrfdse.base.text import counted
from lrfdse.ir.epilogue import VALUE, Epilogue, Instruction, Operand
from lrfdse.ir.factorization import Step
from lrfdse.ir.operators import Operator
from lrfdse.ir.products import FullyConnected
from lrfdse.ir.quantized import QuantizedProduct, Rounding
from lrfdse.kernels.operators.build import compile_operator, packed_weight, schedules_of
from lrfdse.meters.host_meter import machine_lock
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_zig

ROUNDS = 15
_TRIED = 5
"""Rounds in which the schedules of one of our operators are compared."""
_SAMPLE_NS = 1_000_000
_LINE = 64
_SCALED = Epilogue((Instruction("mul", (VALUE, Operand("input"))),), ("channel",))
ROUNDING = Rounding(SCALE, -128)
OURS = ("float32", "int8 weights", "int8 x int8")
RUNTIMES = ("onnxruntime int8", "LiteRT int8", "LiteRT int8, int8 in and out")
_FAR = 0.05
"""Root mean square by which a peer may be off, of that of the outputs: rounding costs some 0.015."""

Call = Callable[[int], None]
"""Calls a peer so many times."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a layer takes with so many rows, in microseconds of processor time, by the names of peers."""

    layer: Layer
    rows: int
    us: dict[str, float]
    variants: dict[str, str]
    """The schedule, or the form of the model, that is the fastest of a peer."""


def hosts(layers: Iterable[Layer], rows: Sequence[int], targets: Sequence[Target]) -> Iterable[Host]:
    """Yield the layers with their times, our operators as compiled for each target."""
    for layer in layers:
        for count in rows:
            yield timed(layer, count, targets)


def timed(layer: Layer, rows: int, targets: Sequence[Target], rounds: int = ROUNDS) -> Host:
    """Time all peers of a layer in turns; raise ValueError where one computes something else."""
    dense, calls, variants = Dense.drawn(rows, layer.outputs, layer.inputs), {}, {}
    with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as folder, machine_lock():
        for target in targets:
            for kind in OURS:
                name = ours(kind, target.name)
                variants[name], calls[name] = _fastest(_ours(kind, dense, target, Path(folder)))
        made = {form: _onnx_call(model, dense) for form, model in onnx_models(dense).items()}
        variants[RUNTIMES[0]], calls[RUNTIMES[0]] = _fastest(iter(made.items()))
        for name, (form, model) in zip(RUNTIMES[1:], litert_models(dense).items(), strict=True):
            variants[name], calls[name] = form, _litert_call(model, dense)
        return Host(layer, rows, _in_turns(calls, rounds), variants)


def ours(kind: str, target: str) -> str:
    """Return the name of one of our operators on a target."""
    return f"{target}: {kind}"


def _fastest(candidates: Iterable[tuple[str, Call]]) -> tuple[str, Call]:
    best: tuple[float, str, Call] | None = None
    for name, call in candidates:
        found = _in_turns({name: call}, _TRIED)[name]
        if best is None or found < best[0]:
            best = found, name, call
    if best is None:
        raise ValueError("nothing to time")
    return best[1:]


def _in_turns(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """Return the median processor time of every call, in microseconds."""

    def sample(call: Call, count: int) -> int:
        begin = time.process_time_ns()
        call(count)
        return time.process_time_ns() - begin

    counts = dict.fromkeys(calls, 1)
    for name, call in calls.items():
        call(1)
        while sample(call, counts[name]) < _SAMPLE_NS:
            counts[name] *= 2
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            samples[name].append(sample(call, counts[name]) / counts[name])
    return {name: statistics.median(found) / 1e3 for name, found in samples.items()}


def _ours(kind: str, dense: Dense, target: Target, folder: Path) -> Iterable[tuple[str, Call]]:
    """Yield the schedules of one of our operators with a call of each."""
    (rows, inner), out = dense.x.shape, len(dense.levels)
    step = Step(rows, out, inner, 1)
    arrays: list[NDArray[Any]]
    operator: Operator
    match kind:
        case "float32":
            operator, arrays = FullyConnected(step), [dense.x, dense.weight]
        case "int8 weights":
            operator, arrays = FullyConnected(step, _SCALED, "int8"), [dense.x, dense.levels, dense.scales]
        case _:
            operator = QuantizedProduct(step, ROUNDING, _SCALED)
            start = ROUNDING.shift * dense.levels.sum(axis=1, dtype=np.int32)
            arrays = [dense.x, dense.levels, start, dense.scales * np.float32(SCALE)]
    for schedule in schedules_of(operator, target):
        compiled = compile_operator(operator, schedule, target, "lrf_timed")
        packed = [arrays[0], packed_weight(operator, schedule, target, arrays[1]), *arrays[2:]]
        y = _aligned(np.zeros((rows, out), np.float32))
        passed = [*map(_aligned, packed), y, *([_aligned(np.zeros(compiled.work, np.uint8))] if compiled.work else [])]
        call = _looped(compiled.object_code, passed, folder / f"{target.name}-{kind}-{schedule}".replace(" ", "-"))
        call(1)
        _held(f"{kind} {schedule}", y, dense)
        yield schedule, call


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """Return a copy that begins at a cache line."""
    room = np.zeros(array.nbytes + _LINE, np.uint8)
    first = -room.ctypes.data % _LINE
    made: NDArray[Any] = room[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


def _looped(code: bytes, arrays: Sequence[NDArray[Any]], folder: Path) -> Call:
    """Return what calls a function on arrays in a loop of C."""
    folder.mkdir()
    types, passed = ", ".join(["void *"] * len(arrays)), ", ".join(f"a[{i}]" for i in range(len(arrays)))
    text = f"void lrf_timed({types});\nvoid loop(void **a, long n) {{ while (n--) lrf_timed({passed}); }}\n"
    (folder / "loop.c").write_text(text, encoding="ascii")
    (folder / "kernel.o").write_bytes(code)
    run([require_zig().path, "cc", "-O2", "-shared", "-fPIC", "loop.c", "kernel.o", "-o", "loop.so"], folder)
    library = ctypes.CDLL(str(folder / "loop.so"))
    pointers = (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))

    def call(count: int, _kept: Sequence[NDArray[Any]] = arrays) -> None:
        library.loop(pointers, ctypes.c_long(count))

    return call


def _onnx_call(model: bytes, dense: Dense) -> Call:
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_cpu_input("x", dense.x)
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    _held("onnxruntime", binding.copy_outputs_to_cpu()[0], dense)

    def call(count: int) -> None:
        for _ in range(count):
            session.run_with_iobinding(binding)

    return call


def _litert_call(model: bytes, dense: Dense) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    read, written = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    levels = np.clip(np.rint(dense.x / np.float32(SCALE)), -128, 127).astype(np.int8)
    interpreter.set_tensor(read["index"], dense.x if read["dtype"] == np.float32 else levels)
    interpreter.invoke()
    y = interpreter.get_tensor(written["index"])
    _held("LiteRT", y if y.dtype == np.float32 else y * np.float32(written["quantization"][0]), dense)

    def call(count: int) -> None:
        for _ in range(count):
            interpreter.invoke()

    return call


def _held(name: str, y: NDArray[Any], dense: Dense) -> None:
    expected = dense.y
    off = float(np.sqrt(np.mean(np.square(y - expected)) / np.mean(np.square(expected))))
    if not off < _FAR:
        raise ValueError(f"{name} is off by {off:.3g} of the outputs, root mean square")


def section(found: Sequence[Host], targets: Sequence[Target]) -> list[str]:
    """Return the lines of the machine at hand: a table for each number of rows, and geometric means."""
    lines = [
        "### host: measured",
        "",
        *(f"`{target.name}`: {target.core}; {_words(target)}." for target in targets),
        "",
    ]
    for rows in dict.fromkeys(each.rows for each in found):
        at = [each for each in found if each.rows == rows]
        lines += [f"At {counted(rows, 'row')}, us:", "", *table(*_cells(at, targets)), "", *_means(at, targets), ""]
    return lines


def _words(target: Target) -> str:
    if target.dot is None:
        return "no instruction multiplies whole numbers in groups"
    return f"{target.dot.group} of {target.dot.element} by int8 at once a lane"


def _cells(found: Sequence[Host], targets: Sequence[Target]) -> tuple[list[str], list[list[str]]]:
    names = [*(ours(kind, target.name) for target in targets for kind in OURS), *RUNTIMES]
    rows = [
        [f"{each.layer.inputs}→{each.layer.outputs}", *(f"{each.us[name]:.3g}" for name in names)] for each in found
    ]
    return ["layer", *names], rows


def _means(found: Sequence[Host], targets: Sequence[Target]) -> list[str]:
    rows = []
    for target in targets:
        both = ours(OURS[2], target.name)
        ratios = [[each.us[name] / each.us[both] for each in found] for name in (ours(OURS[0], target.name), *RUNTIMES)]
        rows.append([target.name, *(f"{mean(each)} ({min(each):.2f} to {max(each):.2f})" for each in ratios)])
    heads = ("so many times as long as int8 x int8 of", "our float32", *RUNTIMES)
    return ["Geometric means, and the least and the most:", "", *table(heads, rows)]
