"""The original model of an exploration as a file of a runtime's format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.errors import InputError

if TYPE_CHECKING:
    from lrfdse.ir.form import Form
    from lrfdse.results.document import Document


def original_model(document: Document, folder: Path, form: Form) -> bytes:
    """Return the model that was explored, as ONNX or TensorFlow Lite.

    Parameters
    ----------
    document
        The exploration's.
    folder
        Its output folder, which paths in it are relative to.
    form
        "onnx" or "tflite".

    Raises
    ------
    InputError
        The model is not where it was or has changed, or cannot have this format.
    """
    from lrfdse.deploy.converted import converted
    from lrfdse.formats.flat import flatbuffer_of
    from lrfdse.model.graph import load_model

    path, made = folder / document.model.path, document.settings
    if form == "onnx":
        model = load_model(path, made.shape, made.layers, made.value)
        content, digest = model.content, model.sha256
    else:
        flat = flatbuffer_of(path)
        if flat is None:
            model = load_model(path, made.shape, made.layers, made.value)
            content, digest = converted(model, model.original), model.sha256
        else:
            content, digest = flat.content, flat.sha256
    if digest != document.model.sha256:
        raise InputError(f"{path}: not the model that was explored (its digest differs); explore again")
    return content
