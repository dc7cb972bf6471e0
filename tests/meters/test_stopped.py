"""A worker that is stopped while a kernel runs leaves no process behind, and no files where it can still act."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lrfdse.meters.meter import open_meter

_WAIT_S = 600.0


def _measure(case: object, target: object) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    open_meter("auto", target, timeout=300).measure(*case)  # type: ignore


def _eventually(found: Callable[[], object]) -> object:
    end = time.monotonic() + _WAIT_S
    while not (result := found()) and time.monotonic() < end:
        time.sleep(0.05)
    return result


def _children(parent: int) -> list[tuple[int, str]]:
    """Return process id and command line of the children that have started their program."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            continue
        if int(after_name[1]) == parent and after_name[0] != "Z":
            found.append((int(folder.name), command))
    return found


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.parametrize("name", ["riscv64", "host"])
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_stopped_worker(name, stop, measured_target, matvec, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    target = measured_target(name)
    case = matvec(target, before="for (volatile int i = 1; i;) i = 1;")
    worker = multiprocessing.get_context("fork").Process(target=_measure, args=(case, target))
    worker.start()
    program = "_host_runner.py" if name == "host" else "lrfmeter"

    def kernels() -> list[int]:
        return [child for child, command in _children(worker.pid or 0) if program in command]

    def busy() -> bool:
        """Whether the kernel itself runs: the time that the process has used grows beyond its start-up."""
        return any(_cpu_seconds(child) > 0.5 for child in kernels())

    assert _eventually(busy)
    (kernel,) = kernels()
    os.kill(worker.pid or 0, stop)
    worker.join(_WAIT_S)
    try:
        assert worker.exitcode == (3 if stop == signal.SIGTERM else -signal.SIGKILL)
        assert _eventually(lambda: not _is_running(kernel))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(kernel, signal.SIGKILL)
    if stop == signal.SIGTERM:
        assert list(tmp_path.glob("lrfdse-*")) == []


def _cpu_seconds(process: int) -> float:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
