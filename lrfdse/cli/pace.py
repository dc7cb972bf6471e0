"""How long a stage will still take, by how fast it went lately."""

from __future__ import annotations


class Pace:
    """Estimates what is left of one stage from the events that it sent.

    What was known already is done at once, mostly at a stage's beginning: the first half of what is done says nothing
    of the rest. The pace is that of the later half.
    """

    def __init__(self) -> None:
        self._seen: list[tuple[float, int]] = []

    def saw(self, now: float, done: int) -> None:
        """Take in that so much was done at a time, in seconds of any clock that only goes forward.

        A stage of which less is done than before has begun anew.

        >>> pace = Pace()
        >>> for now, done in ((0, 0), (10, 4), (11, 0)):
        ...     pace.saw(now, done)
        >>> pace.left(1) is None
        True
        """
        if self._seen and done < self._seen[-1][1]:
            self._seen.clear()
        if not self._seen or done > self._seen[-1][1]:
            self._seen.append((now, done))

    def left(self, total: int) -> float | None:
        """Return how many seconds are left; None where nothing was done yet while somebody looked.

        >>> pace = Pace()
        >>> for now, done in ((0, 0), (1, 50), (11, 60), (21, 70), (31, 80), (41, 90), (51, 100)):
        ...     pace.saw(now, done)
        >>> pace.left(150)
        50.0
        """
        if len(self._seen) < 2:
            return None
        now, done = self._seen[-1]
        half = (done + self._seen[0][1]) / 2
        then, before = next(event for event in reversed(self._seen[:-1]) if event[1] <= half)
        return (now - then) / (done - before) * (total - done)


def left_text(seconds: float | None) -> str:
    """Return an estimate as people say it; empty where there is none.

    >>> left_text(42.3), left_text(200), left_text(None)
    ('about 42 s left', 'about 3 min left', '')
    """
    if seconds is None:
        return ""
    return f"about {seconds:.0f} s left" if seconds < 90 else f"about {seconds / 60:.0f} min left"
