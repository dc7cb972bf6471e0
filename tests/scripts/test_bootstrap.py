from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
PIP = "-m pip install"
VENV = "-m venv"


def test_first_run_installs_and_second_starts_at_once(checkout: Any) -> None:
    for _ in range(2):
        ran = checkout.run("lrfdse", "inspect", "a model.onnx")
        assert (ran.returncode, ran.stdout) == (0, "<inspect><a model.onnx>")
    assert ran.stderr == ""
    assert len(checkout.calls(PIP)) == len(checkout.calls(VENV)) == 1


def test_starts_through_a_symbolic_link(checkout: Any) -> None:
    (checkout.fakes / "link").symlink_to(checkout.top / "scripts" / "lrfdse")
    ran = subprocess.run(
        [checkout.fakes / "link", "targets"],
        env={"PATH": str(checkout.fakes), "FAKES": str(checkout.fakes)},
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "<targets>", ran.stderr


def test_exit_code_is_the_tools(checkout: Any) -> None:
    assert checkout.run("lrfdse", "targets", FAKE_EXIT="3").returncode == 3


def test_changed_requirements_install_again_into_the_same_environment(checkout: Any) -> None:
    checkout.run("lrfdse", "targets")
    (checkout.top / "pyproject.toml").write_text("[project]\nname = 'other'\n")
    checkout.run("lrfdse", "targets")
    assert (len(checkout.calls(PIP)), len(checkout.calls(VENV))) == (2, 1)


def test_moved_checkout_gets_a_new_environment(checkout: Any) -> None:
    checkout.run("lrfdse", "targets")
    checkout.top.rename(moved := checkout.top.with_name("elsewhere"))
    assert type(checkout)(moved, checkout.fakes, checkout.log).run("lrfdse", "targets").stdout == "<targets>"
    assert len(checkout.calls(VENV)) == 2


def test_failed_installation_says_so_and_goes_on_next_time(checkout: Any) -> None:
    failed = checkout.run("lrfdse", "targets", FAKE_PIP_FAILS="1")
    assert (failed.returncode, failed.stdout) == (4, "")
    assert "ERROR: no route" in failed.stderr
    assert "noise" not in failed.stderr
    assert "network" in failed.stderr.splitlines()[-1]
    assert checkout.run("lrfdse", "targets").returncode == 0
    assert len(checkout.calls(VENV)) == 1


def test_development_installation_serves_the_tool_too(checkout: Any) -> None:
    checkout.run("test")
    assert checkout.run("lrfdse", "targets").stderr == ""
    assert [call.split()[-1] for call in checkout.calls(PIP)] == [".[dev,bench]"]


@pytest.mark.skipif(not shutil.which("flock"), reason="flock is not installed")
def test_two_at_once_install_once(checkout: Any) -> None:
    running = [checkout.start("lrfdse", "targets") for _ in range(2)]
    assert [process.communicate(timeout=600)[0] for process in running] == ["<targets>"] * 2
    assert len(checkout.calls(PIP)) == 1


def test_no_python(checkout: Any) -> None:
    (checkout.fakes / "python3.11").unlink()
    ran = checkout.run("lrfdse", "targets")
    assert (ran.returncode, ran.stdout) == (4, "")
    assert "Python 3.11 or newer" in ran.stderr
    assert "apt-get install python3 python3-venv" in ran.stderr


def test_old_python_is_not_taken(checkout: Any) -> None:
    ran = checkout.run("lrfdse", "targets", FAKE_OLD="1")
    assert ran.returncode == 4
    assert "Python 3.11 or newer" in ran.stderr


def test_python_without_venv_names_the_package(checkout: Any) -> None:
    (checkout.fakes / "no-ensurepip").touch()
    ran = checkout.run("lrfdse", "targets")
    assert ran.returncode == 4
    assert "apt-get install python3.11-venv" in ran.stderr
    assert not checkout.calls(VENV)


def test_python_without_venv_gets_it_from_apt(apt: Any) -> None:
    (apt.fakes / "no-ensurepip").touch()
    assert apt.run("lrfdse", "targets").returncode == 0
    assert apt.calls("apt-get")[-1].split()[-1] == "python3.11-venv"


@pytest.mark.parametrize(
    "arguments",
    [
        ["targets"],
        ["--help"],
        ["inspect", "explore"],
        ["explore", "--help"],
        ["explore", "m", "--target", "host"],
        ["explore", "m", "--target=host"],
        ["explore", "m", "-t", "host"],
        ["explore", "m", "--target", "host-avx512"],
        ["explore", "m", "-thost-avx512"],
        ["explore", "m", "--target=missing.toml"],
    ],
)
def test_runs_without_system_tools(checkout: Any, arguments: list[str]) -> None:
    assert checkout.run("lrfdse", *arguments).returncode == 0


@pytest.mark.parametrize(
    ("emulator", "code"), [("[]", 0), ("[ ]  # native", 0), ('["qemu-arm"]', 4), ("[\n'qemu-arm']", 4)]
)
@pytest.mark.parametrize("form", ["--target {}", "--target={}", "-t{}"])
def test_target_file_says_whether_tools_are_needed(checkout: Any, form: str, emulator: str, code: int) -> None:
    path = checkout.fakes.parent / "host-like.toml"
    path.write_text(f"[run]\nemulator = {emulator}\n")
    assert checkout.run("lrfdse", "explore", "m", *form.format(path).split()).returncode == code


def test_missing_tools_elsewhere_than_debian(checkout: Any) -> None:
    ran = checkout.run("lrfdse", "explore", "host", "--target", "riscv64")
    assert (ran.returncode, ran.stdout) == (4, "")
    assert "llvm-22 qemu-user" in ran.stderr


def test_only_what_is_missing_is_installed(apt: Any) -> None:
    for tool in ("llvm-mc-22", "llvm-mca-22"):
        apt.fake(tool)
    for _ in range(2):
        assert apt.run("lrfdse", "explore", "m").stdout == "<explore><m>"
    update, install = apt.calls("apt-get")
    assert update.endswith(" update")
    assert install.endswith(" install -y --no-install-recommends qemu-user")


@pytest.mark.parametrize(("version", "enough"), [("21.1.8", False), ("22.1.0", True), ("31.0.0", True)])
def test_llvm_under_its_own_name(apt: Any, version: str, enough: bool) -> None:
    for tool in ("llvm-mc", "llvm-mca"):
        apt.fake(tool, f"echo '  LLVM version {version}'")
    for tool in ("qemu-riscv64", "qemu-aarch64", "qemu-arm"):
        apt.fake(tool)
    assert apt.run("lrfdse", "explore", "m").returncode == 0
    assert len(apt.calls("llvm-22")) == (0 if enough else 2)


@pytest.mark.parametrize("environment", [{}, {"LRFDSE_APT": "no"}])
def test_without_leave_the_command_is_printed_and_not_run(apt: Any, environment: dict[str, str]) -> None:
    if not environment:
        apt.fake("id", "echo 1000")
        apt.fake("sudo", "exit 1")
    ran = apt.run("lrfdse", "explore", "m", **environment)
    assert (ran.returncode, ran.stdout) == (4, "")
    assert "apt-get update && apt-get install -y --no-install-recommends llvm-22 qemu-user" in ran.stderr
    assert not apt.calls("apt-get")


def test_sudo_without_a_password_is_used(apt: Any) -> None:
    apt.fake("id", "echo 1000")
    apt.fake("sudo", '[ "$1" = -n ] && shift && exec "$@"')
    assert apt.run("lrfdse", "explore", "m").returncode == 0
    assert len(apt.calls("sudo -n apt-get")) == 1
    assert len(apt.calls("sudo -n env DEBIAN_FRONTEND=noninteractive apt-get")) == 1


def test_package_that_the_system_does_not_offer(apt: Any) -> None:
    apt.fake("apt-cache", '[ "$2" = llvm-22 ] || echo "$2 | 1 | main"')
    ran = apt.run("lrfdse", "explore", "m")
    assert ran.returncode == 4
    assert "no llvm-22" in ran.stderr
    assert len(apt.calls("apt-get")) == 1


def test_failing_apt_is_reported(apt: Any) -> None:
    ran = apt.run("lrfdse", "explore", "m", FAKE_APT_FAILS="1")
    assert ran.returncode == 4
    assert "E: broken" in ran.stderr


@pytest.mark.parametrize(
    ("environment", "code", "last"),
    [
        ({}, 0, "failed checks: none"),
        ({"FAKE_PYTEST": "5"}, 5, "pytest exit code 5"),
        ({"FAKE_PYTEST": "1", "FAKE_RUFF": "1"}, 1, "failed checks: ruff check ., ruff format --check ."),
        ({"FAKE_RUFF": "1"}, 1, "pytest exit code 0"),
    ],
)
def test_test_script_exit_code(apt: Any, environment: dict[str, str], code: int, last: str) -> None:
    ran = apt.run("test", "-m", "not slow", **environment)
    assert ran.returncode == code
    assert last in ran.stdout.splitlines()[-1]
    assert "reasons for skipping: 1 " in ran.stdout.splitlines()[-1]
    assert "== 1 passed, 2 skipped ==" in ran.stdout
    assert apt.calls("pytest")[0].endswith("-m not slow")


def test_test_script_goes_on_without_system_tools(checkout: Any) -> None:
    ran = checkout.run("test")
    assert ran.returncode == 0
    assert "will be skipped" in ran.stderr


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck() -> None:
    files = [SCRIPTS / "lrfdse", SCRIPTS / "test", SCRIPTS / "bootstrap.sh", SCRIPTS.parent / ".ci" / "run"]
    ran = subprocess.run(["shellcheck", "-x", *files], cwd=SCRIPTS.parent, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
