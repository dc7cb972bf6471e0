"""A model from the first of its layers on: what no layer changes is run once, not for every version of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from lrfdse.base.threads import in_threads
from lrfdse.errors import InputError
from lrfdse.model.bodies import owners_of, reads_of
from lrfdse.model.constants import node_name
from lrfdse.model.macs import macs_of
from lrfdse.model.passes.cut import read_out
from lrfdse.model.passes.tail import BeginAt
from lrfdse.model.runtime import Runtime, batches
from lrfdse.model.samples import Place

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model

WORTH = 0.25
"""Share of a model's MACs that its layers must not change for a tail to be made. Chosen."""

MOST_BYTES = 1 << 28
"""Bytes of what all samples of a data set feed a tail, up to which it is taken. Chosen: a text recogniser's 200 images
of 48x320 become 15 MB."""

_FEW = 3
"""Samples that show where values have them: as many as tell a batch from its samples alone."""

_SIZES = ("Shape", "Size")
"""Operators whose results are sizes: with another number of samples they are other than each sample's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tail:
    """What stands behind the values that no layer of a model changes."""

    model: Model
    """The tail as a model of its own, with the same layers: it is rewritten and run as the whole one is."""
    _head: ir.Model
    """What gives the values that it begins at."""
    _places: Mapping[str, Place]

    def of(self, data: Dataset, runtime: Runtime, batch: int = 64, threads: int = 1) -> Dataset:
        """Return what samples feed the tail.

        Parameters
        ----------
        data
            Samples of the whole model.
        runtime
            What runs the head.
        batch
            Samples a run.
        threads
            Runs side by side.

        Raises
        ------
        InputError
            The model cannot be run on the data.
        """
        names = list(self._places)
        session = runtime.session(self._head)
        size = runtime.layout(session, data, batch, names).size
        taken = {port.name for port in session.get_inputs()}

        def run(part: tuple[Mapping[str, NDArray[Any]], int]) -> dict[str, NDArray[Any]]:
            feeds, count = part
            found = runtime.call(session, {name: array for name, array in feeds.items() if name in taken}, names)
            return {name: self._places[name].split(found[name], count) for name in names}

        pieces = list(in_threads(run, list(batches(data, size)), threads))
        kept = {value.name for value in self.model.working.graph.graph.inputs}
        made = {name: np.concatenate([each[name] for each in pieces]) for name in names}
        axes = {name: place.axis for name, place in self._places.items() if place.axis}
        return dataclasses.replace(
            data,
            inputs={name: array for name, array in data.inputs.items() if name in kept} | made,
            axes={name: axis for name, axis in data.axes.items() if name in kept} | axes,
            shared={name: array for name, array in data.shared.items() if name in kept},
        )


def tail_of(model: Model, data: Dataset, runtime: Runtime) -> Tail | None:
    """Return the tail of a model behind what none of its layers changes, or None where it is not worth it or unsafe.

    Unsafe are models with bodies, with products that were taken out of other operators, and those of which samples of
    one run cannot be told apart.

    Parameters
    ----------
    model
        The model.
    data
        Data that the tail is to be fed from; only their number of samples and a few of them count.
    runtime
        What runs the model.
    """
    whole = model.working.graph
    if owners_of(whole.graph) or model.working.products or model.working.entered or data.one_by_one:
        return None
    inside, begin = _parted(whole, [site.output for sites in model.sites.values() for site in sites])
    if not begin or not all(value.producer() in inside for value in whole.graph.outputs):
        return None
    macs = macs_of(model)
    before = sum(count for name, count in macs.nodes.items() if name not in {node_name(node) for node in inside})
    if before < WORTH * sum(macs.nodes.values()):
        return None
    names = [value.name or "" for value in begin]
    head = read_out(whole, names)
    few = data.head(_FEW)
    try:
        session = runtime.session(head)
        layout = runtime.layout(session, few, _FEW, names)
        if not layout.together or any(
            place is None or place.axis is None or place.each != 1 for place in layout.places.values()
        ):
            return None
        taken = {port.name for port in session.get_inputs()}
        feeds = {name: array for name, array in few.feeds(0, few.count).items() if name in taken}
        seen = runtime.call(session, feeds, names)
    except InputError:
        return None
    if sum(array.nbytes for array in seen.values()) / few.count * data.count > MOST_BYTES:
        return None
    places = {name: place for name, place in layout.places.items() if place is not None}
    types = {name: (ir.DataType.from_numpy(array.dtype), array.ndim) for name, array in seen.items()}
    graph = ir.passes.functionalize(BeginAt(types))(whole).model
    working = dataclasses.replace(model.working, graph=graph)
    return Tail(dataclasses.replace(model, original=graph, working=working), head, places)


def _parted(model: ir.Model, outputs: Sequence[str]) -> tuple[set[ir.Node], list[ir.Value]]:
    """Return the nodes of the tail, and the values that it begins at, in the order of the graph.

    In the tail are the nodes that depend on what layers give, with constants and sizes that they need.
    """
    layers, inside = set(outputs), set[ir.Node]()
    fed = {value for value in model.graph.inputs if value.name not in model.graph.initializers}
    known = set[ir.Value]()
    for node in model.graph:
        reads = set(reads_of(node))
        if not reads.isdisjoint(fed):
            fed.update(node.outputs)
        if any(value.name in layers or value in known for value in (*node.outputs, *reads)):
            inside.add(node)
            known.update(node.outputs)
    sizes = set[ir.Value]()
    for node in model.graph:
        given = [value for value in reads_of(node) if value in fed]
        if node.op_type in _SIZES or (given and all(value in sizes for value in given)):
            sizes.update(node.outputs)
    begin: set[ir.Value] = set()
    waiting = list(inside)
    while waiting:
        for value in reads_of(waiting.pop()):
            maker = value.producer()
            if maker is None or maker in inside:
                continue
            if value in fed and value not in sizes:
                begin.add(value)
            else:
                inside.add(maker)
                waiting.append(maker)
    return inside, [value for node in model.graph for value in node.outputs if value in begin]
