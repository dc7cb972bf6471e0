"""What doctor says where all is there, and where something is missing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from lrfdse.cli import run
from lrfdse.doctor import diagnose, fits
from lrfdse.toolchain.programs import find_zig


@pytest.mark.parametrize(
    ("version", "wanted", "right"),
    [
        ("2.4.6", ">=2.0,<3", True),
        ("3", "<3,>=2.0", False),
        ("3.0", ">=2.0,<3", False),
        ("2", ">=2.0", True),
        ("10.1", ">=9.4,<13", True),
        ("0.27.0.post1", ">=0.27,<0.28", True),
        ("0.28.0rc1", ">=0.27,<0.28", False),
        ("", ">=0", False),
    ],
)
def test_versions(version, wanted, right):
    assert fits(version, wanted) is right


def test_the_host_works_where_zig_is(capsys):
    found = diagnose(["host"])
    (host,) = found.targets
    assert host.works is (find_zig() is not None)
    assert run(["doctor", "--target", "host", "--json"]) == (0 if found.healthy else 1)
    told = json.loads(capsys.readouterr().out)
    assert told["healthy"] is found.healthy
    assert [part["name"] for part in told["programs"]] == ["zig"]
    assert {part["name"]: part["version"] for part in told["packages"]}["numpy"].count(".") == 2


@pytest.mark.slow
def test_what_is_missing_has_the_command_that_installs_it(tmp_path):
    """A path without programs: zig comes with Python, so kernels can be built but neither run nor modelled."""
    script = "import sys; from lrfdse.cli import main; sys.argv[0] = 'lrfdse'; main()"
    command = [sys.executable, "-c", script, "doctor", "--target", "riscv64"]
    ran = subprocess.run(command, env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True)
    assert ran.returncode == 1
    lines = [" ".join(line.split()) for line in ran.stdout.splitlines()]
    assert "riscv64 yes no no" in lines
    assert "qemu-riscv64 is not installed: sudo apt-get install qemu-user" in lines
    assert any("llvm-mca" in line and "sudo apt-get install llvm-22" in line for line in lines)
    assert lines[-1].startswith("Not all of it works")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("qemu-riscv64") is None, reason="qemu-user is not installed")
def test_a_plugin_that_cannot_be_compiled_is_said(tmp_path):
    """A zig that is there and compiles nothing, as where it lacks the headers: nothing can be modelled."""
    package = tmp_path / "ziglang"
    package.mkdir()
    (package / "__init__.py").touch()
    fails = "echo 'error: string.h not found' >&2; exit 1"
    (package / "zig").write_text(f'#!/bin/sh\n[ "$1" = version ] && echo 0.15.1 && exit\n{fails}\n')
    (package / "zig").chmod(0o700)
    path = f"import sys; sys.path.insert(0, {str(tmp_path)!r})"
    script = f"{path}; from lrfdse.cli import main; sys.argv[0] = 'lrfdse'; main()"
    command = [sys.executable, "-c", script, "doctor", "--target", "riscv64"]
    environment = {**os.environ, "LRFDSE_CACHE": str(tmp_path / "cache")}
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 1, ran.stderr
    lines = [" ".join(line.split()) for line in ran.stdout.splitlines()]
    assert "riscv64 yes yes no" in lines
    assert any("plugin" in line and line.endswith("error: string.h not found") for line in lines)


def test_an_unknown_target_is_one_line(capsys):
    assert run(["doctor", "--target", "z80"]) == 2
    assert "z80" in capsys.readouterr().err
