"""Layers of a Keras file replaced by chains of Keras' own layers, in a process of its own."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.base.temporary import temporary_folder
from lrfdse.base.text import one_line
from lrfdse.errors import InputError
from lrfdse.formats.chain import Product, Slide
from lrfdse.formats.keras.tensorflow import Runs, require_tensorflow, run_program, runs_of


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """What stands in the place of one layer."""

    layer: str
    """The layer's name, behind those of the models that it is inside of: "inner/wide"."""
    parts: tuple[Product, ...] | tuple[Slide, ...]
    original: NDArray[np.float64]
    """The matrix (outputs, inputs) that the design was made of."""
    widths: tuple[int, int]
    """Inputs and outputs of the chain, which may be padded beyond those of the layer."""
    shift: NDArray[np.float64] | None
    """What is added to the bias."""


def replaced(content: bytes, chains: Sequence[Chain], ports: tuple[int, int], path: Path) -> tuple[bytes, Runs]:
    """Return the file with layers replaced, and what it computes of random inputs when it is loaded again.

    Every layer becomes a Sequential model of Dense and Reshape, of EinsumDense where a product has several columns, or
    of Conv2D; all of them load in safe mode, and none is custom. A file of Keras 2 is written by tf-keras.

    Parameters
    ----------
    content
        A file that `lrfdse.formats.keras.format.KerasFormat` reads.
    chains
        One for each layer that is to be replaced.
    ports
        Inputs and outputs of the model.
    path
        Where the user has the model; begins the message of an error.

    Raises
    ------
    InputError
        A layer cannot be replaced, or the file was written by tf-keras, which is not installed.
    ToolError
        TensorFlow is not installed.
    """
    require_tensorflow()
    asked: list[dict[str, object]] = []
    arrays: dict[str, NDArray[Any]] = {}
    for number, chain in enumerate(chains):
        parts = [_described(part) for part in chain.parts]
        kept, kind = len(chain.original), "conv" if isinstance(chain.parts[0], Slide) else "fc"
        inputs, outputs = chain.widths
        asked.append(
            {"name": chain.layer, "kind": kind, "parts": parts, "inputs": inputs, "outputs": outputs, "kept": kept}
        )
        arrays[f"{number}/original"] = chain.original
        if chain.shift is not None:
            arrays[f"{number}/shift"] = chain.shift
        weights = [part.values if isinstance(part, Product) else part.weight for part in chain.parts]
        arrays |= {f"{number}/part/{place}": weight for place, weight in enumerate(weights)}
    with temporary_folder() as folder:
        (folder / "given.keras").write_bytes(content)
        (folder / "chains.json").write_text(json.dumps(asked), encoding="utf-8")
        np.savez(folder / "weights.npz", allow_pickle=False, **arrays)
        answer = run_program("replace_runner.py", _package(folder / "given.keras"), folder, path)
        if "refused" in answer:
            raise InputError(f"{path}: {one_line(answer['refused'], 400)}")
        return (folder / "made.keras").read_bytes(), runs_of(folder, *ports)


def _described(part: Product | Slide) -> dict[str, object]:
    if isinstance(part, Product):
        return {"columns": part.columns}
    return {"columns": 1, "strides": part.strides, "dilations": part.dilations, "pads": part.pads}


def _package(path: Path) -> str:
    """Return the package that wrote a file: tf-keras goes on with the versions of Keras 2."""
    with zipfile.ZipFile(path) as archive:
        known = json.loads(archive.read("metadata.json"))
    version = known.get("keras_version") if isinstance(known, dict) else None
    return "tf_keras" if str(version).startswith("2.") else "keras"
