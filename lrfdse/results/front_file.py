"""Reading the ``front.json`` of a finished exploration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrfdse.errors import InputError


def read_front(folder: Path) -> Mapping[str, Any]:
    """Read the ``front.json`` of an output folder.

    Raises
    ------
    InputError
        It is missing, no JSON, of another schema version, or not whole.
    """
    path = folder / "front.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror}; name the output folder of an exploration"
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: not a front.json of lrfdse: {error}") from error
    if not isinstance(document, dict) or document.get("schema_version") != 1:
        raise InputError(f"{path}: not a front.json of schema version 1")
    needed = {"model", "settings", "data_sha256", "layers", "baseline", "designs"}
    if missing := sorted(needed - set(document)):
        raise InputError(f"{path}: not a whole front.json: it has no {missing[0]!r}")
    return document
