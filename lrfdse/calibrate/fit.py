"""A target's assumptions fitted to what a board measured: clock and bandwidths."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrfdse.calibrate.emulation import emulator_sign, slowness
from lrfdse.calibrate.prediction import predicted
from lrfdse.calibrate.record import Kernel, Point, Record, fixed_digest
from lrfdse.errors import InputError
from lrfdse.ir.latency import Regime
from lrfdse.targets.eviction import eviction_note
from lrfdse.targets.target import Target

PARAMETERS = ("clock_mhz", "last_level_bytes_per_cycle", "dram_bytes_per_cycle")
"""Fields of a target that are fitted."""
FEWEST = 6
"""Kernels times cache regimes below which nothing is fitted: two for each parameter. Chosen, not measured."""

_WIDEST = 1000.0
"""Factor by which a parameter may differ from the target's own value. Chosen, not measured."""
_OUTLIER = 0.1
"""Deviation of the logarithm from which on a point weighs less: robustness against a kernel that is modelled badly.

Chosen, not measured."""
_LEAST_NOISE = 0.02
"""Relative error below which no measurement is taken to be. Chosen, not measured."""
_UNSURE = 0.2
"""Standard error of a parameter's logarithm from which on the measurements do not tell it. Chosen, not measured."""
_UNEXPLAINED = 0.3
"""Median error after the fit from which on a reader is warned. Chosen, not measured."""
_STEPS = (-1.5, -0.5, 0.0, 0.5, 1.5)
"""Points of the coarse grid along each parameter, as differences of its logarithm. Chosen, not measured."""
_STEP = 0.02
"""Step of central differences in a parameter's logarithm, wide enough to see past the corners of `max`.

Chosen, not measured."""
_NOTHING = 1e-6
"""Relative singular value below which a direction counts as without effect.

Chosen, not measured."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """One parameter of a target, before and after the fit."""

    name: str
    before: float
    after: float
    standard_error: float | None
    """Relative standard error; None where the parameter was held."""
    held: str = ""
    """Why it kept its value; empty where it was fitted."""


@dataclass(frozen=True, slots=True)
class Residual:
    """One kernel in one cache regime: what it took and what the model says, in microseconds."""

    layer: str
    kernel: Kernel
    regime: Regime
    measured_us: float
    before_us: float
    """Modelled under the target's own assumptions."""
    after_us: float
    """Modelled under the fitted ones."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fit with its residuals."""

    target: Target
    """The target with the fitted values."""
    parameters: tuple[Fitted, ...]
    residuals: tuple[Residual, ...]
    error_before: float
    """Median of ``|modelled / measured - 1|`` under the target's own assumptions."""
    error_after: float
    """Median of ``|modelled / measured - 1|`` under the fitted ones."""
    scale: float | None
    """The board's own clock over the fitted one: by what factor modelled cycles count too few; None where unknown."""
    notes: tuple[str, ...]


def calibrate(records: Sequence[Record], target: Target) -> Calibration:
    """Fit the clock and the bandwidths of `target` to measurements.

    Minimises the logarithms of modelled over measured latency, all kernels in both cache regimes, under a loss that is
    linear for large ones (soft L1), each parameter between 1/1000 and 1000 times its value. A parameter that the
    measurements do not tell (its column of the Jacobian vanishes, or its standard error exceeds 20 %) keeps its value.

    The clock takes up a constant factor of all modelled cycles, too: only where the board says at what frequency it ran
    are clock and scale told apart.

    Raises
    ------
    InputError
        A record is of another target or an emulator's, there are too few measurements, or they tell no parameter.
    """
    for record in records:
        if record.fixed != fixed_digest(target):
            raise InputError(
                f"{record.path}: measured for target {record.target}, not for {target.name} as it is described now"
            )
        if sign := emulator_sign(record.board, target):
            raise InputError(f"{record.path}: measured under an emulator ({sign}): nothing is fitted to it")
    points = _merged(records)
    if len(points) < FEWEST:
        raise InputError(
            f"at least {FEWEST} kernels in a cache regime must be measured, but got {len(points)}: measure more designs"
        )
    problem = _Problem(points, target)
    before = problem.predictions(target)
    if not before.all():
        nothing = points[int(np.argmin(before))].layer
        raise InputError(f"{_paths(records)}: layer {nothing!r}: nothing was counted of it; measure again")
    if slow := slowness([point.measured_us for point in points], before.tolist()):
        raise InputError(
            f"{_paths(records)}: {slow}: an emulator, or no machine that target "
            f"{target.name} describes; nothing is fitted to it"
        )
    free, held = list(PARAMETERS), dict[str, str]()
    found = problem.fit(free)
    while (unsure := _unsure(found)) is not None:
        free.remove(unsure[0])
        held[unsure[0]] = unsure[1]
        found = problem.fit(free)
    if not found:
        raise InputError(
            f"nothing is fitted: {'; '.join(f'{name}: {why}' for name, why in held.items())}; measure designs of more "
            "sizes, on a board that the target describes"
        )
    fitted = _with(target, {name: estimate.value for name, estimate in found.items()})
    parameters = tuple(
        Fitted(
            name,
            getattr(target, name),
            getattr(fitted, name),
            found[name].error if name in found else None,
            held.get(name, ""),
        )
        for name in PARAMETERS
    )
    after = problem.predictions(fitted)
    residuals = tuple(
        Residual(point.layer, point.kernel, point.regime, point.measured_us, float(b), float(a))
        for point, b, a in zip(points, before, after, strict=True)
    )
    boards = [record.board for record in records]
    clock, notes = _clock(boards)
    told = {eviction_note(board.get("largest_cache_bytes"), board.get("evicted_bytes")) for board in boards}
    notes += [f"a board tells of {note}" for note in sorted(filter(None, told))]
    after_error = problem.median_error(after)
    if after_error > _UNEXPLAINED:
        notes.append(
            f"even fitted, the model is off by {after_error:.0%} in the median: is the board what the target describes?"
        )
    scale = None if clock is None or "clock_mhz" in held else clock / fitted.clock_mhz
    return Calibration(fitted, parameters, residuals, problem.median_error(before), after_error, scale, tuple(notes))


@dataclass(frozen=True, slots=True)
class _Estimate:
    value: float
    error: float
    """Standard error of the logarithm; infinite where no point tells."""
    effect: float
    """Largest change of a point's logarithm with the parameter's."""


class _Problem:
    """Points under a target whose parameters vary."""

    def __init__(self, points: Sequence[Point], target: Target) -> None:
        self._points = points
        self._target = target
        self._measured = np.array([point.measured_us for point in points])

    def predictions(self, target: Target) -> NDArray[np.float64]:
        """Return the modelled latency of every point, microseconds."""
        return np.array([predicted(point.terms, target, point.regime).us for point in self._points])

    def median_error(self, predictions: NDArray[np.float64]) -> float:
        return float(np.median(np.abs(predictions / self._measured - 1)))

    def fit(self, free: Sequence[str]) -> dict[str, _Estimate]:
        """Fit the free parameters; the others have the target's own values."""
        if not free:
            return {}
        from scipy.optimize import least_squares

        start, span = np.log([getattr(self._target, name) for name in free]), math.log(_WIDEST)

        def deviations(logarithms: NDArray[np.float64]) -> NDArray[np.float64]:
            values = dict(zip(free, np.exp(logarithms).tolist(), strict=True))
            found = self.predictions(_with(self._target, values))
            return np.asarray(np.log(found / self._measured))

        # The bracket's `max` bends the surface: the best of a coarse grid lie in the right valley. It is laid about the
        # target's own values, and about those that a common factor of all measurements suggests.
        shifted = start + np.median(deviations(start)) * (np.arange(len(free)) == 0)
        grid = [
            np.clip(centre + np.array(steps), start - 0.99 * span, start + 0.99 * span)
            for centre in (start, shifted)
            for steps in itertools.product(_STEPS, repeat=len(free))
        ]
        grid.sort(key=lambda at: float(np.minimum(np.abs(deviations(at)), 1.0).sum()))
        bounds = start - span, start + span
        runs = [least_squares(deviations, at, bounds=bounds, loss="soft_l1", f_scale=_OUTLIER) for at in grid[:3]]
        best = min(runs, key=lambda run: float(run.cost))
        noise = max(_LEAST_NOISE, 1.4826 * float(np.median(np.abs(best.fun))))
        slopes = _slopes(deviations, best.x)
        errors, effects = _standard_errors(slopes, noise), np.abs(slopes).max(axis=0)
        return {
            name: _Estimate(float(value), error, float(effect))
            for name, value, error, effect in zip(free, np.exp(best.x), errors, effects, strict=True)
        }


def _with(target: Target, values: Mapping[str, Any]) -> Target:
    return dataclasses.replace(target, **values)


def _slopes(function: Callable[[NDArray[np.float64]], NDArray[np.float64]], at: NDArray[np.float64]) -> Any:
    """Return the Jacobian by central differences, wide enough to see past the corners of `max`."""
    moves = np.eye(len(at)) * _STEP
    return np.stack([(function(at + move) - function(at - move)) / (2 * _STEP) for move in moves], axis=1)


def _standard_errors(slopes: NDArray[np.float64], noise: float) -> list[float]:
    """Return each parameter's standard error, infinite along directions that no point depends on."""
    _, singular, directions = np.linalg.svd(slopes, full_matrices=False)
    known = singular > _NOTHING * max(1.0, float(singular[0]))
    found = []
    for weights in directions.T:
        if float(np.abs(weights[~known]).max(initial=0.0)) > _NOTHING:
            found.append(math.inf)
        else:
            found.append(noise * float(np.sqrt(np.sum((weights[known] / singular[known]) ** 2))))
    return found


def _unsure(found: Mapping[str, _Estimate]) -> tuple[str, str] | None:
    """Return the parameter to hold next and why, or None where all are told."""
    unsure = {name: estimate for name, estimate in found.items() if not estimate.error <= _UNSURE}
    if not unsure:
        return None
    least = min(unsure, key=lambda name: unsure[name].effect)
    if unsure[least].effect < _LEAST_NOISE:
        return least, "no measurement depends on it"
    # Of a clock and a bandwidth that stand for each other, the clock is the better known beforehand.
    held = "clock_mhz" if "clock_mhz" in unsure else max(unsure, key=lambda name: unsure[name].error)
    return held, "the measurements do not tell it"


def _paths(records: Sequence[Record]) -> str:
    return ", ".join(str(record.path) for record in records)


def _merged(records: Sequence[Record]) -> list[Point]:
    """Return one point for each kernel and regime: the median over the designs that share it."""
    same: dict[tuple[Kernel, Regime], list[Point]] = {}
    for record in records:
        for point in record.points:
            same.setdefault((point.kernel, point.regime), []).append(point)
    return [
        dataclasses.replace(points[0], measured_us=statistics.median(point.measured_us for point in points))
        for points in same.values()
    ]


def _clock(boards: Sequence[Mapping[str, Any]]) -> tuple[float | None, list[str]]:
    """Return the frequency in MHz that all boards say they ran at, and what a reader must know of it."""
    told = [board.get("frequency_khz") for board in boards]
    governors = sorted({str(board.get("governor")) for board in boards} - {"performance", "None"})
    notes = [f"the governor was {each}: the clock may have changed while kernels were timed" for each in governors]
    numbers = [float(each) for each in told if isinstance(each, (int, float)) and each > 0]
    if len(numbers) < len(told) or max(numbers) > 1.02 * min(numbers):
        notes.append("the clock stands for clock and scale together: the boards do not tell one frequency")
        return None, notes
    return statistics.median(numbers) / 1e3, notes
