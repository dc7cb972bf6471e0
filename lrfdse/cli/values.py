"""Option values as people write them: 60k, 200us, 1%, x=1x3x48x320."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from lrfdse.errors import InputError


def parse_count(text: str, option: str) -> int:
    """Read a count.

    >>> parse_count("60k", "--max-params"), parse_count("1.5M", "--max-params"), parse_count("300", "--max-params")
    (60000, 1500000, 300)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmM]?)", text.strip())
    count = round(float(found[1]) * {"": 1, "k": 1e3, "m": 1e6}[found[2].lower()]) if found else 0
    if count < 1:
        raise InputError(f"{option} takes a count such as 60000, 60k or 1.5M, but got {text!r}")
    return count


def parse_size(text: str, option: str) -> int:
    """Read a number of bytes; k is 1024 of them, as in the tables' KiB, and M is 1024 k.

    >>> parse_size("128k", "--max-size"), parse_size("1.5 MiB", "--max-size"), parse_size("300", "--max-size")
    (131072, 1572864, 300)
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*(?:([kKmM])(?:iB)?)?", text.strip(), flags=re.ASCII)
    count = int(float(found[1]) * {"": 1, "k": 1 << 10, "m": 1 << 20}[(found[2] or "").lower()]) if found else 0
    if count < 1:
        raise InputError(f"{option} takes bytes such as 131072, 128k or 1.5M (k is 1024), but got {text!r}")
    return count


def parse_latency(text: str, option: str) -> float:
    """Read a time in microseconds; a bare number is microseconds.

    >>> parse_latency("200us", "--max-latency"), parse_latency("0.5ms", "--max-latency")
    (200.0, 500.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|µs|ms|s|)", text.strip())
    if not found or float(found[1]) <= 0:
        raise InputError(f"{option} takes a positive time such as 200us or 0.5ms, but got {text!r}")
    return float(found[1]) * {"": 1.0, "us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6}[found[2]]


def parse_drop(text: str, option: str) -> float:
    """Read a loss of accuracy as a fraction; with or without %, the number is in points.

    >>> parse_drop("1%", "--max-drop"), parse_drop("0.5", "--max-drop")
    (0.01, 0.005)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", text.strip())
    if not found or not math.isfinite(float(found[1])) or float(found[1]) > 100:
        raise InputError(f"{option} takes a loss in points such as 1% or 0.5, from 0 to 100, but got {text!r}")
    return float(found[1]) / 100


def parse_growth(text: str, option: str) -> float:
    """Read a growth in percent as a fraction; the % may be left out.

    >>> parse_growth("5%", "--max-regression"), parse_growth("0", "--max-regression")
    (0.05, 0.0)
    """
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,9})?)\s*%?", text.strip(), flags=re.ASCII)
    if not found:
        raise InputError(f"{option} takes a growth in percent such as 5% or 0, but got {text!r}")
    return float(found[1]) / 100


def parse_values(texts: list[str]) -> dict[str, str]:
    """Read ``--value name=16000`` options; what an input of that type may be is seen when the model is read.

    >>> parse_values(["sr=16000", "gain=-1e-3", "on=true"])
    {'sr': '16000', 'gain': '-1e-3', 'on': 'true'}
    """
    values: dict[str, str] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        given = re.fullmatch(r"true|false|[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?", number, flags=re.ASCII | re.IGNORECASE)
        if not equals or not name or not given:
            raise InputError(f"--value takes NAME=NUMBER such as sr=16000, but got {text!r}")
        _once("--value", name, values)
        values[name] = number
    return values


def parse_shapes(texts: list[str]) -> dict[str, tuple[int, ...]]:
    """Read ``--shape name=1x3x48x320`` options.

    >>> parse_shapes(["x=1x3x48x320"])
    {'x': (1, 3, 48, 320)}
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, equals, sizes = text.rpartition("=")
        if not equals or not name or not re.fullmatch(r"[1-9]\d{0,8}(x[1-9]\d{0,8})*", sizes):
            raise InputError(f"--shape takes NAME=SIZES such as x=1x3x48x320, but got {text!r}")
        _once("--shape", name, shapes)
        shapes[name] = tuple(int(size) for size in sizes.split("x"))
    return shapes


def _once(option: str, name: str, given: Mapping[str, object]) -> None:
    if name in given:
        raise InputError(f"{option} is given twice for input {name!r}: leave one of them out")
