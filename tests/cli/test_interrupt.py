"""Interruption: the command that goes on, and the end of a process that cannot end itself."""

from __future__ import annotations

import ctypes
import importlib
import json
import shlex
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.cli import run
from lrfdse.cli.interrupt import advice, descendants, is_alive, resume_command

STUCK = """
import ctypes, subprocess, sys
from lrfdse.explore import run
from lrfdse.cli import main

def hold(files, request):
    child = subprocess.Popen(["sleep", "300"])
    print("stuck", flush=True)
    # PyDLL keeps the interpreter's lock, as LAPACK does when SciPy calls it.
    ctypes.PyDLL(None).nanosleep(ctypes.byref((ctypes.c_long * 2)(300, 0)), None)

run.open_inputs = hold
sys.argv[0] = "lrfdse"
main()
"""


@given(st.lists(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))))
def test_the_command_line_reads_back_as_it_was_given(arguments):
    if any("://" in argument for argument in arguments):
        return
    assert shlex.split(resume_command("lrfdse", ["explore", *arguments])) == ["lrfdse", "explore", *arguments]


def test_a_password_is_not_repeated():
    url = "postgresql://me:s3:cr@t@db.lan/studies"
    assert resume_command("lrfdse", ["explore", "m", "--study", url]) == (
        "lrfdse explore m --study postgresql://me:PASSWORD@db.lan/studies"
    )
    assert "s3" not in resume_command("lrfdse", ["explore", f"--study={url}"])


def test_there_is_nothing_to_go_on_with_but_explorations():
    assert advice("lrfdse", ["inspect", "m"]) == "interrupted"
    assert resume_command("lrfdse", []) is None


def test_a_program_that_the_shell_does_not_find_is_named_by_its_path(tmp_path):
    assert resume_command(str(tmp_path / "lrfdse"), ["explore", "m"]) == f"{tmp_path}/lrfdse explore m"
    assert resume_command("/x/__main__.py", ["explore", "m"]) == "lrfdse explore m"
    assert resume_command("/x/lrfdse/__main__.py", ["explore", "m"]) == "python -m lrfdse explore m"


TWICE = """
import os, signal
from lrfdse.cli.interrupt import raise_interrupt
signal.signal(signal.SIGTERM, raise_interrupt)
try:
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    os.kill(os.getpid(), signal.SIGTERM)
    print("on the way out")
"""


def test_a_second_signal_does_not_interrupt_the_way_out():
    """The `timeout` of GNU's coreutils signals the program, and then the group that it is in."""
    ended = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "on the way out\n", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_call_that_keeps_the_interpreter_from_acting_is_ended_from_outside(number, log_format, tmp_path):
    command = [sys.executable, "-c", STUCK, "explore", "model.onnx", "--target", "riscv64", "--log-format", log_format]
    (tmp_path / "model.onnx").write_bytes(b"")
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "stuck\n"
    children = descendants(process.pid)
    assert len(children) == 2
    process.send_signal(number)
    _, error = process.communicate(timeout=600)
    # A shell calls the end by SIGINT 130, too.
    assert process.returncode in (130, -signal.SIGINT)
    expected = "interrupted; go on with: lrfdse explore model.onnx --target riscv64 --log-format " + log_format
    if log_format == "json":
        event = json.loads(error.splitlines()[-1])
        assert (event["stage"], event["kind"], event["text"]) == ("failed", "interrupted", expected)
    else:
        assert error.splitlines()[-1] == f"lrfdse: {expected}"
    end = time.monotonic() + 600
    while any(map(is_alive, children)) and time.monotonic() < end:
        time.sleep(0.02)
    assert not [child for child in children if is_alive(child)]


def test_the_guard_ends_with_the_process_that_it_guards(tmp_path):
    script = "from lrfdse.cli import interrupt; import os; interrupt.watch(str); os.write(1, b'x'); os.read(0, 1)"
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.stdout.read(1)
    (guard,) = descendants(process.pid)
    process.kill()
    process.communicate()
    end = time.monotonic() + 600
    while is_alive(guard) and time.monotonic() < end:
        time.sleep(0.02)
    assert not is_alive(guard)


def test_a_forked_child_does_not_report_its_own_signals():
    script = """
import os, signal, time
from lrfdse.cli import interrupt
interrupt.watch(str)
child = os.fork()
if child == 0:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(7))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
time.sleep(2)
print("alive")
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600, check=False)
    assert (ended.returncode, ended.stdout) == (0, "alive\n")


def test_this_machine_has_the_signal_structure_that_is_assumed():
    from lrfdse.cli.interrupt import _SigAction

    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        action = _SigAction()
        assert ctypes.CDLL(None).sigaction(signal.SIGUSR1, None, ctypes.byref(action)) == 0
        assert action.handler
        script = "import signal, os; from lrfdse.cli.interrupt import _die_of_the_second_interrupt as f; f()\n"
        script += (
            "for _ in range(2):\n try: os.kill(os.getpid(), 2)\n except KeyboardInterrupt: print('one', flush=True)"
        )
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert (ended.stdout, ended.returncode) == ("one\n", -signal.SIGINT)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_interrupt_within_a_finalizer_prints_no_traceback():
    program = """
import signal, weakref
from lrfdse.cli import interrupt

class Held: ...

interrupt.watch(lambda: "ended by the guard")
held = Held()
watched = weakref.ref(held, lambda gone: signal.raise_signal(signal.SIGINT))
signal.signal(signal.SIGINT, signal.default_int_handler)
del held
watched = weakref.ref(other := Held(), lambda gone: 1 / 0)
del other
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" not in ended.stderr
    assert "ZeroDivisionError" in ended.stderr, "other errors are told as ever"


@pytest.mark.parametrize("more", [[], ["--log-format", "json"]])
def test_a_machine_without_memory_is_one_line(more, small_folder, monkeypatch, capsys):
    def full(*_):
        raise MemoryError("Unable to allocate 576. GiB")

    monkeypatch.setattr(importlib.import_module("lrfdse.explore.inspection"), "inspect", full)
    assert run(["inspect", str(small_folder), *more]) == 4
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "the memory of this machine was not enough" in said.err
