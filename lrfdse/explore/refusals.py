"""What is refused before anything is compiled, once the model and the data were read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrfdse.base.text import counted
from lrfdse.errors import InputError
from lrfdse.ir.storage import FLOAT32, asked_storages
from lrfdse.results.layers import nouns_text
from lrfdse.space.eligible import reason_to_keep_dense

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lrfdse.explore.inputs import Inputs
    from lrfdse.ir.space import SearchSpace
    from lrfdse.model.graph import Model
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


def check_board(runner: str | None, model: Model) -> None:
    """Refuse a board where the program that runs on it would time only a part of the layers.

    Raises
    ------
    InputError
        The message names the first layer that has no kernel of its own.
    """
    without = [layer for layer in model.layers if not all(use.is_pointwise for use in layer.uses)]
    if runner is not None and without:
        what = "an embedding" if without[0].kind == "embedding" else "a larger one"
        raise InputError(
            f"--runner times fully-connected layers and pointwise convolutions, and {without[0].name!r} is {what}: "
            "leave out --runner, or take --layers fc"
        )
    turning = [layer for layer in model.layers if any(use.turns > 1 for use in layer.uses)]
    if runner is not None and turning:
        raise InputError(
            f"--runner times each kernel once, and {turning[0].name!r} is run in turns, in a loop: leave out --runner"
        )


def check_explored(explored: Sequence[str], idle: Mapping[str, str], space: SearchSpace, model: Model) -> None:
    """Refuse an exploration of nothing.

    Raises
    ------
    InputError
        No layer is explored; the message says why.
    """
    if explored:
        return
    reasons: dict[str, list[str]] = {}
    for layer in model.layers:
        reasons.setdefault(idle.get(layer.name) or str(reason_to_keep_dense(layer, space)), []).append(layer.name)
    if len(reasons) == 1:
        why = f"{counted(len(model.layers), 'layer')}: {next(iter(reasons))}"
    else:
        why = "; ".join(
            f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: {r}" for r, names in reasons.items()
        )
    if model.untouched:
        # What was left may be what the user asks for.
        largest = max(model.untouched, key=lambda each: each.params)
        more = f" and {len(model.untouched) - 1} more" if len(model.untouched) > 1 else ""
        why += f"; left as they are: {largest.op} {largest.name!r}{more}: {largest.reason}"
    raise InputError(f"{model.path}: nothing to compress: {why}")
