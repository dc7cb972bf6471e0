"""Faulty things under the contracts; `test_faults.py` runs this file and expects the contracts to find them."""

from __future__ import annotations

import contextlib
import itertools
import random

import numpy as np
import pytest

from lrfdse.board.transport import RUNNERS, ProcessResult
from lrfdse.factorize.methods import METHODS
from lrfdse.ir.latency import Latency, Measurement
from lrfdse.meters.meter import METERS
from lrfdse.quality.metrics import METRICS, QualityMetric
from lrfdse.quality.scores import Grade
from lrfdse.search.samplers.builtin import SAMPLERS
from lrfdse.search.samplers.protocol import Sampler
from lrfdse.targets.catalog import load_target
from lrfdse.testing.meters import MeterContract
from lrfdse.testing.methods import MethodContract
from lrfdse.testing.metrics import MetricContract
from lrfdse.testing.runners import RunnerContract
from lrfdse.testing.samplers import SamplerContract


class Zeros:
    """Gives cores of zeros, whatever the weight is."""

    source = "nowhere, it is a fault"
    needs_moments = False

    def fit(self, problem, factorization):
        return tuple(np.zeros(shape) for shape in factorization.core_shapes)


class Noisy:
    """Gives other cores each time."""

    source = "nowhere, it is a fault"
    needs_moments = False
    draw = np.random.default_rng(0)

    def fit(self, problem, factorization):
        found = METHODS.get("svd").fit(problem, factorization)
        return tuple(core * (1 + 1e-12 * self.draw.standard_normal()) for core in found)


def forgetful(space, observed, known, seed, count):
    return list(space.plans())[:count]


def moody(space, observed, known, seed, count):
    left = [plan for plan in space.plans() if plan not in known]
    return random.SystemRandom().sample(left, min(count, len(left)))


def lower_is_better(outputs, data, reference):
    return Grade(float(np.abs(outputs["y"] - reference["y"]).mean()))


class Deaf:
    """Loses arguments and exit codes."""

    name = "deaf"

    def __init__(self, text):
        pass

    def run(self, program, arguments=(), timeout=600.0):
        return ProcessResult(0, RUNNERS.get("command")("{program}").run(program, timeout=timeout).output, "")


class Trusting(METERS.get("model")):
    """Believes every kernel."""

    name = "trusting"

    def measure(self, artifact, arrays, expected):
        latency = Latency(1.0, 1.0, 1.0)
        return Measurement(self.name, latency, latency, 0.0)


class Restless(METERS.get("model")):
    """Has another key every time."""

    name = "restless"
    keys = itertools.count()

    def key(self):
        return str(next(self.keys))


@pytest.fixture(scope="module", autouse=True)
def registered():
    """Register the faulty things for the tests of this file alone: doctests of the suite import the file, too."""
    entries = [
        METERS.register("trusting", Trusting),
        METERS.register("restless", Restless),
        METHODS.register("zeros", Zeros()),
        METHODS.register("noisy", Noisy()),
        SAMPLERS.register("forgetful", Sampler("forgetful", forgetful)),
        SAMPLERS.register("moody", Sampler("moody", moody)),
        SAMPLERS.register("misnamed", Sampler("moody", moody)),
        METRICS.register("lower", QualityMetric(lower_is_better)),
        RUNNERS.register("deaf", Deaf),
    ]
    with contextlib.ExitStack() as stack:
        for entry in entries:
            stack.enter_context(entry)
        yield


class TestMeters(MeterContract):
    @pytest.fixture(params=["trusting", "restless"])
    def name(self, request):
        return request.param

    @pytest.fixture
    def target(self):
        return load_target("riscv64")


class TestMethods(MethodContract):
    @pytest.fixture(params=["zeros", "noisy"])
    def name(self, request):
        return request.param


class TestSamplers(SamplerContract):
    @pytest.fixture(params=["forgetful", "moody", "misnamed"])
    def name(self, request):
        return request.param


class TestMetrics(MetricContract):
    @pytest.fixture(params=["lower"])
    def name(self, request):
        return request.param


class TestRunners(RunnerContract):
    @pytest.fixture(params=["deaf:"])
    def text(self, request):
        return request.param
