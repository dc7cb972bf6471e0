"""The one reader of ``front.json``: it may be old, cut, edited, or of another program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lrfdse.base.codec import from_plain
from lrfdse.base.files import read_regular
from lrfdse.errors import InputError
from lrfdse.results.document import SCHEMA_VERSION, Document
from lrfdse.results.schema1 import Document1
from lrfdse.results.upgrade import upgraded

FRONT = "front.json"
"""Name of the document in an output folder."""


def read_document(path: Path, whole: bool = True) -> Document:
    """Read the document of an exploration.

    Parameters
    ----------
    path
        A ``front.json``, or the output folder that holds it.
    whole
        Whether everything must be there that a document of its version has. A gate needs only the model, the target,
        the meter, the metric, the limits, and of the designs what they cost and score; what a file leaves out of the
        rest is empty then.

    Returns
    -------
    The document in its present form, whichever version the file is of.

    Raises
    ------
    InputError
        The file cannot be read, is no ``front.json``, is of another schema version, or is damaged: the message names
        the file and the key.
    """
    file = path / FRONT if path.is_dir() else path
    try:
        text = read_regular(file).decode()
    except OSError as error:
        raise InputError(
            f"{file}: cannot be read: {error.strerror}; name the output folder of an exploration"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a front.json of lrfdse: not UTF-8 text; explore again") from error
    return parse_document(text, str(file), whole)


def parse_document(text: str, source: str = FRONT, whole: bool = True) -> Document:
    """Return the document that `text` holds; `source` names it in messages. See `read_document`."""
    try:
        found = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not a front.json of lrfdse: {error}; explore again") from error
    return document_of_plain(found, source, whole)


def document_of_plain(found: Any, source: str = FRONT, whole: bool = True) -> Document:
    """Return the document that a JSON parser gave as `found`. See `read_document`."""
    version = found.get("schema_version") if isinstance(found, dict) else None
    if type(version) is not int:
        raise InputError(f"{source}: not a front.json of lrfdse: it has no schema_version; explore again")
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{source}: schema_version {version} is newer than {SCHEMA_VERSION}, which this lrfdse reads; use the "
            "lrfdse that wrote it, or a newer one"
        )
    try:
        if version == SCHEMA_VERSION:
            document = from_plain(Document, found, f"{source}:", partial=not whole, unknown=True)
        elif version == 1:
            document = upgraded(from_plain(Document1, found, f"{source}:", partial=not whole, unknown=True))
        else:
            raise InputError(f"{source}: schema_version {version} is none that lrfdse ever wrote")
        _check(document, source, whole)
    except InputError as error:
        raise InputError(f"{error}; explore again") from error
    return document


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no number of JSON")


def _check(document: Document, source: str, whole: bool) -> None:
    """Refuse a document whose parts do not fit together."""
    layers = [layer.name for layer in document.layers] if whole else []
    parts = {"designs": document.designs, "dominated": document.dominated}
    places = [("original", document.original)]
    places += [(f"{part}[{k}]", design) for part, designs in parts.items() for k, design in enumerate(designs)]
    for where, design in places:
        if design.latency.at(design.cache_regime) is None:
            raise InputError(f"{source}: {where}.latency.{design.cache_regime} is missing: the design's cache regime")
        if missing := [name for name in layers if name not in design.plan]:
            raise InputError(f"{source}: {where}.plan has no choice for layer {missing[0]!r}")
    known = {design.id for _, design in places}
    for key, identity in (("recommended", document.recommended), ("svd_at_equal_size", document.svd_at_equal_size)):
        if identity is not None and identity not in known:
            raise InputError(f"{source}: {key} must be the id of one of its designs, but is {identity!r}")
