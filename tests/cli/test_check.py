"""The command: options, files, exit codes."""

from __future__ import annotations

import json

import pytest

from lrfdse.cli import run

DESIGN = {
    "id": "aa",
    "params": 50_000,
    "flops": 1,
    "latency_us": 20.0,
    "latency_low_us": 16.0,
    "latency_high_us": 24.0,
    "accuracy": None,
    "eval_accuracy": 0.9,
    "fidelity": 0.9,
    "cache_regime": "warm",
    "loss_standard_error": 0.0,
    "model": "designs/aa/model.onnx",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    document = {
        "schema_version": 1,
        "model": {"path": "../[bold]x/model.onnx", "sha256": ""},
        "target": "riscv64",
        "meter": "model",
        "latency": {"kind": "modelled"},
        "metric": "accuracy",
        "settings": {"max_drop": 0.01},
        "baseline": {**DESIGN, "id": "bb", "params": 100_000},
        "recommended": "aa",
        "designs": [DESIGN],
    }
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "front.json").write_text(json.dumps(document))
    return tmp_path / "run"


def test_every_output_at_once(folder, tmp_path, capsys, monkeypatch):
    for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT"):
        monkeypatch.setenv(name, str(tmp_path / name))
    (tmp_path / "GITHUB_STEP_SUMMARY").write_text("before\n")
    arguments = ["check", str(folder), "--max-latency", "0.01ms", "--max-params", "60k", "--github", "--lava"]
    files = ["--junit", str(tmp_path / "ci" / "junit.xml"), "--benchmark-json", str(tmp_path / "b.json")]
    assert run([*arguments, *files]) == 1
    shown = capsys.readouterr().out
    assert "Checked [bold]x for riscv64, design aa, latency modelled" in shown
    assert "FAIL     latency: 20 us [16..24], at most 10 us; 20 us [16..24] is over 10 us" in shown
    assert "\x1b" not in shown
    assert "::error title=lrfdse%3A latency%2C [bold]x for riscv64::" in shown
    assert "<LAVA_SIGNAL_TESTCASE TEST_CASE_ID=_bold_x.riscv64.params RESULT=pass" in shown
    assert (tmp_path / "GITHUB_STEP_SUMMARY").read_text().startswith("before\n### Checked &#91;bold&#93;x")
    assert "verdict=fail\n" in (tmp_path / "GITHUB_OUTPUT").read_text()
    assert '<testsuite name="riscv64" tests="2" failures="1"' in (tmp_path / "ci" / "junit.xml").read_text()
    assert json.loads((tmp_path / "b.json").read_text())[0]["value"] == 20.0


def test_json_is_all_that_is_printed(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    junit = tmp_path / "junit.xml"
    arguments = ["check", str(folder), "--max-latency", "0.01ms", "--max-params", "60k", "--json"]
    assert run([*arguments, "--junit", str(junit)]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["exit_code"], told["design"], told["kind"], told["target"]) == (1, "aa", "modelled", "riscv64")
    found = {each["name"]: (each["verdict"], each["measurement"], each["unit"]) for each in told["checks"]}
    assert found == {"latency": ("fail", 20.0, "us"), "params": ("pass", 50_000, "parameters")}
    assert junit.exists()
    assert run([*arguments, "--lava"]) == 2 and "--lava" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "option", "told"),
    [("true", [], True), ("true", ["--no-github"], False), ("false", [], False), ("", ["--github"], True)],
)
def test_github_is_told_where_it_runs(environment, option, told, folder, capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", environment)
    assert run(["check", str(folder), "--max-params", "1", *option]) == 1
    assert ("::error" in capsys.readouterr().out) == told


def test_force_color_colours_a_pipe(folder, capsys, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run(["check", str(folder)]) == 0
    assert "\x1b[32mpass" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(["check", str(folder)]) == 0
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--max-latency", "soon"], "--max-latency takes"),
        (["--max-regression", "5%"], "needs --baseline"),
        (["--update-baseline"], "needs --baseline"),
        (["--baseline", "b.json", "--max-regression", "-1%"], "--max-regression takes"),
        (["--baseline", "nowhere.json"], "--update-baseline makes it"),
        (["--design", "zz"], "no design of"),
        (["--junit", "/dev/null/x.xml"], "cannot be written"),
    ],
)
def test_wrong_options_are_one_line(arguments, part, folder, capsys):
    assert run(["check", str(folder), *arguments]) == 2
    error = capsys.readouterr().err
    assert part in error
    assert len(error.splitlines()) == 1


def test_errors_are_json_where_the_log_is(tmp_path, capsys):
    arguments = ["inspect", str(tmp_path / "no.onnx"), "--log-format", "json"]
    assert run(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert (event["stage"], event["kind"]) == ("failed", "input")
    assert "no.onnx" in event["text"]
