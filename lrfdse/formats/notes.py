"""What a format made of a file, as notes inside the model that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

_KEY = "lrfdse.notes"
"""Key of the notes in a model's metadata, a note a line."""


def add_notes(model: onnx.ModelProto, notes: Sequence[str]) -> None:
    """Store notes for whoever explores the model, each of one line."""
    if notes:
        model.metadata_props.add(key=_KEY, value="\n".join(notes))


def notes_of_format(model: onnx.ModelProto) -> list[str]:
    """Return the notes that a format stored."""
    return [line for entry in model.metadata_props if entry.key == _KEY for line in entry.value.splitlines()]
