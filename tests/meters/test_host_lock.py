"""The machine's timing lock: who waits for it can be told for whom."""

from __future__ import annotations

import os
import subprocess
import sys

from lrfdse.meters.host_meter import machine_lock, timed_by_another

HOLD = """
import sys
from lrfdse.meters.host_meter import machine_lock
with machine_lock():
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_another_run_that_times_is_named_and_one_s_own_is_not(tmp_path, monkeypatch):
    monkeypatch.setenv("LRFDSE_CACHE", str(tmp_path))
    assert timed_by_another() is None
    with machine_lock():
        assert timed_by_another() is None
    assert timed_by_another() is None
    # A shell between makes it somebody else's: its parent is not this process.
    command = f"{sys.executable} -c '{HOLD}'; true"
    with subprocess.Popen(["sh", "-c", command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        found = timed_by_another()
        assert found not in (None, os.getpid(), other.pid)
        other.communicate("\n")
    assert timed_by_another() is None
