"""A folder for temporary files that is full or missing is one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import ToolError
from lrfdse.meters.trace import parse

REGION = dict.fromkeys(("accesses", "l1_misses", "l1_prefetched", "llc_misses", "llc_prefetched", "llc_writebacks"), 1)
TRACE = json.dumps({"regions": [REGION, REGION], "runs": [[0, 16, 20, -1]], "nest": [0], "blocks": [[16, "13000000"]]})


def test_a_trace_that_is_cut_anywhere_is_one_error():
    assert parse(TRACE).code == {16: (0x13000000, 4)}
    for length in range(len(TRACE)):
        with pytest.raises(ToolError, match="TMPDIR"):
            parse(TRACE[:length])


@pytest.mark.parametrize(
    "content", ["{}", "[]", "null", "5", '{"regions": 1}', TRACE.replace("[0]", "[null]"), "[" * 10**5]
)
def test_a_trace_of_another_form_is_one_error(content):
    with pytest.raises(ToolError, match="trace"):
        parse(content)


def test_a_full_folder_is_one_error_that_names_it(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    message = f"{tmp_path}: temporary files cannot be written: No space left on device"
    with pytest.raises(ToolError, match=message), temporary_folder() as folder:
        (folder / "image").write_bytes(b"x")
        raise OSError(28, "No space left on device", str(folder / "image"))
    assert not folder.exists()


@pytest.mark.parametrize(
    ("largest", "code", "said"), [(None, 0, ""), (0, 4, "/missing: temporary files cannot be written: ")]
)
def test_a_missing_folder_counts_as_not_set_and_none_at_all_is_one_error(largest, code, said):
    """A limit of 0 bytes a file stands for places that cannot be written: root may write wherever there is room."""
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, {largest}))" if largest is not None else ""
    code_of = f"""
import resource, sys
from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import ToolError
{limit}
try:
    with temporary_folder() as folder:
        assert folder.is_dir()
except ToolError as error:
    sys.exit(f"{{error}}|{{error.exit_code}}")
"""
    environment = {**os.environ, "TMPDIR": "/missing"}
    done = subprocess.run([sys.executable, "-c", code_of], env=environment, capture_output=True, text=True, check=False)
    assert done.stderr.startswith(said) and done.stderr.count("\n") == bool(code)
    assert (done.returncode != 0) == bool(code)
    assert not code or done.stderr.strip().endswith(f"name another folder by TMPDIR|{code}")


LEFT = """
import os, signal, sys
from lrfdse.base.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "image").write_bytes(b"x")
    print(folder, flush=True)
    if sys.argv[1:]:
        sys.stdin.read()
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_nothing_else(tmp_path):
    """Folders of processes that live, of others and without our name stay, as do links."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", LEFT]
    killed = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    left = Path(killed.stdout.strip())
    assert killed.returncode == -signal.SIGKILL
    assert (left / "image").exists()
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.txt").write_text("1")
    (tmp_path / "lrfdse-held-link").symlink_to(victim)
    open_to_all = tmp_path / "lrfdse-held-open"
    open_to_all.mkdir(mode=0o755)
    (open_to_all / "data").write_text("2")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*command, "wait"], env=environment, text=True, **pipes) as living:
        alive = Path(living.stdout.readline().strip())
        assert not left.exists(), "the living process has removed it"
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        assert (alive / "image").exists()
        living.communicate("")
    assert not alive.exists()
    assert (victim / "thesis.txt").read_text() == "1"
    assert (open_to_all / "data").read_text() == "2"


def test_only_the_user_can_read_what_is_temporary():
    before = os.umask(0)
    try:
        with temporary_folder() as folder:
            assert folder.stat().st_mode & 0o077 == 0
    finally:
        os.umask(before)
