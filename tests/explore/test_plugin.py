"""The example plug-in, installed and used: what it offers is found by name, in child processes, too."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from lrfdse.base.events import silent
from lrfdse.base.store import Store
from lrfdse.errors import InputError
from lrfdse.explore.layers.latencies import KernelRequest, measure_kernels
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.meters.meter import METERS
from lrfdse.targets.catalog import load_target

REPOSITORY = Path(__file__).parents[2]
PLUGIN = REPOSITORY / "examples" / "plugin"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The environment of a process that finds the plug-in, laid out as pip installs it: no build backend is needed."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    shutil.copytree(PLUGIN / "lrfdse_example", folder / "lrfdse_example")
    info = folder / f"lrfdse_example-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}"}


def lrfdse(environment, *arguments):
    code = "import sys; from lrfdse.cli import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_an_exploration_with_what_the_plug_in_brings(environment, deep_folder, shared_cache, tmp_path):
    space, output = tmp_path / "rms.toml", tmp_path / "out"
    space.write_text('max_cores = 2\nmax_compiled = 4\nmin_size = 8\nmethod = "svd-rms"\n')
    options = ["--target", "riscv64", "--space", space, "--meter", "counted", "--sampler", "neighbours"]
    options += ["--metric", "top2", "--budget", 8, "--keep", 0, "--workers", 2, "--cache", shared_cache, "-o", output]
    ran = lrfdse(environment, "explore", deep_folder, *options, "--no-library", "--no-int8")
    assert ran.returncode == 0, ran.stderr
    document = json.loads((output / "front.json").read_text())
    assert document["meter"] == {
        "name": "counted",
        "kind": "modelled",
        "bracket": "both ends are the number itself",
        "procedure": "by counting FLOPs at one a nanosecond",
        "hardware_error": None,
        "resolution": 0.2,
    }
    assert document["metric"] == "top2"
    assert (document["space"]["method"], document["settings"]["sampler"]) == ("svd-rms", "neighbours")
    kinds = ("meter counted", "fitting method svd-rms", "sampler neighbours", "metric top2")
    assert {document["versions"][kind] for kind in kinds} == {"lrfdse-example 0.1.0"}
    options = [option for layer in document["layers"] for option in layer["options"]]
    assert len(options) > 4
    for option in options:
        for latency in option["latency"].values():
            assert list(latency.values()) == pytest.approx([option["flops"] / 1000] * 3, rel=1e-6)
    assert "neighbours" in {design["origin"] for design in (*document["designs"], *document["dominated"])}
    page = (output / "report.html").read_text()
    assert "modelled at 1600 MHz by counting FLOPs at one a nanosecond" in page
    assert "QEMU" not in page


@pytest.mark.slow
def test_help_and_errors_name_what_is_installed(environment, small_folder, tmp_path):
    shown = " ".join(lrfdse(environment, "explore", "--help").stdout.split())
    for name in ("counted", "neighbours", "top2"):
        assert f", {name}" in shown
    for option, names in {
        "--meter": "meter 'x': choose from host, model, counted",
        "--sampler": "sampler 'x': choose from nsga2, tpe, gp, evolution, random, exhaustive, neighbours",
        "--metric": "--metric takes top1, top5, mse, cosine, exact, top2 or MODULE:FUNCTION, but got 'x'",
    }.items():
        refused = lrfdse(environment, "explore", small_folder, "-t", "riscv64", "-o", tmp_path / "out", option, "x")
        assert refused.returncode == 2
        assert names in refused.stderr


@pytest.mark.slow
def test_the_plug_in_keeps_the_contracts(environment):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        "-c",
        os.devnull,
    ]
    ran = subprocess.run(
        [*command, str(PLUGIN / "tests")], env=environment, capture_output=True, text=True, check=False, cwd=PLUGIN
    )
    assert ran.returncode == 0, ran.stdout
    assert " passed" in ran.stdout


@pytest.mark.slow
def test_without_the_plug_in_its_names_are_unknown(small_folder, tmp_path):
    space = tmp_path / "rms.toml"
    space.write_text('method = "svd-rms"\n')
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    refused = lrfdse(environment, "explore", small_folder, "-t", "riscv64", "--space", space, "-o", tmp_path / "out")
    assert refused.returncode == 2
    assert f"search space {space}: unknown fitting method 'svd-rms': choose from auto, als, svd" in refused.stderr


@pytest.mark.slow
def test_a_meter_of_this_process_alone_is_no_meter_for_its_children(tmp_path):
    class Mine(METERS.get("model")):
        name = "mine"

    target = load_target("riscv64")
    spec = KernelSpec(8, 8, Factorization.dense(8, 8), 1, False, False)
    with METERS.register("mine", Mine), pytest.raises(InputError, match="unknown meter 'mine': choose from host"):
        measure_kernels([spec], KernelRequest(target, Mine(target, 60.0)), Store(tmp_path), silent)
