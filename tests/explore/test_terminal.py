"""Ctrl-C on a terminal in every stage: the end, the command that goes on, nothing left behind."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from lrfdse.cli.interrupt import descendants, is_alive

PROGRAM = "import sys; sys.argv[0] = 'lrfdse'\nfrom lrfdse.cli import main\nif __name__ == '__main__': main()"


def on_terminal(arguments, folder, interrupt_when):
    """Run lrfdse on a pseudo-terminal, press Ctrl-C when told; return exit code, output and its processes."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        environment = {**os.environ, "TERM": "xterm"}
        for name in ("CI", "NO_COLOR"):
            environment.pop(name, None)
        os.execve(sys.executable, [sys.executable, "-c", PROGRAM, *arguments], environment)
    output, processes = b"", None
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.02)[0]:
            try:
                output += os.read(terminal, 1 << 16)
            except OSError:
                break
        if processes is None and interrupt_when():
            processes = descendants(process)
            os.write(terminal, b"\x03")
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), output.decode(errors="replace"), processes or []


def events(log):
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def has_begun(log, stage, before):
    """Return whether a stage has begun since a log had so many events."""
    return any(event["stage"] == stage for event in events(log)[before:])


@pytest.mark.slow
def test_ctrl_c_ends_every_stage_and_says_how_to_go_on(deep_folder, small_space, tmp_path):
    """One exploration, interrupted in one stage after another; what it says goes on, until it is finished."""
    output = tmp_path / "out put"
    arguments = ["explore", deep_folder, "--target", "riscv64", "-o", output, "--space", small_space]
    arguments = [
        str(a) for a in [*arguments, "--cache", tmp_path / "cache", "--workers", 2, "--budget", 20, "--no-int8"]
    ]
    log = output / "log.jsonl"
    for stage in ("started", "calibrate", "layers", "kernels", "plans", "write"):
        code, shown, processes = on_terminal(arguments, tmp_path, partial(has_begun, log, stage, len(events(log))))
        # A process that is deep in a library is ended by the signal itself, which shells report as 130 too.
        assert code in (130, -signal.SIGINT), (stage, shown)
        assert "Traceback" not in shown
        end = time.monotonic() + 600
        while any(map(is_alive, processes)) and time.monotonic() < end:
            time.sleep(0.02)
        assert not [process for process in processes if is_alive(process)]
        if code == 130:
            assert (events(log)[-1]["stage"], events(log)[-1]["kind"]) == ("failed", "interrupted")
        # Nothing follows it, as a warning of multiprocessing would.
        command = shown.replace("\r\n", "\n").rpartition("go on with: ")[2].strip()
        assert shlex.split(command) == ["lrfdse", *arguments]
    again = subprocess.run(
        [sys.executable, "-c", PROGRAM, *shlex.split(command)[1:]], cwd=tmp_path, capture_output=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert events(log)[-1]["stage"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{"CI": "true"}, {"TERM": "dumb"}, {"NO_COLOR": "1"}])
def test_a_terminal_that_wants_plain_lines_or_no_colours_gets_them(environment, small_folder, small_space, tmp_path):
    script = "import sys; from lrfdse.cli import main; sys.argv[0] = 'lrfdse'; main()"
    arguments = [sys.executable, "-c", script, "inspect", str(small_folder), "--space", str(small_space)]
    arguments += ["--cache", str(tmp_path)]
    leader, terminal = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "FORCE_COLOR")}
    plain = subprocess.run(
        arguments, stdin=terminal, stdout=terminal, stderr=terminal, env={**clean, "TERM": "xterm", **environment}
    )
    os.close(terminal)
    shown = b""
    while select.select([leader], [], [], 0.2)[0]:
        try:
            shown += os.read(leader, 1 << 16)
        except OSError:
            break
    assert plain.returncode == 0
    moves = [part[:1] for part in shown.split(b"\x1b[")[1:] if not part.split(b"m")[0].replace(b";", b"").isdigit()]
    if "NO_COLOR" in environment:
        # Colours go, the bar stays.
        assert moves
        assert not re.search(rb"\x1b\[[0-9;]*(?<![0-9])[349][0-7]m", shown)
    else:
        assert b" counting designs 0/2 fc1" in shown
        assert b"\x1b" not in shown
