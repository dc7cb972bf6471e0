"""Ctrl-C and SIGTERM: the end within two seconds, no process left behind, and the command that goes on."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from lrfdse.base.interrupts import interrupt

CODE = 130
"""Exit code of an interruption, as shells give it: 128 and the number of SIGINT."""

_GRACE = 1.2
"""Seconds for the ordinary way out: closing files, ending workers, noting in the log that the run was cut short.
Chosen, not measured: with `_PATIENCE` it stays within the two seconds that docs/cli.md promises."""
_PATIENCE = 0.3
"""Seconds between asking processes to end and ending them. Chosen, not measured: enough to remove a temporary file."""
_SHOW_CURSOR = "\x1b[?25h"
"""Terminal sequence that shows the cursor again, which a progress bar hides."""
_RESUMABLE = ("explore", "worker")
"""Commands that go on where they were when they are given again."""
LONG = (*_RESUMABLE, "inspect", "export", "report", "bench", "heal")
"""Commands that may compute for so long that a signal must be able to end them from outside."""


def raise_interrupt(number: int, frame: object) -> None:
    """Treat a signal (a CI job that is cancelled, `timeout`) like Ctrl-C, once: `timeout` sends it twice."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupt(number, frame)


def resume_command(program: str, arguments: list[str]) -> str | None:
    """Return the command line that goes on after an interruption, or None where there is nothing to go on with.

    Quoted for a shell; the password of a study's URL is left out.

    >>> resume_command("lrfdse", ["explore", "my model.onnx", "--target", "riscv64"])
    "lrfdse explore 'my model.onnx' --target riscv64"
    """
    if not arguments or arguments[0] not in _RESUMABLE:
        return None
    from lrfdse.search.study.urls import masked, scheme_of

    shown = []
    for before, argument in zip(("", *arguments), arguments, strict=False):
        option, equals, value = argument.partition("=")
        if option == "--study" and equals:
            shown.append(f"{option}={masked(value)}")
        else:
            shown.append(masked(argument) if before == "--study" or scheme_of(argument) else argument)
    return shlex.join([*_called(program), *shown])


def advice(program: str, arguments: list[str]) -> str:
    """Return the message shown after Ctrl-C: how to go on, where that is possible."""
    command = resume_command(program, arguments)
    return "interrupted" if command is None else f"interrupted; go on with: {command}"


def watch(say: Callable[[], str]) -> None:
    """Start a process that ends this one, and all that it started, where a signal does not do so soon.

    Python runs signal handlers between two of its own instructions, and LAPACK through SciPy holds the interpreter's
    lock, so that neither a handler nor a thread can act while a large matrix is factorized. The C handler writes to a
    pipe at once; a small process reads it, waits for the ordinary way out, and then ends this one from outside.

    Parameters
    ----------
    say
        Returns the message to show where the process had to be ended from outside.
    """
    _silence_the_tracker()
    reading, writing = os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        # A forked child of a program that has not begun: nothing to flush, nothing to clean up.
        with contextlib.suppress(BaseException):
            os.close(writing)
            _guard(reading, parent, say)
        os._exit(0)
    os.close(reading)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    sys.unraisablehook = _pass_over_interrupts
    signal.signal(signal.SIGINT, interrupt)
    _die_of_the_second_interrupt()

    def leave() -> None:
        # A child that is forked, not spawned, would report its own signals, and keep the guard waiting.
        signal.set_wakeup_fd(-1)
        os.close(writing)

    os.register_at_fork(after_in_child=leave)


def _pass_over_interrupts(unraisable: sys.UnraisableHookArgs) -> None:
    """Print no traceback of an interrupt that arrives within a finalizer and is lost there: the guard acts on it."""
    if unraisable.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(unraisable)


def _guard(reading: int, process: int, say: Callable[[], str]) -> None:
    # Ctrl-C reaches every process of the terminal's group; the guard has its own.
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1):
        os.dup2(nothing, stream)
    while not {signal.SIGINT, signal.SIGTERM} & set(arrived := os.read(reading, 64)):
        if not arrived:
            return
    deadline = time.monotonic() + _GRACE
    while (left := deadline - time.monotonic()) > 0:
        if select.select([reading], [], [], left)[0] and not os.read(reading, 64):
            return
    started = [pid for pid in descendants(process) if pid != os.getpid()]
    if signal.SIGINT not in arrived:
        # The first one that arrives leaves the second to the system, which ends the process.
        _signal([process], signal.SIGINT)
        time.sleep(0.05)
    message = (_SHOW_CURSOR * os.isatty(2) + say() + "\n").encode(errors="replace")
    # At once after it, so that no progress is painted over it; before it, so that no prompt is.
    os.write(2, message)
    for number in (signal.SIGINT, signal.SIGKILL):
        _signal([process], number)
        time.sleep(0.05)
    _end(started)


def _silence_the_tracker() -> None:
    """Have the process that frees what multiprocessing left behind say nothing of it.

    It begins when the first worker does, with this environment, and would speak below the command that goes on.
    """
    told = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join([*([told] if told else []), "ignore:resource_tracker:UserWarning"])


class _SigAction(ctypes.Structure):
    """glibc's and musl's ``struct sigaction`` on Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ubyte * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_SA_RESETHAND = -0x80000000
"""Flag of Linux's ``sigaction`` that restores the default action after one signal, as a signed C int."""


def _die_of_the_second_interrupt() -> None:
    """Have the system itself end this process at a second SIGINT, with the status that shells call 130."""
    if sys.platform != "linux":
        return
    action, library = _SigAction(), ctypes.CDLL(None)
    if library.sigaction(signal.SIGINT, None, ctypes.byref(action)) == 0:
        action.flags |= _SA_RESETHAND
        library.sigaction(signal.SIGINT, ctypes.byref(action), None)


def end() -> None:
    """End this process and all that it started, now, with the exit code of an interruption."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    _end(descendants(os.getpid()))
    os._exit(CODE)


def _end(processes: list[int]) -> None:
    """End processes: each first gets the chance to remove its files."""
    _signal(processes, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while (left := [pid for pid in processes if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.02)
    _signal(left, signal.SIGKILL)


def descendants(process: int) -> list[int]:
    """Return the ids of the processes that `process` started, and that those started; Linux only, else nothing."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    rest = [process]
    while rest:
        below = children.get(rest.pop(), [])
        found += below
        rest += below
    return found


def is_alive(process: int) -> bool:
    """Return whether a process is there and not just waiting for its parent to notice its end."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def _signal(processes: Iterable[int], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process, number)


def _called(program: str) -> list[str]:
    """Return how a person calls the program: by its name where the shell finds it."""
    name = os.path.basename(program)
    if name == "__main__.py" and os.path.basename(os.path.dirname(program)) == "lrfdse":
        return ["python", "-m", "lrfdse"]
    if not name.startswith("lrfdse"):
        return ["lrfdse"]
    found = shutil.which(name)
    return [name if found is not None and os.path.realpath(found) == os.path.realpath(program) else program]
