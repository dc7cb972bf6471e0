"""Shares of the whole model, against sums by hand, and the bound that follows from them."""

from __future__ import annotations

import dataclasses

import pytest

from lrfdse.ir.latency import Latency
from lrfdse.report.shares import bound_text, rest_lines, shares_lines
from lrfdse.results.designs import OperatorCost, WholeModel
from lrfdse.results.layers import Latencies, LayerFacts, UntouchedPart
from lrfdse.results.shares import Share, shares_of


def layer(name, inputs, outputs, rows=1, kept=None):
    size = inputs * outputs
    return LayerFacts(
        name=name, inputs=inputs, outputs=outputs, rows=rows, params=size, weight_bytes=4 * size, kept_dense=kept
    )


def at(us):
    return Latencies(warm=Latency(us, us, us))


CONV = UntouchedPart(name="conv", op="Conv", params=1500, weight_bytes=6000, macs=600_000, reason="a convolution")
LAYERS = (layer("fc", 100, 10), layer("head", 10, 10, kept="below min_size"))
ORIGINAL = WholeModel(
    latency=at(50.0),
    kind="modelled",
    operators=(
        OperatorCost(name="conv", op="Conv", latency=at(46.0)),
        OperatorCost(name="fc", op="FullyConnected", latency=at(3.0), layer="fc"),
        OperatorCost(name="head", op="FullyConnected", latency=at(1.0), layer="head"),
    ),
)


def test_what_is_kept_dense_belongs_to_the_rest():
    found = shares_of(LAYERS, (CONV,), 601_100, ORIGINAL)
    assert found.layers == 1
    assert found.weight_bytes == Share(4000, 4000 + 400 + 6000)
    assert found.macs == Share(1000, 601_100)
    assert found.warm_us.part == pytest.approx(3.0) and found.warm_us.whole == 50.0
    # Without the layer, 47 of 50 us are left.
    assert found.warm_us.most_times == pytest.approx(50 / 47)


def test_what_is_not_known_is_no_share():
    assert shares_of(LAYERS, (dataclasses.replace(CONV, weight_bytes=None),), None) is None
    found = shares_of(LAYERS, (CONV,), None)
    assert found.macs is None and found.warm_us is None
    strange = dataclasses.replace(ORIGINAL, operators=ORIGINAL.operators[:1])
    assert shares_of(LAYERS, (), 1100, strange).warm_us is None
    assert Share(2, 2).most_times is None and Share(0, 0).fraction == 0


@pytest.fixture
def partly(document, read):
    """A document whose model is mostly a convolution."""
    found = read(document)
    parts = [dataclasses.replace(CONV, weight_bytes=30_000, params=7500)]
    return dataclasses.replace(found, untouched=tuple(parts), macs=600_000 + 16 * 16 + 10 * 16)


def test_the_bound_is_said_with_the_shares(partly):
    whole, can = shares_lines(partly)
    assert whole == "Whole model: 31 KiB of weights and 600,416 MACs."
    shares = "2 layers can be compressed, with 6% of the bytes and 0% of the MACs"
    assert can == f"{shares}: at most 1.00x fewer MACs, 6% fewer bytes."
    original = dataclasses.replace(
        partly.original,
        whole_model=dataclasses.replace(
            ORIGINAL,
            operators=tuple(
                dataclasses.replace(each, layer=name)
                for each, name in zip(ORIGINAL.operators, (None, "fc1", "fc2"), strict=True)
            ),
        ),
    )
    timed = dataclasses.replace(partly, original=original)
    assert bound_text(timed) == "at most 1.09x faster, 6% fewer bytes"
    assert "50 us (modelled, warm)" in shares_lines(timed)[0] and "8% of the time" in shares_lines(timed)[1]


def test_the_rest_has_its_share_its_reason_and_what_helps(partly):
    (line,) = rest_lines(partly)
    assert line == (
        "  conv (Conv, 7,500 params, 94.4% of the bytes, 99.9% of the MACs): a convolution; "
        "onnxruntime's quantizer stores its weights as int8"
    )


def test_where_nearly_all_can_be_compressed_nothing_is_bounded(document, read):
    document["untouched"] = []
    found = dataclasses.replace(read(document), macs=16 * 16 + 10 * 16)
    assert bound_text(found) == ""
    assert shares_lines(found)[1].endswith("100% of the MACs: the rest is too small to bound anything.")
