"""Parts of a model: what leads up to some of its values, and what stands behind one of them.

The passes change the model that they are given; the functions beside them work on a clone, which shares its tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

PROBE = "lrfdse.probe"
"""Name of the input that `Behind` adds."""


class ReadOut(ir.passes.InPlacePass):
    """Makes values of the main graph the model's only outputs and removes the nodes that they do not need.

    Parameters
    ----------
    names
        Names of the values, each of them once.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)

    def requires(self, model: ir.Model) -> None:
        """Raise `ir.passes.PreconditionError` where the main graph lacks one of the values."""
        _require(model, self._names)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says that it was."""
        found = _values(model)
        model.graph.outputs[:] = [found[name] for name in self._names]
        RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        """Raise `ir.passes.PostconditionError` where the model has other outputs."""
        _ensure_outputs(model, self._names)


class Expose(ir.passes.InPlacePass):
    """Adds values of the main graph to the model's outputs; its inputs and outputs are passed over.

    Parameters
    ----------
    names
        Names of the values.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(dict.fromkeys(names))

    def requires(self, model: ir.Model) -> None:
        """Raise `ir.passes.PreconditionError` where the main graph lacks one of the values."""
        _require(model, self._names)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether any output is new."""
        found, passed_over = _values(model), {value.name for value in (*model.graph.inputs, *model.graph.outputs)}
        new = [found[name] for name in self._names if name not in passed_over]
        model.graph.outputs.extend(new)
        return ir.passes.PassResult(model, modified=bool(new))


class Behind(ir.passes.InPlacePass):
    """Leaves the part of a model that makes one output from one value, which becomes the input `PROBE`.

    What the output needs besides is still computed from the model's inputs; inputs that nothing reads are left out.

    Parameters
    ----------
    name
        Name of the value, in the main graph.
    output
        Name of the output.
    dtype
        Element type of the value.
    """

    def __init__(self, name: str, output: str, dtype: np.dtype[np.generic]) -> None:
        self._name, self._output, self._dtype = name, output, dtype

    def requires(self, model: ir.Model) -> None:
        """Raise `ir.passes.PreconditionError` where the main graph lacks one of the two values."""
        _require(model, [self._name, self._output])

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says that it was."""
        found = _values(model)
        model.graph.outputs[:] = [found[self._output]]
        probe = ir.val(PROBE, dtype=ir.DataType.from_numpy(self._dtype))
        found[self._name].replace_all_uses_with(probe, replace_graph_outputs=True)
        RemoveUnusedNodesPass()(model)
        kept = [value for value in model.graph.inputs if value.uses() or value.is_graph_output()]
        model.graph.inputs[:] = [*kept, probe]
        return ir.passes.PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        """Raise `ir.passes.PostconditionError` where the model has another output, or `PROBE` is not its last input."""
        _ensure_outputs(model, [PROBE if self._name == self._output else self._output])
        if model.graph.inputs[-1].name != PROBE:
            raise ir.passes.PostconditionError(
                f"the last input is {model.graph.inputs[-1].name!r} instead of {PROBE!r}"
            )


def read_out(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """Return the model with the values `names` as its only outputs; see `ReadOut`. The model given stays as it is."""
    return ir.passes.functionalize(ReadOut(names))(model).model


def exposed(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """Return the model with the values `names` as further outputs; see `Expose`. The model given stays as it is."""
    return ir.passes.functionalize(Expose(names))(model).model


def behind(model: ir.Model, name: str, output: str, dtype: np.dtype[np.generic]) -> ir.Model:
    """Return the part of a model behind a value; see `Behind`. The model given stays as it is.

    Parameters
    ----------
    model
        The whole model.
    name
        The value, which becomes the part's last input.
    output
        The output to keep.
    dtype
        Element type of the value.
    """
    return ir.passes.functionalize(Behind(name, output, dtype))(model).model


def levels(model: ir.Model, sources: dict[str, Sequence[str]], outputs: dict[str, Sequence[str]]) -> list[list[str]]:
    """Return layer names in groups such that none reads what depends on another of its own or of a later group.

    Parameters
    ----------
    model
        The model, which is only read.
    sources, outputs
        Layer name to the names of the values that it reads and makes.
    """
    above: dict[ir.Value, frozenset[str]] = {}
    made = {value: name for name, values in outputs.items() for value in values}
    named: dict[str, frozenset[str]] = {}
    for node in model.graph:
        inputs = [value for value in node.inputs if value is not None]
        inner = any(a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values())
        # A body may read any value of the graph around it.
        before = above.values() if inner else (above.get(value, frozenset()) for value in inputs)
        upstream = frozenset().union(*before)
        for value in node.outputs:
            above[value] = upstream | ({made[value.name]} if value.name in made else frozenset())
            if value.name:
                named[value.name] = above[value]
    needs = {name: frozenset().union(*(named.get(v, frozenset()) for v in sources[name])) for name in sources}
    groups: list[list[str]] = []
    left = list(sources)
    while left:
        # A weight that is used twice in a row depends on itself.
        ready = [name for name in left if not (needs[name] - {name}) & set(left)] or left[:1]
        groups.append(ready)
        left = [name for name in left if name not in ready]
    return groups


def _values(model: ir.Model) -> dict[str, ir.Value]:
    values = {value.name: value for value in model.graph.inputs if value.name}
    return values | {value.name: value for node in model.graph for value in node.outputs if value.name}


def _require(model: ir.Model, names: Sequence[str]) -> None:
    if missing := set(names) - set(_values(model)):
        raise ir.passes.PreconditionError(f"the main graph has no value {min(missing)!r}")


def _ensure_outputs(model: ir.Model, names: Sequence[str]) -> None:
    if [value.name for value in model.graph.outputs] != list(names):
        found = ", ".join(repr(value.name) for value in model.graph.outputs)
        raise ir.passes.PostconditionError(f"the outputs are {found} instead of {', '.join(map(repr, names))}")
