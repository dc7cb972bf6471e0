"""Who evaluates a running trial, and whether that process is still there."""

from __future__ import annotations

import os
import platform
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def worker() -> str:
    """Return what running trials carry as their ``worker`` attribute: this machine and process."""
    return f"{platform.node()}:{os.getpid()}"


def is_abandoned(trial: FrozenTrial, stale_after: float) -> bool:
    """Return whether nobody is evaluating a running trial any more.

    Parameters
    ----------
    trial
        A running trial that this study did not start.
    stale_after
        Seconds a trial of another machine, whose processes cannot be seen from here, may be running.
    """
    host, colon, process = str(trial.user_attrs.get("worker", "")).rpartition(":")
    if not colon:
        return True
    if host != platform.node():
        started = trial.datetime_start
        return started is not None and (datetime.now() - started).total_seconds() > stale_after
    # In a container every run may have the same process id: an own id that this study does not know is an old one.
    if int(process) == os.getpid():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
