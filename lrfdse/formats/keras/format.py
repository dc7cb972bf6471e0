"""The formats "keras", "h5" and "saved_model" of `lrfdse.formats.FORMATS`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.border import reading
from lrfdse.base.files import read_regular
from lrfdse.base.temporary import temporary_folder
from lrfdse.base.text import one_line
from lrfdse.errors import InputError
from lrfdse.formats.keras.config import check_keras_file
from lrfdse.formats.keras.tensorflow import Converted, Kind, convert, require_tensorflow
from lrfdse.formats.onnx import model_bytes
from lrfdse.formats.tflite.convert import as_onnx
from lrfdse.formats.tflite.flatbuffer import Graph, Tensor, read_graph, schema
from lrfdse.formats.tflite.verify import check, furthest

if TYPE_CHECKING:
    import onnx

SAVED_MODEL_FILE = "saved_model.pb"
"""The file by which a folder is a SavedModel."""

_MOST_BYTES = 2**31 - 1
"""Bytes of a folder's files together, as much as any model."""


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A model of TensorFlow's that was converted and confirmed."""

    model: onnx.ModelProto
    flatbuffer: bytes
    """The TensorFlow Lite file that `model` was read from."""
    graph: Graph
    """Its graph, under the model's own names."""
    layers: frozenset[str]
    """Names of the Keras layers, those of models inside it by the names of both; none of a SavedModel."""
    digest: str
    """SHA-256 of what was read."""


_known: dict[str, Read] = {}
"""The model that TensorFlow confirmed last in this process, by its SHA-256: TensorFlow takes seconds to start."""


class KerasFormat:
    """Files of Keras 3."""

    def read(self, path: Path) -> tuple[onnx.ModelProto, str]:
        """Read a model by way of TensorFlow Lite, and compare with Keras; see `lrfdse.formats.Format.read`.

        Raises
        ------
        InputError
            The file cannot be used: it is of before Keras 3, damaged, or has custom or Lambda layers; TensorFlow Lite
            has no operators for it; or what was read computes something else than Keras.
        ToolError
            TensorFlow or LiteRT's package is not installed.
        """
        with reading(path, "a Keras model"):
            return _copy(self.converted(path))

    def converted(self, path: Path) -> Read:
        """Return the model with the TensorFlow Lite file that it was read from; errors as for `read`."""
        content = model_bytes(path, "a Keras")
        check_keras_file(content, path)
        return _model("keras", {"given.keras": content}, path)

    def write(self, model: onnx.ModelProto, path: Path) -> None:
        """Refuse: see `InputError`.

        Raises
        ------
        InputError
            Keras files are read only.
        """
        raise InputError(f"{path}: Keras files are read, not written; write an ONNX file")


class SavedModelFormat:
    """SavedModel folders of TensorFlow 2."""

    def read(self, path: Path) -> tuple[onnx.ModelProto, str]:
        """Read the signature of a model by way of TensorFlow Lite, and compare with it; see `KerasFormat.read`.

        Raises
        ------
        InputError
            As for Keras, and where there is no signature, a link, or an operator that reaches files or other programs.
        ToolError
            TensorFlow or LiteRT's package is not installed.
        """
        with reading(path, "a SavedModel"):
            return _copy(self.converted(path))

    def converted(self, path: Path) -> Read:
        """Return the model with the TensorFlow Lite file that it was read from; errors as for `read`."""
        if not (path / SAVED_MODEL_FILE).is_file():
            raise InputError(f"{path}: not a SavedModel folder: it holds no {SAVED_MODEL_FILE}")
        return _model("saved_model", {f"given/{name}": content for name, content in _files(path)}, path)

    def write(self, model: onnx.ModelProto, path: Path) -> None:
        """Refuse: see `InputError`.

        Raises
        ------
        InputError
            SavedModel folders are read only.
        """
        raise InputError(f"{path}: SavedModel folders are read, not written; write an ONNX file")


KERAS = KerasFormat()
"""The format of Keras files."""

SAVED_MODEL = SavedModelFormat()
"""The format of SavedModel folders."""


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the files that TensorFlow reads."""
    paths = [folder / SAVED_MODEL_FILE]
    for part in ("variables", "assets"):
        # A link, whatever it leads to, is named and then refused.
        below = (folder / part).rglob("*") if not (folder / part).is_symlink() else [folder / part]
        paths += sorted(path for path in below if path.is_symlink() or not path.is_dir())
    left = _MOST_BYTES
    for path in paths:
        try:
            content = read_regular(path, left, links=False)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        left -= len(content)
        yield path.relative_to(folder).as_posix(), content


def _copy(found: Read) -> tuple[onnx.ModelProto, str]:
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(found.model)
    return copy, found.digest


def _model(kind: Kind, files: dict[str, bytes], path: Path) -> Read:
    """Return the model of files, by the names that they get in a folder."""
    digest = hashlib.sha256()
    for name, content in files.items():
        # Of one file its own digest.
        digest.update(content if len(files) == 1 else f"{len(name)} {len(content)} {name}".encode() + content)
    key = digest.hexdigest()
    if key not in _known:
        require_tensorflow()
        schema()
        with temporary_folder() as folder:
            for name, content in files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            converted = convert(kind, folder, path)
        model, graph = confirmed(converted, kind, path)
        _known.clear()
        _known[key] = Read(model, converted.flatbuffer, graph, frozenset(converted.scopes.values()), key)
    return _known[key]


def confirmed(converted: Converted, kind: Kind, path: Path) -> tuple[onnx.ModelProto, Graph]:
    """Return what TensorFlow converted as ONNX and as a graph, after it computed what the model itself computes.

    Raises
    ------
    InputError
        Some of it cannot be read, or it computes something else; the message says which output, or which operator.
    """
    import onnx

    graph = read_graph(converted.flatbuffer, path)
    if len(graph.inputs) != len(converted.inputs) or len(graph.outputs) != len(converted.outputs):
        raise InputError(f"{path}: TensorFlow Lite's converter left out inputs or outputs that nothing needs")
    graph = _named(graph, converted)
    model = as_onnx(graph, path)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InputError(f"{path}: what was read of it is no valid ONNX model: {one_line(error)}") from error
    whose = "Keras" if kind == "keras" else "its signature"
    for given, wanted in converted.runs:
        feeds = {graph.tensors[index].name: array for index, array in zip(graph.inputs, given, strict=True)}
        if (found := furthest(model, feeds, wanted, path)) is not None:
            # Names the operator where the reader is at fault.
            check(converted.flatbuffer, graph, model, path)
            raise InputError(
                f"{path}: TensorFlow Lite's converter changed it: output {converted.outputs[found[0]]!r} differs by "
                f"{found[1]:.3g} from what {whose} computes"
            )
    return model, graph


def _named(graph: Graph, converted: Converted) -> Graph:
    """Return the graph with the names that the model itself has for inputs, outputs and layers."""
    known = dict(zip(graph.outputs, converted.outputs, strict=True)) | dict(
        zip(graph.inputs, converted.inputs, strict=True)
    )
    used = set(known.values())
    split = [_of_layer(tensor.name.partition(";")[0], converted.scopes) for tensor in graph.tensors]
    weights = Counter(layer for tensor, (layer, _) in zip(graph.tensors, split, strict=True) if _is_weight(tensor))
    tensors: list[Tensor] = []
    for tensor in graph.tensors:
        name = known.get(tensor.index)
        if name is None:
            # The converter lists all operators that it fused.
            layer, name = split[tensor.index]
            if layer and _is_weight(tensor) and weights[layer] == 1:
                name = "kernel"
            name = f"{layer}/{name}" if layer else name
            name = name if name not in used else f"{name}#{tensor.index}"
            used.add(name)
        tensors.append(dataclasses.replace(tensor, name=name))
    return dataclasses.replace(graph, tensors=tuple(tensors))


def _of_layer(name: str, scopes: dict[str, str]) -> tuple[str, str]:
    """Return the layer of a name of TensorFlow's, "" where there is none, and the rest."""
    parts = name.split("/")
    for length in range(len(parts) - 1, 0, -1):
        layer = scopes.get("/".join(parts[:length]))
        if layer is not None:
            return layer, "/".join(parts[length:])
    return "", name


def _is_weight(tensor: Tensor) -> bool:
    return tensor.data is not None and tensor.data.dtype.kind == "f" and tensor.data.ndim > 1
