"""Derivatives of what a model loses by the elements of the cores of several layers, from one pass over samples."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.model.passes.cut import read_out
from lrfdse.model.passes.given import with_inputs
from lrfdse.model.samples import Place, Rows
from lrfdse.model.vjp.backward import COTANGENT, SLOPE, backward
from lrfdse.model.vjp.steps import in_steps
from lrfdse.quality.objective import SideBySide, names_of
from lrfdse.repair.member import Anchor
from lrfdse.repair.observe import fed_place

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    from lrfdse.ir.factorization import Array
    from lrfdse.model.data import Dataset
    from lrfdse.model.match.site import Site
    from lrfdse.model.runtime import Arrays, Layout, Runtime
    from lrfdse.quality.objective import Objective
    from lrfdse.repair.member import Member

    Single = NDArray[np.float32]

_ROWS = 20_000
"""About how many rows of a layer its anchor is taken from. Chosen."""

_RUN = 64
"""Samples of one run. Chosen."""

SEEN = 3
"""Samples of the run that shows the sizes of values: as many as tell where samples lie. Chosen."""


@dataclasses.dataclass(frozen=True, slots=True)
class Gathered:
    """What a step needs to know of a model with its layers as they are."""

    loss: float
    """Mean loss a sample."""
    gradient: Single
    """Its derivatives by the elements of all members."""
    slopes: Single
    """Derivatives of random combinations of scores, one for each of some samples, (samples, elements): the mean of
    their products is the Gauss-Newton curvature of the loss, on average."""
    anchors: Sequence[Anchor]
    """The members' own output errors."""
    side: SideBySide
    """The scores."""
    reference: Array
    """Scores of the original, (samples, size)."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Port:
    """How a layer's input and output in one run become rows sample by sample."""

    site: Site
    source: Rows | None
    """None where the layer reads patches."""
    output: Rows

    @classmethod
    def of(cls, site: Site, seen: Mapping[str, NDArray[Any]], layout: Layout, data: Dataset) -> _Port | None:
        """Return it for values of a run of `SEEN` samples; None where samples cannot be told apart."""
        is_fed, output = site.source in data.inputs or site.source in data.shared, layout.places[site.output]
        source = fed_place(data, site.source, seen[site.source]) if is_fed else layout.places[site.source]
        # Patches are cut out of images, samples first.
        if source is None or output is None or (site.in_axis is None and source != Place(0)):
            return None
        reads = None if site.in_axis is None else Rows.of(seen[site.source], source, site.in_axis, SEEN)
        return cls(site, reads, Rows.of(seen[site.output], output, site.out_axis, SEEN))

    def read(self, arrays: Mapping[str, NDArray[Any]], count: int) -> Single:
        """Return what the layer reads, (samples, rows, inputs)."""
        value = arrays[self.site.source]
        blocks = self.site.blocks(value) if self.source is None else [self.source.rows(value, count)]
        found = np.concatenate([block.reshape(-1, block.shape[-1]) for block in blocks])
        return np.ascontiguousarray(found.reshape(count, -1, found.shape[-1]), np.float32)


class Gatherer:
    """Runs a compressed model and its backward pass beside the original.

    Parameters
    ----------
    version
        The compressed model, every layer's input and output under the names of its site.
    original
        The original.
    sites
        The only use of each layer that counts.
    objective
        The outputs that count, with what their changes cost.
    data
        Samples that show how they are run.
    runtime
        What runs the models.
    given
        Names of the version's constants that `slope` is given.
    """

    def __init__(
        self,
        version: ir.Model,
        original: ir.Model,
        sites: Sequence[Site],
        objective: Objective,
        data: Dataset,
        runtime: Runtime,
        given: Collection[str] = (),
    ) -> None:
        self._runtime, self._objective, self._outputs = runtime, objective, names_of(objective)
        fed = {*data.inputs, *data.shared}
        self._read = list(dict.fromkeys([*(s.source for s in sites if s.source not in fed), *self._outputs]))
        self._forward = runtime.session(with_inputs(read_out(version, self._read), given))
        # Who gives constants has the original's scores already.
        self._beside = None if given else runtime.session(read_out(original, self._read))
        made = [site.output for site in sites]
        part = read_out(version, self._outputs)
        shown = runtime.session(read_out(version, wanted := list(dict.fromkeys([*made, *self._read]))))
        self._layout = runtime.layout(shown, data, SEEN, wanted)
        self._ports: list[_Port] = []
        self._backward: Any = None
        if not self._layout.together or data.count < SEEN:
            return
        few = data.feeds(0, SEEN)
        arrays = runtime.call(shown, _taken(shown, few), wanted) | few
        ports = [_Port.of(site, arrays, self._layout, data) for site in sites]
        steps, seen = in_steps(part, made, few, runtime)
        if None not in ports and (back := backward(steps, made, seen)) is not None:
            self._ports = [port for port in ports if port is not None]
            self._backward = runtime.session(with_inputs(back, given))

    @property
    def works(self) -> bool:
        """Whether there is a backward pass, and samples of a run can be told apart."""
        return self._backward is not None

    def gathered(
        self, members: Sequence[Member], data: Dataset, bent: int, rng: np.random.Generator, most_rows: int = _ROWS
    ) -> Gathered:
        """Return what a step needs to know.

        Parameters
        ----------
        members
            The layers, in the order of their sites.
        data
            The samples.
        bent
            How many of them, evenly spread, show the curvature.
        rng
            Draws the combinations of scores, and what anchors see.
        most_rows
            About how many rows of a layer its anchor is taken from; those of one sample of every run at least.
        """
        size = members[-1].place.stop
        slopes, gradient = np.empty((bent, size), np.float32), np.zeros(size)
        anchors = [Anchor(member) for member in members]
        which = np.arange(bent) * data.count // bent
        references, loss, side = [], 0.0, None
        for start in range(0, data.count, _RUN):
            some = data.take(slice(start, min(start + _RUN, data.count)))
            count, feeds = some.count, some.feeds(0, some.count)
            arrays, others = (
                self._runtime.call(session, _taken(session, feeds), self._read)
                for session in (self._forward, self._beside)
            )
            outputs, wanted = self._split(arrays, count), self._split(others, count)
            side = side or SideBySide.of(self._objective, outputs)
            scores, reference = side.scores(outputs), side.scores(wanted)
            references.append(reference)
            loss += float(side.divergences(scores, reference).sum())
            first, last = np.searchsorted(which, [start, start + count])
            chosen = which[first:last] - start
            weights = [side.pulls(scores, reference), side.drawn(side.chances(scores)[chosen], rng)]
            found = self._pulled(side, np.concatenate(weights), outputs, some, [*range(count), *chosen])
            for member, anchor, port, pulls in zip(members, anchors, self._ports, found, strict=True):
                rows, original = port.read(arrays | feeds, count), port.read(others | feeds, count)
                # An anchor is a mean over rows, of which a layer of many pixels has more than enough.
                anchored = rng.random(count) < most_rows / (rows.shape[1] * data.count)
                anchored[rng.integers(count)] = True
                anchor.add(rows[anchored], original[anchored])
                gradient[member.place] += member.gradients(rows, pulls[:count]).sum(axis=0)
                if len(chosen):
                    slopes[first:last, member.place] = member.gradients(rows[chosen], pulls[count:])
        assert side is not None
        total = (gradient / data.count).astype(np.float32)
        return Gathered(loss / data.count, total, slopes, anchors, side, np.concatenate(references))

    def slope(
        self, members: Sequence[Member], data: Dataset, reference: Array, given: Mapping[str, NDArray[Any]]
    ) -> tuple[float, Single]:
        """Return the mean loss a sample and its derivatives by the elements of all members.

        Parameters
        ----------
        members
            The layers, in the order of their sites.
        data
            The samples.
        reference
            Scores of the original on them, (samples, size).
        given
            The constants that the members' factors are in the model, by name.
        """
        total, loss = np.zeros(members[-1].place.stop), 0.0
        for start in range(0, data.count, _RUN):
            some = data.take(slice(start, min(start + _RUN, data.count)))
            count = some.count
            feeds = some.feeds(0, count) | dict(given)
            arrays = self._runtime.call(self._forward, _taken(self._forward, feeds), self._read)
            outputs = self._split(arrays, count)
            side = SideBySide.of(self._objective, outputs)
            scores, wanted = side.scores(outputs), reference[start : start + count]
            loss += float(side.divergences(scores, wanted).sum())
            found = self._pulled(side, side.pulls(scores, wanted), outputs, some, range(count), given)
            for member, port, pulls in zip(members, self._ports, found, strict=True):
                total[member.place] += member.gradients(port.read(arrays | feeds, count), pulls).sum(axis=0)
        return loss / data.count, (total / data.count).astype(np.float32)

    def _split(self, arrays: Arrays, count: int) -> Arrays:
        return {name: self._layout.split(name, arrays[name], count) for name in self._outputs}

    def _pulled(
        self,
        side: SideBySide,
        weights: Array,
        outputs: Arrays,
        some: Dataset,
        index: Sequence[int],
        given: Mapping[str, NDArray[Any]] = MappingProxyType({}),
    ) -> list[Single]:
        """Return derivatives of weighted scores by each layer's outputs, (places in `index`, rows, outputs)."""
        again = {name: array[index] for name, array in outputs.items()}
        feeds = some.take(np.array(index)).feeds(0, len(index)) | dict(given)
        for number, (name, pull) in enumerate(zip(self._outputs, side.pulled(weights, again), strict=True)):
            place = self._layout.places[name]
            assert place is not None
            feeds[f"{COTANGENT}.{number}"] = place.joined(pull)
        found = self._runtime.call(self._backward, _taken(self._backward, feeds))
        rows = [port.output.rows(found[f"{SLOPE}.{k}"], len(index)) for k, port in enumerate(self._ports)]
        return [np.ascontiguousarray(each, np.float32) for each in rows]


def _taken(session: Any, feeds: Mapping[str, NDArray[Any]]) -> Arrays:
    return {port.name: feeds[port.name] for port in session.get_inputs()}
