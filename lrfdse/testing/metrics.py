"""What every metric must do.

A plug-in's author writes::

    class TestMine(MetricContract):
        @pytest.fixture
        def name(self):
            return "mine"
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lrfdse.model.data import Dataset
from lrfdse.quality.metrics import METRICS, QualityMetric

SAMPLES, CLASSES = 40, 8
"""Sizes of the outputs that metrics are tried on: small enough for loops, and more classes than a top-5 looks at."""
RESERVED = ("accuracy", "fidelity")
"""Names that reports give the metric "top1"."""


class MetricContract:
    """Tests of one metric on outputs of shape (40, 8); a subclass gives the fixture `name`."""

    @pytest.fixture
    def name(self) -> str:
        """Return the name under which the metric is registered."""
        raise NotImplementedError("give the fixture `name`")

    @pytest.fixture
    def metric(self, name: str) -> QualityMetric:
        """Return the metric."""
        return METRICS.get(name)

    @pytest.fixture
    def reference(self) -> dict[str, NDArray[Any]]:
        """Return the outputs of an original model."""
        return {"y": np.random.default_rng(0).standard_normal((SAMPLES, CLASSES))}

    @pytest.fixture
    def outputs(self, reference: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs of a compressed model, which differ."""
        return {"y": reference["y"] + np.random.default_rng(1).standard_normal((SAMPLES, CLASSES))}

    @pytest.fixture
    def labels(self, metric: QualityMetric, reference: dict[str, NDArray[Any]]) -> NDArray[Any]:
        """Return labels that the original model gets right: class numbers, or targets, as the metric takes them."""
        scores = reference["y"]
        return scores.argmax(axis=1) if metric.needs_classes else scores.copy()

    @pytest.fixture(params=[True, False], ids=["labels", "no-labels"])
    def data(self, request: pytest.FixtureRequest, labels: NDArray[Any]) -> Dataset:
        """Return data with labels, and data without."""
        inputs = {"x": np.random.default_rng(2).standard_normal((SAMPLES, 3))}
        return Dataset(inputs, labels if request.param else None)

    def test_its_name_can_be_typed(self, name: str) -> None:
        """The name is none that reports use for another metric, and cannot be taken for MODULE:FUNCTION."""
        assert name not in RESERVED
        assert ":" not in name
        assert name.strip() == name != ""

    def test_the_best_is_one_and_other_outputs_have_less(
        self,
        metric: QualityMetric,
        data: Dataset,
        reference: dict[str, NDArray[Any]],
        outputs: dict[str, NDArray[Any]],
    ) -> None:
        """Outputs that are all right score 1, the largest value there is, and others less."""
        assert metric.grade(reference, data, reference).value == pytest.approx(1)
        assert metric.grade(outputs, data, reference).value < 1

    def test_a_grade_is_the_mean_of_its_samples(
        self,
        metric: QualityMetric,
        data: Dataset,
        reference: dict[str, NDArray[Any]],
        outputs: dict[str, NDArray[Any]],
    ) -> None:
        """Where there is one value a sample, their mean is the score, of which the errors of losses are taken."""
        grade = metric.grade(outputs, data, reference)
        assert np.isfinite(grade.value)
        if grade.samples is not None:
            assert grade.samples.shape == (SAMPLES,)
            assert grade.samples.mean() == pytest.approx(grade.value)
        assert grade.decisions is None or grade.decisions >= SAMPLES

    def test_grading_repeats_and_changes_nothing(
        self,
        metric: QualityMetric,
        data: Dataset,
        reference: dict[str, NDArray[Any]],
        outputs: dict[str, NDArray[Any]],
    ) -> None:
        """The same outputs have the same grade, and are as they were afterwards."""
        before = outputs["y"].copy(), reference["y"].copy()
        assert metric.grade(outputs, data, reference).value == metric.grade(outputs, data, reference).value
        np.testing.assert_array_equal(outputs["y"], before[0])
        np.testing.assert_array_equal(reference["y"], before[1])
