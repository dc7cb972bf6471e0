"""How an exploration speaks while it runs: events to whoever listens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
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


Worked = Callable[[float], None]
"""A function that is called with how much more work is done."""


@contextmanager
def hundredths(
    stage: str, work: Mapping[str, float], progress: Listener
) -> Iterator[Callable[[str], AbstractContextManager[Worked]]]:
    """Tell how far a stage is, in hundredths of the work that its parts are expected to be.

    Parameters
    ----------
    stage
        Name of the stage in the events.
    work
        Part to its expected work, in any unit.
    progress
        Called with an event whenever another hundredth is done.

    Yields
    ------
    callable
        Opens a part by name and gives who is to be told of its work; once the part is left, all of its work counts as
        done.
    """
    whole, done, told = sum(work.values()), 0.0, -1

    def report(name: str, now: float) -> None:
        nonlocal told
        hundredth = min(int(100 * now / whole), 100) if whole > 0 else 100
        if hundredth > told:
            told = hundredth
            progress(Event(stage, name, hundredth, 100))

    @contextmanager
    def part(name: str) -> Iterator[Worked]:
        nonlocal done
        inside = 0.0

        def worked(more: float) -> None:
            nonlocal inside
            inside += more
            report(name, done + min(inside, work[name]))

        report(name, done)
        yield worked
        done += work[name]
        report(name, done)

    yield part
    report("", whole)
