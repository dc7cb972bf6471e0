"""The formats in which designs are written."""

from __future__ import annotations

from typing import Literal

Form = Literal["onnx", "tflite", "keras"]
"""A format by its name."""

FORM_FILES: dict[Form, str] = {"onnx": "model.onnx", "tflite": "model.tflite", "keras": "model.keras"}
"""The file in a design's folder that each format is written to."""
