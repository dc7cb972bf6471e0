"""Numbers as people read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lrfdse.ir.latency import MeterKind

_MODELLED_DIGITS = 2
"""Significant digits of a modelled latency: the third is below what tells two of them apart (docs/meter.md)."""


def count_text(count: int) -> str:
    """Return a count that a person can read.

    >>> count_text(1234), count_text(23_900_000), count_text(10**13)
    ('1,234', '23.9 M', '1.00e13')
    """
    if count < 1_000_000:
        return f"{count:,}"
    if count < 1_000_000_000:
        return f"{count / 1e6:.3g} M"
    mantissa, _, exponent = f"{count:.2e}".partition("e+")
    return f"{mantissa}e{int(exponent)}"


def times_text(before: float, after: float) -> str:
    """Return by what factor a cost fell, with two significant digits; below 1 it rose.

    >>> times_text(300, 100), times_text(227, 9.87), times_text(100, 300), times_text(5, 5)
    ('3.0x', '23x', '0.33x', '')
    """
    return "" if before == after else f"{rounded_text(before / after, 2)}x"


def rounded_text(value: float, digits: int) -> str:
    """Return a number with so many significant digits.

    >>> rounded_text(9.87, 2), rounded_text(257, 2), rounded_text(12345, 2), rounded_text(0.041, 3), rounded_text(0, 2)
    ('9.9', '260', '12,000', '0.0410', '0')
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:.0f}"
    rounded = float(f"{value:.{digits - 1}e}")
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def us_text(value: float) -> str:
    """Return a latency with three significant digits or whole microseconds.

    >>> us_text(0.41234), us_text(16.31), us_text(12345.6)
    ('0.412', '16.3', '12,346')
    """
    return f"{value:,.0f}" if value >= 100 else rounded_text(value, 3)


def latency_text(value: float, kind: MeterKind) -> str:
    """Return a latency with the digits that its meter can know: two of a modelled one.

    >>> latency_text(9.87, "modelled"), latency_text(256.9, "modelled"), latency_text(256.9, "measured")
    ('9.9', '260', '257')
    """
    return rounded_text(value, _MODELLED_DIGITS) if kind == "modelled" else us_text(value)


def kib_text(count: int) -> str:
    """Return bytes in KiB: whole ones, or two significant digits of less than ten.

    >>> kib_text(164784), kib_text(1066440), kib_text(2048), kib_text(100)
    ('161', '1,041', '2.0', '0.098')
    """
    kib = count / 1024
    return f"{kib:,.0f}" if kib >= 10 else rounded_text(kib, 2)


def points_text(difference: float) -> str:
    """Return a difference of fractions in points, with its sign.

    >>> points_text(-0.0123), points_text(0.0)
    ('−1.23', '+0.00')
    """
    return f"{round(100 * difference, 2) + 0.0:+.2f}".replace("-", "−")


def change_text(difference: float, margin: float | None) -> str:
    """Return a difference of fractions in points with half its 95 % interval, where that is known.

    >>> change_text(-0.008, 0.0078), change_text(0.001, None)
    ('−0.80 ± 0.78', '+0.10')
    """
    return points_text(difference) + ("" if margin is None else f" ± {100 * margin:.2f}")
