"""What every meter must do.

A plug-in's author writes::

    class TestCountedMeter(MeterContract):
        @pytest.fixture
        def target(self):
            return load_target("riscv64")

        @pytest.fixture
        def name(self):
            return "counted"
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lrfdse.errors import KernelError
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Artifact, KernelSpec
from lrfdse.meters.meter import METERS, Meter, open_meter
from lrfdse.targets.target import Target

Case = tuple[Artifact, list[NDArray[Any]], NDArray[np.float64]]


class MeterContract:
    """Tests of one meter on one target; a subclass gives the fixtures `name` and `target`."""

    @pytest.fixture
    def name(self) -> str:
        """Return the name under which the meter is registered."""
        raise NotImplementedError("give the fixture `name`")

    @pytest.fixture
    def target(self) -> Target:
        """Return a target that the meter fits."""
        raise NotImplementedError("give the fixture `target`")

    @pytest.fixture
    def meter(self, name: str, target: Target) -> Meter:
        """Return the meter, opened."""
        return open_meter(name, target)

    @pytest.fixture
    def case(self, target: Target) -> Case:
        """Return a compiled kernel, arrays for its arguments and the output that is right."""
        from lrfdse.kernels.build import compile_kernel
        from lrfdse.kernels.data import example
        from lrfdse.kernels.schedules import schedules

        spec = KernelSpec(12, 24, Factorization.svd(12, 24, 5), 1, bias=True, relu=True)
        artifact = compile_kernel(spec, schedules(spec, target, 1)[0], target, "lrfdse_kernel")
        return (artifact, *example(artifact, 0))

    def test_it_says_what_it_is(self, name: str, meter: Meter) -> None:
        """Name, kind and texts are there, before it is opened, too."""
        for found in (METERS.get(name), meter):
            assert found.name == name, f"it calls itself {found.name!r}"
            assert found.kind in ("measured", "modelled"), f"kind is {found.kind!r}"
            assert type(found.exclusive) is bool, "exclusive must be True or False"
            assert all(isinstance(tool, str) for tool in found.tools), "tools must be names of programs"
            for text in (found.procedure, found.bracket):
                assert text.strip() == text != "", "procedure and bracket must say something"
                assert "\n" not in text, f"{text!r} must be one line"

    def test_a_right_kernel_gives_latencies_within_their_brackets(self, meter: Meter, case: Case) -> None:
        """Both regimes have a positive latency inside its bracket, and the kernel's error is small."""
        measured = meter.measure(*case)
        assert measured.meter == meter.name
        assert 0 <= measured.max_error <= 1e-4
        for latency in (measured.warm, measured.cold):
            assert 0 < latency.low_us <= latency.us <= latency.high_us < float("inf"), str(latency)

    def test_a_kernel_that_computes_wrong_numbers_gets_none(self, meter: Meter, case: Case) -> None:
        """An output that differs from the reference in one element is refused in one line."""
        artifact, arrays, expected = case
        other = expected.copy()
        other.flat[0] += 0.01 * np.abs(expected).max()
        with pytest.raises(KernelError) as caught:
            meter.measure(artifact, arrays, other)
        assert "\n" not in str(caught.value)

    def test_arrays_that_do_not_fit_are_refused(self, meter: Meter, case: Case) -> None:
        """A missing array or a reference of another size is the caller's mistake."""
        artifact, arrays, expected = case
        with pytest.raises(ValueError):
            meter.measure(artifact, arrays[:-1], expected)
        with pytest.raises(ValueError):
            meter.measure(artifact, arrays, expected.reshape(-1)[:-1])

    def test_a_measurement_can_be_stored_as_json(self, meter: Meter, case: Case) -> None:
        """What a measurement holds comes back from JSON as it was."""
        plain = dataclasses.asdict(meter.measure(*case))
        assert json.loads(json.dumps(plain)) == plain

    def test_its_key_repeats(self, name: str, meter: Meter, target: Target) -> None:
        """Another meter of this name on this target has the same key, so that stored results are found again."""
        assert meter.key() == open_meter(name, target).key() != ""
        assert all(isinstance(part, str) and part for pair in meter.versions().items() for part in pair)

    def test_modelled_numbers_repeat_exactly(self, meter: Meter, case: Case) -> None:
        """A model gives the same kernel the same number."""
        if meter.kind == "measured":
            pytest.skip("measured numbers do not repeat")
        assert meter.measure(*case) == meter.measure(*case)
