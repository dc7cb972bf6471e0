"""The Model: an ONNX file with its fully-connected layers found."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from lrfdse.base.border import reading
from lrfdse.base.keys import code_key
from lrfdse.base.text import listed, one_line
from lrfdse.errors import InputError
from lrfdse.formats.onnx import parsed
from lrfdse.ir.layer import DEFAULT_KINDS, Kind, Layer, Untouched, Use
from lrfdse.ir.storage import INT8
from lrfdse.model.bodies import all_nodes, owners_of
from lrfdse.model.carriers import taken_from
from lrfdse.model.constants import stored
from lrfdse.model.kinds import KINDS, find_layers
from lrfdse.model.match.match import Match
from lrfdse.model.match.products import every_node
from lrfdse.model.match.site import Site
from lrfdse.model.match.tied import lookups_of
from lrfdse.model.match.untouched import untouched
from lrfdse.model.names import layer_name, module_of
from lrfdse.model.passes.carried.opened import split_table
from lrfdse.model.seen import seen_sizes
from lrfdse.model.shapes import Port, Sizes, check_memory, infer_values, is_known, ports, shape_option, sizes_of
from lrfdse.model.turns import Turned, seen_in_bodies
from lrfdse.model.valued import read_model
from lrfdse.model.working import Working, working_form


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Model:
    """A model that was read: its layers, what is left alone, and what rewriting needs. Can be pickled."""

    path: Path
    sha256: str
    """SHA-256 of the file's bytes, of the external data that it reads, and of what inputs are fixed to."""
    proto: onnx.ModelProto
    """The model as it was read, external data inside; not to be changed."""
    original: ir.Model
    """The same with the tensors of `proto`, as passes and runtimes take it; not to be changed, but to be cloned."""
    working: Working
    """The form of it in which the layers stand; not to be changed either."""
    inputs: tuple[Port, ...]
    kinds: tuple[Kind, ...]
    """The kinds of layers that were looked for."""
    layers: tuple[Layer, ...]
    untouched: tuple[Untouched, ...]
    sites: Mapping[str, tuple[Site, ...]]
    """Layer name to the places of its uses, in the order of `Layer.uses`."""
    alphas: Mapping[str, float]
    """Layer name to the factor that a Gemm applies to the stored weight."""
    matrices: Mapping[str, NDArray[Any]]
    """Layer name to the stored weight, shape (outputs, inputs), in the type of its use; read-only."""
    scales: Mapping[str, NDArray[np.float32]]
    """Of layers that are stored in int8, what a level of each output is worth, a Gemm's alpha folded in."""
    _by_name: Mapping[str, Layer] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {layer.name: layer for layer in self.layers})

    def __repr__(self) -> str:
        return f"Model({self.path}, {len(self.layers)} layers, {len(self.untouched)} untouched)"

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields to pickle: nodes are linked too deeply to be pickled as they are."""
        left = {"original", "working"}
        kept = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in left}
        return kept | {"proto": self.content}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """Set the fields from what was pickled."""
        proto = onnx.ModelProto.FromString(state["proto"])
        original = parsed(proto)
        working = working_form(original, proto, state["inputs"], state["kinds"])
        for name, value in {**state, "proto": proto, "original": original, "working": working}.items():
            object.__setattr__(self, name, value)

    @property
    def content(self) -> bytes:
        """The bytes of the model as one file, external data inside."""
        return bytes(self.proto.SerializeToString())

    def layer(self, name: str) -> Layer:
        """Return a layer by name.

        Raises
        ------
        InputError
            There is no such layer.
        """
        if name not in self._by_name:
            raise InputError(f"{self.path}: no layer {name!r}; its layers are {', '.join(self._by_name)}")
        return self._by_name[name]

    def weight(self, name: str) -> NDArray[np.float64]:
        """Return a layer's W of shape (outputs, inputs) in float64, a Gemm's alpha folded in."""
        self.layer(name)
        return self.alphas[name] * self.matrices[name].astype(np.float64)

    def bias(self, name: str, use: int = 0) -> NDArray[np.float64] | None:
        """Return the bias of shape (outputs,) at one use of a layer, a Gemm's beta folded in, or None."""
        self.layer(name)
        return self.sites[name][use].bias


def load_model(
    path: str | Path,
    shape: Mapping[str, Sequence[int]] | None = None,
    kinds: Collection[Kind] = DEFAULT_KINDS,
    value: Mapping[str, str] | None = None,
) -> Model:
    """Read a model, by the format that its name ends in, and find its layers.

    Parameters
    ----------
    path
        The model's file.
    shape
        Input name to its sizes in the inference that is timed. An open first size counts as one sample where it is not
        given; any other open size that reaches a layer must be. Where none is left open, an If that sizes decide is
        the branch that is taken, and the model is of these sizes (`lrfdse.model.valued`).
    kinds
        The kinds of layers that are looked for; others are left as they are.
    value
        Input name to the number that it is fixed to: it is an input no more (`lrfdse.model.valued`).

    Raises
    ------
    InputError
        The file cannot be used (see `lrfdse.formats.Format.read`), it has no fully-connected layer, a layer's rows
        depend on sizes that `shape` does not fix, `shape` does not fit, a weight holds NaN or Inf, or one inference
        needs more memory than this machine has; or an input cannot be fixed to its value.
    """
    path = Path(path)
    with reading(path, "a model"):
        return _loaded(path, shape or {}, kinds, value or {})


def _loaded(path: Path, shape: Mapping[str, Sequence[int]], kinds: Collection[Kind], value: Mapping[str, str]) -> Model:
    proto, sha256 = read_model(path, value, shape)
    try:
        model = parsed(proto)
    except Exception as error:
        raise InputError(f"{path}: not a valid ONNX model: {one_line(_cause(error))}") from error
    if not model.graph.outputs:
        raise InputError(f"{path}: the model has no output")
    inputs = ports(model.graph, shape, path)
    kinds = tuple(name for name in KINDS if name in kinds)
    working = working_form(model, proto, inputs, kinds)
    graph = working.graph.graph
    groups, refused = find_layers(graph, kinds)
    groups, turned, others = seen_in_bodies(working.graph, groups, inputs)
    refused |= others
    chosen = {match.node for group in groups for match in group}
    chosen.update(node for group in groups if group[0].kind == "tied" for node in lookups_of(group[0].root))
    rest = untouched(working.graph, chosen, refused | working.reasons(), working.products)
    if not groups:
        raise InputError(f"{path}: no fully-connected layer with a constant weight found{_hint(rest, model.graph)}")

    free = sizes_of(infer_values(working.proto, inputs, fixed=False))
    names = _names(groups)
    fixed = _fixed_shapes(working, inputs, dict(zip(names, groups, strict=True)), turned, path)
    inputs = _with_batches(model, inputs)
    layers, sites, alphas, matrices, scales = [], {}, {}, {}, {}
    for name, group in zip(names, groups, strict=True):
        root = group[0].root
        matrix = group[0].weight()
        matrix.flags.writeable = False
        reads = [match.source.name or "" for match in group]
        found = [match.site(fixed[read], free.get(read)) for match, read in zip(group, reads, strict=True)]
        found = [turned[m.node].at(site) if m.node in turned else site for m, site in zip(group, found, strict=True)]
        for array, tensor in [(matrix, root.name), *((site.bias, site.bias_root) for site in found)]:
            if array is not None and not _fits_float32(array):
                raise InputError(f"{path}: tensor {tensor!r} of layer {name!r} holds NaN, Inf or values beyond float32")
        weight = group[0].alpha * matrix.astype(np.float64)
        layer = _layer(name, group[0].kind, weight, found, graph, working.table_of(found[0].output))
        layers.append(layer if group[0].scales() is None else replace(layer, storage=INT8))
        sites[name] = tuple(found)
        alphas[name], matrices[name] = group[0].alpha, matrix
        if (worth := group[0].scales()) is not None:
            scales[name] = np.abs(group[0].alpha * worth).astype(np.float32)
    return Model(
        path=path,
        sha256=sha256,
        proto=proto,
        original=model,
        working=working,
        inputs=inputs,
        kinds=kinds,
        layers=tuple(layers),
        untouched=rest,
        sites=sites,
        alphas=alphas,
        matrices=matrices,
        scales=scales,
    )


def _fits_float32(array: NDArray[Any]) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(array.astype(np.float32)).all())


def _names(groups: Sequence[Sequence[Match]]) -> list[str]:
    taken: set[str] = set()
    return [
        layer_name(group[0].root.name or "", module_of(group[0].node) or _node_of(group[0]), taken) for group in groups
    ]


def _node_of(match: Match) -> str:
    taken = taken_from(match.node)
    return (match.node.name or "") if taken is None else taken[1]


def _with_batches(model: ir.Model, inputs: tuple[Port, ...]) -> tuple[Port, ...]:
    """Return the inputs without axes of samples where these are of a fixed size and turn out to be none.

    Whether a first size of 4 is that of a batch the shape does not say: it is where some output moves on with the
    input's elements along it.
    """
    sizes = {port.shape[port.axis] for port in inputs if port.axis is not None and port.shape}
    if not sizes or None in sizes or sizes == {1} or not all(is_known(port.fixed) for port in inputs):
        return inputs
    if _moves_with_samples(model, inputs, max(size for size in sizes if size is not None)):
        return inputs
    return tuple(replace(port, axis=None) for port in inputs)


def _moves_with_samples(model: ir.Model, inputs: Sequence[Port], size: int) -> bool:
    from lrfdse.model.data import random_data
    from lrfdse.model.runtime import Runtime

    runtime, data = Runtime(sessions=0), random_data(inputs, size, 0)
    try:
        layout = runtime.layout(runtime.session(model), data, size)
    except InputError:
        # What cannot be run is told where it is to be run.
        return True
    return any(place is not None for place in layout.places.values())


def _layer(
    name: str,
    kind: Kind,
    weight: NDArray[np.float64],
    sites: Sequence[Site],
    graph: ir.Graph,
    table: NDArray[Any] | None,
) -> Layer:
    values = {value.name: value for part in (graph, *owners_of(graph)) for value in part.initializers.values()}
    values |= {value.name: value for node in all_nodes(graph) if node.op_type == "Constant" for value in node.outputs}
    biases = {site.bias_root for site in sites if site.bias_root is not None}
    return Layer(
        name=name,
        outputs=weight.shape[0],
        inputs=weight.shape[1],
        uses=tuple(
            Use(
                site.node,
                site.rows,
                site.bias is not None,
                site.relu,
                site.window,
                0 if table is None else len(table),
                site.turns,
                site.joined,
            )
            for site in sites
        ),
        bias_params=sum(int(np.prod(stored(values[root]).shape.numpy(), dtype=np.int64)) for root in biases),
        # Of an embedding the table tells what it is, to the bit, and the code by which its matrix comes from that.
        digest=_digest(weight) if table is None else _digest(table, code_key(split_table).digest),
        kind=kind,
    )


def _digest(weight: NDArray[Any], what: str = "") -> str:
    """Return the SHA-256 of shape and elements: two layers may hold the same bytes in different shapes."""
    elements = np.ascontiguousarray(weight, dtype=np.float32)
    return hashlib.sha256(what.encode() + repr(elements.shape).encode() + elements.tobytes()).hexdigest()


def _fixed_shapes(
    working: Working,
    inputs: Sequence[Port],
    groups: Mapping[str, Sequence[Match]],
    turned: Mapping[ir.Node, Turned],
    path: Path,
) -> dict[str, Sizes]:
    """Return the shapes of all layer inputs in the timed inference, by inference or else by running the model once."""
    values = infer_values(working.proto, inputs, fixed=True)
    check_memory(values, path)
    shapes = sizes_of(values)
    inside = [match for group in groups.values() for match in group if match.node in turned]
    shapes |= {match.source.name or "": turned[match.node].sizes for match in inside}
    missing = {
        match.source.name or "": name
        for name, group in groups.items()
        for match in group
        if not match.fits(shapes.get(match.source.name or ""))
    }
    if not missing:
        return shapes
    name = next(iter(missing.values()))
    unknown = [port for port in inputs if not is_known(port.fixed)]
    if unknown:
        fix = " ".join(shape_option(port) for port in unknown)
        declared = "; ".join(str(port) for port in unknown)
        raise InputError(
            f"{path}: the rows of layer {name!r} depend on open sizes of input {declared}: fix them with {fix}"
        )
    try:
        seen = seen_sizes(working.graph, inputs, sorted(missing))
    except InputError as error:
        raise InputError(f"{path}: the rows of layer {name!r} cannot be found: {error}") from error
    return shapes | seen


_MOST_NAMED = 6
"""Operators that a refusal names. Chosen: a line."""


def _hint(rest: Sequence[Untouched], graph: ir.Graph) -> str:
    if not rest:
        kinds = listed(sorted({node.op_type for node, _ in every_node(graph)} - {"Constant"}), _MOST_NAMED)
        return f": no operator of it ({kinds}) reads a matrix of weights, so there is nothing to make smaller"
    largest = max(rest, key=lambda entry: entry.params)
    what = f"{largest.op} {largest.name!r}"
    if len(rest) > 1:
        what = f"the largest of {len(rest)} parts with weights, {what},"
    return f": {what} is left: {largest.reason}"


def _cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error
