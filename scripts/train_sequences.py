"""Make the trained models of the benchmark of sequences, each with its data, in a folder outside the repository.

Writes ``<folder>/<name>-<seed>/`` with model.onnx, calib.npz and calib-more.npz (without labels), eval.npz
and test.npz for

- ``lstm`` and ``gru``: Fashion-MNIST as seven strips of four rows; a layer 112x512 with ReLU on each strip, 64 cells, a
  head of 10 classes;
- ``words``: docstrings of Python's standard library, 32 words each, by the package that they are from; an embedding of
  4000 words in 128 directions, their mean, a layer 128x64 with ReLU, a head of 10 classes.

One CPU thread, some two minutes a model. Folders that are complete are passed over. Needs the `t3f` extra and the data
of Fashion-MNIST (see fashion.py).
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import re
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from fashion import CLASSES, FOLDER, divided, read_data
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from train_models import default_folder

STRIPS, WIDTH, HIDDEN, CELLS = 7, 112, 512, 64
VOCABULARY, LENGTH, DIRECTIONS, UNITS = 4000, 32, 128, 64
CALIBRATION, MORE = 2048, 8192
EPOCHS = {"lstm": 4, "gru": 4, "words": 12}
BATCH = 128

Part = dict[str, NDArray[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=FOLDER, metavar="DIR")
    parser.add_argument("--output", type=Path, default=default_folder(), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--models", nargs="+", choices=list(EPOCHS), default=list(EPOCHS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    options = parser.parse_args()
    for seed in options.seeds:
        for name in options.models:
            folder = options.output / f"{name}-{seed}"
            # Written last: where it is, the folder is complete.
            about = folder / "about.json"
            if about.is_file():
                # Folders of earlier versions have none.
                if not (folder / "calib-more.npz").is_file():
                    write_calibration(folder, texts(seed) if name == "words" else strips(options.data), seed)
            else:
                about.write_text(json.dumps(make(folder, name, seed, options.data)) + "\n", encoding="utf-8")
            print(folder, about.read_text(encoding="utf-8"), flush=True)


def make(folder: Path, name: str, seed: int, data: Path) -> dict[str, object]:
    """Train one model, write its folder and return what it scores."""
    parts = texts(seed) if name == "words" else strips(data)
    folder.mkdir(parents=True, exist_ok=True)
    weights = fit(name, parts, seed)
    onnx.save(written_words(weights) if name == "words" else written_cells(name, weights), folder / "model.onnx")
    write_calibration(folder, parts, seed)
    for part in ("eval", "test"):
        np.savez_compressed(folder / f"{part}.npz", allow_pickle=False, **parts[part])
    return {"seed": seed, **{part: accuracy(folder / "model.onnx", parts[part]) for part in ("eval", "test")}}


def write_calibration(folder: Path, parts: dict[str, Part], seed: int) -> None:
    """Write some training samples, and more, the first of which are the same."""
    (source,) = (key for key in parts["train"] if key != "labels")
    samples = parts["train"][source]
    order = np.random.default_rng(seed).permutation(len(samples))
    for name, count in (("calib", CALIBRATION), ("calib-more", MORE)):
        drawn = np.sort(order[:count])
        np.savez_compressed(folder / f"{name}.npz", allow_pickle=False, **{source: samples[drawn]})


def strips(folder: Path) -> dict[str, Part]:
    """Return Fashion-MNIST in parts, each image as strips of shape (7, 112)."""
    fitted, held_out = divided(read_data(folder, "train"))
    found = {"train": fitted, "eval": held_out, "test": read_data(folder, "t10k")}
    return {
        part: {
            "strips": data.images.reshape(-1, STRIPS, WIDTH).astype(np.float32) / np.float32(255),
            "labels": data.labels,
        }
        for part, data in found.items()
    }


def texts(seed: int) -> dict[str, Part]:
    """Return paragraphs of the standard library's docstrings in parts, as numbers of words, 0 where there is none.

    The classes are the ten packages with the most paragraphs; those of nine in ten modules are trained on, and of the
    others one half chooses and the other reports.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, list[list[str]]] = {}
    for path in sorted(library.glob("*/**/*.py")):
        package = path.relative_to(library).parts[0]
        if package in ("site-packages", "dist-packages", "test") or "test" in path.parts[-2] or "test" in path.stem:
            continue
        found.setdefault(package, []).extend(paragraphs(path))
    classes = [name for name, _ in Counter({name: len(each) for name, each in found.items()}).most_common(CLASSES)]
    labelled = [(words, number) for number, name in enumerate(classes) for words in found[name]]
    order = np.random.default_rng(seed).permutation(len(labelled))
    labelled = [labelled[place] for place in order]
    cut = len(labelled) * 8 // 10, len(labelled) * 9 // 10
    known = Counter(word for words, _ in labelled[: cut[0]] for word in words)
    numbers = {word: place for place, (word, _) in enumerate(known.most_common(VOCABULARY - 2), start=2)}

    def part(some: list[tuple[list[str], int]]) -> Part:
        ids = np.zeros((len(some), LENGTH), np.int64)
        for row, (words, _) in enumerate(some):
            row_ids = [numbers.get(word, 1) for word in words[:LENGTH]]
            ids[row, : len(row_ids)] = row_ids
        return {"words": ids, "labels": np.array([label for _, label in some])}

    return {
        "train": part(labelled[: cut[0]]),
        "eval": part(labelled[cut[0] : cut[1]]),
        "test": part(labelled[cut[1] :]),
    }


def paragraphs(path: Path) -> list[list[str]]:
    """Return the words of each paragraph of five words or more of a module's docstrings and comments."""
    text = path.read_text(encoding="utf-8", errors="replace")
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    told = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    told += [re.sub(r"(?m)^\s*#", "", block) for block in re.findall(r"(?m)(?:^\s*#.*\n)+", text)]
    split = (re.findall(r"[a-z]{2,}", each.lower()) for block in told for each in re.split(r"\n\s*\n", block))
    return [words for words in split if len(words) >= 5]


def fit(name: str, parts: dict[str, Part], seed: int) -> list[NDArray[np.float32]]:
    """Train in Keras and return the weights of the last epoch, as `fashion.fit` does."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
        import tensorflow as tf
    except ImportError:
        sys.exit("training needs TensorFlow: pip install 'lrfdse[t3f]'")
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    keras.utils.set_random_seed(seed)
    layers = keras.layers
    if name == "words":
        stack = [
            keras.Input((LENGTH,), dtype="int64"),
            layers.Embedding(VOCABULARY, DIRECTIONS),
            layers.GlobalAveragePooling1D(),
            layers.Dense(UNITS, activation="relu"),
            layers.Dense(CLASSES),
        ]
    else:
        cell = layers.LSTM(CELLS) if name == "lstm" else layers.GRU(CELLS)
        stack = [keras.Input((STRIPS, WIDTH)), layers.Dense(HIDDEN, activation="relu"), cell, layers.Dense(CLASSES)]
    model = keras.Sequential(stack)
    (source,) = (key for key in parts["train"] if key != "labels")
    steps = EPOCHS[name] * -(-len(parts["train"]["labels"]) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 10, warmup_target=2e-3, warmup_steps=steps // 10
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    train, held_out = ((parts[part][source], parts[part]["labels"]) for part in ("train", "eval"))
    model.fit(*train, batch_size=BATCH, epochs=EPOCHS[name], validation_data=held_out, verbose=2)
    return [np.asarray(weight) for weight in model.get_weights()]


def written_cells(name: str, weights: list[NDArray[np.float32]]) -> onnx.ModelProto:
    """Return the ONNX model of strips (N, 7, 112): ONNX has time first and orders the gates its own way."""
    kernel, bias, inputs, recurrent, cell_bias, head, head_bias = weights

    def gates(array: NDArray[np.float32], order: tuple[int, ...]) -> NDArray[np.float32]:
        parts = np.split(array, len(order), axis=-1)
        return np.concatenate([parts[place] for place in order], axis=-1)

    if name == "lstm":
        order = (0, 3, 1, 2)
        whole = np.concatenate([gates(cell_bias, order), np.zeros(4 * CELLS, np.float32)])
    else:
        order = (0, 1, 2)
        whole = np.concatenate(list(cell_bias))
    arrays = {
        "front.weight": kernel,
        "front.bias": bias,
        f"{name}.weight": gates(inputs, order).T[None],
        f"{name}.recurrent": gates(recurrent, order).T[None],
        f"{name}.bias": whole[None],
        "head.weight": head,
        "head.bias": head_bias,
    }
    own = {"hidden_size": CELLS} | ({"linear_before_reset": 1} if name == "gru" else {})
    nodes = [
        helper.make_node("MatMul", ["strips", "front.weight"], ["product"], "front"),
        helper.make_node("Add", ["product", "front.bias"], ["sum"], "front.add"),
        helper.make_node("Relu", ["sum"], ["features"], "front.relu"),
        helper.make_node("Transpose", ["features"], ["steps"], "steps", perm=[1, 0, 2]),
        helper.make_node(
            name.upper(),
            ["steps", f"{name}.weight", f"{name}.recurrent", f"{name}.bias"],
            ["", "last"],
            name,
            **own,
        ),
        helper.make_node("Squeeze", ["last", "first"], ["state"], "state"),
        helper.make_node("Gemm", ["state", "head.weight", "head.bias"], ["logits"], "head"),
    ]
    return written(nodes, "strips", TensorProto.FLOAT, (STRIPS, WIDTH), arrays | {"first": np.array([0])})


def written_words(weights: list[NDArray[np.float32]]) -> onnx.ModelProto:
    """Return the ONNX model of words (N, 32)."""
    table, kernel, bias, head, head_bias = weights
    arrays = {
        "embedding.weight": table,
        "hidden.weight": kernel,
        "hidden.bias": bias,
        "head.weight": head,
        "head.bias": head_bias,
    }
    nodes = [
        helper.make_node("Gather", ["embedding.weight", "words"], ["vectors"], "embedding"),
        helper.make_node("ReduceMean", ["vectors"], ["mean"], "mean", axes=[1], keepdims=0),
        helper.make_node("Gemm", ["mean", "hidden.weight", "hidden.bias"], ["sum"], "hidden"),
        helper.make_node("Relu", ["sum"], ["units"], "hidden.relu"),
        helper.make_node("Gemm", ["units", "head.weight", "head.bias"], ["logits"], "head"),
    ]
    return written(nodes, "words", TensorProto.INT64, (LENGTH,), arrays)


def written(
    nodes: list[onnx.NodeProto], source: str, kind: int, sizes: tuple[int, ...], arrays: dict[str, NDArray[Any]]
) -> onnx.ModelProto:
    """Return a checked model of one input and the output "logits"."""
    graph = helper.make_graph(
        nodes,
        "sequence",
        [helper.make_tensor_value_info(source, kind, ["N", *sizes])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="lrfdse train_sequences")
    onnx.checker.check_model(model, full_check=True)
    return model


def accuracy(model: Path, part: Part) -> float:
    """Return the percentage of samples that the model classifies correctly in onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (source,) = (key for key in part if key != "labels")
    (logits,) = session.run(["logits"], {source: part[source]})
    return 100 * float(np.mean(logits.argmax(axis=1) == part["labels"]))


if __name__ == "__main__":
    main()
