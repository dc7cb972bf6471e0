"""Training of the networks in Keras, and the data files that an exploration takes."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.convolutions.nets import NETWORKS, SIDE, Arrays, KerasWriter, in_onnx
from lrfdse.base.files import write_atomically

DATA = Path("/usr/share/datasets/fashion-mnist")
TRAINING, CALIBRATION, EVALUATION = 55_000, 1024, 5_000
"""Images that are trained on; of these, those that calibrate; those behind the trained ones, which choose designs."""
BATCH = 128


def trained(name: str, folder: Path, epochs: int, seed: int, data: Path = DATA) -> Path:
    """Return the folder of a trained network with its data files; what is there is not trained again."""
    made = folder / name
    if (made / "model.onnx").is_file():
        return made
    images, labels = _read(data, "train")
    made.mkdir(parents=True, exist_ok=True)
    np.savez(made / "calib.npz", x=images[:CALIBRATION])
    np.savez(made / "eval.npz", x=images[TRAINING:], labels=labels[TRAINING:])
    tests, answers = _read(data, "t10k")
    np.savez(made / "test.npz", x=tests, labels=answers)
    arrays = _fitted(name, images[:TRAINING], labels[:TRAINING], epochs, seed)
    write_atomically(made / "model.onnx", in_onnx(name, arrays).SerializeToString())
    return made


def more_images(folder: Path, count: int, data: Path = DATA) -> str:
    """Return the name of a file with the first so many training images in a network's folder, written where missing."""
    if not 0 < count <= TRAINING:
        sys.exit(f"there are {TRAINING:,} images to calibrate with, but {count:,} are wanted")
    name = f"calib-{count}.npz"
    if not (folder / name).is_file():
        images, _ = _read(data, "train")
        np.savez(folder / name, x=images[:count])
    return name


def _fitted(name: str, images: NDArray[np.float32], labels: NDArray[np.int64], epochs: int, seed: int) -> Arrays:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import keras
        import tensorflow as tf
    except ImportError:
        sys.exit("training needs TensorFlow: pip install 'lrfdse[t3f]'")
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)
    x = keras.Input((SIDE, SIDE, 1))
    model = keras.Model(x, NETWORKS[name](KerasWriter(), x))
    steps = epochs * -(-len(images) // BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(0.0, steps - 200, warmup_target=4e-3, warmup_steps=200)
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule, weight_decay=0.01),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(images.transpose(0, 2, 3, 1), labels, batch_size=BATCH, epochs=epochs, verbose=2)
    return {layer.name: layer.get_weights() for layer in model.layers if layer.get_weights()}


def _read(folder: Path, part: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    found = []
    for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
        path = folder / f"{part}-{kind}-ubyte.gz"
        if not path.is_file():
            sys.exit(f"{path}: not found. On Debian: apt-get install dataset-fashion-mnist")
        with gzip.open(path) as file:
            found.append(np.frombuffer(file.read(), np.uint8, offset=header))
    images, labels = found
    return images.reshape(-1, 1, SIDE, SIDE).astype(np.float32) / np.float32(255), labels.astype(np.int64)
