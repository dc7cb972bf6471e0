"""A target is data: no file of somebody else's makes this machine run a program."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from lrfdse.base.codec import from_plain, to_plain
from lrfdse.base.folders import data_folder
from lrfdse.base.keys import digest
from lrfdse.cli import run
from lrfdse.errors import InputError
from lrfdse.targets.catalog import load_target, names
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import find_emulator

ROOT = Path(__file__).parents[2]
SHELL = ["sh", "-c", 'echo > PWNED; exec qemu-riscv64 "$@"', "sh"]


def changed(tmp_path, key, value):
    """Write the target riscv64 with another value of one key."""
    lines = (data_folder("targets") / "riscv64.toml").read_text().splitlines()
    path = tmp_path / "theirs.toml"
    path.write_text("\n".join(f"{key} = {json.dumps(value)}" if x.startswith(f"{key} =") else x for x in lines))
    return path


@pytest.mark.parametrize("name", names("targets"))
def test_every_target_that_ships_is_allowed(name):
    assert load_target(name).name == name


@pytest.mark.parametrize(
    "command",
    [
        SHELL,
        ["/bin/sh"],
        ["./qemu-riscv64"],
        ["/tmp/qemu-riscv64", "-cpu", "max"],
        ["qemu-riscv64;id"],
        ["qemu-../x"],
        ["qemu-riscv64-static-evil"],
        ["qemu-riscv64\n"],
        ["qemu-riscv64", "-plugin", "theirs.so"],
        ["qemu-riscv64", "-cpu", "max", "-plugin", "theirs.so"],
        ["qemu-riscv64", "-cpu"],
        ["qemu-riscv64", "-cpu", "-plugin"],
        ["qemu-riscv64", "-cpu", "max -plugin x"],
        ["qemu-riscv64", "-D", "victim", "-d", "in_asm"],
        ["qemu-riscv64", "-g", "1234"],
        ["qemu-riscv64", "-L", "/tmp"],
        ["qemu-riscv64", "/bin/sh"],
    ],
)
def test_an_emulator_is_qemu_with_a_processor_and_nothing_else(command, tmp_path):
    with pytest.raises(InputError, match=r"theirs\.toml: emulator m"):
        load_target(str(changed(tmp_path, "emulator", command)))
    stated = to_plain(load_target("riscv64")) | {"emulator": command}
    with pytest.raises(InputError, match="emulator m"):
        from_plain(Target, stated)
    with pytest.raises(ValueError, match="emulator m"):
        dataclasses.replace(load_target("riscv64"), emulator=tuple(command))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cpu", "-o/tmp/x"),
        ("cpu", "x y"),
        ("triple", "@file"),
        ("link", "-fplugin=theirs.so"),
        ("link", "/tmp/theirs"),
        ("scheduling_model", "x\n.incbin"),
        ("features", ["-o", "x"]),
        ("features", ["+v,+m"]),
        ("features", ["v"]),
    ],
)
def test_what_goes_to_compilers_is_plain_words(key, value, tmp_path):
    with pytest.raises(InputError, match=f"theirs.toml: {key} must"):
        load_target(str(changed(tmp_path, key, value)))


def test_a_program_in_the_current_folder_is_no_emulator(tmp_path, monkeypatch):
    script = tmp_path / "qemu-riscv64"
    script.write_text("#!/bin/sh\necho > PWNED\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", ".")
    assert shutil.which("qemu-riscv64") is not None
    assert find_emulator(load_target("riscv64")) is None
    assert not (tmp_path / "PWNED").exists()


@pytest.mark.parametrize("command", ["bench", "export"])
def test_a_result_folder_with_a_target_of_its_own_runs_nothing(command, tmp_path, capsys, monkeypatch):
    """Digest and all are its maker's; so is the program for the board."""
    folder = tmp_path / "theirs"
    document = json.loads((ROOT / "tests" / "results" / "fixtures" / "1-board.json").read_text())
    identity = document["baseline"]["id"]
    (folder / "designs" / identity).mkdir(parents=True)
    program = folder / "designs" / identity / "bench"
    program.write_text(f"#!/bin/sh\necho > {tmp_path}/RAN\n")
    program.chmod(0o755)
    path = changed(folder, "emulator", SHELL)
    honest = {field.name: getattr(load_target("riscv64"), field.name) for field in dataclasses.fields(Target)}
    theirs = honest | {"name": path.stem, "emulator": tuple(SHELL)}
    said = [(name, value) for name, value in theirs.items() if name not in ("summary", "provenance")]
    document["settings"] |= {"target": path.name, "target_digest": digest(said), "space": "default"}
    (folder / "front.json").write_text(json.dumps(document))
    monkeypatch.chdir(tmp_path)
    rest = ["--runner", "command:{program}", "--allow-emulator"] if command == "bench" else [identity]
    assert run([command, str(folder), *rest]) == 2
    said = capsys.readouterr().err
    assert "theirs.toml: emulator must be qemu-ARCH" in said and said.count("\n") == 1
    assert not (tmp_path / "RAN").exists()
    assert not [name for _, _, files in os.walk(tmp_path) for name in files if name == "PWNED"]
