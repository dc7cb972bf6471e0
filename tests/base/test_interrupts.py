"""Interrupts that wait until processes have begun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from lrfdse.base.interrupts import interrupt, interrupts_held


@pytest.fixture
def handled():
    before = signal.signal(signal.SIGINT, interrupt)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def elsewhere():
    """Another thread, which takes signals that the main thread does not: a progress bar has one."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield
    end.set()
    thread.join()


def test_an_interrupt_waits_for_what_is_held_whatever_thread_takes_it(handled, elsewhere):
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        os.kill(os.getpid(), signal.SIGINT)
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            reached.append(None)
        reached.append("end")
    assert reached[-1] == "end"
    # It came once.
    with interrupts_held():
        pass


def test_an_interrupt_outside_is_one_at_once(handled):
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(5)


def test_an_inner_block_hands_it_to_the_outer_one(handled, elsewhere):
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_held():
        with interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        reached.append("outer")
    assert reached == ["outer"]


def test_processes_begun_so_are_not_interrupted():
    with interrupts_held():
        child = subprocess.Popen(
            [sys.executable, "-c", "import time; print('here', flush=True); time.sleep(0.5)"], stdout=-1
        )
    assert child.stdout.readline() == b"here\n"
    child.send_signal(signal.SIGINT)
    assert child.wait() == 0
    child.stdout.close()
