"""Finished rows are kept under keys of the code that made them: what is edited, in a copy, decides what is kept."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lrfdse.base.closure import Sources

TOP = Path(__file__).resolve().parents[2]

LOOPS = {"clang", "Polly", "Pluto", "plain C"}
EDITS = {
    "a comment": ("benchmarks/kernels/loops.py", "def plain(", "def plain(", set()),
    "loops in C": ("benchmarks/kernels/loops.py", "(const float *restrict G,", "(const float *G,", LOOPS),
    "TVM's target": ("benchmarks/kernels/tvm_default.py", '"num-cores": 1', '"num-cores": 2', {"TVM"}),
    "reading IREE": ("benchmarks/kernels/iree_schedule.py", "_LONG = 4096", "_LONG = 4097", {"IREE"}),
    "a script": ("benchmarks/kernels/host_runner.py", "MODULE_ROUNDS = 3", "MODULE_ROUNDS = 4", {"timing"}),
    "the best shapes": ("benchmarks/accuracy/shapes.py", "rank >= 1", "rank >= 2", {"accuracy", "alone"}),
    "a probe": ("benchmarks/accuracy/probe.py", "(wide - before) ** 2", "(before - wide) ** 2", {"alone"}),
    "lrfdse": ("lrfdse/factorize/als.py", "SWEEPS = 12", "SWEEPS = 13", {"accuracy", "alone"}),
}
"""File, what stands there, what is written instead beside a comment, and whose keys change."""

PROBE = """
import json, sys
from pathlib import Path
from benchmarks.accuracy.compress import rows_code
from benchmarks.accuracy.probe import alone
from benchmarks.keys import code
from benchmarks.kernels import host
from benchmarks.kernels.peers import peer_key, peers
from lrfdse.base.keys import forget
from lrfdse.targets.catalog import load_target

target = load_target("host")
def keys():
    forget()
    found = {peer.group: peer_key(peer, target) for peer in peers(target)}
    return found | {"timing": code(host.measure), "accuracy": rows_code(), "alone": code(alone)}

before, changed = keys(), {}
for name, (file, old, new) in json.load(sys.stdin).items():
    text = Path(file).read_text()
    assert old in text, (file, old)
    Path(file).write_text("# A comment.\\n" + text.replace(old, new))
    after = keys()
    changed[name] = [key for key in before if after[key] != before[key]]
    Path(file).write_text(text)
print(json.dumps(changed))
"""


def package(folder: Path, **modules: str) -> Path:
    folder.mkdir(parents=True)
    for name, text in {"__init__": "", **modules}.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def closure(tmp_path):
    sources = Sources(tmp_path / "house", beside=[tmp_path / "yard" / "guest"])
    return sources.closure([("guest.main", "entry")])


def test_code_of_a_package_beside_is_followed_into_the_house_and_back(tmp_path):
    house = package(
        tmp_path / "house", tools="import scipy\ndef used():\n    return scipy\ndef other():\n    return 1\n"
    )
    main = "from guest.parts import half\nfrom house.tools import used\ndef entry():\n    return half(used())\n"
    guest = package(tmp_path / "yard" / "guest", main=main, parts="def half(x):\n    return x / 2\n")
    first = closure(tmp_path)
    assert set(first.modules) == {"guest.main", "guest.parts", "house.tools"} and first.libraries == {"scipy"}
    (guest / "parts.py").write_text("# Half.\ndef half(x):\n    return x / 2\n")
    (house / "tools.py").write_text((house / "tools.py").read_text().replace("return 1", "return 2"))
    assert closure(tmp_path).modules == first.modules
    (guest / "parts.py").write_text("def half(x):\n    return x / 3\n")
    assert closure(tmp_path).modules["guest.parts"] != first.modules["guest.parts"]
    (guest / "main.py").write_text("from guest.gone import half\ndef entry():\n    return half(1)\n")
    with pytest.raises(ModuleNotFoundError, match=r"guest\.gone: no such module in .*yard"):
        closure(tmp_path)


@pytest.fixture(scope="module")
def changed(tmp_path_factory):
    """Edit a copy of the checkout, and return whose keys each edit changed."""
    top = tmp_path_factory.mktemp("copy")
    for name in ("lrfdse", "benchmarks", "targets", "search_spaces", "qemu"):
        shutil.copytree(TOP / name, top / name, ignore=shutil.ignore_patterns("__pycache__"))
    edits = {name: edit[:3] for name, edit in EDITS.items()}
    command, environment = [sys.executable, "-c", PROBE], os.environ | {"PYTHONPATH": str(top)}
    done = subprocess.run(
        command, cwd=top, env=environment, input=json.dumps(edits), check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("name", EDITS)
def test_an_edit_changes_the_keys_of_what_runs_it_and_no_others(changed, name):
    assert set(changed[name]) == EDITS[name][3]
