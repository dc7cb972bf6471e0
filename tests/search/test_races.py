"""Many who open a storage that is not there yet."""

from __future__ import annotations

import subprocess
import sys

import pytest

_OPEN = """
import sys, time
from lrfdse.search.study.opening import open_study
import optuna.storages, sqlalchemy
print("ready", flush=True)
sys.stdin.readline()
study = open_study(sys.argv[1], "demo", {"fc1": ("dense", "svd:r=2")}, identity={"model": "a"})
study.enqueue({}, "dense")
study.close()
"""


@pytest.mark.slow
def test_many_make_the_same_study_at_once(storage_url: str) -> None:
    command = [sys.executable, "-c", _OPEN, storage_url]
    pipe = subprocess.PIPE
    started = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(5)]
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in started:
        _, error = process.communicate(timeout=600)
        assert process.returncode == 0, error
