"""Gauss-Newton steps of several layers together on what the whole model gives: those with several rows a sample."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.errors import plan_errors
from lrfdse.ir.storage import FLOAT32
from lrfdse.model.passes.cut import dependent, read_out
from lrfdse.model.passes.given import own_constants
from lrfdse.model.samples import Rows
from lrfdse.quality.objective import names_of
from lrfdse.repair.descent import Schedule, descent
from lrfdse.repair.gathered import SEEN, Gatherer
from lrfdse.repair.member import Member, flat, members_of
from lrfdse.repair.refine import conjugate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import onnx_ir as ir
    from numpy.typing import NDArray

    from lrfdse.ir.factorization import Array
    from lrfdse.ir.factors import Factors
    from lrfdse.model.data import Dataset
    from lrfdse.model.graph import Model
    from lrfdse.model.runtime import Runtime
    from lrfdse.quality.objective import Objective
    from lrfdse.repair.gathered import Gathered

    Single = NDArray[np.float32]

_DERIVATIVES = 100_000_000
"""Most derivatives by elements of cores that are held: 400 MB of float32. Chosen."""

_LEAST = 256
"""Samples below which a curvature would be that of their chance, where there are more. Chosen, not measured."""

_ENOUGH = 1536
"""Samples, drawn anew for each step, that are enough however many were calibrated with. Chosen; docs/method.md,
section 11, has what it gives."""

_BUDGET = 6e10
"""MACs, estimated from layers and scores, that the runs of one step may take: about ten seconds. Chosen."""

_SCORE = 100
"""MACs that a score counts for, of which exponentials and logarithms are taken in float64. Estimated."""

_PASSES = 6
"""Runs of the model that one sample takes: the original, the compressed model, and its derivatives twice, each with
what they need of the forward run. Counted."""

_SMALL_PASSES = 4
"""Runs of the model that one sample takes in a small step: the compressed model, its derivatives with what they need of
the forward run, and the products with what layers read. Counted."""

_SPREAD = 256
"""Samples that show how much a layer's outputs vary. Chosen."""

_CG_STEPS = 40
"""Most conjugate gradient steps of one step. Chosen."""

_HALVINGS = 5
"""Lengths of a step that are tried, each half the one before. Chosen, not measured."""


class Together:
    """Steps of the layers of a model that have several rows a sample.

    The loss is the whole model's with an anchor for each layer, as `lrfdse.repair.refine.refined` has one. All layers
    move at once, so that a step knows what they can do together. Derivatives are by the elements of the cores, which
    are fewer than outputs times rows; the curvature is that of one random combination of the scores a sample, so that
    its cost does not grow with their number.

    Parameters
    ----------
    model
        The original model.
    objective
        The outputs that count, with what their changes cost.
    runtime
        What runs the models.
    scores
        Scores of a sample.
    """

    def __init__(self, model: Model, objective: Objective, runtime: Runtime, scores: int) -> None:
        self._model, self._objective, self._runtime = model, objective, runtime
        self._rows: dict[str, int] | None = None
        self._macs = sum(layer.flops for layer in model.layers) / 2 + _SCORE * scores
        self._most = int(_BUDGET / (_PASSES * self._macs))

    def members(self, current: Mapping[str, Factors], data: Dataset, count: int, least: int) -> list[str]:
        """Return which layers of a plan may take a step together; none where that is out of reach.

        Parameters
        ----------
        current
            Layer name to factors, of all layers of the plan.
        data
            Samples that show how many rows there are.
        count
            Samples and mixtures to take steps at.
        least
            Fewest samples that are worth a step.
        """
        if data.one_by_one or data.count < SEEN or min(count, self._most) < min(least, _ENOUGH):
            return []
        rows = self._counted(data)
        found = [name for name, factors in current.items() if _moves(factors) and rows.get(name, 0) > 1]
        size = sum(sum(core.size for core in current[name].cores) for name in found)
        return found if size * min(least, _LEAST) <= _DERIVATIVES else []

    def step(
        self, current: Mapping[str, Factors], names: Sequence[str], data: Dataset, seed: int
    ) -> dict[str, Factors]:
        """Return factors of all layers after one step of some; those given where it gains nothing.

        Parameters
        ----------
        current
            Layer name to factors, of all layers of the plan.
        names
            The layers that move, see `members`.
        data
            Samples and mixtures to take the step at; where all would take too much, as many as may be are drawn.
        seed
            Of what is drawn.

        Raises
        ------
        PlanError
            The compressed model cannot be run on the data.
        """
        from lrfdse.model.passes.factor import rewrite

        data = data.draw(self._most, seed)
        members = members_of(current, {name: self._model.weight(name).astype(np.float32) for name in names})
        size = max(member.place.stop for member in members.values())
        with plan_errors():
            version = rewrite(self._model, current, closed=False)
            sites = [self._model.sites[name][0] for name in names]
            gatherer = Gatherer(version, self._model.working.graph, sites, self._objective, data, self._runtime)
            if not gatherer.works:
                return dict(current)
            bent = min(data.count, max(1, _DERIVATIVES // size))
            found = gatherer.gathered(list(members.values()), data, bent, np.random.default_rng(seed))
            return self._along(current, members, found, solved(found, list(members.values())), data)

    def descent(
        self, current: Mapping[str, Factors], data: Dataset, macs: float, seed: int
    ) -> Iterator[dict[str, Factors]]:
        """Yield factors after ever more small steps (`lrfdse.repair.descent`), whenever they are to be judged.

        All layers move whose factors are numbers in floating point, those of one row a sample among them.

        Parameters
        ----------
        current
            Layer name to factors, of all layers of the plan.
        data
            Samples and mixtures to take the steps at.
        macs
            MACs, estimated, that they may take together; nothing is yielded where that allows too few.
        seed
            Of the order of the samples.

        Raises
        ------
        PlanError
            The compressed model cannot be run on the data.
        """
        from lrfdse.model.passes.factor import rewrite

        if data.one_by_one or data.count < SEEN:
            return
        schedule = Schedule.within(macs, _SMALL_PASSES * self._macs, data.count)
        names = [name for name in self._counted(data) if name in current and _moves(current[name])]
        if not schedule.steps or not names:
            return
        weights = {name: self._model.weight(name).astype(np.float32) for name in names}
        sites, original = [self._model.sites[name][0] for name in names], self._model.working.graph
        outputs = names_of(self._objective)

        def written(factors: Mapping[str, Factors]) -> ir.Model:
            return rewrite(self._model, factors, closed=False)

        with plan_errors():
            version, few = written(current), data.head(_SPREAD)
            own = list(own_constants(version, original))
            beside = Gatherer(version, original, sites, self._objective, few, self._runtime)
            if not beside.works:
                return
            members = list(members_of(current, weights).values())
            seen = beside.gathered(members, few, 1, np.random.default_rng(seed))
            spreads = {
                name: math.sqrt(anchor.variance / len(weights[name]))
                for name, anchor in zip(names, seen.anchors, strict=True)
            }
            gatherer = Gatherer(version, original, sites, self._objective, few, self._runtime, own)
            reference = seen.side.scores(self._runtime.run(read_out(original, outputs), data, 256, outputs))

            def slope(factors: Mapping[str, Factors], members: Sequence[Member], batch: Array) -> Single:
                given = own_constants(written(factors), original)
                return gatherer.slope(members, data.take(batch), reference[batch], given)[1]

            yield from descent(current, weights, spreads, slope, schedule, seed)

    def _along(
        self,
        current: Mapping[str, Factors],
        members: Mapping[str, Member],
        found: Gathered,
        step: Single,
        data: Dataset,
    ) -> dict[str, Factors]:
        """Return factors moved along a step, at half the length where the loss does not fall, and so on."""
        from lrfdse.model.passes.factor import rewrite

        outputs = names_of(self._objective)

        def anchored(factors: Mapping[str, Factors]) -> float:
            return sum(anchor.value(factors[name]) for name, anchor in zip(members, found.anchors, strict=True))

        before, length = found.loss + anchored(current), np.float32(1.0)
        for _ in range(_HALVINGS):
            moved = {name: member.moved(length * step[member.place]) for name, member in members.items()}
            trial = {**current, **moved}
            version = read_out(rewrite(self._model, trial, closed=False), outputs)
            scores = found.side.scores(self._runtime.run(version, data, 256, outputs))
            if float(found.side.divergences(scores, found.reference).mean()) + anchored(trial) < before:
                return trial
            length /= 2
        return dict(current)

    def _counted(self, data: Dataset) -> Mapping[str, int]:
        """Return the rows of a sample in each layer that has one use, in the main graph, on which an output depends."""
        if self._rows is None:
            graph, outputs = self._model.working.graph, names_of(self._objective)
            sites = {
                layer.name: each[0]
                for layer in self._model.layers
                if len(each := self._model.sites[layer.name]) == 1
                and each[0].holder is None
                and layer.kind != "tied"
                and dependent(graph, [each[0].output], outputs)
            }
            made = [site.output for site in sites.values()]
            with plan_errors():
                session = self._runtime.session(read_out(graph, made))
                layout = self._runtime.layout(session, data, SEEN, made)
                self._rows = {}
                if not layout.together:
                    return self._rows
                feeds = data.feeds(0, SEEN)
                arrays = self._runtime.call(session, {port.name: feeds[port.name] for port in session.get_inputs()})
            for name, site in sites.items():
                if (place := layout.places[site.output]) is not None:
                    inner = Rows.of(arrays[site.output], place, site.out_axis, SEEN).inner
                    self._rows[name] = math.prod(inner)
        return self._rows


def _moves(factors: Factors) -> bool:
    """Return whether factors are numbers that a step may change."""
    plain = factors.storage == FLOAT32 and not factors.factorization.repair and factors.bias_shift is not None
    return plain and not factors.choice.is_original


def solved(found: Gathered, members: Sequence[Member], rounds: int = _CG_STEPS) -> Single:
    """Return the damped Gauss-Newton step, as changes of the elements of all members.

    Parameters
    ----------
    found
        What is known of the model around them.
    members
        The layers.
    rounds
        Most conjugate gradient steps.
    """
    damping = flat([m.damping(a.variance) for m, a in zip(members, found.anchors, strict=True)])
    gradient = found.gradient + flat([anchor.gradient() for anchor in found.anchors])
    curvatures = [anchor.curvature() for anchor in found.anchors]
    slopes, count = found.slopes, np.float32(len(found.slopes))

    def product(vector: list[Single]) -> list[Single]:
        (changes,) = vector
        anchored = [each(changes[m.place]) for m, each in zip(members, curvatures, strict=True)]
        return [np.asarray(slopes.T @ (slopes @ changes) / count + flat(anchored) + damping * changes)]

    return conjugate(product, [-gradient], rounds)[0]
