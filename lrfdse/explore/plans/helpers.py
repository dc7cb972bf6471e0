"""Helper processes on this machine that evaluate plans beside the one that explores."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

from lrfdse.base.events import Event, Listener
from lrfdse.base.processes import end_all, interrupts_held
from lrfdse.explore.plans.worker import _help

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from lrfdse.results.exploration import LayerResult
    from lrfdse.results.settings import Settings


_WORTH_SECONDS = 20.0
"""Seconds of evaluation ahead from which on further processes pay: each reads the model and the data first."""


class Helpers:
    """Processes on this machine that evaluate beside the one that explores; started once, when they pay."""

    def __init__(
        self, settings: Settings, layers: tuple[LayerResult, ...], url: str, name: str, tell: Listener
    ) -> None:
        self._arguments = (settings, layers, url, name)
        self._count = settings.workers - 1
        self._tell = tell
        self._processes: list[SpawnProcess] = []

    def start_if_worth(self, seconds: float) -> None:
        """Start them where `seconds` of evaluation lie ahead and that is worth it."""
        if self._processes or self._count < 1 or seconds < _WORTH_SECONDS:
            return
        context = multiprocessing.get_context("spawn")
        with interrupts_held():
            for _ in range(self._count):
                process = context.Process(target=_help, args=self._arguments, daemon=True)
                process.start()
                self._processes.append(process)
        self._tell(Event("note", f"{self._count} more processes evaluate plans"))

    def stop(self) -> None:
        """End them; what they were at is given back."""
        end_all(self._processes)
        self._processes = []
