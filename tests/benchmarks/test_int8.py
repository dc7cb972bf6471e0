"""The benchmark of int8: the bytes of what it compares, and what its page says and keeps."""

from __future__ import annotations

import platform
from dataclasses import asdict

import numpy as np
import pytest

from benchmarks.int8.__main__ import kept, merged, sections
from benchmarks.int8.accuracy import WAYS, Row, repaired, section, svd, svd_within
from benchmarks.int8.host import OURS, RUNTIMES, Host, ours, timed
from benchmarks.int8.host import section as measured
from benchmarks.int8.integers import Trio, forms
from benchmarks.int8.integers import section as integers
from benchmarks.int8.runtimes import Dense
from benchmarks.kernels.layers import Layer, named
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.layer import Layer as FoundLayer
from lrfdse.ir.layer import Use
from lrfdse.ir.storage import INT8
from lrfdse.targets.catalog import load_target


def test_the_bytes_of_a_repair_are_those_of_what_is_stored():
    layer = FoundLayer("fc", 12, 30, (Use("fc", 1, True, False),), 12, "digest")
    dense, low = Factorization.dense(12, 30), Factorization.svd(12, 30, 3)
    assert repaired(layer, 3).bytes == Choice(dense, INT8).bytes + Choice(low, INT8).bytes
    # The output of a classifier may have fewer classes than the rank.
    assert str(repaired(layer, 32)) == "dense+r=12@int8"


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
