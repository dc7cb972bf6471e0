"""Bad input: one clear line, the documented exit code, no traceback, nothing half-written."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from lrfdse.cli import run


def refused(arguments, capsys, code=2):
    assert run([str(argument) for argument in arguments]) == code
    error = capsys.readouterr().err
    last = error.strip().splitlines()[-1]
    assert "Traceback" not in error
    return last


def test_a_missing_model(tmp_path, capsys):
    line = refused(["explore", tmp_path / "no.onnx", "--target", "riscv64", "-o", tmp_path / "out"], capsys)
    assert "no.onnx" in line


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x07\x12\x02hi\x3a\xff\xff"])
def test_a_file_that_is_no_model(content, tmp_path, capsys):
    (tmp_path / "bad.onnx").write_bytes(content)
    line = refused(["explore", tmp_path / "bad.onnx", "--target", "riscv64", "-o", tmp_path / "out"], capsys)
    assert "bad.onnx" in line
    assert not (tmp_path / "out" / "front.json").exists()


def test_a_truncated_model(small_folder, tmp_path, capsys):
    content = (small_folder / "model.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    assert "cut.onnx" in refused(["inspect", tmp_path / "cut.onnx"], capsys)


def test_an_opset_of_the_future_is_named(small_folder, tmp_path, capsys):
    model = onnx.load(small_folder / "model.onnx")
    model.opset_import[0].version = 99
    onnx.save(model, tmp_path / "new.onnx")
    line = refused(["inspect", tmp_path / "new.onnx", "--calib", small_folder / "calib.npz"], capsys)
    assert "Opset 99" in line and "onnxruntime_src" not in line and "ONNXRuntimeError" not in line


def test_a_folder_without_a_model(tmp_path, capsys):
    assert "holds no model.onnx" in refused(["explore", tmp_path, "--target", "riscv64"], capsys)


def test_an_unknown_target_names_the_nearest(small_folder, capsys):
    assert "did you mean riscv64" in refused(["explore", small_folder, "--target", "riscv46"], capsys)


def test_an_unknown_search_space(small_folder, capsys):
    assert "unknown search space" in refused(["inspect", small_folder, "--space", "everything"], capsys)


def test_output_that_cannot_be_written(small_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    line = refused(["explore", small_folder, "--target", "riscv64", "-o", tmp_path / "file"], capsys)
    assert "cannot be written" in line


@pytest.mark.parametrize(
    ("option", "value", "part"),
    [
        ("--max-drop", "a lot", "--max-drop takes"),
        ("--max-params", "x", "--max-params takes"),
        ("--max-latency", "0", "--max-latency takes"),
        ("--shape", "x", "--shape takes"),
        ("--meter", "sundial", "sundial"),
        ("--budget", "0", "budget"),
        ("--study", "nonsense://x", "nonsense"),
    ],
)
def test_wrong_options(option, value, part, small_folder, small_space, shared_cache, tmp_path, capsys):
    base = ["explore", small_folder, "--target", "riscv64", "-o", tmp_path, "--space", small_space]
    code = run([str(a) for a in [*base, "--cache", shared_cache, option, value]])
    assert code == 2
    assert part in capsys.readouterr().err


def test_data_that_do_not_fit_the_model(small_folder, tmp_path, capsys):
    np.savez(tmp_path / "wrong.npz", x=np.zeros((4, 7), np.float32))
    base = ["explore", small_folder / "model.onnx", "--target", "riscv64", "-o", tmp_path / "out"]
    line = refused([*base, "--calib", tmp_path / "wrong.npz"], capsys)
    assert "wrong.npz" in line
    assert "48" in line


def test_test_data_without_data_that_choose(small_folder, tmp_path, capsys):
    base = ["explore", small_folder / "model.onnx", "--target", "riscv64", "-o", tmp_path / "out"]
    assert "nothing chooses designs" in refused([*base, "--test", small_folder / "test.npz"], capsys)


def test_a_meter_that_does_not_fit_the_target(small_folder, tmp_path, capsys):
    base = ["explore", small_folder, "--target", "riscv64", "-o", tmp_path / "out", "--meter", "host"]
    assert "host" in refused(base, capsys)


def test_a_missing_emulator_is_named_with_its_remedy(small_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    base = ["explore", small_folder, "--target", "riscv64", "-o", tmp_path / "out"]
    line = refused(base, capsys, code=4)
    assert "qemu" in line
    assert "apt-get install" in line
