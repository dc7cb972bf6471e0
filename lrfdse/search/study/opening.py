"""Opening a study: by name, in a storage that several runs and machines may share."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from lrfdse.base.keys import differences
from lrfdse.errors import InputError
from lrfdse.search.study.queue import Queue
from lrfdse.search.study.storage import close_storage, is_absent, open_storage, storage_errors
from lrfdse.search.study.study import OBJECTIVES, Study

if TYPE_CHECKING:
    import optuna

_OWN = frozenset({"choices", "layers"})
"""User attributes by which a study tells its choices."""

_DIRECTIONS: list[Literal["minimize", "maximize"]] = ["minimize", "minimize", "maximize"]
"""Whether each of `OBJECTIVES` is minimised or maximised."""
GRACE = 60.0
"""Seconds without a sign of life after which a process on another machine counts as gone: four missed beats. Chosen,
not measured; a minute outlasts a lost connection or a laptop's short sleep."""
_NAMED = 6
"""Most entries that a refusal names: one line of a terminal."""


def open_study(
    url: str,
    name: str,
    choices: Mapping[str, Sequence[str]],
    *,
    identity: Mapping[str, Any],
    grace: float = GRACE,
    sole: bool = False,
) -> Study:
    """Open a study, or create it, to propose plans; trials that a killed process left running are failed.

    Parameters
    ----------
    url
        Storage URL or path, see `lrfdse.search.study.storage.open_storage`.
    name
        The study's name. Where a study of that name has other choices, ``name-<digest of the choices>`` is used.
    choices
        Layer name to factorization texts, in a stable order.
    identity
        What must not differ between runs that share the study: model digest, target, meter, score. Of a mapping, a
        refusal names the entries that differ.
    grace
        Seconds without a sign of life after which a trial of another machine counts as abandoned. On this machine it
        does as soon as its process is gone.
    sole
        Nobody else works on the study, as a lock that the caller holds proves: every running trial counts as abandoned.

    Raises
    ------
    ValueError
        Choices of a layer are not distinct, or lack "dense"; or the identity has a name of the study's own.
    InputError
        The study of that name is of another model, target or meter, or the storage cannot be used as given.
    ToolError
        The storage cannot be reached or lacks its driver.
    """
    import optuna

    for layer, texts in choices.items():
        if len(set(texts)) < len(texts) or "dense" not in texts:
            raise ValueError(f"choices of layer {layer} must be distinct and have 'dense' among them: {texts}")
    if own := _OWN & identity.keys():
        raise ValueError(f"{min(own)!r} is no part of an identity: the study keeps something else under that name")
    frozen = {layer: tuple(texts) for layer, texts in choices.items()}
    digest = hashlib.sha256(json.dumps(list(frozen.items())).encode()).hexdigest()
    storage = open_storage(url, grace)
    with storage_errors(url):
        for candidate in (name, f"{name}-{digest[:8]}"):
            made = optuna.create_study(
                storage=storage,
                study_name=candidate,
                directions=_DIRECTIONS,
                load_if_exists=True,
                sampler=optuna.samplers.RandomSampler(),
            )
            known = made.user_attrs
            _refuse_other(made, identity)
            if known.get("choices", digest) == digest:
                break
        for key, value in {"choices": digest, "layers": list(frozen), **identity}.items():
            if known.get(key) != value:
                made.set_user_attr(key, value)
        if made.metric_names != list(OBJECTIVES):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                made.set_metric_names(list(OBJECTIVES))
        study = Study(made, storage, frozen, grace)
        study.reclaim(sole)
    return study


def check_study(url: str, name: str, identity: Mapping[str, Any]) -> None:
    """Refuse a storage that cannot be used and a study of that name that is of something else; make nothing.

    Raises
    ------
    InputError, ToolError
        As `open_study`.
    """
    import optuna

    storage = open_storage(url)
    with storage_errors(url):
        if name in optuna.get_all_study_names(storage):
            made = optuna.load_study(study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler())
            _refuse_other(made, identity)
        close_storage(storage)


def join_study(url: str, name: str | None, *, grace: float = GRACE) -> Queue | None:
    """Open a study that another process has made, to evaluate plans; None where there is none of that name (yet).

    Parameters
    ----------
    url
        Storage URL or path.
    name
        The study's name; None means the only study that the storage holds.
    grace
        As for `open_study`, and the same there.

    Raises
    ------
    InputError
        The study was not made by lrfdse, or the storage holds several and `name` names none.
    ToolError
        The storage cannot be reached or lacks its driver.
    """
    import optuna

    if is_absent(url):
        return None
    storage = open_storage(url, grace)
    with storage_errors(url):
        names = optuna.get_all_study_names(storage)
        if name is None and len(names) > 1:
            raise InputError(f"several studies are in this storage: name one with --study-name: {', '.join(names)}")
        if not names or (name is not None and name not in names):
            close_storage(storage)
            return None
        made = optuna.load_study(study_name=name or names[0], storage=storage, sampler=optuna.samplers.RandomSampler())
        if not _is_ours(made):
            raise InputError(f"study {made.study_name!r} was not made by lrfdse: choose another --study-name")
        if "layers" not in made.user_attrs:
            close_storage(storage)
            return None
        layers = made.user_attrs["layers"]
        if not isinstance(layers, list) or not all(isinstance(layer, str) for layer in layers):
            raise InputError(f"study {made.study_name!r} is damaged: its attribute 'layers' is no list of names")
        return Queue(made, storage, layers, grace)


def differing(known: object, wanted: Mapping[str, Any]) -> str:
    """Name the first entries of two mappings that differ, "" where none does.

    >>> differing({"numpy": "2.1", "scipy": "1.16"}, {"numpy": "2.2", "scipy": "1.16"})
    'numpy'
    >>> differing("of an older version", {"numpy": "2.2"})
    'all parts'
    """
    if not isinstance(known, Mapping):
        return "all parts"
    names = differences(known, wanted)
    rest = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + rest


def _is_ours(study: optuna.Study) -> bool:
    """Return whether lrfdse made a study; one that is still empty may be a run's that was killed at once."""
    known = study.user_attrs
    if known:
        return "choices" in known
    return [d.name.lower() for d in study.directions] == _DIRECTIONS and not study.get_trials(deepcopy=False)


def _refuse_other(study: optuna.Study, identity: Mapping[str, Any]) -> None:
    """Raise `InputError` where a study is not ours, or of another model, target or other part of the identity."""
    name, known = study.study_name, study.user_attrs
    if not _is_ours(study):
        raise InputError(f"study {name!r} was not made by lrfdse: choose another --study-name or another --study")
    for key, value in identity.items():
        if isinstance(value, Mapping):
            if key in known and (parts := differing(known[key], value)):
                raise InputError(
                    f"study {name!r} is of another {key}, which differs in {parts}: "
                    "choose another --study-name or another --study"
                )
        elif key in known and known[key] != value:
            raise InputError(
                f"study {name!r} is of {key} {known[key]!r}, but this run has {key} {value!r}: "
                "choose another --study-name or another --study"
            )
