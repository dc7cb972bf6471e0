"""Files appear whole or not at all; one writer a folder."""

from __future__ import annotations

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
