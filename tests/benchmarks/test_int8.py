"""The benchmark of int8: what a repair takes back, and what its page says and keeps."""

from __future__ import annotations

import platform
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks.int8.__main__ import kept, merged, sections
from benchmarks.int8.accuracy import WAYS, Row, section, svd, svd_within
from benchmarks.int8.host import OURS, RUNTIMES, Host, ours, timed
from benchmarks.int8.host import section as measured
from benchmarks.int8.integers import Trio, forms
from benchmarks.int8.integers import section as integers
from benchmarks.int8.repair import patch, repaired, repaired_bytes
from benchmarks.int8.runtimes import Dense
from benchmarks.kernels.layers import Layer, named
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Moments
from lrfdse.ir.layer import Layer as FoundLayer
from lrfdse.ir.layer import Use
from lrfdse.ir.storage import FLOAT32, INT8
from lrfdse.targets.catalog import load_target

OUTPUTS, INPUTS = 12, 30


@pytest.fixture(scope="module")
def fitter():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(400, INPUTS)) @ rng.normal(size=(INPUTS, INPUTS)) + rng.normal(size=INPUTS)
    mean = rows.mean(axis=0)
    return Fitter(rng.normal(size=(OUTPUTS, INPUTS)), Moments(len(rows), mean, rows.T @ rows / len(rows)), "auto")


@pytest.fixture(scope="module")
def rounded(fitter):
    return fitter.fit(Factorization.dense(OUTPUTS, INPUTS), INT8)


def harm(fitter, weight):
    difference = fitter.weight - weight
    return float(np.trace(difference @ fitter.moments.covariance @ difference.T))


@pytest.mark.parametrize("rank", [1, 4, OUTPUTS])
def test_a_repair_takes_back_the_leading_directions_of_what_rounding_lost(fitter, rounded, rank):
    lost = fitter.weight - dense_weight(rounded.cores)
    # By the definition: the singular values of E S beyond the rank, S any root of the covariance.
    values = np.linalg.svd(lost @ np.linalg.cholesky(fitter.moments.covariance), compute_uv=False)
    left = float(np.sum(values[rank:] ** 2))
    added = dense_weight(patch(fitter, rounded, rank, FLOAT32).cores)
    found = harm(fitter, dense_weight(rounded.cores) + added)
    assert found == pytest.approx(left, rel=1e-6, abs=1e-9 * float(np.sum(values**2)))


@pytest.mark.parametrize("rank", [1, 4, OUTPUTS])
def test_a_repair_in_int8_is_no_worse_than_none(fitter, rounded, rank):
    whole = dense_weight(repaired(fitter, rounded, rank).cores)
    assert harm(fitter, whole) < harm(fitter, dense_weight(rounded.cores))


def test_the_bytes_of_a_repair_are_those_of_what_is_stored():
    dense, low = Factorization.dense(OUTPUTS, INPUTS), Factorization.svd(OUTPUTS, INPUTS, 3)
    assert repaired_bytes(OUTPUTS, INPUTS, 3) == Choice(dense, INT8).bytes + Choice(low, INT8).bytes


def test_the_same_bytes_in_float32_are_the_most_that_fit():
    layer = FoundLayer("fc", 300, 784, (Use("fc", 1, True, False),), 300, "digest")
    size = Choice(svd(layer, 2.0).factorization, INT8).bytes
    found = svd_within(layer, size)
    (rank,) = found.factorization.ranks
    assert found.bytes <= size < Choice(Factorization.svd(300, 784, rank + 1)).bytes


def test_the_page_has_means_over_seeds():
    def run(original, rounded):
        return [Row("dense", WAYS[0], 400, original), Row("dense", WAYS[1], 112, rounded)]

    lines = section("net", "% right", [run(90.0, 89.9), run(88.0, 88.3)])
    assert "The original has 90.00, 88.00 (% right); means over 2 seeds." in lines
    assert lines[-2] == "| dense | 400 | +0.00 | 112 | +0.10 | – | – | – | – | +0.10 |"


def test_a_part_that_is_not_run_stays_as_it_is(tmp_path):
    page = tmp_path / "int8.md"
    assert kept(page, "speed") == []
    page.write_text("# Int8 weights\n\n## Speed\n\nfast\n\n### more\n\n## Accuracy\n\nright\n", encoding="utf-8")
    assert kept(page, "speed") == ["fast", "", "### more", ""]
    assert kept(page, "accuracy") == ["right", ""]
    page.write_text("# Int8 weights\n\n## Speed\n\n## Accuracy\n\nright\n", encoding="utf-8")
    assert kept(page, "speed") == []


def test_the_three_forms_of_a_layer_are_told_side_by_side():
    (layer,) = named(["LeNet-300-100 fc2"])
    operators = forms(layer, 2)
    assert {operator.macs for operator in operators} == {2 * 100 * 300}
    assert [operator.ports[1].bytes for operator in operators] == [120_000, 30_000, 30_000]
    lines = integers(load_target("riscv64"), [Trio(layer, 1, 8.0, 5.0, 2.0), Trio(layer, 2, 9.0, 6.0, 9.0)])
    assert any("Geometric mean of the gains: 2.00." in line for line in lines)
    assert "| 300→100 | 1 | 8 | 5 | 2 | 4.00 |" in lines


def test_the_page_says_what_was_not_run():
    rows = [asdict(Row("dense", WAYS[0], 400, 90.0))]
    lines = sections({"lenet300-1": {"unit": "% right", "rows": rows}})
    assert "### lenet300" in lines
    assert "Not run: mlp1024, conv512, rapidocr-head, minilm." in lines


def test_sections_that_are_not_run_stay_behind_those_that_are():
    old = ["before", "", "### one", "1", "### two", "2"]
    assert merged(old, ["after", "### two", "3"]) == ["after", "### two", "3", "### one", "1"]


@pytest.mark.slow
def test_all_peers_on_this_machine_compute_the_layer_and_are_timed():
    """Each is held against floats before it is timed."""
    pytest.importorskip("ai_edge_litert")
    host = load_target("host")
    if platform.machine() != host.instruction_set.machine:
        pytest.skip("this machine is no x86-64")
    found = timed(Layer("small", 70, 33), 3, [host], rounds=1)
    names = {*(ours(kind, "host") for kind in OURS), *RUNTIMES}
    assert set(found.us) == set(found.variants) == names
    assert all(us > 0 for us in found.us.values())


def test_numbers_of_this_machine_are_told_with_ratios_of_times():
    host = load_target("host")
    us = {ours(kind, "host"): us for kind, us in zip(OURS, (8.0, 5.0, 2.0), strict=True)} | dict.fromkeys(RUNTIMES, 3.0)
    lines = measured([Host(Layer("a", 10, 20), rows, us, {}) for rows in (1, 64)], [host])
    assert lines.count("| 10→20 | 8 | 5 | 2 | 3 | 3 | 3 |") == 2
    assert lines.count("| host | 4.00 (4.00 to 4.00) | " + " | ".join(["1.50 (1.50 to 1.50)"] * 3) + " |") == 2


def test_a_drawn_layer_is_what_its_levels_stand_for():
    dense = Dense.drawn(5, 7, 40)
    assert np.abs(dense.levels).max() <= 127 and dense.levels.shape == (7, 40)
    y = dense.x.astype(float) @ (dense.levels * dense.scales.astype(float)[:, None]).T
    assert dense.y == pytest.approx(y, rel=1e-4, abs=1e-5)
