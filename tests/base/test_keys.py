"""Keys of stored results: edits of a copy of the package against what a reader of its code says they decide."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import lrfdse
from lrfdse.base import keys
from lrfdse.base.folders import data_folder
from lrfdse.base.keys import CodeKey, code_key, digest, result_key
from lrfdse.factorize.als import fit_outputs
from lrfdse.factorize.linalg import square_root
from lrfdse.repair.moments import moments
from lrfdse.targets.catalog import load_target
from lrfdse.toolchain.programs import MODELLING, missing_tools

SEEN = {"spectrum as the inputs see it", "spectrum of the inputs", "spectra", "fronts"}
"""What is computed from what layers read on calibration data, before anything is fitted."""
SCORED = {"sensitivity by fidelity", "the study"}
FITTED = {"fits", "screens", "corrections", "sensitivity by loss", *SCORED}
METERED = {"the model meter", "terms", "libraries"}

EDITS = {
    "lrfdse/repair/moments.py:_Sum.add": SEEN | FITTED,
    "lrfdse/model/graph.py:load_model": SEEN | FITTED | {"weightings"},
    "lrfdse/formats/onnx.py:_inline_external_data": SEEN | FITTED | {"weightings"},
    "lrfdse/space/count.py:count_designs": {"counts", "fronts"},
    "lrfdse/space/front.py:front": {"fronts"},
    "lrfdse/explore/layers/fronts.py:_energy": {"spectra", "fronts"},
    "lrfdse/factorize/spectra.py:_tails": {"spectrum of the weight", *SEEN, *FITTED},
    "lrfdse/factorize/spectra.py:whitened_bond_tails": {"spectra", "fronts"},
    "lrfdse/explore/layers/spectra.py:spectrum": {
        *("spectrum of the weight", "spectrum as the inputs see it", "spectrum of the inputs")
    },
    "lrfdse/factorize/als.py:Sweep.update": {
        # The code behind a `Fitter`, whose root of the covariance these take, counts as a whole.
        *("spectrum as the inputs see it", "spectrum of the inputs"),
        *FITTED,
    },
    "lrfdse/factorize/inputs.py:rounding_of": {"spectrum as the inputs see it", "spectrum of the inputs"} | FITTED,
    "lrfdse/quality/objective.py:SideBySide.pulled_back": {"weightings"} | FITTED,
    "lrfdse/repair/correct.py:Corrector._refined": {"corrections"} | SCORED,
    "lrfdse/repair/refine.py:refined": {"corrections"} | SCORED,
    "lrfdse/ir/factors.py:packed": FITTED,
    "lrfdse/repair/openings.py:OfLayers.factors": {"corrections"} | SCORED,
    "lrfdse/explore/layers/fits.py:open_fits": FITTED - {"fits", "screens"},
    "lrfdse/explore/judging.py:open_judging": SCORED,
    "lrfdse/quality/reading.py:read_output": SCORED,
    "lrfdse/model/passes/products.py:_At.chain": {"corrections", "sensitivity by loss"} | SCORED,
    "lrfdse/quality/metrics.py:_top5": SCORED,
    "lrfdse/quality/scores.py:paired_error": SCORED,
    # What outputs could lose scales the parts of the objective, too.
    "lrfdse/quality/divergence.py:output_information": {"weightings"} | FITTED,
    "lrfdse/kernels/emit.py:StepEmitter.store": {"kernels", "operators", "terms"},
    "lrfdse/kernels/operators/build.py:compile_operator": {"operators"},
    "lrfdse/tune/__init__.py:best_kernel": {"kernels"},
    "lrfdse/meters/memory.py:memory_cycles": METERED,
    "lrfdse/meters/trace.py:record": METERED,
    "lrfdse/library/driver.py:driver": {"libraries"},
    "qemu/lrfmeter.c:": METERED,
    "qemu/harness.c:": METERED,
    "qemu/system.h:": METERED,
    "lrfdse/meters/host_meter.py:HostMeter.measure": {"the host meter"},
    # What times a library on the host is behind the code that makes one.
    "lrfdse/meters/_host_runner.py:main": {"the host meter", "libraries"},
    "qemu/timer.c:": {"the host meter"},
    # Who listens, who asks, who prints and who keeps decides nothing.
    "lrfdse/base/log.py:event_line": set(),
    "lrfdse/explore/run.py:explore": set(),
    "lrfdse/report/page/html.py:report_html": set(),
    "lrfdse/search/samplers/builtin.py:open_sampler": set(),
    "lrfdse/search/plans/knapsack.py:plans": set(),
    "lrfdse/base/store.py:Store.get": set(),
}
LINES = {".py": "pass", ".c": "int edited;", ".h": "int edited;"}


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """What `kinds.py` says of every edit, and of a comment and a text in every module."""
    copy, model = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("model")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(lrfdse.__file__).parent, copy / "lrfdse", ignore=ignored)
    for name in ("qemu", "targets", "search_spaces"):
        shutil.copytree(data_folder(name), copy / name)
    edits = [(file, name, LINES[Path(file).suffix]) for file, _, name in (edit.partition(":") for edit in EDITS)]
    edits += [("lrfdse/**/*.py", "", "# a comment"), ("lrfdse/**/*.py", "", '"""A text."""')]
    command = [sys.executable, str(Path(__file__).with_name("kinds.py")), json.dumps(edits), str(model)]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=copy, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_the_keys_of_what_it_decides_and_no_other(edit, copied):
    changed = copied["changed"][list(EDITS).index(edit)]
    assert set(changed) == EDITS[edit] & set(copied["kinds"])


@pytest.mark.slow
def test_comments_and_texts_change_no_key(copied):
    assert copied["changed"][-2:] == [[], []]


@pytest.mark.slow
def test_every_kind_of_stored_result_is_among_the_edits(copied):
    kinds = set()
    for path in Path(lrfdse.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("put", "put_arrays"):
                # Queues put things that have no name.
                kinds |= {kind.value for kind in node.args[:1] if isinstance(kind, ast.Constant)}
    if missing_tools(load_target("riscv64"), MODELLING):
        kinds -= {"terms", "libraries"}
    assert kinds == {name.split()[0] for name in copied["kinds"] if not name.startswith("the ")}
    assert kinds <= {name.split()[0] for names in EDITS.values() for name in names}


def test_libraries_and_python_count_by_version(monkeypatch):
    before, plain = code_key(moments), code_key(square_root)
    assert before.entries["onnxruntime"] == importlib.metadata.version("onnxruntime")
    assert before.entries["python"] == ".".join(map(str, sys.version_info[:2]))
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0" if name == "onnxruntime" else real(name))
    keys.forget()
    try:
        assert code_key(moments).differences(before) == ("onnxruntime",)
        assert code_key(square_root) == plain
    finally:
        monkeypatch.undo()
        keys.forget()


def test_a_library_under_another_name_and_one_that_is_not_installed(tmp_path, monkeypatch):
    from lrfdse.tune import best_kernel

    assert code_key(best_kernel).entries["tvm"] == importlib.metadata.version("apache-tvm")
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"scipy": ["numpy"]})
    monkeypatch.setattr(importlib.metadata, "version", version := _only(importlib.metadata.version, "numpy"))
    keys.forget()
    try:
        entries = code_key(square_root).entries
        assert entries["scipy"] == f"numpy {version('numpy')}"
        monkeypatch.setattr(importlib.metadata, "packages_distributions", dict)
        keys.forget()
        assert code_key(square_root).entries["scipy"] == "none"
    finally:
        monkeypatch.undo()
        keys.forget()


@pytest.mark.slow
def test_no_library_is_looked_for_among_the_files_of_all_packages():
    names = set()
    for path in Path(lrfdse.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    for name in names - {"lrfdse"} - sys.stdlib_module_names:
        if importlib.util.find_spec(name) is not None:
            importlib.metadata.version(keys.DISTRIBUTIONS.get(name, name))


def _only(real, known):
    def version(name):
        if name != known:
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    return version


def test_code_of_others_has_no_key():
    with pytest.raises(ModuleNotFoundError, match="json: no module of lrfdse"):
        code_key(json)
    with pytest.raises(AttributeError, match="defines no '<lambda>'"):
        fake = lambda: None  # noqa: E731
        fake.__module__, fake.__qualname__ = "lrfdse.errors", "<lambda>"
        code_key(fake)


def test_differences_name_the_parts():
    one = CodeKey({"lrfdse.a": "1", "numpy": "2.0", "python": "3.12"})
    assert one.differences(CodeKey({"lrfdse.a": "2", "lrfdse.b": "1", "python": "3.12"})) == (
        *("lrfdse.a", "lrfdse.b"),
        "numpy",
    )
    assert one.digest != CodeKey({**one.entries, "numpy": "2.1"}).digest
    assert one.digest == CodeKey(dict(reversed(one.entries.items()))).digest


def test_every_entry_is_logged(caplog):
    keys.forget()
    with caplog.at_level(logging.DEBUG, "lrfdse.keys"):
        code = code_key(fit_outputs)
        key = result_key("fits", code=code, layer="abc")
    for name, value in code.entries.items():
        assert f"code {code.digest}: {name} = {value}" in caplog.messages
    assert f"fits {key}: layer = 'abc'" in caplog.messages
    assert f"fits {key}: code = '{code.digest}'" in caplog.messages


def test_a_result_key_is_made_of_all_its_parts():
    one, other = CodeKey({"a": "1"}), CodeKey({"a": "2"})
    made = {
        result_key("fits", code=one, layer="x"),
        result_key("fits", code=other, layer="x"),
        result_key("fits", code=one, layer="y"),
        result_key("fits", code=one, name="x"),
        result_key("fronts", code=one, layer="x"),
        digest("fits", one, "x"),
    }
    assert len(made) == 6
    assert result_key("fits", layer="x", code=one) in made


def test_a_key_is_computed_once_a_process():
    keys.forget()
    assert code_key(fit_outputs) is code_key(fit_outputs)
