"""What the commands of all benchmarks share: their options, and parts that run in processes of their own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.results import RESULTS, TOP

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""The environment in which BLAS takes one thread; read when a process imports NumPy."""

LRFDSE = str(Path(sys.executable).with_name("lrfdse"))
"""The command, of the environment that runs the benchmark."""


def parser(name: str, text: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """Return the options of ``python -m benchmarks.NAME``, described by its docstring; ``--out`` is among them."""
    made = argparse.ArgumentParser(
        f"python -m benchmarks.{name}",
        description=text,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="of the results (default: %(default)s)")
    return made


def apart(name: str, *arguments: str) -> Any:
    """Run ``python -m benchmarks.NAME`` with one BLAS thread and return the JSON that it prints.

    A process of its own has a peak memory of its own.
    """
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(command, cwd=TOP, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | ONE_THREAD)
    return json.loads(done.stdout)
