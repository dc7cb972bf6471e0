"""Functions in processes of their own: what they return, and that no process outlives the block, or the parent."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from lrfdse.base.pools import process_pool
from lrfdse.cli.interrupt import is_alive

SCRIPT = """
import contextlib, os, sys, time
from lrfdse.base.pools import process_pool


def report():
    with open("running", "a") as running:
        print(os.getpid(), file=running)


def sleeps():
    report()
    time.sleep(600)


def sleeps_on():
    # As a library does that calls Python back: the exception that ends the process is lost.
    with contextlib.suppress(SystemExit):
        sleeps()
    return "woken"


def is_idle():
    report()


def sends():
    report()
    while not os.path.exists("stopped"):
        time.sleep(0.02)
    return bytes(1 << 24)


def cleans_up():
    with open("made", "w"):
        pass
    try:
        sleeps()
    finally:
        os.remove("made")


if __name__ == "__main__":
    with process_pool(2) as pool:
        begun = [pool.submit(globals()[sys.argv[1]]) for _ in range(2)]
        time.sleep(600)
"""


@pytest.fixture
def started(tmp_path):
    """Start a parent whose processes are at work, and give it with them; what is left at the end is killed."""
    (tmp_path / "script.py").write_text(SCRIPT)
    running, found = tmp_path / "running", []

    def start(work):
        parent = subprocess.Popen([sys.executable, "script.py", work], cwd=tmp_path)
        while not running.exists() or running.read_text().count("\n") < 2:
            assert parent.poll() is None
            time.sleep(0.02)
        found.extend({int(line) for line in running.read_text().splitlines()})
        return parent, found

    yield start
    for process in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def gone(processes):
    deadline = time.monotonic() + 60
    while any(map(is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(is_alive, processes))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
@pytest.mark.parametrize("work", ["sleeps", "sleeps_on", "is_idle", "cleans_up"])
def test_processes_end_with_a_parent_that_is_killed_and_clean_up(started, work, tmp_path):
    parent, processes = started(work)
    parent.kill()
    parent.wait()
    assert gone(processes)
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_a_process_does_not_wait_for_a_parent_that_takes_nothing_any_more(started, tmp_path):
    parent, processes = started("sends")
    os.kill(parent.pid, signal.SIGSTOP)
    (tmp_path / "stopped").touch()
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    assert gone(processes)


def whole(size):
    return bytes(size)


def begins(path, seconds):
    path.write_text(str(os.getpid()))
    time.sleep(seconds)


def begun(path):
    deadline = time.monotonic() + 60
    while not (path.exists() and path.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return int(path.read_text())


def test_results_come_back_and_no_process_is_left():
    with process_pool(2) as pool:
        found = [pool.submit(whole, size) for size in (0, 10, 1 << 20)]
        assert [len(each.result()) for each in found] == [0, 10, 1 << 20]
        assert multiprocessing.active_children()
    assert multiprocessing.active_children() == []


def test_errors_come_back():
    with process_pool(1) as pool, pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result()


def test_a_block_that_is_left_ends_what_runs(tmp_path):
    with pytest.raises(KeyError), process_pool(1) as pool:
        pool.submit(begins, tmp_path / "process", 600)
        process = begun(tmp_path / "process")
        raise KeyError
    assert not is_alive(process)
    assert multiprocessing.active_children() == []


def test_a_process_that_is_told_to_end_is_one_that_died_and_no_exit_of_the_parent(tmp_path):
    with process_pool(1) as pool:
        waiting = pool.submit(begins, tmp_path / "process", 600)
        os.kill(begun(tmp_path / "process"), signal.SIGTERM)
        with pytest.raises(BrokenProcessPool):
            waiting.result()


def test_a_block_without_calls_starts_nothing():
    with process_pool(2):
        assert multiprocessing.active_children() == []
