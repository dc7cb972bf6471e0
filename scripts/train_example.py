"""Train LeNet-300-100 on Fashion-MNIST and write the example folder: model.onnx, calib.npz, eval.npz, test.npz.

Needs the `t3f` extra (``pip install 'lrfdse[t3f]'``) and the data (Debian package dataset-fashion-mnist). Training uses
the first 55 000 training images, validation the last 5 000; the weights are those of the last epoch, so neither the
validation nor the test images choose anything.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import numpy as np
import onnx
from fashion import FOLDER, NETWORKS, TRAINING, Data, accuracy, build, divided, fit, read_data

EXAMPLE = Path(__file__).parent.parent / "examples" / "lenet300-fashion"
NETWORK = NETWORKS["lenet300"]
CALIBRATION = 2048
HELD_OUT = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=FOLDER, metavar="DIR")
    parser.add_argument("--output", type=Path, default=EXAMPLE, metavar="DIR")
    parser.add_argument("--epochs", type=int, default=NETWORK.epochs)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    train, test = read_data(options.data, "train"), read_data(options.data, "t10k")
    fitted, validation = divided(train)
    layers = fit(NETWORK, fitted, validation, options.epochs, options.seed)

    options.output.mkdir(parents=True, exist_ok=True)
    model = options.output / "model.onnx"
    onnx.save(build(layers, NETWORK.name, "lrfdse train_example"), model)
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


if __name__ == "__main__":
    main()
