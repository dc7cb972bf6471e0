"""Which designs are written out, and their files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.base.events import Event, Listener
from lrfdse.base.threads import ahead
from lrfdse.deploy.designs import Compiled, write_design
from lrfdse.deploy.folders import design_folder, remove_other_designs

if TYPE_CHECKING:
    from lrfdse.explore.int8 import Int8Forms
    from lrfdse.ir.form import Form
    from lrfdse.ir.plan import Design
    from lrfdse.repair.builder import Builder
    from lrfdse.results.exploration import LayerResult
    from lrfdse.targets.target import Target


def chosen_designs(
    front: Sequence[Design], recommended: Design | None, keep: int, compared: Sequence[Design] = ()
) -> list[Design]:
    """Return the recommended design, at most `keep` others of the front, and `compared`, each once.

    The others are spread evenly over the front, its ends among them.
    """
    others = [design for design in front if recommended is None or design.id != recommended.id]
    count = min(keep, len(others))
    places = np.unique(np.linspace(0, len(others) - 1, count).round().astype(int)) if count else np.zeros(0, int)
    chosen = [*([] if recommended is None else [recommended]), *(others[place] for place in places), *compared]
    return list({design.id: design for design in chosen}.values())


def write_designs(
    folder: Path,
    designs: Sequence[Design],
    layers: Sequence[LayerResult],
    builder: Builder,
    target: Target,
    progress: Listener,
    int8: Int8Forms | None = None,
    forms: Sequence[Form] = (),
    rounded_of: Collection[str] | None = None,
) -> list[str]:
    """Write the files of designs into a folder each, remove what earlier explorations kept, and return the ids, sorted.

    Parameters
    ----------
    folder
        Holds a folder for each design, called by its id.
    designs
        What to write.
    layers
        The layers with their measured options, whose schedules are compiled again.
    builder
        Gives the factors of plans.
    target
        What kernels are compiled for.
    progress
        Told of every design.
    int8
        Makes the int8 form of each, which is written beside it; None where there is to be none.
    forms
        The formats that were asked for; see `lrfdse.deploy.forms.forms_of`.
    rounded_of
        Ids of the designs whose int8 form is made; None means all.
    """
    # Most designs share some layer's kernel.
    compiled: Compiled = {}

    def rounded(design: Design) -> bytes | None:
        if int8 is None or (rounded_of is not None and design.id not in rounded_of):
            return None
        return int8.made(design.id, builder.factors(design.plan, design.refined))

    # One thread makes the int8 forms of all designs, in their order, while another compiles kernels.
    contents = ahead(rounded, designs)
    for done, (design, content) in enumerate(zip(designs, contents, strict=True)):
        progress(Event("write", design.id, done, len(designs)))
        schedules = {result.layer.name: result.option(design.plan[result.layer.name]).schedules for result in layers}
        factors = builder.factors(design.plan, design.refined)
        where = design_folder(folder, design.id)
        write_design(
            where,
            builder.model,
            design.plan,
            factors,
            schedules,
            target,
            progress,
            int8=content,
            forms=forms,
            compiled=compiled,
        )
    progress(Event("write", "", len(designs), len(designs)))
    ids = sorted(design.id for design in designs)
    # Written for other settings: they may not fit the front that is written now.
    remove_other_designs(folder, ids)
    return ids
