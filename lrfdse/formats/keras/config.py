"""What a Keras file says that it is made of, read before Keras is: other people's code is named, and never loaded."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lrfdse.base.text import listed, one_line
from lrfdse.errors import InputError

_HDF5 = b"\x89HDF\r\n\x1a\n"
"""Signature of HDF5 files (HDF5 File Format Specification 3.0, II.A)."""

_MOST_BYTES = 2**31 - 1
"""Bytes that the parts of a file may have unpacked, as much as any model."""

_MOST_CONFIG = 1 << 26
"""Bytes of the description of layers. Chosen: Keras writes about 1 kB a layer."""

_MOST_NAMED = 8
"""Layers that a message names. Chosen: about what fits a line."""

_LAMBDAS = frozenset({"Lambda", "__lambda__"})
"""Names under which Keras 3 stores Python code."""

_FOREIGN = frozenset({"FlaxLayer", "JaxLayer", "TFSMLayer", "TorchModuleWrapper"})
"""Layers of Keras that load code or folders of other libraries, which are not in the file."""


def check_keras_file(content: bytes, path: Path) -> None:
    """Refuse a file that is no Keras 3 model, or that asks for code of others.

    Raises
    ------
    InputError
        It is an HDF5 file of before Keras 3, no archive, damaged, too large unpacked, or has custom or Lambda layers,
        all of which the message names.
    """
    if content.startswith(_HDF5):
        raise InputError(
            f"{path}: an HDF5 file, as before Keras 3: load it in Keras, and save it as .keras: "
            "model.save('NAME.keras')"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            if sum(sizes.values()) > _MOST_BYTES or sizes.get("config.json", 0) > _MOST_CONFIG:
                raise InputError(f"{path}: unpacked it would have {sum(sizes.values()):,} bytes: refused")
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, EOFError, ValueError) as error:
        raise InputError(f"{path}: not a Keras model, or cut short: {one_line(error)}") from error
    _check_objects(config, path)


def _check_objects(config: Any, path: Path) -> None:
    custom, lambdas = [], []
    for found in _objects(config):
        name, module = found.get("class_name"), found.get("module")
        if name in _LAMBDAS:
            inner = found.get("config")
            lambdas.append(str(inner.get("name", name)) if isinstance(inner, dict) else str(name))
        elif found.get("registered_name") not in (None, name) or not _is_of_keras(module, name) or name in _FOREIGN:
            custom.append(str(found.get("registered_name") or f"{module}.{name}"))
    if lambdas:
        raise InputError(
            f"{path}: Lambda layers hold Python code, which is not run: {_named(lambdas)}; write them with layers or "
            "keras.ops, and save the model again"
        )
    if custom:
        raise InputError(
            f"{path}: custom layers or functions, whose code is not in the file: {_named(custom)}; use layers "
            "of Keras, or model.export a SavedModel"
        )


def _objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yield every object that a description names, at any depth."""
    left = [config]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            if "class_name" in part:
                yield part
            left += part.values()
        elif isinstance(part, list):
            left += part


def _is_of_keras(module: Any, name: Any) -> bool:
    """Return whether Keras itself, and none of its helpers that reach files, gives an object of this name."""
    if module is None:
        return isinstance(name, str)
    if module == "builtins":
        return name in ("function", "str", "int", "float", "bool")
    parts = module.split(".") if isinstance(module, str) else [""]
    return parts[0] == "keras" and not {"utils", "saving", "export"} & set(parts[1:])


def _named(names: list[str]) -> str:
    return listed(list(dict.fromkeys(one_line(name, 60) for name in names)), _MOST_NAMED)
