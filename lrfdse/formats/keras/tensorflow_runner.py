"""Converts a model in TensorFlow; a program of its own, because TensorFlow prints much, trusts models, and may crash.

Arguments: "keras" or "saved_model", and a folder that holds it as ``given.keras`` or ``given/``. What comes of it lies
there, too: ``model.tflite``, ``runs.npz`` with inputs ("run/in/number") and what the model itself computed of them
("run/out/number"), and ``answer.json`` with names; or an ``answer.json`` that says why there is none.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RUNS, _SAMPLES = 2, 2
"""Random inputs, and samples in each where the batch is open. Chosen: a second draw reaches what the first one's signs
left out, and a second sample what was made for one alone."""

_OLDEST_KERAS = (3, 13)
"""Safe mode of versions before it can be got around by what a file names; see docs/security.md."""

_SIGNATURE = "serving_default"
"""Name of the signature that TensorFlow and Keras write where the user gives none."""

_STATEFUL = frozenset(
    {
        "Assert",
        "AssignAddVariableOp",
        "AssignSubVariableOp",
        "AssignVariableOp",
        "If",
        "Multinomial",
        "RandomStandardNormal",
        "RandomUniform",
        "RandomUniformInt",
        "ReadVariableOp",
        "ResourceGather",
        "ResourceGatherNd",
        "StatefulPartitionedCall",
        "TruncatedNormal",
        "VarHandleOp",
        "VarIsInitializedOp",
        "While",
    }
)
"""Operators with a state that a model may run: variables, random numbers, calls and branches. What else has a state may
reach files, processes or the network."""

_READERS = frozenset(["ImmutableConst", "MatchingFiles", "ReadFile"])
"""Operators without a state that read files."""


class RefusedError(Exception):
    """The model cannot be converted; the message says why."""


@dataclass(frozen=True, slots=True)
class _Function:
    """What a model computes, with tensors in order."""

    owner: Any
    """What holds its variables."""
    call: Callable[..., Any]
    """From tensors to a list of tensors."""
    specs: list[Any]
    outputs: list[str]
    scopes: dict[str, str] = field(default_factory=dict)
    """Of each scope of names in TensorFlow's graph the layer that opened it; filled when `call` is traced."""


def main(kind: str, folder: Path) -> dict[str, Any]:
    """Convert, run, write what comes of it, and return the answer."""
    try:
        import keras
        import tensorflow as tf
    except ImportError as error:
        return {"missing": str(error)}
    if kind == "keras":
        found = tuple(map(int, re.findall(r"\d+", keras.__version__)[:2]))
        if found < _OLDEST_KERAS:
            wanted = ".".join(map(str, _OLDEST_KERAS))
            return {"missing": f"Keras {keras.__version__} is too old to be safe: {wanted} or newer is needed"}
    try:
        function = _keras_model(keras, tf, folder) if kind == "keras" else _saved_model(tf, folder / "given")
        for spec in function.specs:
            _check_port(spec)
        (folder / "model.tflite").write_bytes(_converted(tf, function))
        np.savez(folder / "runs.npz", allow_pickle=False, **_runs(tf, function))
    except RefusedError as error:
        return {"refused": str(error)}
    return {"inputs": [spec.name for spec in function.specs], "outputs": function.outputs, "scopes": function.scopes}


def _keras_model(keras: Any, tf: Any, folder: Path) -> _Function:
    try:
        model = keras.models.load_model(folder / "given.keras", compile=False, safe_mode=True)
    except Exception as error:  # Keras raises in many ways.
        raise RefusedError(f"damaged, or of a newer Keras: {_first(error)}") from error
    if not getattr(model, "inputs", None):
        raise RefusedError("the sizes of its inputs are not known: call the model on a sample before it is saved")
    scopes: dict[str, str] = {}
    for name, layer in _layers(model, ""):
        _note_scope(tf, layer, name, scopes)
    specs = [tf.TensorSpec(port.shape, port.dtype, name=port.name) for port in model.inputs]
    form = getattr(model, "input", model.inputs[0])
    # A Sequential model has no names of outputs.
    names = list(getattr(model, "output_names", [model.layers[-1].name]))

    def call(*tensors: Any) -> Any:
        given = tf.nest.pack_sequence_as(form, tensors) if isinstance(form, dict | list | tuple) else tensors[0]
        return tf.nest.flatten(model(given, training=False))

    return _Function(model, call, specs, names, scopes)


def _layers(model: Any, before: str) -> Iterator[tuple[str, Any]]:
    """Yield the layers of a model, those of models inside it by the names of both."""
    for layer in getattr(model, "layers", ()):
        name = f"{before}{layer.name}"
        yield name, layer
        yield from _layers(layer, f"{name}/")


def _note_scope(tf: Any, layer: Any, name: str, scopes: dict[str, str]) -> None:
    """Have a layer note under which scope TensorFlow has it: scopes get numbers that layers do not have."""
    call = layer.call

    def noting(*given: Any, **more: Any) -> Any:
        if not tf.executing_eagerly():
            scopes.setdefault(tf.get_current_name_scope(), name)
        return call(*given, **more)

    layer.call = noting


def _saved_model(tf: Any, folder: Path) -> _Function:
    _check_operators(folder / "saved_model.pb")
    try:
        loaded = tf.saved_model.load(str(folder))
    except Exception as error:  # TensorFlow raises in many ways.
        raise RefusedError(f"damaged: {_first(error)}") from error
    signatures = dict(loaded.signatures)
    if not signatures:
        raise RefusedError("it has no signature: save it with signatures=..., or by model.export of Keras")
    name = _SIGNATURE if _SIGNATURE in signatures else next(iter(signatures))
    if name != _SIGNATURE and len(signatures) > 1:
        raise RefusedError(
            f"it has {len(signatures)} signatures, and none is called {_SIGNATURE}: {sorted(signatures)}"
        )
    signature = signatures[name]
    named = signature.structured_input_signature[1]
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=key) for key, spec in sorted(named.items())]
    outputs = sorted(signature.structured_outputs)

    def call(*tensors: Any) -> Any:
        found = signature(**dict(zip(sorted(named), tensors, strict=True)))
        return [found[key] for key in outputs]

    return _Function(loaded, call, specs, outputs)


def _check_operators(path: Path) -> None:
    """Refuse a graph whose functions reach anything but their tensors: TensorFlow runs whatever a graph says."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry

    try:
        graphs = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs
    except DecodeError as error:
        raise RefusedError("damaged: its saved_model.pb is cut short, or none") from error
    if not graphs:
        raise RefusedError("damaged: its saved_model.pb holds no graph")
    for graph in graphs:
        if not graph.object_graph_def.nodes:
            raise RefusedError("it was written for TensorFlow 1: load it in TensorFlow 2, and save it again")
        functions = {each.signature.name: each for each in graph.graph_def.library.function}
        # What writes and reads checkpoints is not among them: TensorFlow itself restores the variables.
        left, seen = list(graph.object_graph_def.concrete_functions), set()
        while left:
            name = left.pop()
            if name in seen or name not in functions:
                continue
            seen.add(name)
            for node in functions[name].node_def:
                known = op_def_registry.get(node.op)
                is_inner = node.op in functions
                if node.op in _READERS or not (is_inner or (known and not known.is_stateful) or node.op in _STATEFUL):
                    raise RefusedError(f"operator {node.op} of {name!r} may reach files or other programs: refused")
                left += [node.op] if is_inner else []
                for value in node.attr.values():
                    left += [value.func.name, *(each.name for each in value.list.func)]


def _check_port(spec: Any) -> None:
    if spec.shape.rank is None or any(size is None for size in spec.shape[1:]):
        sizes = "unknown sizes" if spec.shape.rank is None else f"sizes {tuple(spec.shape)}"
        raise RefusedError(f"input {spec.name!r} has {sizes}: only the first may be open")
    if not (spec.dtype.is_floating or spec.dtype.is_integer or spec.dtype.is_bool):
        raise RefusedError(f"input {spec.name!r} is of type {spec.dtype.name}: only numbers can be fed")


def _converted(tf: Any, function: _Function) -> bytes:
    def named(*tensors: Any) -> Any:
        return [tf.identity(each) for each in function.call(*tensors)]

    try:
        traced = tf.function(named, input_signature=function.specs, autograph=False).get_concrete_function()
        return bytes(tf.lite.TFLiteConverter.from_concrete_functions([traced]).convert())
    except Exception as error:  # The converter raises in many ways.
        foreign = re.findall(r"(?:TF Select|Flex|Custom) ops: ([^\n]*)", str(error))
        if foreign:
            raise RefusedError(f"TensorFlow Lite has no operators for: {', '.join(dict.fromkeys(foreign))}") from error
        raise RefusedError(f"it cannot be converted to TensorFlow Lite: {_first(error)}") from error


def _runs(tf: Any, function: _Function) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    found: dict[str, NDArray[Any]] = {}
    for run in range(_RUNS):
        feeds = [_random(spec, rng) for spec in function.specs]
        try:
            outputs = function.call(*map(tf.constant, feeds))
        except Exception as error:  # Models raise in many ways.
            raise RefusedError(f"TensorFlow cannot run it on random inputs: {_first(error)}") from error
        found |= {f"{run}/in/{number}": array for number, array in enumerate(feeds)}
        found |= {f"{run}/out/{number}": np.asarray(tensor) for number, tensor in enumerate(outputs)}
    return found


def _random(spec: Any, rng: np.random.Generator) -> NDArray[Any]:
    shape = [_SAMPLES if size is None else size for size in spec.shape]
    if spec.dtype.is_floating:
        return rng.normal(size=shape).astype(spec.dtype.as_numpy_dtype)
    return rng.integers(0, 2, shape).astype(spec.dtype.as_numpy_dtype)


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


if __name__ == "__main__":
    here = Path(sys.argv[2])
    (here / "answer.json").write_text(json.dumps(main(sys.argv[1], here)), encoding="utf-8")
