"""The workflows that users copy: valid for their schemas, and run line by line with the runners' variables."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lrfdse.base.version import __version__

CI = Path(__file__).parents[2] / "docs" / "ci"
REPOSITORY = CI.parents[1]


@pytest.fixture(scope="module")
def yaml():
    return pytest.importorskip("yaml")


@pytest.mark.parametrize(
    ("file", "schema"), [("github-actions.yml", "vendor.github-workflows"), ("gitlab-ci.yml", "vendor.gitlab-ci")]
)
def test_the_examples_are_valid_for_their_schemas(file, schema):
    pytest.importorskip("check_jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(CI / file)]
    if schema == "vendor.gitlab-ci":
        command[3:3] = ["--data-transform", "gitlab-ci"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_the_examples_install_the_wheel_of_this_version(yaml):
    github, gitlab = (yaml.safe_load((CI / name).read_text()) for name in ("github-actions.yml", "gitlab-ci.yml"))
    wheel = f"ci/lrfdse-{__version__}-py3-none-any.whl"
    assert github["env"]["LRFDSE"] == gitlab["variables"]["LRFDSE"] == wheel


def make_project(root, small_folder, small_space):
    """Make a user's repository, and a command `lrfdse` in it as if it had been installed."""
    shutil.copytree(small_folder, root / "nets" / "lenet")
    (root / "bin").mkdir()
    program, script = root / "bin" / "lrfdse", root / "bin" / "main.py"
    # An interpreter whose path has a space cannot stand behind `#!`.
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(script))} "$@"\n')
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
        # What is shown of the examples does not depend on how long they search, and they take ONNX files alone.
        "if sys.argv[1] == 'explore':\n    sys.argv += ['--effort', 'quick', '--budget', '8', '--keep', '1']\n"
        "    sys.argv += ['--no-library', '--no-int8']\n"
        "from lrfdse.cli import main\nif __name__ == '__main__':\n    main()\n"
    )
    program.chmod(0o755)
    shutil.copy(small_space, root / "space.toml")
    return root


@pytest.fixture(scope="module")
def followed(yaml, small_folder, small_space, tmp_path_factory):
    """A repository whose owner has followed docs/ci/README.md: it has a baseline, and the cache of the run before."""
    root = make_project(tmp_path_factory.mktemp("followed") / "my project", small_folder, small_space)
    make_baseline(root, variables(yaml.safe_load((CI / "github-actions.yml").read_text())["env"], root))
    return root


@pytest.fixture
def project(followed, small_folder, small_space, tmp_path):
    """The same in a folder of the test's own, with a space in its path."""
    root = make_project(tmp_path / "my project", small_folder, small_space)
    for name in (".lrfdse-cache", "ci"):
        shutil.copytree(followed / name, root / name)
    return root


def variables(given, project, **more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "CI"))}
    path = f"{project / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "CI": "true", **given, "SPACE": "space.toml", **more}


def make_baseline(project, environment):
    """Follow docs/ci/README.md."""
    commands = re.findall(r"^    (lrfdse .*)$", (CI / "README.md").read_text(), flags=re.M)
    assert len(commands) == 2
    explore = commands[0] + ' --space space.toml --cache .lrfdse-cache --max-drop "$MAX_DROP"'
    for command in (explore, commands[1]):
        subprocess.run(["bash", "-e", "-c", command], cwd=project, env=environment, check=True, capture_output=True)
    shutil.rmtree(project / "out")


def run_github(workflow, project, environment):
    """Run the steps as the runner does: `bash -e`, files for summary and outputs, `if` and outputs of steps."""
    (job,) = workflow["jobs"].values()
    outputs, codes, shown, failed = {}, {}, "", False
    for number, step in enumerate(job["steps"]):
        if "run" not in step or step["name"] == "Install" or (failed and "!cancelled()" not in step.get("if", "")):
            continue
        own = {
            name: re.sub(r"\$\{\{ steps\.(\w+)\.outputs\.(\w+) \}\}", lambda m: outputs[m[1]].get(m[2], ""), value)
            for name, value in step.get("env", {}).items()
        }
        files = {name: project / f"{name}.{number}" for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for file in files.values():
            file.write_text("")
        (project / "step.sh").write_text(step["run"])
        ended = subprocess.run(
            ["bash", "-e", "step.sh"],
            cwd=project,
            env={**environment, **own, "GITHUB_ACTIONS": "true", **{name: str(file) for name, file in files.items()}},
            capture_output=True,
            text=True,
            check=False,
        )
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        outputs[step.get("id")] = dict(line.split("=", 1) for line in lines)
        codes[step["name"]], failed = ended.returncode, failed or ended.returncode != 0
        shown += ended.stdout + ended.stderr + files["GITHUB_STEP_SUMMARY"].read_text()
    return codes, outputs, shown


@pytest.mark.slow
def test_the_github_example_runs_green_and_then_breaks_a_limit(yaml, project):
    workflow = yaml.safe_load((CI / "github-actions.yml").read_text())
    environment = variables(workflow["env"], project)
    codes, outputs, shown = run_github(workflow, project, environment)
    assert codes == {"Explore": 0, "Check": 0, "Take the compressed model": 0}, shown
    assert "| latency-regression |" in shown
    assert "::error" not in shown
    assert outputs["check"]["verdict"] == "pass"
    assert (project / "compressed.onnx").read_bytes() == (project / outputs["check"]["model"]).read_bytes()
    assert {entry["name"] for entry in json.loads((project / "out" / "benchmark.json").read_text())} == {
        "lenet riscv64: latency (modelled)",
        "lenet riscv64: parameters",
        "lenet riscv64: loss",
    }
    uploads = next(s["with"]["path"] for s in workflow["jobs"]["compress"]["steps"] if "upload" in s.get("uses", ""))
    assert all((project / path).is_file() for path in uploads.split())

    codes, outputs, shown = run_github(workflow, project, {**environment, "MAX_LATENCY": "0.001us"})
    assert codes == {"Explore": 0, "Check": 1}
    assert outputs["check"]["verdict"] == "fail"
    assert "::error title=lrfdse%3A latency%2C lenet for riscv64::" in shown
    assert "**FAIL**" in shown

    codes, outputs, shown = run_github(workflow, project, {**environment, "PATH": str(only_python(project))})
    assert codes == {"Explore": 4, "Check": 4}, shown
    assert outputs["check"] == {"verdict": "error"}
    assert "<error" in (project / "out" / "junit.xml").read_text()


def only_python(project):
    """Return a folder for PATH in which no emulator is found."""
    folder = project / "few tools"
    folder.mkdir()
    for name in ("bash", "cp"):
        (folder / name).symlink_to(shutil.which(name))
    (folder / "lrfdse").symlink_to(project / "bin" / "lrfdse")
    return folder


@pytest.mark.slow
def test_the_gitlab_example_runs_green_and_then_breaks_a_limit(yaml, project):
    pipeline = yaml.safe_load((CI / "gitlab-ci.yml").read_text())
    environment = variables(pipeline["variables"], project, GITLAB_CI="true", CI_PROJECT_DIR=str(project))

    def run(**more):
        script = "\n".join(pipeline["compress"]["script"])
        (project / "step.sh").write_text(script)
        # The runner's shell stops at the first line that fails.
        command = ["bash", "-eo", "pipefail", "step.sh"]
        return subprocess.run(
            command, cwd=project, env={**environment, **more}, capture_output=True, text=True, check=False
        )

    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "::" not in ended.stdout
    artifacts = pipeline["compress"]["artifacts"]
    assert all((project / path).exists() for path in [*artifacts["paths"], artifacts["reports"]["junit"]])
    assert run(MAX_LATENCY="0.001us").returncode == 1
    assert "<failure" in (project / "out" / "junit.xml").read_text()
    assert run(PATH=str(only_python(project))).returncode == pipeline["compress"]["retry"]["exit_codes"] == 4
