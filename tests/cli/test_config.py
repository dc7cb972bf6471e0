"""Options from a file: by their names, after the command line, wrong ones in one line."""

from __future__ import annotations

import pytest
import typer

from lrfdse.cli import run
from lrfdse.cli.app import app


@pytest.fixture
def parameters(tmp_path):
    def read(text, *words):
        (tmp_path / "run.toml").write_text(text)
        command = typer.main.get_command(app).commands["explore"]
        return command.make_context("explore", [*words, "--config", str(tmp_path / "run.toml")]).params

    return read


def test_keys_are_the_names_of_options_and_paths_are_the_files_own(parameters, tmp_path):
    read = parameters(
        'model = "nets/a.onnx"\ntarget = "mine.toml"\nspace = "svd"\neval = "/data/e.npz"\nmax-drop = 0.5\n'
        'time = 3\nbudget = 12\ncorrect = false\naccept-unverified = true\nshape = "x=1x3"\nstudy = "s.log"\n'
    )
    assert read["model"] == tmp_path / "nets/a.onnx"
    assert read["target"] == str(tmp_path / "mine.toml") and read["space"] == "svd"
    assert str(read["eval_"]) == "/data/e.npz" and read["study"] == str(tmp_path / "s.log")
    assert (read["max_drop"], read["minutes"], read["budget"]) == ("0.5", 3.0, 12)
    assert (read["correct"], read["accept_unverified"], read["shape"]) == (False, True, ["x=1x3"])


def test_the_command_line_goes_before_the_file(parameters):
    text = 'model = "a.onnx"\ntarget = "riscv64"\nbudget = 12\ncorrect = false\nkeep = 3\n'
    read = parameters(text, "b.onnx", "--budget", "5", "--correct")
    assert (str(read["model"]), read["budget"], read["correct"], read["keep"]) == ("b.onnx", 5, True, 3)
    assert read["target"] == "riscv64"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("max_drop = 1", "unknown option 'max_drop': did you mean 'max-drop'?"),
        ("zzz = 1", "unknown option 'zzz': there are accept-unverified, artifacts,"),
        ('config = "x"', "unknown option 'config'"),
        ("[limits]\nmax-drop = 1", "unknown option 'limits'"),
        ("budget = [1]", "budget takes a text, a number, true or false, but got list"),
        ("shape = [1]", "shape takes a text"),
        ("budget = ", "not a TOML file"),
        (b"\xff", "not a TOML file"),
        (None, "No such file"),
    ],
)
def test_what_cannot_be_used_is_one_line(text, line, tmp_path, capsys):
    file = tmp_path / "run.toml"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert run(["explore", "--config", str(file)]) == 2
    told = capsys.readouterr().err
    assert line in told and len(told.splitlines()) == 1


def test_values_are_checked_as_those_of_the_command_line(tmp_path, capsys):
    (tmp_path / "run.toml").write_text('model = "a.onnx"\ntarget = "riscv64"\nbudget = 0\n')
    assert run(["explore", "--config", str(tmp_path / "run.toml")]) == 2
    assert "--budget" in capsys.readouterr().err
