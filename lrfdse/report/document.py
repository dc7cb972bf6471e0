"""``front.json`` read back, and what reports ask of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from lrfdse.errors import InputError
from lrfdse.report.front import SCHEMA_VERSION

Document = Mapping[str, Any]
"""The content of ``front.json``."""
DesignEntry = Mapping[str, Any]
"""One design of it."""

_NEEDED = (
    *("model", "target", "meter", "latency", "metric", "versions", "settings", "layers", "untouched"),
    *("baseline", "recommended", "svd_at_equal_params", "designs", "notes"),
)

WORTH_SHOWING = 0.1
"""A loss beyond which a design is left to the files, unless the user allows more."""

WORST_SHOWN = 0.5
"""An output error beyond which a design is left to the files, where losses are not measured."""

ROLES = ("recommended", "original", "SVD at equal size", "uniform SVD", "front", "dominated")
"""What a design is to the reader, the most telling first."""


def read_document(folder: Path) -> dict[str, Any]:
    """Read the ``front.json`` of an output folder.

    Raises
    ------
    InputError
        It is missing, no JSON, of another schema version, or a key is missing.
    """
    path = folder / "front.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}; name the output folder of an exploration"
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not a front.json of lrfdse: {error}; explore again") from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if type(version) is not int:
        raise InputError(f"{path}: not a front.json of lrfdse: it has no schema_version; explore again")
    if version != SCHEMA_VERSION:
        cure = "explore again" if version < SCHEMA_VERSION else "use the lrfdse that wrote it, or a newer one"
        raise InputError(f"{path}: schema_version {SCHEMA_VERSION} must hold, but got {version}; {cure}")
    if missing := [key for key in _NEEDED if key not in document]:
        raise InputError(f"{path}: not a whole front.json: it has no {missing[0]!r}; explore again")
    return dict(document)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def title_of(document: Document) -> str:
    """Return the model's name."""
    model = document["model"]
    return str(model["name"] if "name" in model else PurePosixPath(model["path"]).stem)


def every_design(document: Document) -> list[DesignEntry]:
    """Return every evaluated design once, the original included, slowest first."""
    found = {
        design["id"]: design for design in (document["baseline"], *document["designs"], *document.get("dominated", ()))
    }
    return sorted(found.values(), key=lambda design: (-design["latency_us"], -design["params"], design["id"]))


def role_of(design: DesignEntry, document: Document) -> str:
    """Return the first of `ROLES` that holds."""
    if design["id"] == document["recommended"]:
        return "recommended"
    if design["id"] == document["baseline"]["id"]:
        return "original"
    if design["id"] == document["svd_at_equal_params"]:
        return "SVD at equal size"
    if design["origin"] == "uniform-svd":
        return "uniform SVD"
    return "front" if design["on_front"] else "dominated"


def recommended_of(document: Document) -> DesignEntry | None:
    """Return the recommended design, or None where nothing satisfies the limits."""
    wanted = document["recommended"]
    return next((design for design in every_design(document) if design["id"] == wanted), None)


def chosen_score(design: DesignEntry) -> float:
    """Return the score on the data that choose designs, a fraction."""
    value = design["eval_accuracy"]
    return float(design["fidelity"] if value is None else value)


def reported_score(design: DesignEntry) -> float:
    """Return the score to report, a fraction: on test data, which choose nothing, where there are some."""
    value = design["accuracy"]
    return chosen_score(design) if value is None else float(value)


def is_verified(document: Document) -> bool:
    """Return whether scores are of evaluation data that the user gave; else of random inputs.

    Documents from before the key ``verified`` say it by the data that the exploration was given.
    """
    known = document.get("verified")
    return document["settings"].get("eval", "") is not None if known is None else bool(known)


def shown_name(document: Document) -> str:
    """Return what reports tell designs apart by: the metric, or where losses are not measured the output error."""
    return str(document["metric"]) if is_verified(document) else "output error"


def shown_value(design: DesignEntry, document: Document) -> float | None:
    """Return the value of `shown_name`, a fraction; None where the output error is not known."""
    if is_verified(document):
        return reported_score(design)
    value = design.get("output_error")
    return None if value is None else float(value)


def is_worth_showing(design: DesignEntry, document: Document) -> bool:
    """Return whether the design loses no more than somebody could want."""
    if is_verified(document):
        most = max(WORTH_SHOWING, document["settings"]["max_drop"])
        return bool(chosen_score(design) >= chosen_score(document["baseline"]) - most)
    error = shown_value(design, document)
    return error is None or error <= WORST_SHOWN


def least_drawn(document: Document) -> float | None:
    """Return the score at which plots begin, where designs that nobody could want would squeeze the rest together."""
    if not is_verified(document):
        return None
    least = _best(document) - 2 * max(WORTH_SHOWING, document["settings"]["max_drop"])
    return least if any(reported_score(design) < least for design in every_design(document)) else None


def drawn_range(document: Document) -> tuple[float, float] | None:
    """Return the ends of the scores that plots show; None where that is all of them. Errors are drawn up to 1."""
    if not is_verified(document):
        beyond = any((shown_value(design, document) or 0.0) > 1 for design in every_design(document))
        return (0.0, 1.0) if beyond else None
    return None if (least := least_drawn(document)) is None else (least, _best(document))


def _best(document: Document) -> float:
    return max(reported_score(design) for design in every_design(document))


def factorized(design: DesignEntry) -> dict[str, str]:
    """Return the layers that the design does not keep dense, with their factorizations."""
    return {name: text for name, text in design["plan"].items() if text != "dense"}


def board_us(design: DesignEntry) -> tuple[float, float, float] | None:
    """Return the median and the quartiles of what a board took for all layers, where it was asked."""
    found = (design.get("board") or {}).get("whole_us")
    return None if found is None else (float(found[0]), float(found[1]), float(found[2]))


def loss_error(design: DesignEntry) -> float | None:
    """Return one standard error of the loss on the data that `reported_score` is of, a fraction, where it is known."""
    key = "loss_standard_error" if design["accuracy"] is None else "accuracy_loss_standard_error"
    value = design.get(key)
    return None if value is None else float(value)


def reported_interval(design: DesignEntry) -> tuple[float, float] | None:
    """Return the 95 % interval of `reported_score`, where it is known."""
    bounds = design.get("eval_interval" if design["accuracy"] is None else "accuracy_interval")
    return None if bounds is None else (float(bounds[0]), float(bounds[1]))
