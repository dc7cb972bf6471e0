"""Who evaluates a running trial, and whether that process is still there.

No two clocks are ever compared. A process of this machine is looked up; one of another machine gives signs of life, and
they are late when the looker's own monotonic clock says so (or the database's clock, where it keeps heartbeats).
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lrfdse.search.study.storage import heartbeat_keeper

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

BEAT = "beat"
"""User attribute of a running trial that its process counts up, where the storage keeps no heartbeats."""
_OWNERLESS = 5.0
"""Seconds that a process may take between taking a trial and signing it: two writes. Chosen, not measured."""


def worker() -> str:
    """Return what running trials carry as their ``worker`` attribute: host, process, and what tells it from others.

    The last part names the machine since its last start, its process numbers, and when the process began.
    """
    return f"{platform.node()}:{os.getpid()}:{_machine()}.{_began(os.getpid())}"


class Watch:
    """Judges running trials; it remembers when it last saw a sign of life of each.

    Parameters
    ----------
    grace
        Seconds without a sign of life of a process on another machine after which it counts as gone; None where the
        storage itself keeps heartbeats and judges.
    """

    def __init__(self, grace: float | None) -> None:
        self._grace = grace
        self._seen: dict[int, tuple[tuple[str, int], float]] = {}

    def is_gone(self, trial: FrozenTrial) -> bool:
        """Return whether the process that evaluates a running trial has died; it must be another process's trial."""
        signed = str(trial.user_attrs.get("worker", ""))
        host, _, rest = signed.partition(":")
        process, _, told = rest.partition(":")
        machine, _, began = told.partition(".")
        if machine == _machine() and host == platform.node() and process.isdigit():
            # This process did not take it, so whoever had its number before it did.
            return int(process) == os.getpid() or not _is_alive(int(process), began)
        if self._grace is None:
            return False
        now, sign = time.monotonic(), (signed, int(trial.user_attrs.get(BEAT, 0)))
        last, since = self._seen.setdefault(trial.number, (sign, now))
        if last != sign:
            self._seen[trial.number] = (sign, now)
            return False
        return now - since >= min(self._grace, self._grace if signed else _OWNERLESS)


class Heartbeats:
    """A thread that gives signs of life for the trials that this process evaluates."""

    def __init__(self, storage: BaseStorage, interval: float) -> None:
        self._storage = storage
        self._interval = interval
        self._keeper = heartbeat_keeper(storage)
        self._trials: dict[int, int] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, trial_id: int) -> None:
        """Give the first sign of life now, and others from time to time."""
        if self._keeper is not None:
            self._keeper.record_heartbeat(trial_id)
        with self._lock:
            self._trials[trial_id] = 0
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)
            self._thread.start()

    def remove(self, trial_id: int) -> None:
        """Give no more signs of life for a trial."""
        with self._lock:
            self._trials.pop(trial_id, None)

    def close(self) -> None:
        """End the thread; one that waits for a database is left to end with the process."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(0.5)

    def _run(self) -> None:
        while not self._over.wait(self._interval):
            with self._lock:
                self._trials = {trial: count + 1 for trial, count in self._trials.items()}
                current = dict(self._trials)
            for trial, count in current.items():
                # A beat that is missed (lost connection, trial finished meanwhile) is no reason to stop evaluating.
                with suppress(Exception):
                    self._beat(trial, count)
        with suppress(Exception):
            self._storage.remove_session()

    def _beat(self, trial: int, count: int) -> None:
        if self._keeper is not None:
            self._keeper.record_heartbeat(trial)
        else:
            self._storage.set_trial_user_attr(trial, BEAT, count)


def _is_alive(process: int, began: str) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _began(process) == began and not _is_zombie(process)


def _began(process: int) -> str:
    """Return when a process began, in ticks since the machine did; "" where the system does not tell."""
    fields = _stat(process)
    return fields[19] if len(fields) > 19 else ""


def _is_zombie(process: int) -> bool:
    return _stat(process)[:1] == ["Z"]


def _stat(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


@functools.cache
def _machine() -> str:
    """Return a name for this machine since it started, and for the process numbers that are visible here."""
    parts = []
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:8]
