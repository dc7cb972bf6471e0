"""Folders of libraries: whole or not at all, and only ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from lrfdse.errors import InputError
from lrfdse.library.folder import MANIFEST, check_folder, write_library

FILES = {"net.h": b"h", "libnet.a": b"a", "net.json": b"{}"}


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}


def test_a_new_folder_appears_whole(tmp_path):
    folder = tmp_path / "deep" / "out"
    write_library(folder, FILES, "net.json")
    assert content(folder) == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(tmp_path):
    write_library(tmp_path, FILES, "net.json")
    assert content(tmp_path) == FILES


def test_a_folder_of_ours_is_made_anew_and_other_files_stay(tmp_path):
    write_library(tmp_path, {**FILES, "old.bin": b"o"}, "net.json")
    (tmp_path / "mine.c").write_text("mine")
    write_library(tmp_path, {**FILES, "net.h": b"new"}, "net.json")
    assert content(tmp_path) == {**FILES, "net.h": b"new", "mine.c": b"mine"}


@pytest.mark.parametrize("what", ["file", "link", "full"])
def test_what_is_not_ours_is_refused(tmp_path, what):
    folder = tmp_path / "out"
    if what == "file":
        folder.write_text("x")
    elif what == "link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        (folder / "thesis.tex").write_text("x")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    for attempt in (lambda: check_folder(folder), lambda: write_library(folder, FILES, "net.json")):
        with pytest.raises(InputError, match="--output"):
            attempt()
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_nothing_is_left_where_a_file_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        write_library(tmp_path / "out", {**FILES, "no/such": b"", "x" * 300: b""}, "net.json")
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_is_cut_short_is_not_whole(tmp_path):
    write_library(tmp_path, FILES, "net.json")
    with pytest.raises(InputError):
        write_library(tmp_path, {**FILES, "x" * 300: b""}, "net.json")
    assert not (tmp_path / "net.json").exists()


@pytest.mark.parametrize("text", ["", "[]", '{"files": 1}', '{"files": ["../x"]}', '{"files": [1]}', "\udc80"])
def test_a_damaged_manifest_is_none(tmp_path, text):
    (tmp_path / MANIFEST).write_bytes(os.fsencode(text))
    with pytest.raises(InputError, match="not made by"):
        write_library(tmp_path, FILES, "net.json")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError) as refused:
        write_library(tmp_path / "file" / "out", FILES, "net.json")
    assert "\n" not in str(refused.value)


def in_mount(tmp_path, options, script):
    """Run a script beside a folder "out" that is a mount of its own, as a container's volume is."""
    (tmp_path / "out").mkdir()
    mounted = f'mount -t tmpfs -o {options} tmpfs "$1" && shift && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted, "sh", str(tmp_path / "out")]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("no mounts can be made here")
    head = "from pathlib import Path\nfrom lrfdse.library.folder import check_folder, write_library\n"
    text = f"{head}out = Path({str(tmp_path / 'out')!r})\n{script}"
    return subprocess.run([*command, sys.executable, "-c", text], capture_output=True, text=True)


def test_a_mount_is_written_in_place(tmp_path):
    written = "check_folder(out); write_library(out, %r, 'net.json')\n"
    script = written % FILES + written % {**FILES, "net.h": b"new"} + "print(sorted(p.name for p in out.iterdir()))"
    done = in_mount(tmp_path, "size=1m", script)
    assert done.stdout.strip() == str(sorted([*FILES, MANIFEST])), done.stderr


@pytest.mark.parametrize("below", ["", "deep/net"])
def test_what_cannot_be_written_is_refused_before_anything_is_made(tmp_path, below):
    script = f"try: check_folder(out / {below!r})\nexcept Exception as error: print(type(error).__name__, error)"
    done = in_mount(tmp_path, "ro", script)
    assert done.stdout.startswith("InputError") and "Read-only file system: name another" in done.stdout, done.stderr
