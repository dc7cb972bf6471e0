"""Models and data that callers hand over as objects, written as the files that everything else reads."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lrfdse.base.files import write_atomically
from lrfdse.base.text import one_line
from lrfdse.errors import InputError

if TYPE_CHECKING:
    import onnx
    import onnx_ir
    from numpy.typing import NDArray

    GivenModel: TypeAlias = str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model
    """A file, a folder that holds ``model.onnx``, or a model in memory."""
    GivenData: TypeAlias = str | os.PathLike[str] | NDArray[Any] | Mapping[str, NDArray[Any]]
    """An ``.npz`` file, the array of the only input, or arrays by the names of inputs, with "labels" among them."""


def model_file(given: GivenModel, path: Path) -> Path:
    """Return the path of a model; one in memory is written to `path`, all of its tensors inside, and not changed.

    Raises
    ------
    InputError
        The object is no model, or it cannot be written as one file.
    """
    if isinstance(given, str | os.PathLike):
        return Path(given)
    import onnx
    import onnx_ir
    from google.protobuf.message import EncodeError

    if not isinstance(given, onnx.ModelProto | onnx_ir.Model):
        kind = type(given).__name__
        raise InputError(f"a model is a path, an onnx.ModelProto or an onnx_ir.Model, but got an object of type {kind}")
    try:
        if isinstance(given, onnx_ir.Model):
            given = onnx_ir.to_proto(onnx_ir.external_data.load_to_model(given.clone()))
        content = bytes(given.SerializeToString())
    except (EncodeError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"the model cannot be written as one ONNX file: {one_line(error)}") from error
    write_atomically(path, content)
    return path


def data_file(given: GivenData, role: str, folder: Path) -> Path:
    """Return the path of data; arrays in memory are written to ``<role>.npz``, equal arrays as equal bytes.

    Parameters
    ----------
    given
        The file, the array of the only input, samples first, or arrays by name.
    role
        What the caller names the data: "calib", "eval" or "test".
    folder
        Where arrays are written.

    Raises
    ------
    InputError
        The object is neither an array nor a mapping of names to arrays, or an array holds Python objects.
    """
    if isinstance(given, str | os.PathLike):
        return Path(given)
    import numpy as np

    wanted = f"{role} takes the path of an .npz file, an array of the only input, or arrays by name"
    named = given if isinstance(given, Mapping) else {"input": given}
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, array in named.items():
            if not isinstance(name, str) or not hasattr(array, "__array__"):
                raise InputError(f"{wanted}, but got an object of type {type(array).__name__}")
            array = np.asarray(array)
            if array.dtype.hasobject:
                raise InputError(f"{wanted}, but {name!r} holds Python objects, not numbers")
            with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    path = folder / f"{role}.npz"
    write_atomically(path, content.getvalue())
    return path
