"""The contracts that plug-in authors run, over what lrfdse brings."""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path

import numpy as np
import pytest

from lrfdse.errors import InputError
from lrfdse.factorize.methods import METHODS
from lrfdse.quality.metrics import METRICS
from lrfdse.search.samplers.builtin import SAMPLERS
from lrfdse.targets.catalog import load_target
from lrfdse.testing.formats import FormatContract
from lrfdse.testing.meters import MeterContract
from lrfdse.testing.methods import MethodContract
from lrfdse.testing.metrics import MetricContract
from lrfdse.testing.runners import RunnerContract
from lrfdse.testing.samplers import SamplerContract
from tests.formats.tflite_models import mlp

# What `ssh host COMMAND` does: a shell gets the command line as one text, and the program on standard input.
LIKE_SSH = """sh -c 'exec sh -c "$1"' ssh"""


class TestMeters(MeterContract):
    @pytest.fixture(params=["host", "model"])
    def name(self, request):
        return request.param

    @pytest.fixture
    def target(self, name):
        if name == "model":
            return load_target("riscv64")
        target = load_target("host")
        if platform.machine() != target.isa:
            pytest.skip(f"the shipped target is for {target.isa}")
        return target


class TestMethods(MethodContract):
    @pytest.fixture(params=METHODS.names())
    def name(self, request):
        return request.param


class TestSamplers(SamplerContract):
    @pytest.fixture(params=SAMPLERS.names())
    def name(self, request):
        needs = SAMPLERS.get(request.param).needs
        if needs and importlib.util.find_spec(needs) is None:
            pytest.skip(f"{needs} is not installed")
        return request.param


class TestMetrics(MetricContract):
    @pytest.fixture(params=METRICS.names())
    def name(self, request):
        return request.param


class TestOnnx(FormatContract):
    @pytest.fixture
    def file(self):
        return Path(__file__).parents[2] / "examples" / "lenet300-fashion" / "model.onnx"


class TestTFLite(FormatContract):
    @pytest.fixture
    def file(self, tmp_path):
        pytest.importorskip("ai_edge_litert")
        path = tmp_path / "model.tflite"
        path.write_bytes(mlp(np.random.default_rng(0)))
        return path

    def test_what_is_written_computes_the_same(self, file, opened, tmp_path):
        with pytest.raises(InputError, match="are read, not written"):
            opened.write(opened.read(file)[0], tmp_path / "written.tflite")
        assert not (tmp_path / "written.tflite").exists()


class TestRunner(RunnerContract):
    @pytest.fixture(params=["command:env {program} {arguments}", LIKE_SSH], ids=["program", "ssh"])
    def text(self, request):
        return request.param
