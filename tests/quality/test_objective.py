"""Several outputs as one loss, against sums over the outputs and finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.quality.divergence import divergences, output_information, scores_of, softmax
from lrfdse.quality.objective import OutputLoss, SideBySide, scaled

PARTS = (OutputLoss("a", "softmax", 2.0), OutputLoss("b", "squared", 0.5), OutputLoss("c", "softmax", 1.0, True))


def outputs(seed):
    rng = np.random.default_rng(seed)
    return {
        "a": rng.standard_normal((7, 3, 4)) * 2,
        "b": rng.standard_normal((7, 5)),
        "c": softmax(rng.standard_normal((7, 6))),
    }


def test_divergences_add_up():
    one, other = outputs(1), outputs(2)
    side = SideBySide.of(PARTS, one)
    assert side.size == 12 + 5 + 6
    wanted = sum(
        part.scale * divergences(*(scores_of(each[part.output], part.loss) for each in (one, other)), part.loss)
        for part in PARTS
    )
    np.testing.assert_allclose(side.divergences(side.scores(one), side.scores(other)), wanted, rtol=1e-12)
    assert side.information(side.scores(one)) == pytest.approx(
        sum(part.scale * output_information(scores_of(one[part.output], part.loss), part.loss) for part in PARTS)
    )


def test_derivatives_are_those_of_the_divergence():
    rng = np.random.default_rng(3)
    side = SideBySide.of(PARTS, outputs(1))
    scores, reference = side.scores(outputs(1)), side.scores(outputs(2))
    direction = rng.standard_normal(scores.shape)

    def along(step):
        return side.divergences(scores + step * direction, reference)

    slope = (along(1e-5) - along(-1e-5)) / 2e-5
    np.testing.assert_allclose((side.pulls(scores, reference) * direction).sum(axis=1), slope, rtol=1e-5, atol=1e-7)
    at = side.divergences(scores + 1e-3 * direction, scores)
    moved = side.curved(side.chances(scores).astype(np.float32), direction.astype(np.float32))
    np.testing.assert_allclose(1e-6 / 2 * (moved * direction).sum(axis=1), at, rtol=2e-2)


def test_what_is_pulled_back_is_the_curvature_seen_through_slopes():
    rng = np.random.default_rng(3)
    side = SideBySide.of(PARTS, outputs(1))
    scores = side.scores(outputs(1))
    slope = rng.standard_normal((7, side.size, 3)).astype(np.float32)
    chances = side.chances(scores).astype(np.float32)
    columns = np.stack([side.curved(chances, slope[:, :, k]) for k in range(3)], axis=-1)
    wanted = np.einsum("nsu,nsv->uv", slope, columns)
    np.testing.assert_allclose(side.pulled_back(slope, scores), wanted, rtol=1e-4, atol=1e-3)


def test_outputs_weigh_alike_and_those_that_never_change_do_not_count():
    given = outputs(1) | {"d": np.ones((7, 2))}
    found = scaled((*(OutputLoss(p.output, p.loss) for p in PARTS), OutputLoss("d", "squared")), given, {"b": 3.0})
    assert [part.output for part in found] == ["a", "b", "c"]
    told = [part.scale * output_information(part.scores(given), part.loss) for part in found]
    assert found[0].scale == 1 and told[1] == pytest.approx(3 * told[0]) and told[2] == pytest.approx(told[0])
