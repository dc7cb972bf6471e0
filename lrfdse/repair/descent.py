"""Many small steps of several layers together, each on few samples: what a large budget adds to Gauss-Newton steps."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

from lrfdse.repair.member import flat, members_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from lrfdse.ir.factorization import Array
    from lrfdse.ir.factors import Factors
    from lrfdse.repair.member import Member

    Single = NDArray[np.float32]

BATCH = 256
"""Samples of one step. Chosen."""

ROUNDS = 12
"""Times that all samples are seen at most. Chosen; docs/method.md, section 9, has what fewer and more samples give."""

LEAST_STEPS = 16
"""Steps below which averages over them say nothing: then none is taken. Chosen."""

RATE = 0.004
"""Size of a step at its largest, relative to the root mean square of a layer's elements. Chosen."""

SHIFT_RATE = 0.1 * RATE
"""The same of the bias, relative to the standard deviation of the layer's outputs: all rows feel it. Chosen."""

_RISE = 0.1
"""Part of the steps in which their size rises to `RATE`; from there it falls as half a cosine. Chosen."""

_TINY = 1e-30
"""What is divided by where nothing depends on any element."""

_SLOW, _FAST = 0.99, 0.9
"""What averages of squared gradients, and of gradients, keep from one step to the next (Kingma and Ba 2015, whose
0.999 is of more steps than are taken here)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """How many small steps are taken, and how often what they reached is judged."""

    samples: int
    """Samples to take them on."""
    steps: int
    """How many there are; 0 takes none."""

    @classmethod
    def within(cls, macs: float, sample_macs: float, samples: int, rounds: int = ROUNDS) -> Schedule:
        """Return the longest schedule that a budget allows.

        Parameters
        ----------
        macs
            MACs of all steps together.
        sample_macs
            MACs that one sample takes in one step.
        samples
            Samples that there are.
        rounds
            Times that all of them are seen at most.

        >>> Schedule.within(1e9, 1e3, 2560)
        Schedule(samples=2560, steps=120)
        >>> Schedule.within(1e7, 1e3, 2560).steps
        39
        >>> Schedule.within(1e6, 1e3, 2560).steps
        0
        """
        steps = int(min(rounds * samples, macs / sample_macs) / min(BATCH, max(1, samples)))
        return cls(samples, steps if steps >= LEAST_STEPS else 0)

    @property
    def judged(self) -> int:
        """Steps from one verdict to the next: as many as see every sample once, and a fourth of all at most."""
        return max(1, min(-(-self.samples // BATCH), self.steps // 4))

    def length(self, step: int) -> float:
        """Return the part of `RATE` that a step has.

        >>> schedule = Schedule(2560, 100)
        >>> [round(schedule.length(step), 3) for step in (0, 9, 55, 99)]
        [0.1, 1.0, 0.483, 0.0]
        """
        rise = max(1, round(_RISE * self.steps))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step + 1 - rise) / max(1, self.steps - rise)))

    def batches(self, seed: int) -> Iterator[Array]:
        """Yield the samples of each step, in their own order: every sample once before one comes again."""
        rng, size = np.random.default_rng(seed), min(BATCH, self.samples)
        order = np.zeros(0, np.int64)
        for _ in range(self.steps):
            if len(order) < size:
                order = np.concatenate([order, rng.permutation(self.samples)])
            yield np.sort(order[:size])
            order = order[size:]


class Averages:
    """Averages over steps of gradients and of their squares, and the step that they give (Kingma and Ba 2015).

    Parameters
    ----------
    size
        Elements.
    """

    def __init__(self, size: int) -> None:
        self._first, self._second = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self._count = 0

    def step(self, gradient: Single) -> Single:
        """Return a step against a gradient and those before; of each element about 1 where their signs agree."""
        self._count += 1
        self._first += (1 - _FAST) * (gradient - self._first)
        self._second += (1 - _SLOW) * (np.square(gradient) - self._second)
        mean, square = self._first / (1 - _FAST**self._count), self._second / (1 - _SLOW**self._count)
        # An element without any gradient stays; one tiny beside the others' is noise of single precision.
        floor = 1e-3 * math.sqrt(float(square.mean())) + _TINY
        return np.asarray(-mean / (np.sqrt(square) + floor), np.float32)


def descent(
    current: Mapping[str, Factors],
    weights: Mapping[str, Single],
    deviations: Mapping[str, float],
    slope: Callable[[Mapping[str, Factors], Sequence[Member], Array], Single],
    schedule: Schedule,
    seed: int,
) -> Iterator[dict[str, Factors]]:
    """Yield factors after ever more steps, whenever they are to be judged.

    A step goes against the average of gradients over some steps, each element divided by the root mean square of its
    own, so that elements of all layers move alike, whatever their scale.

    Parameters
    ----------
    current
        Layer name to factors, of all layers of the plan.
    weights
        The original's weights of the layers that move, (outputs, inputs).
    deviations
        Standard deviations of these layers' outputs.
    slope
        Returns derivatives of the mean loss by the elements of members on samples, given by their places; of all
        factors and those of the members.
    schedule
        How many steps there are, and on what.
    seed
        Of the order of the samples.
    """
    found, averages = dict(current), None
    for number, batch in enumerate(schedule.batches(seed)):
        members = members_of(found, weights)
        sizes = flat([member.sizes(RATE, SHIFT_RATE * deviations[name]) for name, member in members.items()])
        averages = averages or Averages(sizes.size)
        step = averages.step(slope(found, list(members.values()), batch))
        step *= np.float32(schedule.length(number)) * sizes
        found |= {name: member.moved(step[member.place]) for name, member in members.items()}
        if (number + 1) % schedule.judged == 0 or number + 1 == schedule.steps:
            yield dict(found)
