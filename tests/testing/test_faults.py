"""The contracts find the faults that they are there for."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lrfdse.board.transport import RUNNERS, Ended
from lrfdse.explore.metrics import METRICS, QualityMetric
from lrfdse.explore.scores import Grade
from lrfdse.factorize import METHODS
from lrfdse.search.samplers import SAMPLERS, Sampler
from lrfdse.testing import methods, metrics, runners, samplers

pytest_plugins = ["pytester"]


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


def forgetful(space, told, known, seed, count):
    return list(space.plans())[:count]


def moody(space, told, known, seed, count):
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
        return Ended(0, RUNNERS.get("command")("{program}").run(program, timeout=timeout).output, "")


FAULTS = [
    (METHODS, Zeros(), methods.MethodContract, "name", "full_rank_gives_the_weight_itself"),
    (METHODS, Noisy(), methods.MethodContract, "name", "equal_problems_have_equal_fits"),
    (SAMPLERS, Sampler("faulty", forgetful), samplers.SamplerContract, "name", "the_whole_space_is_proposed_once_each"),
    (SAMPLERS, Sampler("faulty", moody), samplers.SamplerContract, "name", "plans_depend_on_the_arguments_alone"),
    (SAMPLERS, Sampler("other", moody), samplers.SamplerContract, "name", "it_says_what_it_is"),
    (METRICS, QualityMetric(lower_is_better), metrics.MetricContract, "name", "the_best_is_one"),
    (RUNNERS, Deaf, runners.RunnerContract, "text", "output_errors_and_exit_code_come_back"),
    (RUNNERS, Deaf, runners.RunnerContract, "text", "arguments_reach_the_program_in_order"),
]


@pytest.mark.parametrize(("registry", "faulty", "contract", "fixture", "broken"), FAULTS)
def test_a_fault_is_found(registry, faulty, contract, fixture, broken, pytester):
    value = "faulty:" if fixture == "text" else "faulty"
    pytester.makepyfile(
        f"""
        import pytest
        from {contract.__module__} import {contract.__name__}

        class TestFaulty({contract.__name__}):
            @pytest.fixture
            def {fixture}(self):
                return {value!r}
        """
    )
    with registry.register("faulty", faulty):
        found = pytester.inline_run("-p", "no:cacheprovider", "-q")
    failed = {report.nodeid for report in found.getreports("pytest_runtest_logreport") if report.failed}
    assert any(broken in node for node in failed), failed
