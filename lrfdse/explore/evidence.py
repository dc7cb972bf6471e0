"""What the data that choose can say of a design's loss, and what they cannot, as notes for the reader."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lrfdse.results.choice import MARGINS

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Inputs
    from lrfdse.ir.plan import Design


_ENOUGH = 8.0
"""Samples of equal weight below which it is said that a score rests on few: Student's distribution with so few needs a
fifth wider bounds than the normal one. Chosen."""


def evidence_notes(
    inputs: Inputs, design: Design, classes: tuple[int, int] | None, max_drop: float | None = None
) -> list[str]:
    """Return a note on data that hold no labels, or on random inputs; nothing where labels say what is right.

    Parameters
    ----------
    inputs
        The data that choose, and the metric.
    design
        The recommended design, or the original model where there is none.
    classes
        How many classes the original model puts the data that choose into, and of how many; None without classes.
    max_drop
        Most of the score that may be lost (a fraction); None where that has no limit.
    """
    count, metric = inputs.choosing.count, inputs.scorer.name
    if not inputs.verified:
        hit = "" if classes is None else f", which the original model puts into {classes[0]} of {classes[1]} classes"
        return [
            f"no evaluation data: no loss was measured; output errors are of output {inputs.judging.judged.name!r} on "
            f"{count} random inputs{hit}, and on real inputs they may be others"
        ]
    if inputs.choosing.labels is not None:
        return [*_few(inputs), *_short(inputs, max_drop)]
    hit = "" if classes is None else f"; the {count} samples fall into {classes[0]} of {classes[1]} classes"
    what = f"no labels: {metric} compares with what the original model gives"
    if metric == "fidelity":
        what = "no labels: fidelity is the agreement with the original model on the data that chose, not accuracy"
    elif inputs.scorer.is_own:
        what = f"no labels: {metric} graded outputs without them"
    return [f"{what}{hit}{_interval(design, inputs)}", *_few(inputs), *_short(inputs, max_drop)]


def _few(inputs: Inputs) -> list[str]:
    """Return a note where the score rests on few of the samples."""
    effective = inputs.chosen.original.effective
    if effective is None or effective >= _ENOUGH:
        return []
    return [
        f"{inputs.scorer.name} rests on no more than {effective:.2g} of the {inputs.choosing.count} samples: they hold "
        f"most of what varies in output {inputs.judging.judged.name!r}, so losses are uncertain; give evaluation data "
        "on which it varies more"
    ]


def _short(inputs: Inputs, max_drop: float | None) -> list[str]:
    """Return a note where there are too few right-or-wrong samples to tell a loss of the limit from none."""
    count = inputs.choosing.count
    lost = max(MARGINS) / (count + 2)
    if not max_drop or inputs.chosen.original.decisions is None or lost <= max_drop:
        return []
    least = math.ceil(max(MARGINS) / max_drop) - 2
    return [
        f"{count:,} samples are few for a limit of {100 * max_drop:g} points: a design that changes none of them may "
        f"lose {100 * min(1.0, lost):.1f} points on others (95 %); {least:,} tell"
    ]


def _interval(design: Design, inputs: Inputs) -> str:
    if design.eval_interval is None:
        return ""
    low, high = design.eval_interval
    score = design.score(inputs.scorer.name)
    who = "the original" if design.plan.is_original else design.id
    return f"; {who} has {score:.2%} on them, with a 95 % interval of {low:.2%} to {high:.2%}"
