"""Layers in whole numbers as a choice: what they take, and where they cannot be one."""

from __future__ import annotations

import shutil

import onnx
import pytest

from lrfdse.cli import run
from lrfdse.explore.layers.latencies import measured_kernel
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec, QuantizedSpec
from lrfdse.meters.meter import open_meter
from lrfdse.targets.catalog import load_target


@pytest.mark.slow
def test_its_latency_is_that_of_the_operators_of_its_library():
    target = load_target("aarch64-a55")
    meter, dense = open_meter("model", target), Factorization.dense(96, 100)
    found = measured_kernel(QuantizedSpec(96, 100, dense, 1, bias=True, relu=True), target, meter, tries=1)
    plain = measured_kernel(KernelSpec(96, 100, dense, 1, bias=True, relu=True), target, meter, tries=1)
    assert found.measurement.max_error < 1e-6
    # One product, and no operator beside it: inputs are rounded in it, and the outputs are finished.
    assert "|" not in found.schedule
    # A core with products of int8 (sdot) multiplies sixteen numbers where it multiplies four floats.
    assert found.measurement.warm.us < plain.measurement.warm.us / 2


def changed(folder, to, **more):
    shutil.copytree(folder, to)
    if "opset" in more:
        model = onnx.load(to / "model.onnx")
        model.opset_import[0].version = more["opset"]
        onnx.save(model, to / "model.onnx")
    if more.get("calib") is False:
        (to / "calib.npz").unlink()
    return to


@pytest.mark.parametrize("storage", ["qdq", "all"])
@pytest.mark.parametrize(
    ("more", "options", "said"),
    [
        ({"calib": False}, (), "rounds what layers read by its range on calibration data: name some with --calib"),
        ({"opset": 12}, (), "opset 12 is too old for --storage {}: version 13 or newer is required"),
        ({}, ("--runner", "sh -c"), "--runner times kernels, and layers in whole numbers have none of their own"),
    ],
)
def test_what_cannot_be_rounded_is_refused_before_anything_runs(
    storage, more, options, said, small_folder, tmp_path, capsys
):
    folder = changed(small_folder, tmp_path / "in", **more)
    words = ["--target", "riscv64", "--output", str(tmp_path / "out"), "--storage", storage, *options]
    assert run(["explore", str(folder), *words, "--dry-run"]) == 2
    assert said.format(storage) in " ".join(capsys.readouterr().err.split())
    assert run(["explore", str(folder), *words]) == 2
    assert not (tmp_path / "out" / "front.json").exists()
