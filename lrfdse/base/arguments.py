"""Numbers that callers give, checked and made Python's own: NumPy's cannot be written as JSON."""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Iterable, Mapping, Sequence

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
        It is no whole number; the message begins with `name`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, but got {value!r}") from None
    if number < least:
        raise InputError(f"{name} must be {least} or more, but got {number}")
    return number


def shapes_of(shape: Mapping[str, Sequence[int]] | None) -> dict[str, tuple[int, ...]]:
    """Return sizes of inputs by name.

    >>> shapes_of({"x": [1, 3]})
    {'x': (1, 3)}

    Raises
    ------
    InputError
        A size is less than 1, or sizes are a text, as the command line takes them.
    TypeError
        Sizes are no sequence, or one is no whole number; the message begins with "shape of" and the name.
    """
    found = {}
    for name, sizes in ({} if shape is None else shape).items():
        if isinstance(sizes, str):
            raise InputError(f"shape of {name} takes sizes such as (1, 3, 48, 320), but got {sizes!r}")
        if not isinstance(sizes, Iterable):
            raise TypeError(f"shape of {name} must be a sequence of sizes, but got {sizes!r}")
        found[name] = tuple(whole_number(f"shape of {name}", size, 1) for size in sizes)
    return found


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


def values_of(given: Mapping[str, object] | None) -> dict[str, str]:
    """Return numbers, or true and false, that inputs are fixed to, as settings have them: as texts, which stay.

    Raises
    ------
    InputError
        One of them is no number.

    >>> values_of({"sr": 16000, "gain": 0.5, "on": True})
    {'sr': '16000', 'gain': '0.5', 'on': 'true'}
    """
    texts = {}
    for name, value in (given or {}).items():
        if isinstance(value, bool) or type(value).__name__ == "bool_":
            texts[name] = "true" if value else "false"
        elif isinstance(value, numbers.Integral):
            texts[name] = str(int(value))
        elif isinstance(value, numbers.Real):
            texts[name] = repr(float(value))
        elif isinstance(value, str):
            texts[name] = value
        else:
            raise InputError(f"value of {name} must be a number, true or false, but got {value!r}")
    return texts
