"""Prints the coefficients of lrfdse/kernels/operators/coefficients.py: rational functions of least relative error.

Linearised least squares on Chebyshev nodes, the weights of which follow the errors (Lawson's iteration), in float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

Array = NDArray[np.float64]
NODES, ROUNDS = 4000, 60


def fit(
    f: Callable[[Array], Array], ends: tuple[float, float], degrees: tuple[int, int], weight: Callable[[Array], Array]
) -> tuple[float, Array, Array]:
    """Return the largest weighted error, the numerator and the denominator, constant terms first."""
    t = sum(ends) / 2 + (ends[1] - ends[0]) / 2 * np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
    y, w, emphasis, below = f(t), weight(t), np.ones(NODES), np.ones(NODES)
    best = None
    above_powers, below_powers = (t[:, None] ** np.arange(d + 1) for d in degrees)
    for _ in range(ROUNDS):
        system = np.concatenate([above_powers, -y[:, None] * below_powers[:, 1:]], 1)
        rows = (w * np.sqrt(emphasis) / below)[:, None]
        size = np.abs(system * rows).max(0)
        found = np.linalg.lstsq(system * rows / size, y * rows[:, 0], rcond=None)[0] / size
        p, q = found[: degrees[0] + 1], np.concatenate([[1.0], found[degrees[0] + 1 :]])
        below = below_powers @ q
        error = np.abs(w * (y - above_powers @ p / below))
        if best is None or error.max() < best[0]:
            best = error.max(), p, q
        emphasis *= error / error.max() + 1e-3
        emphasis /= emphasis.mean()
    assert best is not None
    return best


def near_zero(t: Array, series: Array, function: Array, bound: float) -> Array:
    """Return a function with its series where it loses digits."""
    return np.where(np.abs(t) < bound, series, function)


def exp_rest(t: Array) -> Array:
    return near_zero(t, 0.5 + t / 6 + t**2 / 24, (np.expm1(t) - t) / np.where(t == 0, 1, t) ** 2, 1e-4)


def log_rest(t: Array) -> Array:
    series = 1 / 3 - t / 4 + t**2 / 5 - t**3 / 6 + t**4 / 7
    return near_zero(t, series, (np.log1p(t) - t + t**2 / 2) / np.where(t == 0, 1, t) ** 3, 1e-3)


def root(t: Array) -> Array:
    return np.sqrt(np.maximum(t, 1e-300))


def erf_ratio(t: Array) -> Array:
    return near_zero(t, np.full_like(t, 2 / np.sqrt(np.pi)), erf(root(t)) / root(t), 1e-12)


def tanh_ratio(t: Array) -> Array:
    return near_zero(t, 1 - t / 3, np.tanh(root(t)) / root(t), 1e-12)


def sin_rest(t: Array) -> Array:
    return near_zero(t, -1 / 6 + t / 120 - t**2 / 5040, (np.sin(root(t)) / root(t) - 1) / np.maximum(t, 1e-300), 1e-4)


def cos_rest(t: Array) -> Array:
    series = 1 / 24 - t / 720 + t**2 / 40320
    return near_zero(t, series, (np.cos(root(t)) - 1 + t / 2) / np.maximum(t, 1e-300) ** 2, 1e-3)


ANGLE = (np.pi / 4 + 0.01) ** 2
FITS = {
    "exp": (exp_rest, (-0.36, 0.36), (4, 0), lambda t: t**2 * np.exp(-t)),
    "exp, short": (exp_rest, (-0.35, 0.35), (3, 0), lambda t: t**2 * np.exp(-t)),
    "log": (
        log_rest,
        (np.sqrt(0.5) - 1, np.sqrt(2.0) - 1 + 0.0058),
        (7, 0),
        lambda t: np.abs(t) ** 3 / np.maximum(np.abs(np.log1p(t)), 1e-9),
    ),
    "erf": (erf_ratio, (0, 3.95**2), (5, 5), lambda t: 1 / erf_ratio(t)),
    "tanh": (tanh_ratio, (0, 9.1**2), (4, 4), lambda t: 1 / tanh_ratio(t)),
    "sin": (sin_rest, (0, ANGLE), (2, 0), lambda t: t * root(t) / np.maximum(np.sin(root(t)), 1e-9)),
    "cos": (cos_rest, (0, ANGLE), (2, 0), lambda t: t**2),
}

if __name__ == "__main__":
    for name, arguments in FITS.items():
        error, above, below = fit(*arguments)
        print(f"{name}: error {error:.1e}")
        for coefficients in (above, below):
            print("    " + ", ".join(f"{value:.9e}" for value in coefficients))
