"""The format "tflite" of `lrfdse.formats.FORMATS`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.border import reading
from lrfdse.base.text import counted, one_line
from lrfdse.errors import InputError
from lrfdse.formats.notes import add_notes
from lrfdse.formats.onnx import model_bytes
from lrfdse.formats.tflite.convert import as_onnx
from lrfdse.formats.tflite.flatbuffer import Graph, read_graph
from lrfdse.formats.tflite.verify import check

if TYPE_CHECKING:
    import onnx

_verified: set[str] = set()
"""SHA-256 of files that LiteRT confirmed in this process."""


class TFLiteFormat:
    """TensorFlow Lite files."""

    def read(self, path: Path) -> tuple[onnx.ModelProto, str]:
        """Read a model and have LiteRT confirm what was read; see `lrfdse.formats.Format.read`.

        Weights of float16 and of whole numbers become float32, and so does everything that is computed from them.

        Raises
        ------
        InputError
            The file cannot be used, some operators cannot be read, or LiteRT computes something else.
        ToolError
            LiteRT's package is not installed.
        """
        with reading(path, "a TensorFlow Lite model"):
            import onnx

            content = model_bytes(path, "a TensorFlow Lite model")
            graph = read_graph(content, path)
            model = as_onnx(graph, path)
            add_notes(model, notes_on(graph))
            try:
                onnx.checker.check_model(model)
            except (onnx.checker.ValidationError, ValueError) as error:
                raise InputError(f"{path}: damaged: {one_line(error)}") from error
            digest = hashlib.sha256(content).hexdigest()
            if digest not in _verified:
                check(content, graph, model, path)
                _verified.add(digest)
            return model, digest

    def write(self, model: onnx.ModelProto, path: Path) -> None:
        """Refuse: see `InputError`.

        Raises
        ------
        InputError
            TensorFlow Lite files are read only.
        """
        raise InputError(f"{path}: TensorFlow Lite files are read, not written; write an ONNX file")


TFLITE = TFLiteFormat()
"""The format of TensorFlow Lite files."""


def notes_on(graph: Graph) -> list[str]:
    """Return what a user should know of what was made of a graph."""
    levels = [tensor for tensor in graph.tensors if tensor.is_level and tensor.kind not in ("INT32", "INT64")]
    stored = [tensor for tensor in levels if tensor.data is not None]
    computed = {i for operator in graph.operators for i in operator.outputs if i >= 0 and graph.tensors[i].is_level}
    if not levels:
        return []
    shifted = [t for t in stored if t.quantization is not None and t.quantization.zero.any()]
    text = f"{counted(len(stored), 'quantized weight')} became float32, which is what is explored"
    if computed:
        text += "; so did what is computed between them: outputs are real numbers, not levels"
    if shifted:
        text += f"; {counted(len(shifted), 'weight')} with zero points beside 0"
    return [text]
