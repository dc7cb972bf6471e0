"""The TensorFlow Lite file that stands behind a model: its own, or the one that TensorFlow made of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from lrfdse.formats import format_of
from lrfdse.formats.keras.format import KerasFormat, SavedModelFormat
from lrfdse.formats.onnx import model_bytes
from lrfdse.formats.tflite.flatbuffer import Graph, read_graph
from lrfdse.formats.tflite.format import TFLiteFormat


@dataclass(frozen=True, slots=True, eq=False)
class Flat:
    """A TensorFlow Lite file, whose operators the nodes of the ONNX graph are named by."""

    content: bytes
    graph: Graph
    """Its graph, under the names that the ONNX graph has."""
    sha256: str
    """SHA-256 of the model that the user has."""


def is_flat(path: Path) -> bool:
    """Return whether a TensorFlow Lite file stands behind a model; nothing is read."""
    return isinstance(format_of(path), TFLiteFormat | KerasFormat | SavedModelFormat)


def flatbuffer_of(path: Path) -> Flat | None:
    """Return the TensorFlow Lite file behind a model; None where it is of another format, as ONNX.

    Raises
    ------
    InputError
        The model cannot be read.
    ToolError
        LiteRT's package or TensorFlow is not installed.
    """
    found = format_of(path)
    if isinstance(found, TFLiteFormat):
        content = model_bytes(path, "a TensorFlow Lite")
        return Flat(content, read_graph(content, path), hashlib.sha256(content).hexdigest())
    if isinstance(found, KerasFormat | SavedModelFormat):
        read = found.converted(path)
        return Flat(read.flatbuffer, read.graph, read.digest)
    return None
