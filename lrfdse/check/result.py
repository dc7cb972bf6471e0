"""What a ``front.json`` says, read with care: it may be old, cut, edited, or of another program."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lrfdse.base.text import clean
from lrfdse.errors import InputError

SCHEMA_VERSION = 1
"""The newest form of ``front.json`` that is understood."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a design lost against the original model, on the data that chose; fractions."""

    loss: float
    standard_error: float | None
    """None where the document does not say."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One design of a front."""

    id: str
    params: int
    flops: int
    us: float
    low_us: float
    high_us: float
    score: float | None
    """On the data that choose, by the front's metric; a fraction, None where the document has none."""
    standard_error: float | None
    """Of the loss against the original model on those data."""
    accuracy: float | None
    """On the test data."""
    accuracy_error: float | None
    """Standard error of the loss on the test data."""
    model: str | None
    """Path of the compressed model, relative to the document."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finished exploration, as its ``front.json`` tells it."""

    path: Path
    model: str
    """Name of the model: its file's, or its folder's where the file is called model.onnx; empty where unknown."""
    model_sha256: str
    target: str
    target_digest: str
    meter: str
    kind: str
    """How latencies were obtained: "measured" or "modelled"."""
    metric: str
    recommended: str | None
    original: Entry
    designs: Mapping[str, Entry]
    layers: tuple[tuple[str, int, int], ...]
    """Name, outputs and inputs of every fully-connected layer."""
    max_drop: float | None
    max_params: int | None
    max_latency_us: float | None
    versions: Mapping[str, str]
    verified: bool = True
    """Whether designs were scored on evaluation data; else scores are of random inputs, and entries hold none."""
    accept_unverified: bool = False
    """Whether the exploration was to recommend a design all the same."""

    @property
    def is_modelled(self) -> bool:
        """Whether latencies are modelled, not measured."""
        return self.kind == "modelled"

    def loss(self, design: Entry) -> Score | None:
        """Return what `design` loses against the original model, or None where one of them was not scored."""
        if design.score is None or self.original.score is None:
            return None
        return Score(self.original.score - design.score, design.standard_error)


def read_result(path: Path) -> Result:
    """Read a ``front.json``.

    Raises
    ------
    InputError
        The file cannot be read, is no ``front.json``, or was written by a newer lrfdse.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(f"{path}: cannot be read: {reason}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a front.json: no JSON document ({error})") from error
    if not isinstance(document, dict) or type(document.get("schema_version")) is not int:
        raise InputError(f"{path}: not a front.json: it has no schema_version")
    if document["schema_version"] > SCHEMA_VERSION:
        raise InputError(
            f"{path}: schema_version {document['schema_version']} is of a newer lrfdse; this one reads {SCHEMA_VERSION}"
        )
    return _Reader(path, document).result()


_LARGEST = sys.float_info.max


_KINDS = {"dict": "an object", "list": "a list", "str": "a text"}


class _Reader:
    """Takes a document apart; every complaint names the file and the field."""

    def __init__(self, path: Path, document: dict[str, Any]) -> None:
        self._path = path
        self._document = document

    def result(self) -> Result:
        document = self._document
        settings = self._part(document, "settings", dict, "")
        metric, verified = self._part(document, "metric", str, ""), self._verified(settings)
        entries = [
            self._entry(value, metric, f"{part}[{k}].", verified)
            for part in ("designs", "dominated")
            for k, value in enumerate(self._part({part: [], **document}, part, list, ""))
        ]
        original = self._entry(self._part(document, "baseline", dict, ""), metric, "baseline.", verified)
        known = {entry.id: entry for entry in (original, *entries)}
        recommended = self._optional(document, "recommended", str, "")
        if recommended is not None and recommended not in known:
            raise self._wrong("recommended", "the id of one of its designs", recommended)
        model = self._part(document, "model", dict, "")
        versions = self._optional(document, "versions", dict, "") or {}
        return Result(
            path=self._path,
            model=clean(str(model.get("name") or model_name(str(model.get("path", ""))))),
            model_sha256=str(model.get("sha256", "")),
            target=clean(self._part(document, "target", str, "")),
            target_digest=str(settings.get("target_digest", "")),
            meter=clean(self._part(document, "meter", str, "")),
            kind=clean(self._part(self._part(document, "latency", dict, ""), "kind", str, "latency.")),
            metric=clean(metric),
            verified=verified,
            accept_unverified=settings.get("accept_unverified") is True,
            recommended=recommended,
            original=original,
            designs=known,
            layers=tuple(self._layers()),
            max_drop=self._optional_number(settings, "max_drop", "settings."),
            max_params=self._count(settings, "max_params"),
            max_latency_us=self._optional_number(settings, "max_latency_us", "settings."),
            versions={clean(str(k)): clean(str(v)) for k, v in versions.items()},
        )

    def _verified(self, settings: dict[str, Any]) -> bool:
        """Return what the document says; one from before that key says it by the data that it was given."""
        known = self._document.get("verified")
        if known is None:
            return settings.get("eval", "") is not None
        if not isinstance(known, bool):
            raise self._wrong("verified", "true or false", known)
        return known

    def _entry(self, value: Any, metric: str, where: str, verified: bool) -> Entry:
        if not isinstance(value, dict):
            raise self._wrong(where.rstrip("."), "an object", value)
        chosen = "fidelity" if metric == "fidelity" else "eval_accuracy"

        def score(key: str) -> float | None:
            return self._optional_number(value, key, where) if verified else None

        return Entry(
            id=clean(self._part(value, "id", str, where)),
            params=int(self._number(value, "params", where)),
            flops=int(self._number(value, "flops", where)),
            us=self._number(value, "latency_us", where),
            low_us=self._number(value, "latency_low_us", where),
            high_us=self._number(value, "latency_high_us", where),
            score=score(chosen),
            standard_error=score("loss_standard_error"),
            accuracy=score("accuracy"),
            accuracy_error=score("accuracy_loss_standard_error"),
            model=self._optional(value, "model", str, where),
        )

    def _layers(self) -> list[tuple[str, int, int]]:
        layers = self._document.get("layers")
        rows = layers if isinstance(layers, list) else []
        return [(str(r.get("name")), r.get("out", 0), r.get("in", 0)) for r in rows if isinstance(r, dict)]

    def _count(self, part: dict[str, Any], key: str) -> int | None:
        value = self._optional_number(part, key, "settings.")
        return None if value is None else int(value)

    def _part(self, part: dict[str, Any], key: str, kind: type[Any], where: str) -> Any:
        if not isinstance(value := part.get(key), kind):
            raise self._wrong(where + key, _KINDS[kind.__name__], value)
        return value

    def _optional(self, part: dict[str, Any], key: str, kind: type[Any], where: str) -> Any:
        return None if part.get(key) is None else self._part(part, key, kind, where)

    def _number(self, part: dict[str, Any], key: str, where: str) -> float:
        value: Any = part.get(key)
        # An integer may be beyond what a float can hold.
        if type(value) not in (int, float) or not -_LARGEST <= value <= _LARGEST:
            raise self._wrong(where + key, "a finite number", value)
        return float(value)

    def _optional_number(self, part: dict[str, Any], key: str, where: str) -> float | None:
        return None if part.get(key) is None else self._number(part, key, where)

    def _wrong(self, field: str, rule: str, value: object) -> InputError:
        return InputError(f"{self._path}: not a front.json: `{field}` must be {rule}, but is {clean(repr(value))[:60]}")


def model_name(path: str) -> str:
    """Return what a person calls the model.

    >>> model_name("../../nets/lenet.onnx"), model_name("../lenet/model.onnx"), model_name("../model.onnx")
    ('lenet', 'lenet', '')
    """
    file = PurePosixPath(path)
    if file.stem != "model":
        return file.stem
    return "" if file.parent.name in ("", "..") else file.parent.name
