"""The contracts that plug-in authors run, over what lrfdse brings."""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path

import pytest

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


class TestRunner(RunnerContract):
    @pytest.fixture(params=["command:env {program} {arguments}", LIKE_SSH], ids=["program", "ssh"])
    def text(self, request):
        return request.param
