"""Make the trained models of the accuracy benchmark, each with its data, in a folder outside the repository.

Writes ``<folder>/<name>-<seed>/`` with model.onnx, calib.npz (2048 unlabelled training images), calib8192.npz, eval.npz
(the 5000 held-out images) and test.npz (the 10 000 test images), for LeNet-300-100, an MLP 784-1024-1024-10 and a
network of two convolutions and a 3136x512 layer on Fashion-MNIST. One CPU thread: about 20 seconds, 2 minutes and 4
minutes a seed. Folders that are complete are passed over. Needs the `t3f` extra and the data (see fashion.py).
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

import numpy as np
import onnx
from fashion import FOLDER, NETWORKS, Data, accuracy, build, divided, fit, read_data

CALIBRATION = {"calib": 2048, "calib8192": 8192}


def default_folder() -> Path:
    """Return the folder of models that can be made again, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lrfdse" / "models"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=FOLDER, metavar="DIR")
    parser.add_argument("--output", type=Path, default=default_folder(), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--models", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    options = parser.parse_args()
    train, test = read_data(options.data, "train"), read_data(options.data, "t10k")
    for seed in options.seeds:
        for name in options.models:
            folder = options.output / f"{name}-{seed}"
            # Written last: where it is, the folder is complete.
            about = folder / "about.json"
            if not about.is_file():
                about.write_text(json.dumps(make(folder, name, seed, train, test), indent=1) + "\n", encoding="utf-8")
            print(folder, about.read_text(encoding="utf-8"), flush=True)


def make(folder: Path, name: str, seed: int, train: Data, test: Data) -> dict[str, object]:
    """Train one model, write its folder and return what it scores."""
    network = NETWORKS[name]
    fitted, held_out = divided(train)
    layers = fit(network, fitted, held_out, network.epochs, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model = folder / "model.onnx"
    onnx.save(build(layers, name, "lrfdse train_models"), model)
    write_data(folder, fitted, held_out, test, seed)
    scores = {"eval": accuracy(model, held_out), "test": accuracy(model, test)}
    return {"seed": seed, "epochs": network.epochs, **scores}


def write_data(folder: Path, fitted: Data, held_out: Data, test: Data, seed: int) -> None:
    """Write the calibration draws, the larger one holding the smaller, and the data that choose and report."""
    drawn = np.random.default_rng(seed).permutation(len(fitted.images))
    for part, count in CALIBRATION.items():
        np.savez_compressed(folder / f"{part}.npz", image=fitted.images[np.sort(drawn[:count])])
    for part, data in (("eval", held_out), ("test", test)):
        np.savez_compressed(folder / f"{part}.npz", image=data.images, labels=data.labels)


if __name__ == "__main__":
    main()
