"""How an exploration speaks while it runs: events to whoever listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened in `stage`; `done` of `total` where the stage counts its work."""

    stage: str
    text: str = ""
    done: int | None = None
    total: int | None = None


Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """Listen to nothing."""
