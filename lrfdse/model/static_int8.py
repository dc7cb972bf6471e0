"""The int8 model that onnxruntime's own quantizer makes: what users compare with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.base.privacy import load_quantizer
from lrfdse.base.temporary import temporary_folder
from lrfdse.base.text import one_line
from lrfdse.errors import InputError
from lrfdse.model.runtime import batches

if TYPE_CHECKING:
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.model.runtime import Layout

SAMPLES = 512
"""Calibration samples that ranges are taken from: of extremes, more tell little, and the quantizer keeps what every run
gives. Chosen, not measured."""


def static_int8(model: Model, data: Dataset, layout: Layout) -> bytes:
    """Return the bytes of the original model with weights and activations in int8, as quantizing nodes (QDQ).

    It is ``onnxruntime.quantization.quantize_static`` with weights per channel and all else as it is by default.

    Parameters
    ----------
    model
        The original model.
    data
        Calibration data, of which the first `SAMPLES` are taken.
    layout
        How samples of these data are run.

    Raises
    ------
    InputError
        The quantizer cannot take the model; the message says what it says.
    """
    tools = load_quantizer()
    shown = data.head(SAMPLES)
    names = {port.name for port in model.inputs}

    class Reader(tools.CalibrationDataReader):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            # Its session holds every tensor of a run.
            self._left = batches(shown, layout.size if layout.fixed else 1, pad=layout.fixed)

        def get_next(self) -> dict[str, Any] | None:
            feeds, _ = next(self._left, (None, 0))
            # A scalar of a sample is a number of NumPy, which onnxruntime does not take.
            return None if feeds is None else {name: np.asarray(feeds[name]) for name in feeds if name in names}

    with temporary_folder() as folder, _quiet():
        given, made = folder / "model.onnx", folder / "int8.onnx"
        given.write_bytes(model.content)
        try:
            tools.quantize_static(given, made, Reader(), per_channel=True)
            return made.read_bytes()
        except Exception as error:
            raise InputError(f"onnxruntime's quantizer cannot take the model: {one_line(error)}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantizer's advice, which goes to the root logger, off the terminal."""
    root = logging.getLogger()
    before, handlers = root.level, list(root.handlers)
    root.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.setLevel(before)
        root.handlers[:] = handlers
