"""What the data that choose can say of a design's loss, and what they cannot, as notes for the reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrfdse.explore.inputs import Inputs
    from lrfdse.ir.plan import Design


_ENOUGH = 8.0
"""Samples of equal weight below which it is said that a score rests on few: Student's distribution with so few needs a
fifth wider bounds than the normal one. Chosen."""


def evidence_notes(inputs: Inputs, design: Design, classes: tuple[int, int] | None) -> list[str]:
    """Return a note on data that hold no labels, or on random inputs; nothing where labels say what is right.

    Parameters
    ----------
    inputs
        The data that choose, and the metric.
    design
        The recommended design, or the original model where there is none.
    classes
        How many classes the original model puts the data that choose into, and of how many; None without classes.
    """
    count, metric = inputs.choosing.count, inputs.scorer.name
    if not inputs.verified:
        hit = "" if classes is None else f", which the original model puts into {classes[0]} of {classes[1]} classes"
        return [
            f"no evaluation data: no loss was measured; output errors are of output {inputs.judging.judged.name!r} on "
            f"{count} random inputs{hit}, and on real inputs they may be others"
        ]
    if inputs.choosing.labels is not None:
        return _few(inputs)
    hit = "" if classes is None else f"; the {count} samples fall into {classes[0]} of {classes[1]} classes"
    what = f"no labels: {metric} compares with what the original model gives"
    if metric == "fidelity":
        what = "no labels: fidelity is the agreement with the original model on the data that chose, not accuracy"
    elif inputs.scorer.is_own:
        what = f"no labels: {metric} graded outputs without them"
    return [f"{what}{hit}{_interval(design, inputs)}", *_few(inputs)]


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


def _interval(design: Design, inputs: Inputs) -> str:
    if design.eval_interval is None:
        return ""
    low, high = design.eval_interval
    score = design.score(inputs.scorer.name)
    who = "the original" if design.plan.is_original else design.id
    return f"; {who} has {score:.2%} on them, with a 95 % interval of {low:.2%} to {high:.2%}"
