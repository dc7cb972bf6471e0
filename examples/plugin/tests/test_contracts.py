"""The plug-in does what lrfdse asks of each kind."""

from __future__ import annotations

import pytest

from lrfdse.targets.catalog import load_target
from lrfdse.testing.meters import MeterContract
from lrfdse.testing.methods import MethodContract
from lrfdse.testing.metrics import MetricContract
from lrfdse.testing.samplers import SamplerContract


class TestCounted(MeterContract):
    @pytest.fixture
    def name(self):
        return "counted"

    @pytest.fixture
    def target(self):
        return load_target("riscv64")


class TestSvdRms(MethodContract):
    @pytest.fixture
    def name(self):
        return "svd-rms"


class TestNeighbours(SamplerContract):
    @pytest.fixture
    def name(self):
        return "neighbours"


class TestTop2(MetricContract):
    @pytest.fixture
    def name(self):
        return "top2"
