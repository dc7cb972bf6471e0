"""Numbers that callers give, checked and made Python's own: NumPy's cannot be written as JSON."""

from __future__ import annotations

import math
import operator

from lrfdse.errors import InputError


def whole_number(name: str, value: int, least: int) -> int:
    """Return a whole number that is `least` or more.

    >>> whole_number("budget", 3, 1)
    3

    Raises
    ------
    InputError
        It is less; the message begins with `name`.
    TypeError
        It is no whole number.
    """
    if (number := operator.index(value)) < least:
        raise InputError(f"{name} must be {least} or more, but got {number}")
    return number


def number_between(name: str, value: float, least: float, most: float = math.inf) -> float:
    """Return a finite number from `least` to `most`.

    >>> number_between("minutes", 2, 0)
    2.0

    Raises
    ------
    InputError
        It is out of the range or not finite; the message begins with `name`.
    TypeError
        It is no number.
    """
    number = float(value)
    if not (math.isfinite(number) and least <= number <= most):
        rule = f"{least:g} or more" if math.isinf(most) else f"from {least:g} to {most:g}"
        raise InputError(f"{name} must be {rule}, but got {number:g}")
    return number


def positive_number(name: str, value: float) -> float:
    """Return a finite number above 0.

    >>> positive_number("max_latency_us", 200)
    200.0

    Raises
    ------
    InputError
        It is 0, less, or not finite; the message begins with `name`.
    TypeError
        It is no number.
    """
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        raise InputError(f"{name} must be a finite number above 0, but got {number:g}")
    return number
