"""Replaces layers of a Keras model by chains of Keras' own; a program of its own, as `tensorflow_runner` is.

Arguments: the package, "keras" or "tf_keras", and a folder with the model as ``given.keras``, ``chains.json`` with an
entry for each layer, and ``weights.npz`` with its arrays: "number/original", the matrix as the design has it,
"number/shift", what is added to the bias, and "number/part/place". What comes of it lies there, too: ``made.keras``,
``runs.npz`` with inputs ("run/in/number") and what the written file computed of them when it was loaded again
("run/out/number"), and ``answer.json``, which says "refused" and why where there is none.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RUNS, _SAMPLES = 2, 2
"""Random inputs, and samples in each where the batch is open. Chosen, as in `tensorflow_runner`."""

_SAME = 1e-5
"""Largest relative difference of a layer's weight from that of the design's original. Chosen: both are float32, and the
converter multiplies a normalization into it at most."""


_LEAST = float(np.finfo(np.float32).tiny)
"""A weight that is none whatever the others are: the smallest normal float32."""


class RefusedError(Exception):
    """The model cannot be written; the message says why."""


def main(package: str, folder: Path) -> dict[str, Any]:
    """Write the model, run what was written, and return the answer."""
    try:
        keras = importlib.import_module(package)
    except ImportError as error:
        return {"refused": f"{package} cannot be imported: {error}"}
    chains = json.loads((folder / "chains.json").read_text(encoding="utf-8"))
    try:
        with np.load(folder / "weights.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        model = keras.models.load_model(folder / "given.keras", compile=False, safe_mode=True)
        _replaced(keras, model, chains, arrays).save(folder / "made.keras")
        np.savez(folder / "runs.npz", allow_pickle=False, **_runs(keras, folder / "made.keras"))
    except RefusedError as error:
        return {"refused": str(error)}
    except Exception as error:  # Keras raises in many ways.
        return {"refused": f"{package} cannot write it: {' '.join(str(error).split()) or type(error).__name__}"}
    return {}


def _replaced(keras: Any, model: Any, chains: list[Any], arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return the model with chains in the place of layers; all else of it, names and weights, is as before."""
    layers = dict(_layers(keras, model, ""))
    config, made = model.get_config(), {}
    for number, chain in enumerate(chains):
        name = chain["name"]
        if name not in layers:
            raise RefusedError(f"it has no layer {name!r}")
        mine = {key.partition("/")[2]: array for key, array in arrays.items() if key.startswith(f"{number}/")}
        made[name] = _Chain(keras, layers[name], chain, mine)
        entry = _entry(config, name.split("/"))
        for key in ("module", "class_name", "config", "registered_name"):
            entry[key] = made[name].config[key]
    new = type(model).from_config(config)
    for name, layer in _layers(keras, new, ""):
        if name in made:
            made[name].fill(layer)
        elif name in layers and not isinstance(layer, keras.Model):
            layer.set_weights(layers[name].get_weights())
    return new


def _layers(keras: Any, model: Any, before: str) -> Iterator[tuple[str, Any]]:
    """Yield the layers that are no models, those of models inside it by the names of both."""
    for layer in model.layers:
        name = f"{before}{layer.name}"
        yield name, layer
        if isinstance(layer, keras.Model):
            yield from _layers(keras, layer, f"{name}/")


def _entry(config: dict[str, Any], path: list[str]) -> dict[str, Any]:
    """Return what a description says of the layer at a path of names."""
    for entry in config["layers"]:
        if entry["config"].get("name") == path[0]:
            found: dict[str, Any] = entry
            return found if len(path) == 1 else _entry(entry["config"], path[1:])
    raise RefusedError(f"its description has no layer {path[0]!r}")


class _Chain:
    """What stands in the place of one layer, as a model of layers one after the other."""

    def __init__(self, keras: Any, layer: Any, chain: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._keras, self._layer, self._name = keras, layer, chain["name"]
        self._parts = [arrays[f"part/{place}"] for place in range(len(chain["parts"]))]
        own = layer.get_weights()
        kind = keras.layers.Dense if chain["kind"] == "fc" else keras.layers.Conv2D
        if type(layer) is not kind:
            raise RefusedError(
                f"layer {self._name!r} is a {type(layer).__name__}, and only a {kind.__name__} is replaced"
            )
        scale = self._scale(own[0], arrays["original"])
        shift = arrays.get("shift")
        self._bias = own[1] if layer.use_bias else None
        if shift is not None:
            self._bias = shift / scale + (0.0 if self._bias is None else self._bias)
        if not np.array_equal(scale, np.ones_like(scale)):
            if chain["parts"][-1]["columns"] > 1 or len(self._parts[-1]) != len(scale):
                raise RefusedError(
                    f"a normalization is part of {self._name!r}, which its chain leaves no place to undo"
                )
            shape = (-1,) + (1,) * (self._parts[-1].ndim - 1)
            self._parts[-1] = self._parts[-1] / scale.reshape(shape)
        self._weights: list[NDArray[Any]] = []
        layers = self._products(chain) if chain["kind"] == "fc" else self._slides(chain)
        shape = tuple(layer.get_build_config()["input_shape"])
        # Without an input Keras builds it too late inside of another model.
        given = keras.Input(shape[1:], dtype=layer.compute_dtype)
        self.config = keras.saving.serialize_keras_object(keras.Sequential([given, *layers], name=layer.name))

    def fill(self, made: Any) -> None:
        """Give the chain's layers, which were built when the model was, their weights."""
        made.set_weights([array.astype(np.float32) for array in self._weights])

    def _scale(self, kernel: NDArray[Any], original: NDArray[Any]) -> NDArray[Any]:
        """Return by what each output of the layer was multiplied in the original: a normalization behind it."""
        order = (1, 0) if kernel.ndim == 2 else (3, 1, 0, 2)
        mine = kernel.astype(np.float64).transpose(order).reshape(kernel.shape[-1], -1)
        if mine.shape != original.shape:
            raise RefusedError(f"layer {self._name!r} has another shape than the design's")
        norms = (mine * mine).sum(axis=1)
        scale = np.where(norms > 0, (mine * original).sum(axis=1) / np.where(norms > 0, norms, 1.0), 1.0)
        if np.abs(scale - 1.0).max() <= _SAME:
            scale = np.ones_like(scale)
        gap = np.abs(mine * scale[:, None] - original).max()
        if gap > _SAME * max(float(np.abs(original).max()), _LEAST) or not scale.all():
            raise RefusedError(f"layer {self._name!r} does not hold the weight that the design was made of")
        return scale

    def _products(self, chain: Mapping[str, Any]) -> list[Any]:
        k, dtype = self._keras.layers, self._layer.dtype_policy
        shape = tuple(self._layer.get_build_config()["input_shape"])
        lead, inputs = [-1 if size is None else size for size in shape[1:-1]], shape[-1]
        if lead.count(-1) > 1:
            raise RefusedError(f"layer {self._name!r} has several open sizes")
        wide, whole, outputs = chain["inputs"], chain["outputs"], chain["kept"]
        layers: list[Any] = []
        sizes: tuple[int, ...] = (inputs,)

        def shaped(*wanted: int) -> None:
            nonlocal sizes
            if wanted != sizes:
                layers.append(k.Reshape((*lead, *wanted), dtype=dtype))
                sizes = wanted

        if wide > inputs:
            self._bordered(layers, lead, inputs, "ZeroPadding2D", wide - inputs)
            sizes = (wide,)
        for place, (part, weight) in enumerate(zip(chain["parts"], self._parts, strict=True)):
            (out, inner), columns = weight.shape, part["columns"]
            batch = math.prod(sizes) // (inner * columns)
            bias = self._bias if place == len(self._parts) - 1 else None
            before, behind = (batch,) if batch > 1 else (), (columns,) if columns > 1 else ()
            shaped(*before, inner, *behind)
            sizes = (*before, out, *behind)
            if behind or (before and bias is not None):
                b, c = "b" if before else "", "c" if behind else ""
                axes = None if bias is None else f"{b}o{c}"
                made = k.EinsumDense(f"...{b}i{c},io->...{b}o{c}", sizes, bias_axes=axes, dtype=dtype)
            else:
                made = k.Dense(out, use_bias=bias is not None, dtype=dtype)
            layers.append(made)
            self._weights += [weight.T, *([] if bias is None else [np.pad(bias, (0, whole - outputs)).reshape(sizes)])]
        shaped(whole)
        if whole > outputs:
            self._bordered(layers, lead, whole, "Cropping2D", whole - outputs)
        layers.append(k.Activation(self._layer.activation, dtype=dtype))
        return layers

    def _bordered(self, layers: list[Any], lead: list[int], size: int, kind: str, width: int) -> None:
        """Add layers that put zeros behind the last axis, or cut its end off: Keras has them for images alone."""
        k, dtype = self._keras.layers, self._layer.dtype_policy
        if len(lead) > 1:
            raise RefusedError(f"layer {self._name!r} has too many axes for a chain of padded sizes")
        layers.append(k.Reshape((*(lead or [1]), size, 1), dtype=dtype))
        layers.append(getattr(k, kind)(((0, 0), (0, width)), data_format="channels_last", dtype=dtype))
        layers.append(k.Reshape((*lead, size + width if kind == "ZeroPadding2D" else size - width), dtype=dtype))

    def _slides(self, chain: Mapping[str, Any]) -> list[Any]:
        k, dtype = self._keras.layers, self._layer.dtype_policy
        if self._layer.data_format != "channels_last" or self._layer.groups != 1:
            raise RefusedError(f"layer {self._name!r} has channels first, or groups")
        layers: list[Any] = []
        for place, (part, weight) in enumerate(zip(chain["parts"], self._parts, strict=True)):
            above, left, below, right = part["pads"]
            if any(part["pads"]):
                padding = ((above, below), (left, right))
                layers.append(k.ZeroPadding2D(padding, data_format="channels_last", dtype=dtype))
            bias = self._bias if place == len(self._parts) - 1 else None
            made = k.Conv2D(
                len(weight),
                weight.shape[1:3],
                strides=tuple(part["strides"]),
                dilation_rate=tuple(part["dilations"]),
                data_format="channels_last",
                use_bias=bias is not None,
                dtype=dtype,
            )
            layers.append(made)
            self._weights += [weight.transpose(1, 2, 3, 0), *([] if bias is None else [bias])]
        layers.append(k.Activation(self._layer.activation, dtype=dtype))
        return layers


def _runs(keras: Any, path: Path) -> dict[str, NDArray[Any]]:
    """Load the written file again and return random inputs with what it computes of them."""
    import tensorflow as tf

    model = keras.models.load_model(path, compile=False, safe_mode=True)
    rng = np.random.default_rng(1)
    found: dict[str, NDArray[Any]] = {}
    form = getattr(model, "input", model.inputs[0])
    for run in range(_RUNS):
        given = []
        for port in model.inputs:
            shape, dtype = [_SAMPLES if size is None else size for size in port.shape], tf.as_dtype(port.dtype)
            drawn = rng.normal(size=shape) if dtype.is_floating else rng.integers(0, 2, shape)
            given.append(drawn.astype(dtype.as_numpy_dtype))
        fed = tf.nest.pack_sequence_as(form, given) if isinstance(form, dict | list | tuple) else given[0]
        outputs = tf.nest.flatten(model(fed, training=False))
        found |= {f"{run}/in/{number}": array for number, array in enumerate(given)}
        found |= {f"{run}/out/{number}": np.asarray(tensor) for number, tensor in enumerate(outputs)}
    return found


if __name__ == "__main__":
    here = Path(sys.argv[2])
    (here / "answer.json").write_text(json.dumps(main(sys.argv[1], here)), encoding="utf-8")
