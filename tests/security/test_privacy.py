"""Nothing of the user's leaves the machine, and a run writes nowhere but where it says."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lrfdse
from tests.formats.tflite_models import mlp

pytestmark = pytest.mark.slow

LRFDSE = [sys.executable, "-c", "from lrfdse.cli import main\nif __name__ == '__main__': main()"]
ROOT = Path(lrfdse.__file__).parents[1]


@pytest.fixture
def house(tmp_path):
    """Empty folders for all that a process writes to, and an environment that names them and little else."""
    places = {"HOME": tmp_path / "home", "TMPDIR": tmp_path / "tmp", "LRFDSE_CACHE": tmp_path / "cache"}
    for place in places.values():
        place.mkdir()
    (tmp_path / "work").mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return tmp_path, kept | {name: str(place) for name, place in places.items()} | {"PYTHONPATH": str(ROOT)}


def traced(command, trace):
    """Return a command that notes every address that it and its children send to; skip where nothing can."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    watched = "trace=connect,sendto,sendmsg,sendmmsg"
    if subprocess.run(
        ["strace", "-f", "-e", watched, "-o", trace, "true"], check=False, capture_output=True
    ).returncode:
        pytest.skip("strace may not trace here")
    return ["strace", "-f", "-qq", "--seccomp-bpf", "-e", watched, "-o", str(trace), *command]


def addresses(trace):
    """Return the internet addresses beyond this machine in a trace."""
    found = re.findall(r'sin6?_addr=[^"]*"([^"]+)"|inet_pton\(AF_INET6, "([^"]+)"', trace.read_text(errors="replace"))
    return {first or second for first, second in found} - {"127.0.0.1", "::1"}


def files_below(*folders):
    return sorted(str(path) for folder in folders for path in folder.rglob("*") if not path.is_dir())


def test_a_connection_would_be_seen(house):
    """What the other tests rely on: an attempt to reach an address that belongs to nobody stands in the trace."""
    folder, environment = house
    code = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('192.0.2.1', 9))"
    subprocess.run(traced([sys.executable, "-c", code], folder / "trace"), env=environment, check=False)
    assert addresses(folder / "trace") == {"192.0.2.1"}


def test_looking_at_a_model_leaves_no_file_and_reaches_nobody(house, small_folder):
    folder, environment = house
    command = [*LRFDSE, "inspect", str(small_folder), "--calib", str(small_folder / "calib.npz")]
    done = subprocess.run(
        traced(command, folder / "trace"), env=environment, cwd=folder / "work", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert files_below(folder / "home", folder / "tmp", folder / "work") == []
    assert files_below(folder / "cache")
    assert addresses(folder / "trace") == set()


@pytest.mark.parametrize("kind", ["tflite", "keras"])
def test_models_that_other_libraries_read_leave_no_file_either_and_reach_nobody(kind, house):
    """Not even of matplotlib, which Keras imports where it is installed."""
    folder, environment = house
    path = folder / f"net.{kind}"
    if kind == "tflite":
        path.write_bytes(mlp(np.random.default_rng(0)))
    else:
        keras = pytest.importorskip("keras", reason="the keras extra is not installed")
        keras.Sequential([keras.Input((16,)), keras.layers.Dense(12), keras.layers.Dense(4)]).save(path)
    command = traced([*LRFDSE, "inspect", str(path)], folder / "trace")
    done = subprocess.run(command, env=environment, cwd=folder / "work", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert files_below(folder / "home", folder / "tmp", folder / "work") == []
    assert addresses(folder / "trace") == set()


@pytest.mark.slow
def test_an_exploration_writes_to_its_output_and_its_cache_alone_and_reaches_nobody(house, small_folder, small_space):
    folder, environment = house
    command = [*LRFDSE, "explore", str(small_folder), "--target", "riscv64", "--space", str(small_space)]
    command += ["--budget", "8", "--keep", "1", "--workers", "2", "--max-drop", "60%", "-o", str(folder / "out")]
    healing = [*LRFDSE, "heal", str(folder / "out"), "--data", str(small_folder / "calib.npz"), "--epochs", "1"]
    for each in (command, healing) if importlib.util.find_spec("tensorflow") else (command,):
        done = subprocess.run(
            traced(each, folder / "trace"), env=environment, cwd=folder / "work", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert files_below(folder / "home", folder / "tmp", folder / "work") == []
        assert addresses(folder / "trace") == set()


@pytest.mark.parametrize("before", ["", "import lrfdse", "import onnxruntime"])
def test_as_a_library_nothing_is_reported_of_models_either(before, house, small_folder):
    """Where the caller imported onnxruntime itself, its own files are the caller's: only the model is kept out."""
    folder, environment = house
    code = f"""
{before}
import os
from pathlib import Path
from lrfdse.model.data import random_data
from lrfdse.model.graph import load_model
from lrfdse.model.runtime import Runtime
model = load_model(Path({str(small_folder / "model.onnx")!r}))
Runtime().run(model.content, random_data(model.inputs, 4, 0))
print(os.environ["ORT_DISABLE_TELEMETRY"])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd=folder / "work", capture_output=True, text=True
    )
    assert done.stdout == "1\n", done.stderr
    if "onnxruntime" not in before:
        assert files_below(folder / "home", folder / "tmp", folder / "work") == []


def test_one_place_imports_onnxruntime():
    """It sets the switch before; in the page's text for users there is no import."""
    found = set()
    for path in (ROOT / "lrfdse").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.partition(".")[0] == "onnxruntime" for name in names):
                found.add(str(path.relative_to(ROOT)))
    assert found == {"lrfdse/base/privacy.py"}
