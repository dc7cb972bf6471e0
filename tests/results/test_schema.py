"""The published JSON Schema: up to date, valid, and what files are held against."""

from __future__ import annotations

import json

import jsonschema

from lrfdse.base.codec import to_plain
from lrfdse.results.read import read_document
from lrfdse.results.schema import SCHEMA_FILE, document_schema, schema_text


def test_the_file_is_what_the_code_says(update_golden):
    if update_golden:
        SCHEMA_FILE.write_text(schema_text())
    assert SCHEMA_FILE.read_text() == schema_text(), "run pytest with --update-golden"


def test_it_is_a_schema_of_its_dialect():
    jsonschema.Draft202012Validator.check_schema(document_schema())


def test_old_files_are_of_it_once_they_are_read(old):
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA_FILE.read_text()))
    validator.validate(to_plain(read_document(old)))
    assert not validator.is_valid(json.loads(old.read_text()))


def test_every_key_of_a_design_is_described_where_its_name_does_not_say_it_all():
    properties = document_schema()["$defs"]["DesignFacts"]["properties"]
    assert properties["weight_bytes"] == {"description": "Bytes that the weights take in flash.", "type": "integer"}
    assert {key for key, value in properties.items() if "description" not in value} == {"whole_model"}
    assert document_schema()["properties"]["schema_version"]["const"] == 2
