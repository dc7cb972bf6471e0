"""Files appear whole or not at all; one writer a folder."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from lrfdse.base.files import sole_writer, write_atomically
from lrfdse.errors import InputError


def test_a_written_file_is_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "new folder" / "front.json"
    write_atomically(path, "one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["front.json"]


def test_a_full_disk_leaves_the_old_file_and_one_line(tmp_path, monkeypatch):
    path = tmp_path / "front.json"
    write_atomically(path, "old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"front\.json: cannot be written: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["front.json"]


def test_a_second_writer_is_refused_until_the_first_ends(tmp_path):
    refusal = pytest.raises(InputError, match="another exploration is writing here")
    with sole_writer(tmp_path), refusal, sole_writer(tmp_path):
        pass
    with sole_writer(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"), sole_writer(tmp_path / "file" / "below"):
        pass


KILLED = """
import os, signal, sys
from pathlib import Path
from lrfdse.base.files import write_atomically
os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path(sys.argv[1]), "cut")
"""


def test_what_a_killed_process_was_writing_is_removed_by_the_next_that_writes_there(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "front.json")], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()
    write_atomically(tmp_path / "board.json", "{}")
    assert not left.exists() and [path.name for path in tmp_path.iterdir()] == ["board.json"]


def test_files_that_somebody_is_writing_and_those_of_others_stay(tmp_path):
    folder, victim = tmp_path / "out", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("thesis")
    kept = [
        ".front.json.0123456789ab",
        "front.json.lrfdse-0123456789ab",
        ".front.json.lrfdse-0123456789",
        ".x.lrfdse-a",
    ]
    for name in kept:
        (folder / name).write_text("theirs")
    link, second, held = (folder / f".{name}.lrfdse-0123456789ab" for name in ("link", "second", "held"))
    link.symlink_to(victim)
    second.hardlink_to(victim)
    with open(held, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        write_atomically(folder / "front.json", "{}")
    assert {path.name for path in folder.iterdir()} == {*kept, "front.json", link.name, second.name, held.name}
    write_atomically(folder / "front.json", "{}")
    assert not held.exists() and victim.read_text() == "thesis"


def test_threads_that_write_into_one_folder_do_not_take_each_others_files_for_unfinished(tmp_path):
    def write(thread):
        for number in range(150):
            write_atomically(tmp_path / f"{thread}-{number}.json", f"{thread} {number}")

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(write, range(4))) == [None] * 4
    assert {path.read_text() for path in tmp_path.iterdir()} == {f"{t} {n}" for t in range(4) for n in range(150)}
