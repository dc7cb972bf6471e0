"""An ONNX graph of static shapes as a TensorFlow Lite file; what cannot be written is named, all of it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.base.text import listed
from lrfdse.errors import InputError
from lrfdse.formats.onnx import default_opset
from lrfdse.formats.tflite.written import elementwise, images, products, shapes
from lrfdse.formats.tflite.written.graph import UnsupportedError, Value, Writing
from lrfdse.formats.tflite.written.site import Rules, Site

if TYPE_CHECKING:
    import onnx

RULES: Rules = {**products.RULES, **elementwise.RULES, **shapes.RULES, **images.RULES}
"""ONNX's name of an operator to what writes it."""

_OLDEST_OPSET = 11
"""Operator set from which on the rules read inputs and attributes as they are there (onnx/docs/Changelog.md)."""

_MOST_NAMED = 8
"""Kinds of operators that an error names. Chosen: they fit a few lines of a terminal."""

_MOVE = frozenset(shapes.RULES)
"""Operators that take elements of any type."""


def write_file(proto: onnx.ModelProto, values: Mapping[str, Value], path: Path) -> bytes:
    """Return a TensorFlow Lite file that computes what an ONNX model computes.

    Parameters
    ----------
    proto
        The model; what can be folded in it is folded.
    values
        Element types and sizes of its values.
    path
        Begins the message of an error.

    Raises
    ------
    InputError
        Some of it cannot be written; the message names every kind of operator that cannot, with how many there are.
    ToolError
        The schema is not installed.
    """
    opset, refused = default_opset(proto), Counter[str]()
    if opset < _OLDEST_OPSET:
        raise InputError(
            f"{path}: TensorFlow Lite files are written of operator set {_OLDEST_OPSET} and newer, but it has {opset}; "
            "convert it with onnx.version_converter"
        )
    try:
        writing = Writing(proto.graph, values)
    except UnsupportedError as error:
        raise InputError(f"{path}: no TensorFlow Lite file can be written of it: {error}") from error
    for node in proto.graph.node:
        standard = node.domain in ("", "ai.onnx")
        rule = RULES.get(node.op_type) if standard else None
        if rule is None:
            refused[node.op_type if standard else f"{node.domain}.{node.op_type}"] += 1
            continue
        if refused:
            # Operators behind one that is refused are only looked up: what they read may not be there.
            continue
        try:
            _check_types(writing, node)
            rule(Site(writing, node, opset))
        except UnsupportedError as error:
            refused[f"{node.op_type} ({error})"] += 1
    if refused:
        named = [f"{count} x {name}" if count > 1 else name for name, count in refused.most_common()]
        raise InputError(
            f"{path}: operators that no TensorFlow Lite file can be written of: "
            f"{listed(named, _MOST_NAMED)}; leave tflite out of --format"
        )
    return writing.finish()


def _check_types(writing: Writing, node: onnx.NodeProto) -> None:
    for name in (*node.input, *node.output):
        is_free = node.op_type in _MOVE or not name or name in writing.constants
        if not is_free and (dtype := writing.value(name).dtype) != np.float32:
            raise UnsupportedError(f"it computes with {dtype}")
