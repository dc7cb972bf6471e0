"""Training the factors of a design: Adam on what follows the first of them, the best state on held-out samples kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lrfdse.base.events import Event, Listener, silent
from lrfdse.healing.framework import load_tensorflow
from lrfdse.healing.int8 import straight_through, tops_of
from lrfdse.healing.layers import Weights, factors_of, weights_of
from lrfdse.healing.losses import Losses
from lrfdse.healing.part import part_of
from lrfdse.model.passes.cut import dependent
from lrfdse.quality.divergence import are_chances
from lrfdse.quality.objective import names_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lrfdse.healing.feeding import Batch, Feeder, Feeders
    from lrfdse.healing.part import Part
    from lrfdse.ir.factors import Factors
    from lrfdse.model.graph import Model
    from lrfdse.quality.objective import Objective

HELD_OUT = 10
"""One sample in so many judges while the others train. Chosen, not measured."""

MOST_HELD_OUT = 4096
"""Samples that judge at most. Chosen, not measured: a share of right answers is known to half a point then."""

_STREAM = 18
"""Stands beside the seed where the samples that judge are drawn. Chosen: any number makes it another draw than one of
calibration data with the same seed, which the factors were fitted to."""

_LOOKS = 4
"""Times that held-out samples are looked at in an epoch. Chosen, not measured."""

_RATE = 0.02
"""Length of Adam's longest steps, in parts of the root mean square of the matrix that takes them. LeNet-300-100 with 32
times fewer weights, refined before: after 10 epochs by outputs and labels the loss of samples that did not train was
0.188 with 0.005 and 0.184 with 0.02; by labels alone 0.287 with 0.01 and 0.285 with 0.02."""

_WARM_UP = 0.05
"""Part of the steps in which the rate rises from zero. Chosen, not measured: Adam knows no curvature at first."""

_DECAYS = 0.9, 0.999
"""Of Adam's two moments (Kingma and Ba, "Adam", 2015)."""

_LEAST_LENGTH = 1e-3
"""What stands for the root mean square of numbers that are all zero. Chosen, not measured."""

_EPSILON = 1e-8
"""Least root of Adam's second moment, from the same source."""


@dataclass(frozen=True, slots=True)
class Training:
    """How factors are trained."""

    epochs: int = 20
    """Times that every training sample is seen."""
    minutes: float = math.inf
    """Minutes of training; where the epochs would take longer, there are fewer steps."""
    share: float = 0.0
    """Part of the loss that is taken from labels."""
    seed: int = 0
    """Seed of which samples are held out, and of the order of the others."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What training gave."""

    factors: Mapping[str, Factors]
    """Layer name to factors, of the state of training with the least loss on held-out samples; those given where
    their loss is less, as long as labels do not count (see `train`)."""
    before: float
    """Loss a sample on held-out samples with the factors given."""
    after: float
    """The same with those returned."""
    steps: int
    """Steps taken."""
    planned: int
    """Steps of all epochs; the minutes allow fewer where training is slow."""
    samples: int
    """Samples that trained."""
    held_out: int
    """Samples that judged."""


def train(
    model: Model,
    factors: Mapping[str, Factors],
    feeders: Feeders,
    objective: Objective,
    training: Training,
    progress: Listener = silent,
    clock: Callable[[], float] = time.monotonic,
) -> Trained:
    """Train the factors of a design on data, all else of the model frozen.

    Where labels count, the factors given do not compete with what training makes of them: the original was commonly
    trained on the same samples, so that factors that were fitted to follow it know the labels of held-out ones, too.
    Whether the trained factors are better is for data to say that the original did not see.

    Parameters
    ----------
    model
        The original model, whose outputs are followed.
    factors
        Layer name to factors. Those of dense layers are not trained.
    feeders
        The samples that train and judge, with labels where `training.share` is above 0, and what runs the original.
    objective
        The outputs that count, the judged one first.
    training
        How to train.
    progress
        Told of every look at held-out samples.
    clock
        Seconds, for the budget of minutes.

    Raises
    ------
    InputError
        An operator behind the layers is not covered, a layer is not of float32, or the model cannot be run on the data.
    ToolError
        TensorFlow is missing.
    """
    chosen = {name: each for name, each in factors.items() if not each.choice.is_original}
    made = [site.output for name in chosen for site in model.sites[name]]
    names = dependent(model.working.graph, made, names_of(objective))
    objective = tuple(part for part in objective if part.output in names)
    part = part_of(model, chosen, names)
    tf = load_tensorflow()
    feeder = feeders.of(part)
    chances = {
        each.output: are_chances(feeder.reference[each.output]) if each.chances is None else each.chances
        for each in objective
    }
    share = training.share if objective and objective[0].output == names_of(objective)[0] else 0.0
    losses = Losses(objective, feeder.places, chances, share)
    run = _Run(tf, part, feeder, losses, chosen)
    judges, others = divided(feeders.count, feeder.size, training.seed, feeders.fitted)
    before = run.loss(judges)
    least, best = math.inf if share else before, None
    size = feeder.size if feeder.fixed else min(feeder.size, len(others))
    each_epoch = max(1, len(others) // size)
    total = planned = training.epochs * each_epoch
    looks, rng = max(1, each_epoch // _LOOKS), np.random.default_rng(training.seed + 1)
    end, step = clock() + 60 * training.minutes, 0
    # Most of the first step is the making of the graph; those after it tell how long a step takes.
    paced = end
    while step < total:
        if step % each_epoch == 0:
            shuffled = rng.permutation(others)
        first = step % each_epoch * size
        run.step(np.resize(shuffled[first : first + size], size), rate_at(step / total))
        step, now = step + 1, clock()
        if step == 1:
            paced = now
        if now >= end:
            total = step
        elif step % looks == 0 and step > 1:
            total = affordable(total, step, end - now, (now - paced) / (step - 1))
        if step % looks == 0 or step >= total:
            loss = run.loss(judges)
            progress(Event("heal", f"held-out loss {loss:.4g}, before {before:.4g}", step, total))
            if loss < least:
                least, best = loss, run.weights()
    if best is None:
        return Trained(dict(factors), before, before, step, planned, len(others), len(judges))
    healed = {name: factors_of(each, best[name]) for name, each in chosen.items()}
    return Trained({**factors, **healed}, before, least, step, planned, len(others), len(judges))


def divided(
    count: int, size: int, seed: int, fitted: NDArray[np.bool_] | None = None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return which of `count` samples are held out and which train; where they fill batches of `size`, whole ones.

    What the factors were `fitted` to they do better on than on others: such samples are held out only where there are
    too few others.
    """
    order = np.random.default_rng([seed, _STREAM]).permutation(count)
    if fitted is not None:
        order = order[np.argsort(fitted[order], kind="stable")]
    held = max(1, min(count // HELD_OUT, MOST_HELD_OUT))
    held -= held % size if held > size else 0
    return np.sort(order[:held]), order[held:]


def affordable(total: int, step: int, left: float, pace: float) -> int:
    """Return how many steps there are in all where seconds are left, at so many a step: at most `total`.

    >>> affordable(1000, 100, 45.0, 0.1), affordable(1000, 100, 100.0, 0.1)
    (550, 1000)
    """
    return total if left >= pace * (total - step) else step + max(0, int(left / pace))


def rate_at(done: float) -> float:
    """Return the rate when a part of the steps is done: it rises, and falls to zero along a cosine.

    >>> rate_at(0.0) < rate_at(0.05), round(rate_at(1.0), 6)
    (True, 0.0)
    """
    return _RATE * min(1.0, (done + 1e-3) / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * done))


class _Run:
    """The trained numbers in TensorFlow, with Adam's moments."""

    def __init__(self, tf: Any, part: Part, feeder: Feeder, losses: Losses, factors: Mapping[str, Factors]) -> None:
        self._tf, self._part, self._feeder, self._losses = tf, part, feeder, losses
        weights = {name: weights_of(each) for name, each in factors.items()}
        self._tops = {name: tops_of(each) for name, each in factors.items()}
        self._variables = {name: [tf.Variable(each) for each in arrays] for name, arrays in weights.items()}
        self._flat = [each for variables in self._variables.values() for each in variables]
        self._moments = [(tf.Variable(tf.zeros_like(v)), tf.Variable(tf.zeros_like(v))) for v in self._flat]
        self._lengths = [_length(each) for arrays in weights.values() for each in arrays]
        self._taken = 0
        self._step, self._loss = (tf.function(each, autograph=False) for each in (self._make_step, self._of))

    def step(self, index: NDArray[Any], rate: float) -> None:
        """Take a step of Adam on a batch."""
        self._taken += 1
        batch = self._feeder.batch(index)
        first, second = (1 - decay**self._taken for decay in _DECAYS)
        tf = self._tf
        self._step(*_tensors(tf, batch), tf.constant(rate * math.sqrt(second) / first), tf.constant(math.sqrt(second)))

    def loss(self, index: NDArray[Any]) -> float:
        """Return the loss a sample over all samples of an index array."""
        total, size = 0.0, self._feeder.size
        for start in range(0, len(index), size):
            some = index[start : start + size]
            # A model of a fixed number of samples is given some of them twice.
            batch = self._feeder.batch(np.resize(some, size) if self._feeder.fixed else some)
            total += float(self._loss(*_tensors(self._tf, batch))) * len(some)
        found = total / len(index)
        return found if math.isfinite(found) else math.inf

    def weights(self) -> dict[str, Weights]:
        """Return the numbers as they are now."""
        return {name: [each.numpy() for each in variables] for name, variables in self._variables.items()}

    def _of(self, fed: Any, reference: Any, labels: Any) -> Any:
        outputs = self._part.run(self._tf, self._stored(), fed, self._feeder.folded)
        count = next(iter(reference.values())).shape[0]
        return self._losses.of(self._tf, outputs, reference, labels, count)

    def _stored(self) -> dict[str, list[Any]]:
        """Return the numbers as a file holds them: those of cores in int8 rounded."""
        found = {}
        for name, variables in self._variables.items():
            tops = self._tops[name]
            int8 = [straight_through(self._tf, each, top) for each, top in zip(variables, tops, strict=False)]
            found[name] = [*int8, *variables[len(int8) :]]
        return found

    def _make_step(self, fed: Any, reference: Any, labels: Any, rate: Any, damping: Any) -> None:
        tf = self._tf
        with tf.GradientTape() as tape:
            loss = self._of(fed, reference, labels)
        slopes = tape.gradient(loss, self._flat, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        for value, slope, (first, second), length in zip(self._flat, slopes, self._moments, self._lengths, strict=True):
            first.assign(_DECAYS[0] * first + (1 - _DECAYS[0]) * slope)
            second.assign(_DECAYS[1] * second + (1 - _DECAYS[1]) * tf.square(slope))
            value.assign_sub(rate * length * first / (tf.sqrt(second) + _EPSILON * damping))


def _length(array: NDArray[np.float32]) -> float:
    """Return the root mean square of a matrix, which its steps are parts of; a shift of nothing may still be moved."""
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64)))) or _LEAST_LENGTH


def _tensors(tf: Any, batch: Batch) -> tuple[Any, Any, Any]:
    labels = None if batch.labels is None else tf.constant(batch.labels)
    fed = {name: tf.constant(array) for name, array in batch.fed.items()}
    return fed, {name: tf.constant(array.astype(np.float32)) for name, array in batch.reference.items()}, labels
