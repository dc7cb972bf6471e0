"""How each run ended is told by the folder's log, and only by runs that may write there."""

from __future__ import annotations

import json

import pytest

from lrfdse.base.events import Event, silent
from lrfdse.base.files import sole_writer
from lrfdse.base.log import LastRun, failures_logged, last_run, logged
from lrfdse.cli import run
from lrfdse.errors import DeviceError, InputError, KernelError, ToolError

FACTS = {"model": "nets/lenet.onnx", "target": "riscv64"}


def test_a_run_that_ends_well_is_finished(tmp_path):
    assert last_run(tmp_path) is None
    with logged(tmp_path / "log.jsonl", silent, FACTS) as progress:
        assert last_run(tmp_path) == LastRun("started", **FACTS)
        progress(Event("plans", "x", 1, 2))
    assert last_run(tmp_path) == LastRun("finished")
    first, event, last = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert {key: event[key] for key in event if key != "time"} == {"stage": "plans", "text": "x", "done": 1, "total": 2}
    assert first["time"] <= event["time"] <= last["time"]


@pytest.mark.parametrize(
    ("error", "kind", "makes_a_folder"),
    [
        (InputError("no such file"), "input", False),
        (ToolError("qemu is gone"), "tool", True),
        (KernelError("illegal"), "tool", True),
        (DeviceError("another machine"), "device", True),
        (KeyboardInterrupt(), "interrupted", False),
        (ZeroDivisionError("bug"), "crash", False),
    ],
)
def test_a_failure_is_noted_by_its_kind(error, kind, makes_a_folder, tmp_path):
    for folder, exists in ((tmp_path / "new", makes_a_folder), (tmp_path, True)):
        with pytest.raises(type(error)), failures_logged(folder, FACTS):
            raise error
        assert folder.exists() == exists
        if exists:
            assert last_run(folder) == LastRun("failed", kind, str(error), **FACTS)


def test_a_run_that_is_refused_leaves_the_other_runs_log_alone(tmp_path):
    with sole_writer(tmp_path), logged(tmp_path / "log.jsonl", silent, FACTS):
        with pytest.raises(InputError), failures_logged(tmp_path, FACTS), sole_writer(tmp_path):
            pass
        assert last_run(tmp_path).state == "started"


def test_a_log_that_was_cut_is_read_as_far_as_it_goes(tmp_path):
    lines = ['{"stage": "started"}', '{"stage": "failed", "kind": "tool"}', "[1]", '{"stage": "started', "\x00\xff"]
    (tmp_path / "log.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    assert last_run(tmp_path) == LastRun("failed", "tool")


def test_check_tells_of_a_missing_emulator_with_code_4(small_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    output, junit = tmp_path / "out", tmp_path / "junit.xml"
    assert run(["explore", str(small_folder), "--target", "riscv64", "-o", str(output)]) == 4
    assert run(["check", str(output), "--max-params", "60k", "--junit", str(junit), "--lava"]) == 4
    shown = capsys.readouterr().out
    assert "a tool or device failed: cannot measure for target riscv64: qemu-riscv64" in shown
    assert "TEST_CASE_ID=riscv64.exploration RESULT=unknown>" in shown.replace("small_model0.", "")
    assert 'errors="1" skipped="1"' in junit.read_text()
