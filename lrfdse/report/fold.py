"""Many layers on few lines: equal ones fold into one row, long names lose their middle."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

_T = TypeVar("_T")


def folded(items: Sequence[_T], key: Callable[[_T], Hashable]) -> list[list[_T]]:
    """Return the items in groups of equal keys, in the order in which each group begins.

    >>> folded([1, 4, 3, 6], lambda n: n % 2)
    [[1, 3], [4, 6]]
    """
    groups: dict[Hashable, list[_T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def names_text(names: Sequence[str], widest: int = 40) -> str:
    """Return what a row of several layers is called.

    Names that differ in one number alone share a name with its range.

    >>> names_text(["h.0.fc", "h.1.fc", "h.2.fc"]), names_text(["a", "b", "c"]), names_text(["fc1"])
    ('h.{0..2}.fc', 'a and 2 more', 'fc1')
    """
    if len(names) == 1:
        return shortened(names[0], widest)
    parts = [re.split(r"(\d+)", name) for name in names]
    if len({len(each) for each in parts}) == 1:
        differing = [place for place in range(len(parts[0])) if len({each[place] for each in parts}) > 1]
        if len(differing) == 1 and differing[0] % 2:
            place = differing[0]
            numbers = sorted(int(each[place]) for each in parts)
            whole = numbers == list(range(numbers[0], numbers[-1] + 1))
            inner = f"{numbers[0]}..{numbers[-1]}" if whole else ",".join(map(str, numbers))
            first = parts[0]
            return shortened("".join([*first[:place], f"{{{inner}}}", *first[place + 1 :]]), widest)
    more = f" and {len(names) - 1} more"
    return shortened(names[0], widest - len(more)) + more


def shortened(name: str, widest: int) -> str:
    """Return a name, its middle left out where it is longer than `widest`.

    >>> shortened("encoder.layer.11.dense", 12)
    'encod….dense'
    """
    if len(name) <= widest:
        return name
    tail = (widest - 1) // 2 + (widest - 1) % 2
    return f"{name[: widest - 1 - tail]}…{name[-tail:]}"
