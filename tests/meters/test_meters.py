"""Opening meters: which fits which target, and what is said when a tool is missing."""

from __future__ import annotations

import dataclasses

import pytest

from lrfdse.base.folders import cache_folder_at
from lrfdse.errors import DeviceError, InputError, ToolError
from lrfdse.meters.meter import METERS, open_meter
from lrfdse.targets.target import CacheLevel
from lrfdse.toolchain.programs import find_llvm, missing_tools, require_tools


def test_auto_follows_the_target(measured_target):
    assert open_meter("auto", measured_target("riscv64")).name == "model"
    assert open_meter("auto", measured_target("host")).name == "host"


def test_a_meter_that_does_not_fit_is_refused(measured_target):
    with pytest.raises(InputError, match="native target"):
        open_meter("host", measured_target("riscv64"))
    with pytest.raises(InputError, match="host meter"):
        open_meter("model", measured_target("host"))
    with pytest.raises(InputError, match="unknown meter 'qemu': choose from host, model"):
        open_meter("qemu", measured_target("riscv64"))
    with pytest.raises(DeviceError, match="this machine is"):
        open_meter("host", dataclasses.replace(measured_target("host"), isa="armv7"))


@pytest.mark.parametrize("model", ["thead-c906", "generic-rv64", "no-such-core"])
def test_a_core_without_a_model_is_refused(measured_target, model):
    with pytest.raises(InputError, match=f"no scheduling model '{model}'"):
        open_meter("model", dataclasses.replace(measured_target("riscv64"), scheduling_model=model))


def test_a_core_whose_model_is_a_placeholder_is_refused(measured_target):
    with pytest.raises(InputError, match="lacks the latency of vector FMAs"):
        open_meter("model", dataclasses.replace(measured_target("riscv64"), scheduling_model="andes-ax45mpv"))


def test_a_target_without_a_core_model_is_refused(measured_target):
    with pytest.raises(InputError, match="no scheduling_model"):
        open_meter("model", dataclasses.replace(measured_target("riscv64"), scheduling_model=""))


@pytest.fixture
def empty_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_missing_tools_are_named_with_the_command_that_installs_them(measured_target, empty_path):
    target = measured_target("riscv64")
    found = {missing.program: missing.command for missing in missing_tools(target, METERS.get("model").tools)}
    assert found == {
        "qemu-riscv64": "sudo apt-get install qemu-user",
        "llvm-mc": "sudo apt-get install llvm-22",
        "llvm-mca": "sudo apt-get install llvm-22",
    }
    with pytest.raises(ToolError, match="qemu-riscv64 is not installed: run `sudo apt-get install qemu-user`"):
        open_meter("model", target)
    assert missing_tools(measured_target("host"), METERS.get("host").tools) == []


def test_a_tool_that_is_too_old_is_named_with_its_version(measured_target, empty_path):
    for program in ("llvm-mc", "llvm-mca"):
        path = empty_path / program
        path.write_text("#!/bin/sh\necho 'Debian LLVM version 14.0.6'\n")
        path.chmod(0o755)
    with pytest.raises(ToolError, match=r"llvm-mca 14\.0\.6 is too old, 22 or newer is needed"):
        require_tools(measured_target("aarch64"), METERS.get("model").tools)


def test_any_other_tool_must_be_on_the_path(measured_target, empty_path):
    target = measured_target("riscv64")
    assert [str(missing) for missing in missing_tools(target, ("spike",))] == ["spike is not installed"]
    (empty_path / "spike").write_text("#!/bin/sh\n")
    (empty_path / "spike").chmod(0o755)
    assert missing_tools(target, ("spike",)) == []


def test_a_meter_must_go_by_the_name_it_is_registered_under(measured_target):
    with METERS.register("other", METERS.get("model")), pytest.raises(ToolError, match="'other' calls itself 'model'"):
        open_meter("other", measured_target("riscv64"))


def test_a_newer_llvm_under_its_plain_name_is_taken(empty_path):
    path = empty_path / "llvm-mca"
    path.write_text("#!/bin/sh\necho '  LLVM version 24.1.0'\n")
    path.chmod(0o755)
    tool = find_llvm("llvm-mca")
    assert tool is not None
    assert (tool.path, tool.version) == (str(path), "24.1.0")


def test_an_unwritable_cache_folder_is_said(measured_target, matvec, tmp_path, monkeypatch):
    target = measured_target("riscv64")
    case = matvec(target)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ToolError, match=r"cannot write to the cache folder .*name another with --cache"):
        open_meter("model", target).measure(*case)


def test_the_c_parts_are_compiled_once_into_the_cache_folder(measured_target, matvec, tmp_path):
    target = measured_target("aarch64")
    case = matvec(target)
    with cache_folder_at(tmp_path):
        open_meter("model", target).measure(*case)
        built = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "built").iterdir()}
        assert sorted(name.split("-")[0] for name in built) == ["harness", "lrfmeter"]
        open_meter("model", target).measure(*case)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "built").iterdir()} == built
    assert sorted(path.name for path in tmp_path.iterdir()) == ["built", "zig"]


def test_the_timing_lock_lies_in_the_cache_folder(measured_target, matvec, tmp_path):
    target = measured_target("host")
    case = matvec(target)
    with cache_folder_at(tmp_path):
        open_meter("host", target).measure(*case)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["built", "host.lock", "zig"]


def test_the_models_key_follows_every_number_of_the_target(measured_target):
    target = measured_target("riscv64")
    key = open_meter("model", target).key()
    words = dataclasses.replace(target, summary="another", provenance={"lanes": "assumed"})
    assert open_meter("model", words).key() == key
    changes = {
        "lanes": 4,
        "fma_per_cycle": 1.0,
        "dram_latency": 3.0,
        "clock_mhz": 1.0,
        "l1": CacheLevel(16, 2),
        "abi": "lp64",
        "instructions": (("vle32.v e32m1", 7.0),),
    }
    others = {open_meter("model", dataclasses.replace(target, **{name: to})).key() for name, to in changes.items()}
    assert len(others | {key}) == len(changes) + 1
