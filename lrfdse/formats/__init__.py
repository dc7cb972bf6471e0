"""The files that models come in: a format reads one into an ONNX graph, and writes a graph back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lrfdse.base.registry import Registry
from lrfdse.errors import InputError
from lrfdse.formats.keras.format import KERAS, SAVED_MODEL, SAVED_MODEL_FILE
from lrfdse.formats.onnx import ONNX
from lrfdse.formats.tflite.format import TFLITE

if TYPE_CHECKING:
    import onnx


DEFAULT = "onnx"
"""The format of files whose suffix is no format's name."""

FOLDER_MODEL = "model.onnx"
"""The model in a folder that a user names; goes before a SavedModel's own file."""


class Format(Protocol):
    """One kind of model file."""

    def read(self, path: Path) -> tuple[onnx.ModelProto, str]:
        """Read a model and check it.

        Parameters
        ----------
        path
            The model's file.

        Returns
        -------
        tuple
            The model as ONNX with every tensor inside it, and the SHA-256 (64 hexadecimal digits) of all bytes that
            were read: it stands for the model in the keys of stored results.

        Raises
        ------
        InputError
            The file is missing, of another format, damaged, or holds what cannot be used; the message begins with the
            path and is one line.
        """

    def write(self, model: onnx.ModelProto, path: Path) -> None:
        """Write a model, the whole file or none of it.

        Parameters
        ----------
        model
            What `read` gives, or a compressed form of it.
        path
            The file to write; its folder exists.
        """


FORMATS: Registry[Format] = Registry(
    "lrfdse.formats",
    "model format",
    # The object, not where it is: what decides a stored result is found by following names.
    {DEFAULT: ONNX, "tflite": TFLITE, "keras": KERAS, "h5": KERAS, "saved_model": SAVED_MODEL},
)
"""The model formats by name, which is the suffix of their files without its dot, in lower case; a format of several
suffixes stands here several times. A plug-in adds one under the entry-point group "lrfdse.formats"."""


def format_of(path: Path) -> Format:
    """Return the format of the file's suffix, else ONNX, whose files may be called anything; of a folder SavedModel.

    Raises
    ------
    InputError
        Two plug-ins offer a format of this suffix.
    ToolError
        The plug-in that offers it is broken.
    """
    if (path / SAVED_MODEL_FILE).is_file():
        return FORMATS.get("saved_model")
    suffix = path.suffix.lower().removeprefix(".")
    return FORMATS.get(suffix if suffix in FORMATS.names() else DEFAULT)


def model_at(given: Path) -> Path:
    """Return the model that a user named: a file, the ``model.onnx`` of a folder, or the folder of a SavedModel.

    Raises
    ------
    InputError
        The folder holds neither; the message begins with it.
    """
    if not given.is_dir():
        return given
    if (given / FOLDER_MODEL).is_file():
        return given / FOLDER_MODEL
    if (given / SAVED_MODEL_FILE).is_file():
        return given
    raise InputError(f"{given}: the folder holds no {FOLDER_MODEL}, and no {SAVED_MODEL_FILE} of TensorFlow")
