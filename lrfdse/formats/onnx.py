"""Model files: reading them with their external data and refusing what cannot be used; the bytes of new ones."""

from __future__ import annotations

import errno
import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.border import reading
from lrfdse.base.files import open_regular, read_regular, write_atomically
from lrfdse.base.text import one_line
from lrfdse.errors import InputError
from lrfdse.formats.limits import check_functions, check_tensors, check_texts, element_bits, every_tensor
from lrfdse.formats.usual import give_maps_types, is_mapped, open_negative_sizes, store_densely

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

OLDEST_OPSET = 7
"""Add and Gemm broadcast as they do today from opset 7, which is also the oldest that onnxruntime supports."""


_PROTOBUF_LIMIT = 2**31 - 1
"""Most bytes of one message of protobuf, whose sizes are signed 32-bit numbers."""


def read_model(path: Path) -> tuple[onnx.ModelProto, str]:
    """Read a model, external data included, and check it.

    What is written in a form of its own gets the usual one: sparse initializers become dense, and sizes below 0, by
    which some exporters mean open ones, become open.

    Returns
    -------
    tuple
        The model with every tensor inside it, and the SHA-256 of the file and the external data that it reads.

    Raises
    ------
    InputError
        The file is missing, empty, no regular file, no ONNX model, cut short, of an opset before 7, larger than 2 GiB,
        or holds sparse initializers that cannot be stored densely, tensors of other sizes than are stored, or functions
        that become too many nodes; or its external data are missing, too short, too large, or outside the model's
        folder.
    """
    with reading(path, "an ONNX model"):
        return _read(path)


def _read(path: Path) -> tuple[onnx.ModelProto, str]:
    import onnx
    from google.protobuf.message import DecodeError

    content = model_bytes(path, "an ONNX file")
    try:
        proto = onnx.ModelProto.FromString(content)
    except DecodeError as error:
        raise InputError(f"{path}: not an ONNX model, or cut short") from error
    if not proto.HasField("graph") or not proto.opset_import:
        raise InputError(f"{path}: not an ONNX model: it holds no graph")
    opset = default_opset(proto)
    if opset < OLDEST_OPSET:
        raise InputError(
            f"{path}: opset {opset} is too old: version {OLDEST_OPSET} or newer is required; "
            "convert the model with onnx.version_converter"
        )
    check_texts(proto, path)
    check_functions(proto, path)
    digest = hashlib.sha256(content)
    _inline_external_data(proto, path, digest)
    check_tensors(proto, path)
    store_densely(proto, path)
    open_negative_sizes(proto)
    if proto.ByteSize() > _PROTOBUF_LIMIT:
        raise InputError(f"{path}: models of at most 2 GiB can be explored, but got {proto.ByteSize() / 2**30:.1f} GiB")
    try:
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise InputError(f"{path}: not a valid ONNX model: {one_line(error)}") from error
    return proto, digest.hexdigest()


class OnnxFormat:
    """ONNX files, the format "onnx" of `lrfdse.formats.FORMATS`."""

    def read(self, path: Path) -> tuple[onnx.ModelProto, str]:
        """Read a model, external data included, and check it; see `read_model`."""
        return read_model(path)

    def write(self, model: onnx.ModelProto, path: Path) -> None:
        """Write a model, every tensor inside the file, by atomic rename."""
        write_atomically(path, model.SerializeToString())


ONNX = OnnxFormat()
"""The format of ONNX files."""


def default_opset(proto: onnx.ModelProto) -> int:
    """Return the version of the standard operator set that the model imports, 0 when it imports none."""
    return max((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), default=0)


def serialized(model: ir.Model) -> bytes:
    """Return a model as ONNX protobuf, unchecked; equal models have equal bytes."""
    return bytes(as_proto(model).SerializeToString())


def parsed(proto: onnx.ModelProto) -> ir.Model:
    """Return a model as passes take it, sharing the tensors of `proto`.

    Outputs that are lists of maps, as scikit-learn's classifiers are exported, stand there without their type, which
    `serialized` and `file_content` give back.

    Raises
    ------
    Exception
        Of many kinds: the model is not valid.
    """
    import onnx_ir as ir

    if not any(is_mapped(value) for value in proto.graph.output):
        model: ir.Model = ir.from_proto(proto)
        return model
    outputs = [type(value).FromString(value.SerializeToString()) for value in proto.graph.output]
    try:
        for value in proto.graph.output:
            if is_mapped(value):
                value.ClearField("type")
        untyped: ir.Model = ir.from_proto(proto)
        return untyped
    finally:
        del proto.graph.output[:]
        proto.graph.output.extend(outputs)


def as_proto(model: ir.Model) -> onnx.ModelProto:
    """Return a model as protobuf, with the types of outputs that are lists of maps."""
    import onnx_ir as ir

    proto = ir.to_proto(model)
    give_maps_types(proto)
    return proto


def file_content(model: ir.Model) -> bytes:
    """Return the bytes of a file for a user: the model as ONNX protobuf that ONNX's checker accepts.

    Raises
    ------
    onnx.checker.ValidationError
        The model is not valid, which is a defect of the pass that made it.
    """
    import onnx

    proto = as_proto(model)
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString())


def model_bytes(path: Path, kind: str) -> bytes:
    """Return the bytes of a model's file.

    Parameters
    ----------
    path
        The file.
    kind
        What it should be, with its article.

    Raises
    ------
    InputError
        The file is missing, empty, no regular file, larger than 2 GiB, or cannot be read.
    """
    if path.is_dir():
        raise InputError(f"{path}: a folder, not {kind}")
    try:
        content = read_regular(path, _PROTOBUF_LIMIT)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise InputError(f"{path}: models of at most 2 GiB can be explored") from error
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not content:
        raise InputError(f"{path}: not {kind}: the file is empty")
    return content


def _inline_external_data(proto: onnx.ModelProto, path: Path, digest: hashlib._Hash) -> None:
    import onnx

    seen: dict[Path, int] = {}
    left = _PROTOBUF_LIMIT
    for tensor in every_tensor(proto):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        where = f"{path}: external data of {tensor.name!r}"
        info = {entry.key: entry.value for entry in tensor.external_data}
        file = _inside(path, info.get("location", ""), where)
        if file not in seen:
            seen[file] = file.stat().st_size
            if seen[file] > _PROTOBUF_LIMIT:
                raise InputError(f"{where}: {file.name} has {seen[file]:,} bytes: at most 2 GiB can be explored")
            with open_regular(file) as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        size = _byte_size(tensor, where)
        try:
            offset, length = int(info.get("offset") or 0), int(info.get("length") or size)
        except ValueError as error:
            raise InputError(f"{where}: offset and length must be whole numbers") from error
        if length != size or offset < 0 or offset + length > seen[file]:
            raise InputError(f"{where}: {file.name} holds no {size} bytes at offset {offset}: wrong or cut-short file")
        # Tensors may share bytes of a file, and become more than it.
        left -= size
        if left < 0:
            raise InputError(f"{where}: models of at most 2 GiB can be explored, external data included")
        with open_regular(file) as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        del tensor.external_data[:]
        tensor.data_location = onnx.TensorProto.DEFAULT


def _inside(model: Path, location: str, where: str) -> Path:
    """Return the file at `location`, links followed, if that is inside the model's folder.

    Where the model is itself a link, so may its data be, to the folder that the model really lies in: that is how the
    cache of Hugging Face keeps both.
    """
    if not location:
        raise InputError(f"{where}: no file is named")
    try:
        root, home = model.parent.resolve(), model.resolve().parent
        file = (root / location).resolve()
        is_there = file.is_file()
    except (OSError, RuntimeError, ValueError) as error:
        # A loop of links, a name that is too long, or one with a NUL.
        raise InputError(f"{where}: {one_line(location, 60)!r} names no file: {type(error).__name__}") from error
    if not file.is_relative_to(root) and not (Path(location).name == location and file.parent == home):
        link = " (it is a link: put the file itself there)" if (root / location).is_symlink() else ""
        raise InputError(f"{where}: {location!r} is outside the model's folder: refused{link}")
    if not is_there:
        raise InputError(f"{where}: {location!r} is missing: put it beside the model")
    return file


def _byte_size(tensor: onnx.TensorProto, where: str) -> int:
    if any(size < 0 for size in tensor.dims):
        raise InputError(f"{where}: its sizes {'x'.join(map(str, tensor.dims))} are below 0")
    elements: int = math.prod(tensor.dims)
    return -(-elements * element_bits(tensor, where) // 8)
