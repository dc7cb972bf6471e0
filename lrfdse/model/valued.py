"""Inputs fixed to a value or to sizes before anything else looks at the model, so that what hangs on them is folded."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from lrfdse.errors import InputError
from lrfdse.formats import format_of
from lrfdse.formats.flat import is_flat
from lrfdse.formats.onnx import as_proto, parsed
from lrfdse.model.bodies import owners_of
from lrfdse.model.passes.bodies.apart import NameApart
from lrfdse.model.passes.bodies.branches import TakeBranches
from lrfdse.model.shapes import is_known, ports
from lrfdse.model.sized import with_sizes

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

_MOST = 1 << 20
"""Elements of an input up to which it is fixed. Chosen: a rate, a threshold or a mask, no data."""

_TRUTH = {"true": True, "false": False, "1": True, "0": False}


def read_model(
    path: Path, value: Mapping[str, str] | None = None, shape: Mapping[str, Sequence[int]] | None = None
) -> tuple[onnx.ModelProto, str]:
    """Read a model by the format that its name ends in, some of its inputs fixed to a value.

    A fixed input is one no more: a Constant node stands in its place, an If that it decides is the branch that is
    taken, and what nothing reads any more is gone. Where sizes are given that leave none open, and they decide an If,
    its branch is taken, too, and the inputs are of these sizes from then on.

    Parameters
    ----------
    path
        The model's file.
    value
        Input name to the number, or true or false, that all of its elements are.
    shape
        Input name to its sizes.

    Returns
    -------
    tuple
        The model, and the SHA-256 of its file and of what was fixed.

    Raises
    ------
    InputError
        The file cannot be used (see `lrfdse.formats.Format.read`), or an input cannot be fixed to its value, or is not
        of such sizes.
    """
    proto, digest = format_of(path).read(path)
    if value:
        proto, digest = _valued(proto, digest, value, path)
    return _sized(proto, digest, shape, path) if shape else (proto, digest)


def _sized(
    proto: onnx.ModelProto, digest: str, shape: Mapping[str, Sequence[int]], path: Path
) -> tuple[onnx.ModelProto, str]:
    """Return the model and its digest with the branches that its sizes decide, as it is where they decide none."""
    if not any(node.op_type == "If" for node in proto.graph.node):
        return proto, digest
    model = parsed(proto)
    inputs = ports(model.graph, shape, path)
    if any(port.name not in shape and not is_known(port.shape) for port in inputs):
        return proto, digest
    sized = parsed(with_sizes(model, inputs))
    if _branchings_left(sized) == _branchings_left(model):
        return proto, digest
    RemoveUnusedNodesPass()(sized)
    made = as_proto(sized)
    del made.graph.output[:]
    made.graph.output.extend(proto.graph.output)
    state = hashlib.sha256(digest.encode() + repr([(port.name, port.fixed) for port in inputs]).encode())
    return made, state.hexdigest()


def _branchings_left(model: ir.Model) -> int:
    """Take the branches that are decided, and return the number of Ifs that are not."""
    ir.passes.Sequential(NameApart(), TakeBranches())(model)
    return sum(node.op_type == "If" for node in ir.traversal.RecursiveGraphIterator(model.graph))


def _valued(proto: onnx.ModelProto, digest: str, value: Mapping[str, str], path: Path) -> tuple[onnx.ModelProto, str]:
    """Return the model and its digest with inputs fixed to their values."""
    if is_flat(path):
        raise InputError(f"--value {next(iter(value))}: only inputs of ONNX models can be fixed, not those of {path}")
    try:
        model = parsed(proto)
    except Exception as error:
        raise InputError(f"{path}: not a valid ONNX model") from error
    there = {each.name or "": each for each in model.graph.inputs if each.const_value is None}
    for name in value:
        if name not in there:
            raise InputError(f"--value {name}: the model has no such input; its inputs are {', '.join(there)}")
    if not set(there) - set(value):
        raise InputError(f"--value: {path} would have no input left to feed")
    state = hashlib.sha256(digest.encode())
    for name, text in sorted(value.items()):
        array = _array(there[name], text)
        state.update(repr((name, array.dtype.name, array.shape)).encode() + array.tobytes())
        _fix(model.graph, there[name], array)
    if owners_of(model.graph):
        ir.passes.Sequential(NameApart(), TakeBranches())(model)
    RemoveUnusedNodesPass()(model)
    return as_proto(model), state.hexdigest()


def _array(port: ir.Value, text: str) -> NDArray[Any]:
    """Return an input's elements, all of one value.

    Raises
    ------
    InputError
        The input has open sizes, too many elements or none, or takes no such value.
    """
    name, option = port.name, f"--value {port.name}={text}"
    if not isinstance(port.type, ir.TensorType) or port.shape is None:
        raise InputError(f"{option}: input {name!r} is no tensor of known sizes")
    sizes = [size if isinstance(size, int) else None for size in port.shape]
    fixed = [size for size in sizes if size is not None and size > 0]
    if len(fixed) < len(sizes):
        shown = "x".join("?" if size is None else str(size) for size in sizes)
        raise InputError(f"{option}: input {name!r} ({shown}) has open sizes; only inputs of fixed sizes can be fixed")
    if math.prod(fixed) > _MOST:
        raise InputError(f"{option}: input {name!r} has {math.prod(fixed):,} elements; at most {_MOST:,} can be fixed")
    return np.full(fixed, _element(port, text, option))


def _element(port: ir.Value, text: str, option: str) -> NDArray[Any]:
    """Return one element of an input's type."""
    try:
        dtype = np.dtype(port.dtype.numpy()) if port.dtype is not None else np.dtype(object)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind == "b":
        if text.lower() not in _TRUTH:
            raise InputError(f"{option}: input {port.name!r} takes true or false")
        return np.array(_TRUTH[text.lower()])
    if dtype.kind in "iu":
        limits = np.iinfo(dtype.name)
        if not re.fullmatch(r"[+-]?\d{1,20}", text, flags=re.ASCII) or not limits.min <= int(text) <= limits.max:
            raise InputError(f"{option}: input {port.name!r} takes whole numbers of {dtype.name}")
        return np.array(int(text), dtype)
    if dtype.kind != "f" and dtype.name != "bfloat16":
        raise InputError(f"{option}: input {port.name!r} takes no numbers")
    try:
        with np.errstate(over="ignore"):
            found = np.array(float(text)).astype(dtype)
    except ValueError as error:
        raise InputError(f"{option}: input {port.name!r} takes numbers of {dtype.name}") from error
    if not np.isfinite(found.astype(np.float64)):
        raise InputError(f"{option}: input {port.name!r} takes finite numbers of {dtype.name}")
    return found


def _fix(graph: ir.Graph, port: ir.Value, array: NDArray[Any]) -> None:
    """Put a constant in the place of an input."""
    # Inputs with stored values, as initializers were until version 4 of the format, could still be fed another.
    node = ir.node("Constant", [], {"value": ir.tensor(array, dtype=port.dtype)}, name=f"{port.name}_value")
    made = node.outputs[0]
    made.type, made.shape = port.type, port.shape
    graph.inputs.remove(port)
    port.replace_all_uses_with(made, replace_graph_outputs=True)
    made.name, port.name = port.name, None
    first = next(iter(graph), None)
    graph.append(node) if first is None else graph.insert_before(first, node)
