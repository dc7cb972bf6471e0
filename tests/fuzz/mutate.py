"""Mutations: of bytes, of protobuf fields, of values. The same generator and file give the same mutant."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sqlite3
import tempfile
import tomllib
import warnings
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx

NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 7, 16, 92, 127, 255, 999, 2**20, 2**31 - 1, 2**40, 2**63 - 1)
TEXTS = (
    "",
    "x",
    "y",
    "w",
    "MatMul",
    "Gather",
    "Loop",
    "ai.onnx",
    "a\0b",
    "../../etc/passwd",
    "../elsewhere/victim",
    "victim",
    "é" * 300,
    "%s{}",
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    "victim",
    "../elsewhere/victim",
    -1,
    0,
    2**70,
    1e308,
    "",
    "x\x1b[31m",
    [],
    {},
    [[]],
    {"a": []},
    "[" * 50,
)

ROWS: tuple[Any, ...] = (None, 1e308, b"\xff\0", "null", "5", "[]", "{}", '"x"', "[" * 100_000, "RUNNING", "NaN")
"""Values of a column of a study: numbers, texts, JSON of another form."""


def mutant(kind: str, content: bytes, rng: Random) -> bytes:
    """Return a damaged form of a file."""
    if kind == "onnx" and rng.random() < 0.7:
        return _fields(content, rng)
    if kind == "cache":
        name, _, data = content.partition(b"\n")
        kind = "npz" if name.endswith(b".npz") else "front"
        return name + b"\n" + mutant(kind, data, rng)
    if kind in ("front", "board", "artifact") and rng.random() < 0.7:
        return _json(content, rng)
    if kind == "keras" and rng.random() < 0.7:
        return _archive(content, rng)
    if kind == "log" and rng.random() < 0.7:
        lines = content.splitlines()
        place = rng.randrange(len(lines))
        lines[place] = _json(lines[place], rng)
        return b"\n".join(lines)
    if kind in ("target", "space") and rng.random() < 0.7:
        return _toml(content, rng)
    if kind == "study" and rng.random() < 0.7:
        return _sqlite(content, rng)
    if kind in ("npz", "healed") and rng.random() < 0.4:
        return _arrays(content, rng)
    return _bytes(content, rng)


def _bytes(content: bytes, rng: Random) -> bytes:
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(6):
            case 0:
                del data[place:]
            case 1:
                del data[place : place + rng.randrange(1, 9)]
            case 2:
                data[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 3:
                data[place : place + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
            case 4:
                other = rng.randrange(len(data) + 1)
                data[place:place] = data[other : other + rng.randrange(1, 64)]
            case _:
                if place < len(data):
                    data[place] ^= 1 << rng.randrange(8)
    return bytes(data)


def _fields(content: bytes, rng: Random) -> bytes:
    model = onnx.ModelProto.FromString(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = list(_places(model))
        if not places:
            break
        message, field = rng.choice(places)
        _change(message, field, rng)
    return bytes(model.SerializeToString())


def _places(message: Any) -> Any:
    for field, value in message.ListFields():
        yield message, field
        if field.type == field.TYPE_MESSAGE:
            for each in value if _is_repeated(field) else [value]:
                yield from _places(each)


def _is_repeated(field: Any) -> bool:
    return bool(field.is_repeated) if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


def _change(message: Any, field: Any, rng: Random) -> None:
    value = getattr(message, field.name)
    if rng.random() < 0.15:
        message.ClearField(field.name)
    elif _is_repeated(field):
        index = rng.randrange(len(value))
        if field.type == field.TYPE_MESSAGE:
            if rng.random() < 0.5:
                value.add().CopyFrom(value[index])
            else:
                del value[index]
        elif rng.random() < 0.2:
            del value[index]
        else:
            value[index] = _plain(field, value[index], rng)
    elif field.type != field.TYPE_MESSAGE:
        setattr(message, field.name, _plain(field, value, rng))


def _plain(field: Any, value: Any, rng: Random) -> Any:
    if field.type == field.TYPE_STRING:
        return rng.choice(TEXTS)
    if field.type == field.TYPE_BYTES:
        return _bytes(value, rng) if value else b"x"
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e38))
    if field.type == field.TYPE_ENUM:
        return rng.choice([each.number for each in field.enum_type.values])
    bits = 31 if field.type == field.TYPE_INT32 else 63
    return rng.choice([number for number in NUMBERS if -(2**bits) <= number < 2**bits])


def _sqlite(content: bytes, rng: Random) -> bytes:
    """Change values of rows, as texts and as the JSON that they hold."""
    with tempfile.NamedTemporaryFile(suffix=".db") as file:
        Path(file.name).write_bytes(content)
        with contextlib.closing(sqlite3.connect(file.name)) as database:
            for _ in range(rng.choice((1, 1, 2, 3))):
                _change_row(database, rng)
            database.commit()
        return Path(file.name).read_bytes()


def _change_row(database: sqlite3.Connection, rng: Random) -> None:
    names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table' order by 1")]
    table = rng.choice(names)
    rows = database.execute(f"select rowid, * from {table} order by rowid").fetchall()
    columns = [column[1] for column in database.execute(f"pragma table_info({table})")]
    if not rows:
        return
    row, place = rng.choice(rows), rng.randrange(len(columns))
    value = row[1 + place]
    if isinstance(value, str) and value[:1] in "[{" and rng.random() < 0.6:
        changed: Any = _json(value.encode(), rng).decode()
    else:
        changed = rng.choice((*NUMBERS, *TEXTS, *ROWS))
    # What the database itself refuses is no damage.
    with contextlib.suppress(sqlite3.Error, OverflowError):
        if rng.random() < 0.1:
            database.execute(f"delete from {table} where rowid = ?", [row[0]])
        else:
            database.execute(f"update {table} set {columns[place]} = ? where rowid = ?", [changed, row[0]])


def _archive(content: bytes, rng: Random) -> bytes:
    """Change the JSON of an archive's parts, leave a part out, or have one twice."""
    made = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as given,
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive,
        warnings.catch_warnings(),
    ):
        # Of a part that is there twice.
        warnings.simplefilter("ignore")
        for part in given.infolist():
            data = given.read(part)
            match rng.randrange(12):
                case 0:
                    continue
                case 1:
                    data = _bytes(data, rng)
                case 2:
                    archive.writestr(zipfile.ZipInfo(rng.choice(TEXTS[1:]).replace("\0", "")), data)
                case 3:
                    data = b"[" * 100_000
                case _:
                    data = _json(data, rng)
            archive.writestr(part, data)
    return made.getvalue()


def _arrays(content: bytes, rng: Random) -> bytes:
    """Change an array's values, type or shape, or leave it out."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    match rng.randrange(6):
        case 0:
            del arrays[name]
        case 1:
            arrays[name] = np.full(array.shape, rng.choice((np.nan, np.inf, -1.0, 1e308, 0.0)))
        case 2:
            # A text is no number: it stays as it is.
            with contextlib.suppress(ValueError), np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                arrays[name] = array.astype(rng.choice(("<f4", "<i8", "<U8", "?", "<c16", ">f8", "<f2")))
        case 3:
            arrays[name] = array[..., None] if rng.random() < 0.5 else array.reshape(-1)
        case 4:
            arrays[name] = array[:0] if array.ndim else array
        case _:
            arrays[rng.choice(TEXTS[1:7])] = array
    made = io.BytesIO()
    np.savez(made, **arrays)
    return made.getvalue()


def _json(content: bytes, rng: Random) -> bytes:
    return json.dumps(_changed(json.loads(content), rng)).encode()


def _toml(content: bytes, rng: Random) -> bytes:
    document = _changed(tomllib.loads(content.decode()), rng)
    return "".join(f"{json.dumps(key)} = {_toml_value(value)}\n" for key, value in document.items()).encode()


def _toml_value(value: Any) -> str:
    """Return a value as TOML, in one line; what TOML has no word for becomes a text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps("" if value is None else value)


def _changed(document: Any, rng: Random) -> Any:
    """Change values of a document in place, and return it."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        inner = [each for each in _containers(document) if each]
        if not inner:
            break
        chosen = rng.choice(inner)
        key = rng.choice(list(chosen) if isinstance(chosen, dict) else range(len(chosen)))
        if rng.random() < 0.3:
            del chosen[key]
        else:
            chosen[key] = copy.deepcopy(rng.choice((*VALUES, *NUMBERS)))
    return document


def _containers(value: Any) -> Any:
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from _containers(each)
