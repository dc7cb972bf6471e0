"""The bench program of a design's whole model, made again from an output folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.events import silent
from lrfdse.base.folders import cache_folder
from lrfdse.base.store import Store
from lrfdse.deploy.folders import DESIGNS
from lrfdse.errors import InputError
from lrfdse.library.build import LibraryOptions, board_program_of
from lrfdse.library.make import NO_METER
from lrfdse.results.read import read_document

if TYPE_CHECKING:
    from lrfdse.results.document import Document
    from lrfdse.targets.target import Target


def whole_program(folder: Path, identity: str, target: Target, path: Path) -> None:
    """Write the program that times a design's whole model on a board to `path`; the folder stays as it is.

    Parameters
    ----------
    folder
        The output folder of an exploration.
    identity
        Id of the original, or of a design whose model was kept.
    target
        What was explored for.
    path
        The file to write.

    Raises
    ------
    InputError
        The design's model is not there, or not that which was explored.
    ToolError
        A tool is missing or failed, or the model is too large for such a program.
    """
    document = read_document(folder)
    made, is_original = document.settings, identity == document.original.id
    # What was fixed is a constant of every design.
    options = LibraryOptions(shape=made.shape, meter=NO_METER, value=made.value if is_original else {})
    content = board_program_of(
        _model(document, folder, identity), target, options, identity, Store(cache_folder()), silent
    )
    path.write_bytes(content)
    path.chmod(0o755)


def _model(document: Document, folder: Path, identity: str) -> Path:
    from lrfdse.model.valued import read_model

    if identity != document.original.id:
        kept = folder / DESIGNS / identity / "model.onnx"
        if not kept.is_file():
            raise InputError(f"{kept}: no such file; explore again, or `lrfdse export {folder} {identity}`")
        return kept
    original = folder / document.model.path
    if not original.is_file():
        raise InputError(f"{original}: no such file; was the folder moved?")
    _, digest = read_model(original, document.settings.value, document.settings.shape)
    if digest != document.model.sha256:
        raise InputError(f"{original}: not the model that was explored (its digest differs); explore again")
    return original
