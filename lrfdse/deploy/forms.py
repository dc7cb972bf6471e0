"""The formats in which a design is written beside ONNX: which there are of a model, and the file of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.deploy.converted import converted
from lrfdse.deploy.keras import keras_file
from lrfdse.deploy.tflite import tflite_file
from lrfdse.errors import InputError
from lrfdse.formats.flat import is_flat

if TYPE_CHECKING:
    from lrfdse.ir.factors import Factors
    from lrfdse.ir.form import Form
    from lrfdse.model.graph import Model


def forms_of(path: Path, asked: Sequence[Form]) -> tuple[Form, ...]:
    """Return the formats of a model's designs: those asked for, else ONNX, and the model's own if TensorFlow Lite."""
    if asked:
        return tuple(dict.fromkeys(("onnx", *asked)))
    return ("onnx", "tflite") if _suffix(path) == ".tflite" else ("onnx",)


def check_forms(path: Path, asked: Sequence[Form]) -> None:
    """Refuse formats that no design of a model can have; the model itself is not read.

    Raises
    ------
    InputError
        The message names the format and the model.
    """
    if "keras" in asked and _suffix(path) != ".keras":
        raise InputError(f"--format keras: {path} is no .keras file: only of such are designs written in Keras")


def check_written(model: Model, asked: Sequence[Form]) -> None:
    """Refuse formats that no design of a model can have, for what the model holds; nothing is run.

    Raises
    ------
    InputError
        An ONNX model holds operators of which no TensorFlow Lite file is written; the message names all of them. Or
        products of another format's model are joined or tied.
    ToolError
        The package that writes a format is not installed.
    """
    others = [form for form in forms_of(model.path, asked) if form != "onnx"]
    several = [layer for layer in model.layers if layer.kind in ("joint", "tied")]
    if others and is_flat(model.path) and several:
        name, kind = several[0].name, several[0].kind
        raise InputError(
            f"{model.path}: --layers {kind}: layer {name!r} stands for several operators, and {others[0]} designs "
            f"replace them one by one: leave {kind} out, or convert the model to ONNX first"
        )
    if "tflite" in asked and not is_flat(model.path):
        converted(model, model.original)


def form_file(form: Form, model: Model, factors: Mapping[str, Factors]) -> bytes:
    """Return the file of a design in a format beside ONNX, after its runtime computed what the ONNX model computes.

    Parameters
    ----------
    form
        The format.
    model
        The original model.
    factors
        Layer name to factors, of the layers that the design compresses.

    Raises
    ------
    InputError
        There is none of this design; the message says why.
    """
    return {"tflite": tflite_file, "keras": keras_file}[form](model, factors)


def _suffix(path: Path) -> str:
    return path.suffix.lower()
