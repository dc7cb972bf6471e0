"""The code that scores depend on: part of the identity of a study, and of the key of every score that is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lrfdse.base.keys import code_key

if TYPE_CHECKING:
    from lrfdse.base.keys import CodeKey


def score_code() -> CodeKey:
    """Return what the score of a plan owes to code: reading model and data, fitting, correcting, running, grading."""
    from lrfdse.explore.corrections import open_corrections
    from lrfdse.explore.fits import found_fits
    from lrfdse.explore.inputs import open_inputs
    from lrfdse.explore.plans import Builder, Evaluator
    from lrfdse.explore.trials import evaluate

    return code_key(open_inputs, found_fits, open_corrections, Builder, Evaluator, evaluate)


def code_identity() -> dict[str, Any]:
    """Return what results depend on beside the inputs: all who evaluate plans of a study must have the same.

    "code" holds the entries of `score_code` by name, so that a refusal can say which part is another.
    """
    from lrfdse import __version__

    return {"lrfdse": __version__, "code": dict(score_code().entries)}
