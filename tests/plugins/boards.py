"""A board that stands in for one: QEMU whose answer is changed so that it says of itself what a board would."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from lrfdse.targets.catalog import load_target

_SCRIPT = """
import json, subprocess, sys

faster = float(sys.argv[1])
ended = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE)
for line in ended.stdout.decode().splitlines():
    if line.startswith('{"lrfdse_bench":1,'):
        document = json.loads(line)
        if "board" in document:
            own = {"riscv64": {"isa": "rv64imafdcv", "uarch": "spacemit,x60"}}
            document["board"] |= {"emulator": None, "cpuinfo": own.get(document["target"], {"CPU implementer": "0x41"})}
        for entry in (document, *document.get("kernels", [])):
            for name in ("all_ns", "warm_ns", "cold_ns"):
                if name in entry:
                    entry[name] = [time / faster for time in entry[name]]
        line = json.dumps(document, separators=(",", ":"))
    print(line)
sys.exit(ended.returncode)
"""


@pytest.fixture(scope="session")
def board_words(tmp_path_factory):
    """Return the words of a command before a program and its arguments: the stand-in for a target's board.

    QEMU's times are divided by `faster`: a thousand is far more than it is slower than any board.
    """
    script: Path = tmp_path_factory.mktemp("board") / "board.py"
    script.write_text(_SCRIPT)

    def words(name: str = "riscv64", faster: float = 1000) -> list[str]:
        return [sys.executable, str(script), str(faster), *load_target(name).emulator]

    return words


@pytest.fixture(scope="session")
def board(board_words):
    """Return a template for ``--runner`` that leads to the stand-in for a target's board."""
    return lambda faster=1000: f"{shlex.join(board_words('riscv64', faster))} {{program}} {{arguments}}"
