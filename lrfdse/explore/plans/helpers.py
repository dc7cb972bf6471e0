"""Helper processes on this machine that evaluate plans beside the one that explores."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener
from lrfdse.base.interrupts import interrupts_held
from lrfdse.base.processes import end_all
from lrfdse.explore.plans.worker import help_until_ended

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from lrfdse.explore.inputs import Files
    from lrfdse.explore.plans.job import TrialRequest
    from lrfdse.results.exploration import StudyPlace


class Helpers:
    """Processes on this machine that evaluate beside the one that explores; started once at most, when they pay.

    Parameters
    ----------
    request, files
        How plans are evaluated, and where the model, the data and earlier results lie.
    place
        The study that plans are taken from.
    count
        Processes to start.
    after
        Seconds of evaluation ahead from which on they pay.
    progress
        Told when they are started.
    """

    def __init__(
        self, request: TrialRequest, files: Files, place: StudyPlace, count: int, after: float, progress: Listener
    ) -> None:
        self._arguments = (request, files, place.url, place.name)
        self._count, self._after = count, after
        self._listener = progress
        self._processes: list[SpawnProcess] = []
        self._stopped = False

    def start_if_worth(self, seconds: float) -> None:
        """Start them where `seconds` of evaluation lie ahead and that is worth it."""
        if self._processes or self._stopped or self._count < 1 or seconds < self._after:
            return
        context = multiprocessing.get_context("spawn")
        with interrupts_held():
            for _ in range(self._count):
                process = context.Process(target=help_until_ended, args=self._arguments, daemon=True)
                process.start()
                self._processes.append(process)
        self._listener(Event("note", f"{self._count} more processes evaluate plans"))

    def stop(self) -> None:
        """Terminate the helpers for good; their unfinished trials return to the queue."""
        self._stopped = True
        end_all(self._processes)
        self._processes = []
