"""Numbers as people read them."""

from __future__ import annotations

import math


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
    """Return by what factor a cost fell; below 1 it rose.

    >>> times_text(300, 100), times_text(100, 300), times_text(5, 5)
    ('3.0x', '0.33x', '')
    """
    return "" if before == after else f"{before / after:.1f}x" if after <= before else f"{before / after:.2f}x"


def us_text(value: float) -> str:
    """Return a latency with three significant digits or whole microseconds.

    >>> us_text(0.41234), us_text(16.31), us_text(12345.6)
    ('0.412', '16.3', '12,346')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.{2 - math.floor(math.log10(value))}f}" if value > 0 else "0"


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
