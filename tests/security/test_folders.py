"""Output folders: no link is followed, nothing that is not ours is removed or written over, no device is waited for."""

from __future__ import annotations

import json
import os
import stat

import pytest

from lrfdse.base.files import open_regular, read_regular, sole_writer, write_atomically
from lrfdse.base.log import NAME, failures_logged, last_run, logged
from lrfdse.calibrate.record import read_record
from lrfdse.cli import run
from lrfdse.deploy.folders import DESIGNS, design_folder, manifest, mark, remove_other_designs
from lrfdse.errors import InputError, ToolError
from lrfdse.results.folder import check_output
from lrfdse.results.read import read_document
from lrfdse.targets.catalog import load_target


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim.txt"
    path.write_text("thesis")
    return path


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_lock_that_leads_elsewhere_is_refused_and_empties_nothing(link, victim, folder):
    link(victim, folder / ".lock")
    refusal = pytest.raises(InputError, match=r"\.lock: cannot be written: a (symbolic link|file with a second name)")
    with refusal, sole_writer(folder):
        pass
    assert victim.read_text() == "thesis"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_log_that_leads_elsewhere_is_refused_and_grows_nothing(link, victim, folder):
    link(victim, folder / NAME)
    with pytest.raises(InputError, match=r"log\.jsonl: cannot be written"), logged(folder / NAME, print):
        pass
    with pytest.raises(ToolError), failures_logged(folder, {}):
        raise ToolError("no zig")
    assert victim.read_text() == "thesis"


def test_a_written_file_replaces_a_link_and_not_what_it_points_to(victim, folder):
    (folder / "front.json").symlink_to(victim)
    write_atomically(folder / "front.json", "ours")
    assert victim.read_text() == "thesis" and (folder / "front.json").read_text() == "ours"


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o007, 0o660)])
def test_the_umask_counts(umask, mode, folder):
    before = os.umask(umask)
    try:
        write_atomically(folder / "front.json", "{}")
        write_atomically(folder / "bench", b"", 0o777)
        with sole_writer(folder), logged(folder / NAME, print):
            pass
    finally:
        os.umask(before)
    for name in ("front.json", ".lock", NAME):
        assert stat.S_IMODE((folder / name).stat().st_mode) == mode
    assert stat.S_IMODE((folder / "bench").stat().st_mode) == 0o777 & ~umask


def read_log(path):
    if last_run(path.parent) is None:
        raise InputError(f"{path}: cannot be read")


READERS = {
    "front.json": [lambda p: read_document(p.parent)],
    "board.json": [read_record],
    NAME: [read_log],
    "target.toml": [lambda p: load_target(str(p))],
}


@pytest.mark.parametrize(("name", "read"), [(name, read) for name, every in READERS.items() for read in every])
def test_a_document_that_is_a_device_a_pipe_or_huge_is_one_line(name, read, folder):
    path = folder / name
    for make in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero"), path.mkdir):
        make()
        with pytest.raises(InputError, match=name) as raised:
            read(path)
        assert "\n" not in str(raised.value)
        path.rmdir() if path.is_dir() else path.unlink()
    with open(path, "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError):
        read(path)


def test_a_file_is_read_up_to_its_limit(folder):
    path = folder / "document"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(OSError, match="5 bytes, but at most 4 are read"):
        read_regular(path, 4)
    (folder / "link").symlink_to(path)
    assert read_regular(folder / "link") == b"12345"
    with pytest.raises(OSError, match="a symbolic link, which is not followed"):
        open_regular(folder / "link")


@pytest.mark.parametrize("name", ["front.json", "report.html", "designs", "study.db", "artifacts"])
def test_a_folder_with_files_of_others_is_refused(name, folder):
    (folder / name).write_text("mine")
    with pytest.raises(InputError, match=f"{name} there was not written by lrfdse"):
        check_output(folder)


@pytest.mark.parametrize("name", [".lock", NAME, "designs", "artifacts", "study.db", "front.json"])
def test_links_in_an_output_folder_are_refused_before_anything_is_written(
    name, victim, folder, small_folder, small_space, capsys
):
    with sole_writer(folder):
        pass
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim)
    before = {path.name for path in folder.iterdir()}
    command = ["explore", str(small_folder), "--target", "riscv64", "--space", str(small_space), "-o", str(folder)]
    assert run(command) == 2
    assert f"{name}: a symbolic link, which is not followed" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == before and victim.read_text() == "thesis"


def test_folders_of_ours_new_ones_and_those_with_other_files_are_taken(folder):
    check_output(folder / "new")
    check_output(folder)
    (folder / "stdout.txt").write_text("of the shell")
    check_output(folder)
    (folder / "front.json").write_text('{"schema_version": 1}')
    check_output(folder)
    (folder / "front.json").write_text("not yet")
    with sole_writer(folder):
        pass
    check_output(folder)


def test_what_an_earlier_version_logged_is_ours(folder):
    (folder / ".lock").touch()
    (folder / "designs").mkdir()
    (folder / NAME).write_text('{"time": "2026-01-01", "stage": "started"}\n')
    check_output(folder)


def written(output, identity, *, exported=False, names=("model.onnx", "kernels/fc1.o")):
    """Make a design as lrfdse writes it."""
    folder = design_folder(output / DESIGNS, identity)
    mark(folder, names, exported=exported)
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(identity)
    return folder


def test_a_rerun_removes_what_explorations_kept_and_nothing_that_was_exported(folder):
    for identity in ("old", "kept"):
        written(folder, identity)
    written(folder, "exported", exported=True)
    written(folder, "both", exported=True)
    written(folder, "both")
    remove_other_designs(folder / DESIGNS, ["kept"])
    assert sorted(path.name for path in (folder / "designs").iterdir()) == ["both", "exported", "kept"]
    assert (folder / "designs" / "both" / "kernels" / "fc1.o").read_text() == "both"


def test_files_of_others_in_a_design_stay_where_ours_go(folder):
    old = written(folder, "old")
    (old / "thesis.txt").write_text("mine")
    (old / "kernels" / "notes").write_text("mine")
    theirs = folder / "designs" / "proj1"
    theirs.mkdir()
    (theirs / "plan.json").write_text("{}")
    (theirs / "thesis.txt").write_text("mine")
    remove_other_designs(folder / DESIGNS, [])
    left = sorted(
        str(path.relative_to(folder / "designs")) for path in (folder / "designs").rglob("*") if path.is_file()
    )
    assert left == ["old/kernels/notes", "old/thesis.txt", "proj1/plan.json", "proj1/thesis.txt"]


@pytest.mark.parametrize("name", ["../victim.txt", "kernels/../../victim.txt", "/etc/passwd", "..", "a/b"])
def test_a_manifest_names_nothing_outside_of_its_folder(name, folder, victim):
    old = written(folder, "old")
    (folder / "designs" / "victim.txt").write_text("thesis")
    (old / ".lrfdse.json").write_text(json.dumps({"kept_by": "explore", "files": ["model.onnx", name]}))
    assert manifest(old) is None
    remove_other_designs(folder / DESIGNS, [])
    assert (old / "model.onnx").exists() and (folder / "designs" / "victim.txt").exists() and victim.exists()


def test_links_among_designs_are_not_followed(folder, tmp_path):
    outside = written(tmp_path / "elsewhere", "old")
    (folder / "designs").symlink_to(outside.parent)
    remove_other_designs(folder / DESIGNS, [])
    with pytest.raises(InputError, match="designs: cannot be written: a link"):
        design_folder(folder / DESIGNS, "new")
    (folder / "designs").unlink()
    (folder / "designs").mkdir()
    (folder / "designs" / "old").symlink_to(outside)
    remove_other_designs(folder / DESIGNS, [])
    with pytest.raises(InputError, match="old: cannot be written: a link"):
        design_folder(folder / DESIGNS, "old")
    inner = written(folder, "inner")
    (inner / "kernels" / "fc1.o").unlink()
    (inner / "kernels").rmdir()
    (inner / "kernels").symlink_to(outside / "kernels")
    remove_other_designs(folder / DESIGNS, [])
    assert sorted(path.name for path in outside.rglob("*")) == [".lrfdse.json", "fc1.o", "kernels", "model.onnx"]


@pytest.mark.slow
def test_an_exported_design_is_there_after_the_next_exploration(small_folder, small_space, shared_cache, tmp_path):
    output = tmp_path / "out"
    command = ["explore", str(small_folder), "--target", "riscv64", "--space", str(small_space), "-o", str(output)]
    command += ["--cache", str(shared_cache), "--budget", "8", "--keep", "0"]
    assert run(command) == 0
    document = json.loads((output / "front.json").read_text())
    kept = {path.name for path in (output / "designs").iterdir()}
    other = next(design["id"] for design in document["designs"] if design["id"] not in kept)
    assert run(["export", str(output), other]) == 0
    content = (output / "designs" / other / "model.onnx").read_bytes()
    for identity in (other, *kept):
        files = {
            str(path.relative_to(output / "designs" / identity)) for path in (output / "designs" / identity).rglob("*")
        }
        assert set(manifest(output / "designs" / identity).files) == files - {"kernels", "library", ".lrfdse.json"}
    assert run([*command, "--max-drop", "50%"]) == 0
    assert (output / "designs" / other / "model.onnx").read_bytes() == content
