"""Opening a study: by name, in a storage that several runs and machines may share."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lrfdse.errors import InputError
from lrfdse.search.storage import open_storage
from lrfdse.search.study import METRICS, Study

_DIRECTIONS: list[Literal["minimize", "maximize"]] = ["minimize", "minimize", "maximize"]
"""Of `METRICS`."""


def open_study(
    url: str,
    name: str,
    choices: Mapping[str, Sequence[str]],
    *,
    identity: Mapping[str, str],
    seed: int = 0,
    stale_after: float = 3600.0,
    sole: bool = False,
) -> Study:
    """Open a study, or create it; trials that a killed process left running are failed and enqueued again.

    Parameters
    ----------
    url
        Storage URL, see `lrfdse.search.storage.open_storage`.
    name
        The study's name. Where a study of that name has other choices, ``name-<digest of the choices>`` is used.
    choices
        Layer name to factorization texts, in a stable order.
    identity
        What must not differ between runs that share the study: model digest, target, meter, score.
    seed
        Seed of the sampler. Proposals depend only on it and on the trials before.
    stale_after
        Seconds after which a trial that another machine left running counts as killed. On this machine it counts as
        killed as soon as its process is gone.
    sole
        Nobody else works on the study, as a lock that the caller holds proves: every running trial counts as killed.

    Raises
    ------
    InputError
        The study of that name is of another model, target or meter, or the storage cannot be used as given.
    ToolError
        The database cannot be reached or lacks its driver.
    """
    import optuna

    for layer, texts in choices.items():
        if len(set(texts)) < len(texts) or "dense" not in texts:
            raise InputError(f"distinct choices with `dense` among them must hold for layer {layer}, but got {texts}")
    frozen = {layer: tuple(texts) for layer, texts in choices.items()}
    digest = hashlib.sha256(json.dumps(list(frozen.items())).encode()).hexdigest()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = open_storage(url)
    for candidate in (name, f"{name}-{digest[:8]}"):
        made = optuna.create_study(
            storage=storage,
            study_name=candidate,
            directions=_DIRECTIONS,
            load_if_exists=True,
        )
        known = made.user_attrs
        ours = "choices" in known if known else [d.name.lower() for d in made.directions] == _DIRECTIONS
        if not ours:
            raise InputError(
                f"study {candidate!r} was not made by lrfdse: choose another study name or another --study"
            )
        _check_identity(candidate, known, identity)
        if known.get("choices", digest) == digest:
            break
    for key, value in {"choices": digest, **identity}.items():
        if known.get(key) != value:
            made.set_user_attr(key, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.set_metric_names(list(METRICS))
    study = Study(made, frozen, seed)
    study.reclaim(stale_after, sole)
    return study


def _check_identity(name: str, known: Mapping[str, Any], identity: Mapping[str, str]) -> None:
    for key, value in identity.items():
        if key in known and known[key] != value:
            raise InputError(
                f"study {name!r} is of {key} {known[key]!r}, but this run has {key} {value!r}: "
                "choose another study name or another --study"
            )
