"""Processes that measure kernels end with the one that started them, even where that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from lrfdse.cli.interrupt import is_alive

SCRIPT = """
import contextlib, os, tempfile, time
from lrfdse.base.store import Store
from lrfdse.explore.layers.latencies import KernelRequest, MeasuredKernel, measure_kernels
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.targets.catalog import load_target


class Meter:
    name, exclusive = "model", False

    def key(self):
        return "asleep"


def asleep(target, meter, tries):
    def measure(spec):
        # As a library does that calls Python back: the exception that ends the process is lost.
        with contextlib.suppress(SystemExit), tempfile.TemporaryDirectory(dir="scratch"):
            print(os.getpid(), flush=True)
            time.sleep(600)
        return MeasuredKernel(failure="woken")
    return measure


if __name__ == "__main__":
    spec = KernelSpec(4, 4, Factorization.dense(4, 4), 1, False, False)
    measure_kernels([spec], KernelRequest(load_target("riscv64"), Meter(), opened=asleep), Store("cache"), print)
"""


def gone(process):
    deadline = time.monotonic() + 60
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(process)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has ended")
def test_within_a_kernel_a_worker_ends_with_its_parent_and_cleans_up(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "scratch").mkdir()
    command = [sys.executable, "script.py"]
    parent = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=os.environ)
    worker = int(next(line for line in parent.stdout if line.strip().isdigit()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    try:
        assert gone(worker)
        assert not list((tmp_path / "scratch").iterdir())
    finally:
        if is_alive(worker):
            os.kill(worker, signal.SIGKILL)
