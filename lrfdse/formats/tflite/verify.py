"""What was read against LiteRT itself: a faulty conversion is an error, and named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.privacy import load_onnxruntime
from lrfdse.base.text import one_line
from lrfdse.errors import InputError
from lrfdse.formats.tflite import litert
from lrfdse.formats.tflite.convert import as_onnx, as_parts
from lrfdse.formats.tflite.flatbuffer import DTYPES, Graph, Operator, Tensor, read_graph

if TYPE_CHECKING:
    import onnx

TOLERANCE = 1e-4
"""Largest difference from LiteRT, relative to the largest output. Chosen: float32 sums in another order differ by about
1e-6 of it, and a wrong padding or axis by more than 1e-2."""

_LEAST = 1e-6
"""Difference that is none whatever the largest output is: about eight roundings of a float32 near 1, of which
probabilities are made that may all be small."""

_STEPS = 2.0
"""Quantization steps by which one operator alone may differ: LiteRT rounds its inputs' rescaled levels and its output,
half a step each, and looks functions up in tables."""

_HYBRID = 0.05
"""The same of an operator with int8 weights and float inputs, relative to the largest output, root of the mean square:
LiteRT rounds its inputs to int8, 0.4 % of the largest, each time it runs."""

_RUNS = 2
"""Random inputs that are compared. Chosen: a second draw reaches what the first one's signs left out."""


def check(content: bytes, graph: Graph, model: onnx.ModelProto, path: Path) -> None:
    """Compare a model with what LiteRT computes of the file on random inputs.

    A model of float weights is compared as a whole. Where LiteRT computes with levels, each operator is compared alone,
    on the inputs that LiteRT gave it: over many operators rounding adds up to anything.

    Raises
    ------
    InputError
        They differ, or LiteRT cannot run the file; the message names the operator.
    """
    rng = np.random.default_rng(0)
    runs = [{index: _random(graph.tensors[index], rng) for index in graph.inputs} for _ in range(_RUNS)]
    if is_rounded(graph):
        _check_parts(content, graph, runs, path)
        return
    for feeds, found in zip(runs, litert.run(content, runs, str(path)), strict=True):
        ours = _outputs(model, {graph.tensors[index].name: array for index, array in feeds.items()}, path)
        if any(_differs(one, found[i], TOLERANCE) for one, i in zip(ours, graph.outputs, strict=True)):
            _check_parts(content, graph, runs, path)
            raise InputError(f"{path}: what was read differs from LiteRT, though no operator alone does: a defect")


def confirm(content: bytes, model: onnx.ModelProto, path: Path) -> None:
    """Compare a file that was written with the ONNX model that it stands for, on random inputs.

    Where LiteRT computes with levels, what the file says in real numbers is compared with the ONNX model, and what
    LiteRT computes with that, operator by operator.

    Raises
    ------
    InputError
        LiteRT's outputs differ by more than `TOLERANCE` of the largest, or it cannot run the file.
    """
    graph, rng = read_graph(content, path), np.random.default_rng(1)
    runs = [{index: _random(graph.tensors[index], rng) for index in graph.inputs} for _ in range(_RUNS)]
    if is_rounded(graph):
        _check_parts(content, graph, runs, path)
        said = as_onnx(graph, path)
        computed = [_outputs(said, {graph.tensors[i].name: feeds[i] for i in graph.inputs}, path) for feeds in runs]
        real = [dict(zip(graph.outputs, arrays, strict=True)) for arrays in computed]
    else:
        real = litert.run(content, runs, str(path))
    for feeds, found in zip(runs, real, strict=True):
        ours = _outputs(model, {graph.tensors[index].name: array for index, array in feeds.items()}, path)
        for one, index in zip(ours, graph.outputs, strict=True):
            difference = _differs(one, found[index], TOLERANCE)
            if difference is not None:
                name = graph.tensors[index].name
                raise InputError(f"{path}: not kept: LiteRT's output {name!r} differs by {difference:.3g} from ONNX's")


def furthest(
    model: onnx.ModelProto, feeds: dict[str, NDArray[Any]], wanted: Sequence[NDArray[Any]], path: Path
) -> tuple[int, float] | None:
    """Return the output that differs most from what was wanted, and by how much; None where all agree to `TOLERANCE`.

    Parameters
    ----------
    model
        What was read.
    feeds
        Its inputs by name.
    wanted
        Its outputs, in order.
    path
        Begins the message of an error.

    Raises
    ------
    InputError
        Onnxruntime cannot run the model.
    """
    found = enumerate(zip(_outputs(model, feeds, path), wanted, strict=True))
    gaps = [(gap, number) for number, (ours, theirs) in found if (gap := _differs(ours, theirs, TOLERANCE)) is not None]
    return None if not gaps else (max(gaps)[1], max(gaps)[0])


def is_rounded(graph: Graph) -> bool:
    """Return whether LiteRT computes with rounded numbers somewhere, and so not what float32 arithmetic gives."""
    return any(
        graph.tensors[index].is_level and graph.tensors[index].kind != "INT32"
        for operator in graph.operators
        for index in (*operator.inputs, *operator.outputs)
        if index >= 0 and not (operator.name == "DEQUANTIZE" and graph.tensors[operator.inputs[0]].data is not None)
    )


def _check_parts(content: bytes, graph: Graph, runs: Sequence[litert.Tensors], path: Path) -> None:
    model, inputs, outputs = as_parts(graph, path)
    for known in litert.run(content, runs, str(path), everything=True):
        given = {name: known[index] for name, index in inputs.items() if index in known}
        if len(given) < len(inputs):
            raise InputError(f"{path}: LiteRT does not compute {sorted(set(inputs) - set(given))[0]!r}")
        found = dict(zip(outputs, _outputs(model, given, path), strict=True))
        for operator in graph.operators:
            if operator.name in ("QUANTIZE", "DEQUANTIZE") and operator.inputs[0] in known:
                # They move no real number: their input is what they are held against.
                found[operator.outputs[0]] = _real(graph.tensors[operator.inputs[0]], known[operator.inputs[0]])
            for index in set(operator.outputs) & set(found):
                difference = _difference(graph, operator, graph.tensors[index], found[index], known[index])
                if difference is not None:
                    raise InputError(
                        f"{path}: operator {operator.index}, {operator.name}, was read wrongly: LiteRT's output "
                        f"{graph.tensors[index].name!r} differs by {difference:.3g}; please report it, and convert the "
                        "model to ONNX by other means"
                    )


def _difference(
    graph: Graph, operator: Operator, tensor: Tensor, ours: NDArray[Any], theirs: NDArray[Any]
) -> float | None:
    """Return by how much an operator's output differs from LiteRT's where that is more than rounding explains."""
    if tensor.is_level and tensor.quantization is not None:
        # Levels end; what lies beyond is the nearest of them.
        lowest, highest = (float(tensor.quantization.values(np.array(end)).min()) for end in _range(tensor))
        real = tensor.quantization.values(theirs)
        return _differs(np.clip(ours, lowest, highest), real, 0.0, _STEPS * tensor.quantization.step)
    hybrid = any(i >= 0 and graph.tensors[i].is_level for i in operator.inputs)
    return _differs(ours, theirs, _HYBRID if hybrid else TOLERANCE, mean=hybrid)


def _real(tensor: Tensor, array: NDArray[Any]) -> NDArray[Any]:
    return tensor.quantization.values(array) if tensor.is_level and tensor.quantization is not None else array


def _differs(
    ours: NDArray[Any], theirs: NDArray[Any], relative: float, absolute: float = _LEAST, mean: bool = False
) -> float | None:
    """Return the largest difference, or its root mean square, where it is beyond the tolerance."""
    if ours.shape != theirs.shape:
        return float("inf")
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    both = np.isfinite(ours) & np.isfinite(theirs)
    same = both | (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    if not same.all():
        return float("inf")
    if not both.any():
        return None
    gaps = np.abs(ours - theirs)[both]
    gap = float(np.sqrt((gaps**2).mean()) if mean else gaps.max())
    return None if gap <= relative * (float(np.abs(theirs[both]).max())) + absolute else gap


def _range(tensor: Tensor) -> tuple[int, int]:
    limits = np.iinfo(DTYPES[tensor.kind])
    return int(limits.min), int(limits.max)


def _random(tensor: Tensor, rng: np.random.Generator) -> NDArray[Any]:
    dtype = np.dtype(DTYPES.get(tensor.kind, np.float32))
    if dtype == np.bool_:
        return rng.random(tensor.shape) < 0.5
    if dtype.kind == "f":
        return rng.normal(size=tensor.shape).astype(dtype)
    low, high = _range(tensor) if tensor.is_level and dtype.itemsize < 4 else (0, 1)
    return rng.integers(low, high, tensor.shape, dtype, endpoint=True)


def _outputs(model: onnx.ModelProto, feeds: dict[str, NDArray[Any]], path: Path) -> list[NDArray[Any]]:
    try:
        runtime = load_onnxruntime()
        options, running = runtime.SessionOptions(), runtime.RunOptions()
        # What is wrong is said in one line, here.
        options.log_severity_level = running.log_severity_level = 4
        # Its products with int8 weights round what they read unless told otherwise (docs/int8.md).
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
        session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return [np.asarray(value) for value in session.run(None, feeds, running)]
    except Exception as error:  # onnxruntime raises in many ways.
        raise InputError(f"{path}: what was read of it cannot be run: {one_line(error)}") from error
