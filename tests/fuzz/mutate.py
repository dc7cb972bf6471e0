"""Mutations: of bytes, of protobuf fields, of JSON values. The same generator and file give the same mutant."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

import onnx

NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 7, 16, 92, 127, 255, 999, 2**20, 2**31 - 1, 2**40, 2**63 - 1)
TEXTS = ("", "x", "y", "w", "MatMul", "Gather", "Loop", "ai.onnx", "a\0b", "../../etc/passwd", "é" * 300, "%s{}")
VALUES: tuple[Any, ...] = (None, True, -1, 0, 2**70, 1e308, "", "x\x1b[31m", [], {}, [[]], {"a": []}, "[" * 50)


def mutant(kind: str, content: bytes, rng: Random) -> bytes:
    """Return a damaged form of a file."""
    if kind == "onnx" and rng.random() < 0.7:
        return _fields(content, rng)
    if kind == "front" and rng.random() < 0.7:
        return _json(content, rng)
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


def _json(content: bytes, rng: Random) -> bytes:
    document = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 3))):
        inner = [each for each in _containers(document) if each]
        if not inner:
            break
        chosen = rng.choice(inner)
        key = rng.choice(list(chosen) if isinstance(chosen, dict) else range(len(chosen)))
        if rng.random() < 0.3:
            del chosen[key]
        else:
            chosen[key] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(document).encode()


def _containers(value: Any) -> Any:
    if isinstance(value, dict | list):
        yield value
        for each in value.values() if isinstance(value, dict) else value:
            yield from _containers(each)
