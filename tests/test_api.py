"""What ``import lrfdse`` gives, as a stranger uses it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect as introspection
import json
import os
import re
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import onnx
import pytest

import lrfdse
from lrfdse.cli import app, run
from lrfdse.quality.metrics import check_metric
from lrfdse.results.settings import Options, Settings

SCRIPT = Path(__file__).parent / "strangers" / "script.py"
FIXTURES = sorted((Path(__file__).parent / "results" / "fixtures").glob("*.json"))
HEAVY = {"jinja2", "numpy", "onnx", "onnx_ir", "onnxruntime", "optuna", "pandas", "plotly", "rich", "scipy", "tvm"}


TOP = str(Path(lrfdse.__file__).parents[1])
"""Where other processes are to find the same lrfdse."""


def output_of(code):
    environment = os.environ | {"PYTHONPATH": TOP}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return ran.stdout.splitlines()


def test_the_import_loads_nothing_else():
    """Not `lrfdse.api` either: a name is imported when it is used; the version, which tools read, is there."""
    shown = "print(*sorted(name for name in sys.modules if name.partition('.')[0] == 'lrfdse'))"
    assert output_of(f"import sys, lrfdse; dir(lrfdse); {shown}") == [
        "lrfdse lrfdse.base lrfdse.base.version lrfdse.explore"
    ]


def test_all_names_together_load_nothing_heavy():
    code = "import sys; from lrfdse import *; print(explore.__module__, *{n.partition('.')[0] for n in sys.modules})"
    (line,) = output_of(code)
    assert line.startswith("lrfdse.api ")
    assert not HEAVY & set(line.split())


def test_names_are_those_of_the_modules_that_define_them():
    assert dir(lrfdse) == sorted(lrfdse.__all__)
    for name in set(lrfdse.__all__) - {"__version__"}:
        found = getattr(lrfdse, name)
        assert found.__name__ == name
        assert found is vars(importlib.import_module(found.__module__))[name]
        assert found.__doc__
    with pytest.raises(AttributeError, match=r"module 'lrfdse' has no attribute 'nothing'"):
        lrfdse.nothing  # noqa: B018


@pytest.mark.parametrize(
    "code",
    [
        "import lrfdse, lrfdse.explore.run",
        "from lrfdse.explore.inspection import inspect; import lrfdse",
        "import lrfdse; lrfdse.explore; import lrfdse.explore.run",
        "from lrfdse import explore; import lrfdse.explore.plans.choose, lrfdse",
    ],
)
def test_the_function_stays_whatever_is_imported_of_the_package_of_its_name(code):
    assert output_of(f"{code}; print(lrfdse.explore.__module__)") == ["lrfdse.api"]


def test_what_is_asked_for_has_one_name_and_one_default_everywhere():
    """The keywords, the options of the command line, the fields of Settings and of Options."""
    keywords = introspection.signature(lrfdse.explore).parameters
    command = {name.rstrip("_") for name in introspection.signature(app.explore).parameters}
    command -= {"max_drop", "max_other_drop", "max_params", "max_size", "max_latency", "max_model_latency"}
    command -= {"as_json", "log_format", "config", "dry_run"}
    assert set(keywords) - {"limits", "progress"} == command
    types, fields = typing.get_type_hints(Options), {field.name: field for field in dataclasses.fields(Settings)}
    assert types.items() <= typing.get_type_hints(Settings).items()
    for name in set(types) & set(keywords) - {"limits", "workers", "cache"}:
        assert keywords[name].default == fields[name].default, name
    assert dataclasses.asdict(lrfdse.Limits()) == dataclasses.asdict(fields["limits"].default)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget": 0}, r"budget must be 1 or more, but got 0"),
        ({"workers": 0}, r"workers must be 1 or more"),
        ({"layers": "pool"}, r"layers takes some of fc, conv, .*, but got 'pool'"),
        ({"layers": ()}, r"layers takes some of fc, conv, .*, but got ''"),
        ({"seed": -1}, r"seed must be 0 or more"),
        ({"keep": -1}, r"keep must be 0 or more"),
        ({"eval_samples": 0}, r"eval_samples must be 1 or more"),
        ({"minutes": float("nan")}, r"minutes must be 0 or more, but got nan"),
        ({"shape": {"x": (1, 0)}}, r"shape of x must be 1 or more"),
        ({"limits": lrfdse.Limits(max_drop=1.5)}, r"max_drop \(a fraction: 0.01 is one point\) must be from 0 to 1"),
        ({"limits": lrfdse.Limits(max_params=0)}, r"max_params must be 1 or more"),
        ({"limits": lrfdse.Limits(max_size=0)}, r"max_size must be 1 or more"),
        ({"limits": lrfdse.Limits(max_latency_us=float("inf"))}, r"max_latency_us must be .* above 0, but got inf"),
        ({"limits": lrfdse.Limits(max_latency_us=0)}, r"max_latency_us must be .* above 0, but got 0"),
        ({"limits": lrfdse.Limits(max_model_latency_us=0)}, r"max_model_latency_us must be .* above 0, but got 0"),
        ({"target": "riscv"}, r"unknown target 'riscv': did you mean riscv64"),
        ({"space": "defualt"}, r"unknown search space 'defualt': did you mean default"),
        ({"calib": [1.0]}, r"calib takes the path of an .npz file, an array .*, but got an object of type list"),
        ({"eval": {"x": np.array([None])}}, r"eval takes .*, but 'x' holds Python objects"),
        ({"test": {3: np.zeros(2)}}, r"test takes the path of an .npz file"),
        ({"model": "nowhere.onnx"}, r"nowhere.onnx: no such file"),
        ({"model": 3}, r"a model is a path, an onnx.ModelProto or an onnx_ir.Model, but got an object of type int"),
        ({"model": onnx.ModelProto(), "output": None}, r"a model that is given as an object needs `output`"),
        ({"model": onnx.ModelProto()}, r"not an ONNX model"),
    ],
)
def test_what_cannot_be_used_is_said(options, message, small_folder, tmp_path):
    asked = {"model": small_folder, "target": "riscv64", "output": tmp_path, "cache": tmp_path / "cache"} | options
    with pytest.raises(lrfdse.InputError, match=message):
        lrfdse.explore(**asked)


def test_a_wrong_keyword_and_a_wrong_type_are_errors_of_python(small_folder):
    with pytest.raises(TypeError, match="unexpected keyword argument 'sed'"):
        lrfdse.explore(small_folder, "riscv64", sed=1)
    with pytest.raises(TypeError, match=r"limits is a lrfdse\.Limits, .* but got dict"):
        lrfdse.explore("model.onnx", "riscv64", limits={"max_drop": 0.01})
    with pytest.raises(TypeError, match=r"budget must be a whole number, but got 2\.5"):
        lrfdse.explore(small_folder, "riscv64", budget=2.5)


@pytest.fixture(params=FIXTURES, ids=lambda path: path.stem)
def loaded(request, tmp_path):
    """An exploration of each file of an older version."""
    shutil.copy(request.param, tmp_path / "front.json")
    return lrfdse.load(tmp_path)


def test_older_files_are_explorations_too(loaded):
    assert loaded == lrfdse.load(str(loaded.folder / "front.json"))
    assert loaded.original in loaded.designs
    assert loaded.front and all(design.on_front and design in loaded.designs for design in loaded.front)
    assert loaded.recommended is None or loaded.design(loaded.recommended.id) == loaded.recommended
    with pytest.raises(lrfdse.InputError, match=rf"no design 'x'; there are .*{loaded.original.id}"):
        loaded.design("x")


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(lrfdse.InputError, match=r"front.json: cannot be read"):
        lrfdse.load(tmp_path)


def read(page):
    return (Path(__file__).parents[1] / page).read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_script_of_a_stranger_and_what_pages_show_satisfy_mypy(tmp_path):
    """As strictly as it can, and with nothing of this repository's own settings."""
    options = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={tmp_path}"]
    wrong = tmp_path / "wrong.py"
    wrong.write_text(
        "import lrfdse\n"
        "lrfdse.explore('net.onnx', 'riscv64', sed=1)\n"
        "lrfdse.explore('net.onnx', 'riscv64', budget='12')\n"
        "lrfdse.nothing\n"
        "lrfdse.load('out').recommended.params\n"
        "lrfdse.load('out').original.params.real\n"
    )
    pages = ("README.md", "docs/python.md", "docs/front-json.md")
    texts = [
        text for page in pages for text in re.findall(r"^```python\n(.*?)^```", read(page), re.MULTILINE | re.DOTALL)
    ]
    assert len(texts) >= 5
    snippets = [tmp_path / f"snippet{k}.py" for k in range(len(texts))]
    for snippet, text in zip(snippets, texts, strict=True):
        snippet.write_text(text)
    environment = os.environ | {"MYPYPATH": TOP}
    checked = map(str, (SCRIPT, wrong, *snippets))
    command = [sys.executable, "-m", "mypy", *options, "--no-error-summary", *checked]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    found = re.findall(r"^(.*):(\d+): error: .*\[([\w-]+)\]$", ran.stdout, flags=re.MULTILINE)
    assert [(Path(name).name, int(line), code) for name, line, code in found] == [
        ("wrong.py", 2, "call-arg"),
        ("wrong.py", 3, "arg-type"),
        ("wrong.py", 4, "attr-defined"),
        ("wrong.py", 5, "union-attr"),
    ], ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def run_by_a_stranger(small_folder, small_space, shared_cache, tmp_path_factory):
    """What the script printed, and its output folder."""
    output = tmp_path_factory.mktemp("by a stranger") / "small net"
    command = [sys.executable, SCRIPT, small_folder, small_space, shared_cache, output]
    unseen = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"PYTHONPATH": TOP}
    ran = subprocess.run([*map(str, command)], capture_output=True, text=True, env=unseen)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, output


@pytest.mark.slow
def test_the_script_of_a_stranger_runs(run_by_a_stranger):
    printed, output = run_by_a_stranger
    said = dict(re.findall(r"^(\w+): (.*)$", printed, flags=re.MULTILINE))
    assert said["layers"] == "fc1 fc2"
    assert {"calibrate", "kernels", "plans", "write"} <= set(said["stages"].split())
    assert said["same"] == "True"
    document = json.loads((output / "front.json").read_text())
    best = next(design for design in document["designs"] if design["id"] == document["recommended"])
    assert said["recommended"].split()[:3] == [best["id"], str(best["params"]), "True"]
    least = min((d for d in document["designs"] if d["on_front"]), key=lambda design: design["params"])
    assert said["exported"] == str(output / "designs" / least["id"] / "model.onnx")
    assert onnx.load(said["exported"]).graph.node
    assert said["refused"].startswith(f"{output / 'nowhere'}: cannot be read")


@pytest.mark.slow
def test_it_finds_and_prints_what_the_command_line_does(
    run_by_a_stranger, small_folder, small_space, shared_cache, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("COLUMNS", raising=False)
    options = ["--target", "riscv64", "--space", str(small_space), "--cache", str(shared_cache), "--budget", "12"]
    options += ["--keep", "0", "--max-drop", "50%", "--output", str(tmp_path)]
    assert run(["explore", str(small_folder), *options]) == 0
    printed, output = run_by_a_stranger
    here, there = (lrfdse.load(folder).document for folder in (tmp_path, output))
    assert there.title == "small net"
    assert [dataclasses.replace(design, model=None) for design in here.every_design()] == [
        dataclasses.replace(design, model=None) for design in there.every_design()
    ]
    assert (here.recommended, here.layers) == (there.recommended, there.layers)
    assert here.model.sha256 == there.model.sha256
    assert {here.data.calib.sha256, here.data.eval.sha256} == {there.data.calib.sha256, there.data.eval.sha256}
    # One row a design; where the table is narrower it leaves out columns on the right.
    rows = [re.findall(r"^[> ]*[0-9a-f]{8} .*\S", text, re.MULTILINE) for text in (capsys.readouterr().out, printed)]
    pairs = list(zip(*([row for row in found if row.startswith("  ")] for found in rows), strict=True))
    assert len(pairs) > 2
    assert all(one.startswith(other) or other.startswith(one) for one, other in pairs), pairs


@pytest.mark.slow
def test_what_was_given_as_objects_lies_beside_the_results(run_by_a_stranger, small_folder):
    """So that designs can be exported, and the command of front.json makes it again."""
    _, output = run_by_a_stranger
    given = {path.name for path in (output / "given").iterdir()}
    assert given == {"small net.onnx", "calib.npz", "eval.npz"}
    with np.load(output / "given" / "eval.npz") as ours, np.load(small_folder / "eval.npz") as theirs:
        assert {name: ours[name].tolist() for name in ours} == {name: theirs[name].tolist() for name in theirs}
    command = lrfdse.load(output).document.command or ""
    assert command.startswith("lrfdse explore 'given/small net.onnx' --target riscv64 --calib given/calib.npz")


@pytest.mark.parametrize(
    ("shape", "error", "said"),
    [
        ({"x": "3x5"}, lrfdse.InputError, r"shape of x takes sizes such as \(1, 3, 48, 320\), but got '3x5'"),
        ({"x": (3.0, 5)}, TypeError, "shape of x must be a whole number, but got 3.0"),
        ({"x": 3}, TypeError, "shape of x must be a sequence of sizes, but got 3"),
        ({"x": (0, 5)}, lrfdse.InputError, "shape of x must be 1 or more, but got 0"),
    ],
)
def test_a_wrong_shape_is_named(shape, error, said, tmp_path):
    for call in (
        lambda: lrfdse.build("model.onnx", "host", tmp_path / "out", shape=shape),
        lambda: lrfdse.inspect("model.onnx", "host", shape=shape),
    ):
        with pytest.raises(error, match=f"^{said}$"):
            call()


def test_a_function_as_metric_is_told_how_to_be_given():
    with pytest.raises(lrfdse.InputError, match="as the text 'MODULE:FUNCTION'"):
        check_metric(len)
