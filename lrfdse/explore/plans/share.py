"""What a study holds for those who join it: the model, the data, and how plans are evaluated.

The process that explores puts them into an artifact store and notes name, artifact and SHA-256 in the study; whoever
joins fetches them and refuses what has another hash. No path of the machine that explores is among them.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrfdse.base.border import reading
from lrfdse.base.codec import from_plain, to_plain
from lrfdse.base.events import Event, Listener
from lrfdse.base.files import folder_below, open_regular, read_regular, write_atomically
from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import InputError
from lrfdse.explore.inputs import Files
from lrfdse.explore.plans.job import TrialRequest
from lrfdse.ir.choice import Choice
from lrfdse.results.settings import Data

if TYPE_CHECKING:
    from optuna.artifacts import FileSystemArtifactStore

    from lrfdse.search.study.queue import Queue


SHARED = "shared"
"""User attribute of the study: role to artifact, SHA-256 and size."""


_ROLES = ("calib", "eval", "test")


def publish(study: Queue, folder: Path, request: TrialRequest, model: bytes, data: Data, progress: Listener) -> None:
    """Put into the artifact store what is not there yet, and note it in the study.

    Parameters
    ----------
    study
        The open study.
    folder
        The artifact store; made where there is none.
    request
        How plans are evaluated.
    model
        The model as one file, external data inside.
    data
        Files of the data.
    progress
        Told what is shared.

    Raises
    ------
    InputError
        The store cannot be written.
    """
    from optuna.artifacts import upload_artifact

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--artifacts {folder}: cannot be made: {error.strerror or error}") from error
    # The model is shared as it was read, what was fixed in it.
    request = dataclasses.replace(request, data=dataclasses.replace(request.data, value={}))
    store, known, notes = _store(folder), study.facts().get(SHARED) or {}, dict[str, Any]()
    parts = _parts(request, model, data)
    with temporary_folder() as temporary:
        for role, content in parts.items():
            sha256 = hashlib.sha256(content).hexdigest()
            if known.get(role, {}).get("sha256") == sha256 and _holds(folder, known[role], sha256):
                notes[role] = known[role]
                continue
            path = temporary / _file(role)
            progress(Event("note", f"sharing {path.name} ({len(content):,} bytes)"))
            try:
                path.write_bytes(content)
                artifact = upload_artifact(artifact_store=store, file_path=str(path), study_or_trial=study.optuna_study)
            except OSError as error:
                raise InputError(f"--artifacts {folder}: cannot be written: {error.strerror or error}") from error
            notes[role] = {"artifact": artifact, "sha256": sha256, "bytes": len(content)}
    if notes != known:
        study.note(SHARED, notes)


def fetch(study: Queue, store: Path, cache: Path) -> tuple[TrialRequest, Files]:
    """Fetch what a study shares into `cache`; return how plans are evaluated, and where the files lie now.

    Raises
    ------
    InputError
        The store lacks a part, or a part is not what was shared: another hash, or damaged.
    """
    notes: dict[str, Any] = study.facts().get(SHARED) or {}
    if not _is_whole(notes):
        raise InputError(f"study {study.name!r} shares nothing to work with: it was explored without --study")
    paths = {role: _fetched(role, note, store, cache) for role, note in notes.items()}
    data = Data(**{role: paths[role] for role in _ROLES if role in paths})
    return _request(paths["job"]), Files(paths["model"], data, cache)


def _parts(request: TrialRequest, model: bytes, data: Data) -> dict[str, bytes]:
    """Return the bytes of every part by role."""
    parts = {"job": json.dumps(to_plain(request), sort_keys=True).encode(), "model": model}
    for role in _ROLES:
        if (path := getattr(data, role)) is not None:
            parts[role] = path.read_bytes()
    return parts


def _file(role: str) -> str:
    return {"job": "job.json", "model": "model.onnx"}.get(role, f"{role}.npz")


def _is_whole(notes: Any) -> bool:
    """Return whether the notes name at least model and job, and nothing that could leave a folder."""
    if not isinstance(notes, Mapping) or not {"job", "model"} <= set(notes) <= {"job", "model", *_ROLES}:
        return False
    return all(
        isinstance(note, Mapping)
        and isinstance(note.get("artifact"), str)
        and _is_hash(note.get("sha256"))
        and type(note.get("bytes")) is int
        for note in notes.values()
    )


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")


def _fetched(role: str, note: Mapping[str, Any], folder: Path, cache: Path) -> Path:
    """Return the path of a part in the cache, where every file is named by its hash and checked on each use."""
    sha256 = str(note["sha256"])
    path = folder_below(cache, "shared", sha256) / _file(role)
    if _hash(path) == sha256:
        return path
    content = _content(folder, note)
    if content is None:
        raise InputError(
            f"--artifacts {folder}: holds no {_file(role)} of this study; name the folder that the exploration uses"
        )
    if hashlib.sha256(content).hexdigest() != sha256:
        raise InputError(
            f"--artifacts {folder}: {_file(role)} is not what the study shares (its SHA-256 differs): refused"
        )
    write_atomically(path, content)
    return path


def _request(path: Path) -> TrialRequest:
    """Return what a study asks for; values that no exploration writes are refused."""
    with reading(path, "the job of a study"):
        try:
            request = from_plain(TrialRequest, json.loads(read_regular(path)), "job")
            _check(request)
        except (ValueError, RecursionError, InputError) as error:
            raise InputError(f"{path}: not the job of a study ({error}); it was shared by another version") from error
        return request


def _check(request: TrialRequest) -> None:
    if min(request.data.seed, request.fit.seed) < 0:
        raise ValueError("a seed is below 0")
    for result in request.layers:
        name = result.layer.name
        if result.kept_dense is None and not any(option.choice.is_original for option in result.options):
            raise ValueError(f"layer {name!r} has no dense option")
        for option in result.options:
            if Choice.parse(option.text, *result.sizes) != option.choice:
                raise ValueError(f"layer {name!r} has an option of other sizes, {option.text}")


def _store(folder: Path) -> FileSystemArtifactStore:
    from optuna.artifacts import FileSystemArtifactStore

    return FileSystemArtifactStore(str(folder))


def _content(folder: Path, note: Mapping[str, Any]) -> bytes | None:
    """Return what the store holds under the name in a study's note; of a file larger than the note says, nothing."""
    artifact = str(note["artifact"])
    if artifact in (".", "..") or Path(artifact).name != artifact:
        return None
    try:
        return read_regular(folder / artifact, int(note["bytes"]), links=False)
    except OSError as error:
        return b"" if error.errno == errno.EFBIG else None
    except ValueError:
        return None


def _holds(folder: Path, note: Mapping[str, Any], sha256: str) -> bool:
    content = _content(folder, note)
    return content is not None and hashlib.sha256(content).hexdigest() == sha256


def _hash(path: Path) -> str:
    """Return the digest of a regular file; "" where there is none."""
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
