"""What has to be given so that layers may be stored in another form than float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.errors import InputError
from lrfdse.ir.storage import FLOAT32, asked_storages
from lrfdse.results.layers import nouns_text

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Inputs
    from lrfdse.results.settings import Settings

_LEAST_OPSET = 13
"""Opset from which DequantizeLinear takes a scale for each output, as products of whole numbers have
(onnx/docs/Changelog.md)."""


def check_storages(settings: Settings, inputs: Inputs) -> None:
    """Refuse storages that no layer takes, and one that rounds what layers read where that cannot be done.

    Raises
    ------
    InputError
        No layer can be stored so, there are no calibration data to take ranges from, the model's opset has no operator
        for it, or kernels are to be timed that layers in whole numbers do not have.
    """
    asked, model, storages = f"--storage {settings.storage}", inputs.model, asked_storages(settings.storage)
    others = [storage for storage in storages if storage != FLOAT32]
    if others and not any(layer.takes(storage) for layer in model.layers for storage in others):
        raise InputError(
            f"{asked} is for fully-connected layers, and int8 for embeddings, too; {model.path} has "
            f"{nouns_text([layer.kind for layer in model.layers])} alone: leave it out"
        )
    if not any(storage.rounds_inputs for storage in storages):
        return
    if inputs.calib is None:
        raise InputError(f"{asked} rounds what layers read by its range on calibration data: name some with --calib")
    opset = model.working.graph.opset_imports.get("", 0) or model.working.graph.opset_imports.get("ai.onnx", 0)
    if opset < _LEAST_OPSET:
        raise InputError(
            f"{model.path}: opset {opset} is too old for {asked}: version {_LEAST_OPSET} or newer is required"
        )
    if settings.runner is not None:
        raise InputError(
            f"--runner times kernels, and layers in whole numbers have none of their own: leave out {asked}"
        )
