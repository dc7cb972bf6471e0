"""Train LeNet-300-100 on Fashion-MNIST and write the example folder: model.onnx, calib.npz, eval.npz, test.npz.

Needs the `t3f` extra (``pip install 'lrfdse[t3f]'``) and the data (Debian package dataset-fashion-mnist). Training uses
the first 55 000 training images, validation the last 5 000; the weights are those of the last epoch, so neither the
validation nor the test images choose anything.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Images = NDArray[np.uint8]
Labels = NDArray[np.uint8]

EXAMPLE = Path(__file__).parent.parent / "examples" / "lenet300-fashion"
WIDTHS = (784, 300, 100, 10)
BATCH = 128
TRAINING = 55_000
CALIBRATION = 2048
HELD_OUT = 2000


class Data(NamedTuple):
    """Images of shape (n, 28, 28) and labels of shape (n,)."""

    images: Images
    labels: Labels


class Dense(NamedTuple):
    """A layer ``y = x weight.T + bias``; weight has shape (outputs, inputs)."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"), metavar="DIR")
    parser.add_argument("--output", type=Path, default=EXAMPLE, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    train, test = read_data(options.data, "train"), read_data(options.data, "t10k")
    fitted, validation = Data(*(a[:TRAINING] for a in train)), Data(*(a[TRAINING:] for a in train))
    layers = fit(fitted, validation, options.epochs, options.seed)

    options.output.mkdir(parents=True, exist_ok=True)
    model = options.output / "model.onnx"
    onnx.save(build(layers), model)
    chosen = np.random.default_rng(options.seed).choice(TRAINING, CALIBRATION, replace=False)
    np.savez_compressed(options.output / "calib.npz", image=fitted.images[np.sort(chosen)])
    parts = {"eval": Data(*(a[:HELD_OUT] for a in validation)), "test": Data(*(a[:HELD_OUT] for a in test))}
    for name, part in parts.items():
        np.savez_compressed(options.output / f"{name}.npz", image=part.images, labels=part.labels)

    rows = {
        f"eval.npz: the first {HELD_OUT} of the 5000 validation images": parts["eval"],
        f"test.npz: the first {HELD_OUT} test images": parts["test"],
        "all 10000 test images": test,
    }
    for text, part in rows.items():
        print(f"| {text} | {accuracy(model, part):.2f} % |")
    for path in [*sorted(options.output.glob("*.npz")), model]:
        print(f"{path.name}: {path.stat().st_size} bytes, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}")


def read_data(folder: Path, part: str) -> Data:
    """Read the IDX files of one part ("train" or "t10k"); leave with the command that installs them when absent."""
    arrays = []
    for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
        path = folder / f"{part}-{kind}-ubyte.gz"
        if not path.is_file():
            sys.exit(
                f"{path}: not found. On Debian: apt-get install dataset-fashion-mnist; "
                "elsewhere: --data DIR with the four .gz files of Fashion-MNIST"
            )
        with gzip.open(path) as file:
            arrays.append(np.frombuffer(file.read(), np.uint8, offset=header))
    return Data(arrays[0].reshape(-1, 28, 28), arrays[1])


def fit(train: Data, validation: Data, epochs: int, seed: int) -> list[Dense]:
    """Train in Keras and return the layers of the last epoch.

    One thread and deterministic kernels: the same machine and versions give the same weights; other versions of
    TensorFlow or another CPU may round differently.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)

    hidden = [keras.layers.Dense(width, activation="relu") for width in WIDTHS[1:-1]]
    dense = [*hidden, keras.layers.Dense(WIDTHS[-1])]
    model = keras.Sequential([keras.Input((28, 28)), keras.layers.Flatten(), *dense])
    steps = epochs * -(-len(train.images) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, steps - steps // 10, warmup_target=1e-3, warmup_steps=steps // 10
    )
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    scaled = [Data(part.images / np.float32(255), part.labels) for part in (train, validation)]
    model.fit(*scaled[0], batch_size=BATCH, epochs=epochs, validation_data=tuple(scaled[1]), verbose=2)
    return [Dense(np.ascontiguousarray(weight.T), bias) for weight, bias in (layer.get_weights() for layer in dense)]


def build(layers: list[Dense]) -> onnx.ModelProto:
    """Return the ONNX model: uint8 images (N, 28, 28) in, logits (N, 10) out, normalisation inside."""
    initializers = [numpy_helper.from_array(np.float32(255), "white")]
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "white"], ["scaled"], name="scale"),
        helper.make_node("Flatten", ["scaled"], ["flat"], name="flatten", axis=1),
    ]
    value = "flat"
    for index, layer in enumerate(layers, start=1):
        last = index == len(layers)
        name, output = f"fc{index}", "logits" if last else f"fc{index}.output"
        initializers += [numpy_helper.from_array(array, f"{name}.{field}") for field, array in layer._asdict().items()]
        nodes.append(helper.make_node("Gemm", [value, f"{name}.weight", f"{name}.bias"], [output], name=name, transB=1))
        value = output
        if not last:
            value = f"relu{index}.output"
            nodes.append(helper.make_node("Relu", [output], [value], name=f"relu{index}"))
    graph = helper.make_graph(
        nodes,
        "lenet300",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", WIDTHS[-1]])],
        initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="lrfdse train_example"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def accuracy(model: Path, part: Data) -> float:
    """Return the percentage of images that the model classifies correctly in onnxruntime."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": part.images})
    return 100 * float(np.mean(logits.argmax(axis=1) == part.labels))


if __name__ == "__main__":
    main()
