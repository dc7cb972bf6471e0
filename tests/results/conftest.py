"""Files that lrfdse wrote while schema version 1 was current, and designs made by hand.

``1-first-release.json`` is of the first lrfdse that wrote version 1, the others of the last: with calibration,
evaluation and test data and a board (an emulator stood for it); without any data; measured on the host; with limits
that nothing meets.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lrfdse.ir.latency import Latency
from lrfdse.results.asked import Asked, Limits, MeterFacts, ModelFile, TargetFacts
from lrfdse.results.designs import DesignFacts, Score
from lrfdse.results.document import Document
from lrfdse.results.layers import Choice, Latencies

OLD = sorted(Path(__file__).with_name("fixtures").glob("1-*.json"))


@pytest.fixture(params=OLD, ids=lambda path: path.stem)
def old(request):
    """The path of each file of version 1."""
    return request.param


@pytest.fixture
def of_board():
    """What the file with a board holds, as a parser gives it."""
    return json.loads(next(path for path in OLD if path.stem == "1-board").read_text())


def design(identity, params, us, score, **more):
    facts = {"origin": "knapsack", "on_front": True, "plan": {"fc1": Choice(factorization="svd:r=1")}, **more}
    return DesignFacts(
        id=identity,
        params=params,
        weight_bytes=4 * params,
        flops=2 * params,
        cache_regime="cold",
        latency=Latencies(cold=Latency(us, us, us)),
        eval_score=Score(value=score),
        **facts,
    )


@pytest.fixture
def small():
    """Return a document of these designs, the first the original."""

    def build(*designs, recommended=None, svd_at_equal_size=None, max_drop=0.01):
        return Document(
            model=ModelFile(name="net"),
            target=TargetFacts(name="riscv64"),
            meter=MeterFacts(name="model", kind="modelled"),
            metric="accuracy",
            settings=Asked(limits=Limits(max_drop=max_drop)),
            recommended=recommended,
            svd_at_equal_size=svd_at_equal_size,
            original=designs[0],
            designs=designs[1:],
        )

    return build


@pytest.fixture
def make():
    return design
