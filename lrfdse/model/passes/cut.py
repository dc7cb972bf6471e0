"""Parts of a model: what leads up to some of its values, and what stands behind one of them.

The passes change the model that they are given; the functions beside them work on a clone, which shares its tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from lrfdse.model.bodies import bodies_of, reads_of, values_by_name
from lrfdse.model.passes.bodies.shown import bring_out

PROBE = "lrfdse.probe"
"""Name of the input that `Behind` adds."""


class ReadOut(ir.passes.InPlacePass):
    """Makes values the model's only outputs and removes the nodes that they do not need.

    Values of bodies are brought out (`lrfdse.model.passes.bodies.shown`).

    Parameters
    ----------
    names
        Names of the values, each of them once.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(names)

    def requires(self, model: ir.Model) -> None:
        """Raise `ir.passes.PreconditionError` where the model lacks one of the values."""
        _require(model, self._names, bodies=True)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says that it was."""
        found = _with_bodies(model, self._names)
        model.graph.outputs[:] = [found[name] for name in self._names]
        RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        """Raise `ir.passes.PostconditionError` where the model has other outputs."""
        _ensure_outputs(model, self._names)


class Expose(ir.passes.InPlacePass):
    """Adds values to the model's outputs; its inputs and outputs are passed over.

    Values of bodies are brought out (`lrfdse.model.passes.bodies.shown`).

    Parameters
    ----------
    names
        Names of the values.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = list(dict.fromkeys(names))

    def requires(self, model: ir.Model) -> None:
        """Raise `ir.passes.PreconditionError` where the model lacks one of the values."""
        _require(model, self._names, bodies=True)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says whether any output is new."""
        found = _with_bodies(model, self._names)
        passed_over = {value.name for value in (*model.graph.inputs, *model.graph.outputs)}
        new = [found[name] for name in self._names if name not in passed_over]
        model.graph.outputs.extend(new)
        return ir.passes.PassResult(model, modified=bool(new))


class Behind(ir.passes.InPlacePass):
    """Leaves the part of a model that makes some outputs from one value, which becomes the input `PROBE`.

    What the outputs need besides is still computed from the model's inputs; inputs that nothing reads are left out.

    Parameters
    ----------
    name
        Name of the value, in the main graph.
    outputs
        Names of the outputs.
    dtype
        Element type of the value.
    """

    def __init__(self, name: str, outputs: Sequence[str], dtype: np.dtype[np.generic]) -> None:
        self._name, self._outputs, self._dtype = name, list(outputs), dtype

    def requires(self, model: ir.Model) -> None:
        """Raise `ir.passes.PreconditionError` where the main graph lacks one of the values."""
        _require(model, [self._name, *self._outputs])

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Change the model; the result says that it was."""
        found = _values(model)
        model.graph.outputs[:] = [found[name] for name in self._outputs]
        probe = ir.val(PROBE, dtype=ir.DataType.from_numpy(self._dtype))
        found[self._name].replace_all_uses_with(probe, replace_graph_outputs=True)
        RemoveUnusedNodesPass()(model)
        kept = [value for value in model.graph.inputs if value.uses() or value.is_graph_output()]
        for value in set(model.graph.inputs) - set(kept):
            # Of old IR versions: a constant is an input as well.
            model.graph.initializers.pop(value.name or "", None)
        model.graph.inputs[:] = [*kept, probe]
        return ir.passes.PassResult(model, modified=True)

    def ensures(self, model: ir.Model) -> None:
        """Raise `ir.passes.PostconditionError` where the model has other outputs, or `PROBE` is not its last input."""
        _ensure_outputs(model, [PROBE if self._name == name else name for name in self._outputs])
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


def behind(model: ir.Model, name: str, outputs: Sequence[str], dtype: np.dtype[np.generic]) -> ir.Model:
    """Return the part of a model behind a value; see `Behind`. The model given stays as it is.

    Parameters
    ----------
    model
        The whole model.
    name
        The value, which becomes the part's last input.
    outputs
        The outputs to keep.
    dtype
        Element type of the value.
    """
    return ir.passes.functionalize(Behind(name, outputs, dtype))(model).model


def dependent(model: ir.Model, names: Sequence[str], targets: Sequence[str]) -> list[str]:
    """Return which of some values depend on any of others, or are among them, in the order given.

    Parameters
    ----------
    model
        The model, which is only read.
    names
        Names of the values that may be depended on, in the main graph or in a body.
    targets
        Names of the values that may depend on them, in the main graph.
    """
    wanted = set(names)
    reached = {value for value in model.graph.inputs if value.name in wanted}
    for node in model.graph:
        inside = any(wanted & set(values_by_name(body)) for body in bodies_of(node))
        if inside or not reached.isdisjoint(reads_of(node)):
            reached.update(node.outputs)
        reached.update(value for value in node.outputs if value.name in wanted)
    found = {value.name for value in reached}
    return [name for name in targets if name in found]


def score_values(model: ir.Model) -> list[str]:
    """Return the names of a model's outputs, and of the tensors that its lists of maps are made of.

    A classifier of scikit-learn gives its probabilities as such a list (ZipMap), which nothing can be compared by.
    """
    names = [value.name or "" for value in model.graph.outputs]
    made = [value.producer() for value in model.graph.outputs]
    maps = [node.inputs[0] for node in made if node is not None and node.op_type == "ZipMap"]
    return names + [value.name for value in maps if value is not None and value.name and value.name not in names]


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

    def visit(graph: ir.Graph) -> None:
        for node in graph:
            # What a later turn reads of an earlier one is left out: all layers of a loop would depend on each other.
            given = [value for value in node.inputs if value is not None]
            before = frozenset().union(*(above.get(value, frozenset()) for value in given))
            for body in bodies_of(node):
                above.update(dict.fromkeys(body.inputs, before))
                named.update({value.name: before for value in body.inputs if value.name})
                visit(body)
            upstream = frozenset().union(*(above.get(value, frozenset()) for value in reads_of(node)))
            for value in node.outputs:
                above[value] = upstream | ({made[value.name]} if value.name in made else frozenset())
                if value.name:
                    named[value.name] = above[value]

    visit(model.graph)
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
    # A weight may be an output.
    values = dict(model.graph.initializers)
    values |= {value.name: value for value in model.graph.inputs if value.name}
    return values | {value.name: value for node in model.graph for value in node.outputs if value.name}


def _with_bodies(model: ir.Model, names: Sequence[str]) -> dict[str, ir.Value]:
    """Return the values of the main graph by name, those named of bodies brought out."""
    found = _values(model)
    return found | bring_out(model, [name for name in names if name not in found])


def _require(model: ir.Model, names: Sequence[str], bodies: bool = False) -> None:
    there = set(_values(model)) | (set(values_by_name(model.graph)) if bodies else set())
    if missing := set(names) - there:
        where = "model" if bodies else "main graph"
        raise ir.passes.PreconditionError(f"the {where} has no value {min(missing)!r}")


def _ensure_outputs(model: ir.Model, names: Sequence[str]) -> None:
    if [value.name for value in model.graph.outputs] != list(names):
        found = ", ".join(repr(value.name) for value in model.graph.outputs)
        raise ir.passes.PostconditionError(f"the outputs are {found} instead of {', '.join(map(repr, names))}")
