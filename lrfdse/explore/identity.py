"""The code that scores depend on: part of the identity of a study, and of the key of every score that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.base.keys import code_key, digest
from lrfdse.results.settings import Settings

if TYPE_CHECKING:
    from lrfdse.base.keys import CodeKey
    from lrfdse.explore.inputs import Inputs
    from lrfdse.meters.meter import Meter


def score_code() -> CodeKey:
    """Return what the score of a plan owes to code: reading model and data, fitting, correcting, running, grading."""
    from lrfdse.explore.inputs import open_inputs
    from lrfdse.explore.layers.fits import found_fits
    from lrfdse.explore.plans.evaluator import Evaluator
    from lrfdse.explore.plans.trials import evaluate
    from lrfdse.repair.builder import Builder
    from lrfdse.repair.corrections import open_corrections

    return code_key(open_inputs, found_fits, open_corrections, Builder, Evaluator, evaluate)


def code_identity() -> dict[str, Any]:
    """Return what results depend on beside the inputs: all who evaluate plans of a study must have the same.

    "code" holds the entries of `score_code` by name, so that a refusal can say which part is another.
    """
    from lrfdse import __version__

    return {"lrfdse": __version__, "code": dict(score_code().entries)}


def _identity(settings: Settings, inputs: Inputs, meter: Meter) -> dict[str, Any]:
    """Return what all trials of a study have in common."""
    from lrfdse.factorize.methods import METHODS

    data = [None if part is None else part.digest for part in (inputs.calib, inputs.choosing, inputs.reporting)]
    return {
        "model": inputs.model.sha256,
        "target": settings.target.name,
        "meter": meter.key(),
        "score": inputs.scorer.key,
        "data": digest(data),
        "method": METHODS.identity(settings.space.method),
        "correction": "yes" if settings.correct else "no",
        "seed": str(settings.seed),
        **code_identity(),
    }


def _name(settings: Settings, inputs: Inputs, identity: Mapping[str, Any]) -> str:
    default = f"lrfdse/{inputs.model.sha256[:8]}/{settings.target.name}/{digest(*identity.values())[:8]}"
    return settings.study_name or default


def study_url(settings: Settings) -> str:
    """Return the storage of the exploration's study: the user's, or a file in the output folder."""
    from lrfdse.search.study.urls import sqlite_url

    return settings.study or sqlite_url((settings.output / "study.db").resolve())


def store_of(settings: Settings) -> Path:
    """Return the folder of the exploration's artifact store."""
    return settings.artifacts or settings.output / "artifacts"
