"""``explore --heal``: what it needs is checked before anything is explored; the kept designs are healed at the end."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener, silent
from lrfdse.base.files import sole_writer
from lrfdse.errors import InputError
from lrfdse.explore.export import rebuild
from lrfdse.explore.healing import Healer
from lrfdse.explore.training_data import HealRequest, check_request, teacher_of, training_data
from lrfdse.healing.framework import check_tensorflow
from lrfdse.results.again import under_limits
from lrfdse.results.write import write_document

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Inputs
    from lrfdse.results.document import Document
    from lrfdse.results.settings import Settings


def check_healing(settings: Settings, inputs: Inputs) -> None:
    """Refuse what could not be healed with at the end of an exploration, before it begins.

    Raises
    ------
    InputError
        Training data are missing or do not fit, or there are no evaluation data to judge by.
    ToolError
        TensorFlow is missing.
    """
    if not settings.heal:
        if settings.heal_data is not None:
            raise InputError("--heal-data is for --heal, which was not asked for: add it")
        return
    check_tensorflow()
    request = _request(settings)
    check_request(request, "--heal-minutes")
    if not inputs.verified:
        raise InputError("--heal: nothing could judge what training gains without evaluation data: give --eval")
    training_data(request, inputs, silent, "--heal-teacher")


def heal_kept(
    settings: Settings,
    document: Document,
    progress: Listener,
    write_again: Callable[[Document, Path], None],
    clock: Callable[[], float] = time.monotonic,
) -> Document:
    """Heal the designs that an exploration wrote out, the recommended one first, and return the document as it is then.

    Each may take an equal part of the minutes that are left. One that cannot be trained, or gains nothing, stays as it
    was, and a note says so.

    Parameters
    ----------
    settings
        What was asked of the exploration, whose output folder is finished.
    document
        Its document.
    progress
        Told of every event.
    write_again
        Writes the folder's reports from a document; called after every design that was healed.
    clock
        Seconds.
    """
    folder, request = settings.output, _request(settings)
    kept = [each for each in document.every_design() if each.model is not None and each.changed()]
    kept.sort(key=lambda design: design.id != document.recommended)
    if not kept:
        return document
    end, left = clock() + 60 * request.minutes, []
    healer = Healer(folder, document, request, progress)
    for place, design in enumerate(kept):
        minutes = (end - clock()) / 60 / (len(kept) - place)
        if minutes <= 0:
            left.append(f"design {design.id} was not healed: no minutes of --heal-minutes were left")
            continue
        try:
            with sole_writer(folder):
                healing = healer.heal(rebuild(folder, design.id), minutes)
        except InputError as error:
            left.append(f"design {design.id} was not healed: {error}")
            continue
        if healing.kept:
            write_again(healing.document, folder)
        else:
            left.append(f"design {design.id} stays as it was fitted: training gained nothing by the data that judge")
    document = healer.document
    better = under_limits(document, document.settings.limits).recommended
    if better not in (None, document.recommended):
        left.append(f"now that designs are healed, {better} would be the better choice within the limits")
    if left:
        document = dataclasses.replace(document, notes=(*document.notes, *left))
        with sole_writer(folder):
            write_document(document, folder)
        write_again(document, folder)
    for note in left:
        progress(Event("note", note))
    return document


def _request(settings: Settings) -> HealRequest:
    if settings.heal_data is None:
        raise InputError(
            "--heal needs training data: name them with --heal-data, or put train.npz beside model.onnx in a folder "
            "and name the folder"
        )
    teacher = teacher_of(settings.heal_teacher, "--heal-teacher")
    return HealRequest(settings.heal_data, minutes=settings.heal_minutes, teacher=teacher, seed=settings.seed)
