"""A checkout in a folder with a space, and a PATH on which every program that the bootstrap calls is known."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]

REAL = [
    "sh",
    "env",
    "cat",
    "cp",
    "cut",
    "cksum",
    "dirname",
    "flock",
    "grep",
    "mkdir",
    "mktemp",
    "mv",
    "printf",
    "readlink",
    "rm",
    "sleep",
    "sort",
    "tail",
    "tee",
    "touch",
    "tr",
    "chmod",
]

TOOLS = ("qemu-riscv64", "qemu-aarch64", "qemu-arm", "llvm-mc-22", "llvm-mca-22")

PYTHON = """\
case "$*" in
*'version_info < (3, 11)'*) exit "${FAKE_OLD:-0}" ;;
*'import ensurepip, venv'*) [ ! -e "$FAKES/no-ensurepip" ] ;;
*'-venv" %'*) echo python3.11-venv ;;
*'sys.version.split'*) echo 3.11.2 ;;
*'-m venv --clear .venv') rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
*'-m pip --version') exit 0 ;;
*'-m pip install'*)
    [ -z "${FAKE_PIP_FAILS-}" ] || { echo 'noise'; echo 'ERROR: no route'; exit 1; }
    sleep 0.2
    printf '#!/bin/sh\\nprintf "<%%s>" "$@"\\nexit "${FAKE_EXIT:-0}"\\n' >.venv/bin/lrfdse
    chmod +x .venv/bin/lrfdse ;;
'-m ruff'*) exit "${FAKE_RUFF:-0}" ;;
'-m pytest'*) echo 'SKIPPED [2] a.py: no board'; echo '== 1 passed, 2 skipped =='; exit "${FAKE_PYTEST:-0}" ;;
esac
"""

APT_GET = """\
case "$*" in
*install*) [ -z "${FAKE_APT_FAILS-}" ] || { echo 'E: broken'; exit 100; }
    rm -f "$FAKES/no-ensurepip"
    for tool in TOOLS; do cp "$FAKES/true" "$FAKES/$tool"; done ;;
esac
""".replace("TOOLS", " ".join(TOOLS))


@dataclass(frozen=True)
class Checkout:
    """A copy of the scripts with fake programs beside it; every fake writes its call to `log`."""

    top: Path
    fakes: Path
    log: Path

    def fake(self, name: str, body: str = "exit 0") -> None:
        """Put a program of this name on PATH."""
        path = self.fakes / name
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "${{0##*/}} $*" >>"{self.log}"\n{body}\n')
        path.chmod(0o755)

    def start(self, script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a script from another folder with nothing but the fakes on PATH."""
        return subprocess.Popen(
            [self.top / "scripts" / script, *arguments],
            cwd=self.fakes.parent,
            env={"PATH": str(self.fakes), "FAKES": str(self.fakes), "TMPDIR": str(self.fakes.parent), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end."""
        process = self.start(script, *arguments, **environment)
        out, err = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def calls(self, part: str) -> list[str]:
        """Return the logged calls that contain `part`."""
        return [line for line in self.log.read_text().splitlines() if part in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Return a checkout without an environment; the fake user is not root and has neither apt-get nor sudo."""
    top, fakes = tmp_path / "a checkout", tmp_path / "programs"
    fakes.mkdir()
    shutil.copytree(TOP / "scripts", top / "scripts")
    (top / "pyproject.toml").write_text("[project]\n")
    for name in REAL:
        if found := shutil.which(name):
            os.symlink(found, fakes / name)
    made = Checkout(top, fakes, tmp_path / "log")
    made.log.touch()
    made.fake("python3.11", PYTHON)
    made.fake("id", "echo 1000")
    made.fake("true")
    return made


@pytest.fixture
def apt(checkout: Checkout) -> Checkout:
    """Return the checkout on a Debian machine whose user is root and has every package on offer."""
    checkout.fake("apt-get", APT_GET)
    checkout.fake("apt-cache", 'echo "$2 | 1 | main"')
    checkout.fake("id", "echo 0")
    return checkout
