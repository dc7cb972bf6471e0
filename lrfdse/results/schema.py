"""The JSON Schema of ``front.json``, made from the dataclasses: what anybody's program can hold a file against."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import textwrap
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrfdse.base.codec import hints_of, is_needed, key_of
from lrfdse.results.document import SCHEMA_VERSION, Document

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SCHEMA_FILE = Path(__file__).with_name("front.schema.json")
"""The schema as it is published."""

_SIMPLE: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    Any: {},
}


def document_schema() -> dict[str, Any]:
    """Return the schema of `Document` in draft 2020-12; keys that it does not name are allowed."""
    definitions: dict[str, dict[str, Any]] = {}
    _define(Document, definitions)
    root = definitions.pop(Document.__name__)
    title = f"front.json of lrfdse, schema version {SCHEMA_VERSION}"
    return {"$schema": DIALECT, "title": title, **root, "$defs": dict(sorted(definitions.items()))}


def schema_text() -> str:
    """Return the schema as the text of its file."""
    return json.dumps(document_schema(), indent=1) + "\n"


def _define(kind: Any, definitions: dict[str, dict[str, Any]]) -> None:
    """Enter the schema of a dataclass, and of those that it holds, by name."""
    if kind.__name__ in definitions:
        return
    definitions[kind.__name__] = {}
    hints, said = hints_of(kind), _descriptions(kind)
    fields = {key_of(field): field for field in dataclasses.fields(kind)}
    properties = {}
    for key, field in fields.items():
        description = {"description": said[field.name]} if field.name in said else {}
        properties[key] = {**description, **_schema(hints[field.name], definitions)}
    definitions[kind.__name__] = {
        "description": inspect.cleandoc(kind.__doc__ or ""),
        "type": "object",
        "properties": properties,
        "required": [key for key, field in fields.items() if is_needed(field)],
    }


def _schema(kind: Any, definitions: dict[str, dict[str, Any]]) -> dict[str, Any]:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        (given,) = (each for each in inner if each is not type(None))
        return {"anyOf": [_schema(given, definitions), {"type": "null"}]}
    if dataclasses.is_dataclass(kind):
        _define(typing.cast(type, kind), definitions)
        return {"$ref": f"#/$defs/{typing.cast(type, kind).__name__}"}
    if origin is tuple and inner[-1] is Ellipsis:
        return {"type": "array", "items": _schema(inner[0], definitions)}
    if origin is tuple:
        parts = [_schema(each, definitions) for each in inner]
        return {"type": "array", "prefixItems": parts, "minItems": len(parts), "maxItems": len(parts)}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema(inner[1], definitions)}
    if origin is typing.Literal:
        return {"const": inner[0]} if len(inner) == 1 else {"enum": list(inner)}
    return dict(_SIMPLE[kind])


def _descriptions(kind: type[Any]) -> dict[str, str]:
    """Return the text that stands under each field of a dataclass in its source."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    said = {}
    for field, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
            said[field.target.id] = " ".join(str(ast.literal_eval(text.value)).split())
    return said
