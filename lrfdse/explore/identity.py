"""The code that scores depend on: part of the identity of a study, and of the key of every score that is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lrfdse.base.keys import code_key, digest

if TYPE_CHECKING:
    from lrfdse.base.keys import CodeKey
    from lrfdse.explore.inputs import Inputs
    from lrfdse.explore.layers.fits import FitRequest
    from lrfdse.meters.meter import Meter


def score_code() -> CodeKey:
    """Return what the score of a plan owes to code: reading model and data, fitting, correcting, running, grading."""
    from lrfdse.explore.inputs import open_inputs
    from lrfdse.explore.layers.fits import open_builder
    from lrfdse.explore.layers.found_fits import found_fits
    from lrfdse.explore.plans.evaluator import Evaluator
    from lrfdse.explore.plans.job import evaluate
    from lrfdse.repair.builder import Builder

    return code_key(open_inputs, found_fits, open_builder, Builder, Evaluator, evaluate)


def code_identity() -> dict[str, Any]:
    """Return what results depend on beside the inputs: all who evaluate plans of a study must have the same.

    "code" holds the entries of `score_code` by name, so that a refusal can say which part is another.
    """
    from lrfdse.base.version import __version__

    return {"lrfdse": __version__, "code": dict(score_code().entries)}


def study_identity(fit: FitRequest, target: str, resident: str, inputs: Inputs, meter: Meter) -> dict[str, Any]:
    """Return what all trials of a study have in common.

    Parameters
    ----------
    fit
        How layers are fitted.
    target
        The target's name.
    resident
        In which cache regime its latencies count.
    inputs
        The model and its data.
    meter
        What obtains latencies.
    """
    from lrfdse.factorize.methods import METHODS
    from lrfdse.quality.objective import objective_facts

    data = [None if part is None else part.digest for part in (inputs.calib, inputs.choosing, inputs.reporting)]
    return {
        "model": inputs.model.sha256,
        "kinds": ",".join(sorted({layer.kind for layer in inputs.model.layers})),
        "target": target,
        "meter": meter.key(),
        "resident": resident,
        "score": inputs.scorer.key,
        "outputs": digest(inputs.judging.facts(), objective_facts(inputs.judging.objective)),
        "data": digest(data),
        "method": METHODS.identity(fit.method),
        "correction": ("yes" if fit.correct else "no") + (f", {fit.small_steps:g} MACs" if fit.small_steps else ""),
        "seed": str(fit.seed),
        **code_identity(),
    }


def default_name(title: str, identity: Mapping[str, Any]) -> str:
    """Return the name of a study that the user gave none: model, target, and a digest of all that is common.

    Parameters
    ----------
    title
        What a person calls the model; empty where nothing is known, then its content stands there.
    identity
        What all trials have in common.
    """
    return f"{title or identity['model'][:8]}/{identity['target']}/{digest(*identity.values())[:8]}"
