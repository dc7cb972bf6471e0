"""The programs that stand for published loops and products, and the fit to what was published."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.boards import fit
from benchmarks.boards.code import assembled, gemm_case, stream_case
from benchmarks.boards.page import Errors
from benchmarks.boards.readings import readings, step_cycles
from benchmarks.boards.run import Row
from benchmarks.boards.x60 import GEMMS, STREAM_KIB, STREAMS
from lrfdse.meters.trace import Traffic, record
from lrfdse.targets.catalog import load_target


@pytest.fixture(scope="module")
def x60():
    return load_target("riscv64")


def _named(name):
    return next(gemm for gemm in GEMMS if str(gemm) == name)


def _loop(gemm):
    """The lines of the inner loop."""
    text = gemm_case(gemm).text
    return text[text.index("\n2:\n") : text.index("bne t6")].splitlines()


@pytest.mark.parametrize("gemm", [gemm for gemm in GEMMS if gemm.unroll == 1], ids=str)
def test_the_inner_loop_has_what_the_published_one_has(gemm):
    lines = _loop(gemm)
    count = {word: sum(line.startswith(word) for line in lines) for word in ("vfmacc", "flw", "fld", "vle", "csrr")}
    assert count["vfmacc"] == gemm.columns * gemm.parts
    assert count["flw" if gemm.bits == 32 else "fld"] == gemm.columns
    assert (count["vle"], count["csrr"]) == (gemm.parts, gemm.vlenb)
    stored = sum(line.startswith("vs") and "r.v" in line for line in lines)
    loaded = sum(line.startswith("vl") and "re" in line for line in lines)
    assert stored == loaded == gemm.spills


@pytest.mark.parametrize("gemm", [gemm for gemm in GEMMS if gemm.vlenb], ids=str)
def test_the_vector_length_is_read_as_often_as_in_the_published_loop(gemm):
    assert sum("vlenb" in line for line in _loop(gemm)) == gemm.vlenb


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["f32 8x8 m1 u4", "f32 16x8 mf2 u1", "f32 8x8 m4 u2", "f32 16x8 m8 u1", "f64 8x8 m2 u1"]
)
def test_products_are_right(name, x60):
    case = gemm_case(_named(name))
    assert record(assembled(case, x60), x60, *case.arrays(), timeout=600).max_error < 1e-5


@pytest.mark.parametrize("kind", ["copy", "fill", "count"])
def test_streams_do_what_they_say_and_touch_their_buffers(kind, x60):
    case = stream_case(kind, 2, 64)
    trace = record(assembled(case, x60), x60, *case.arrays(), timeout=600)
    lines = {"copy": 2048, "fill": 1024, "count": 1024}[kind]
    assert trace.max_error == 0
    assert lines <= trace.cold.llc_misses <= lines + 8
    assert trace.warm.llc_misses == 0


def test_published_streams_have_a_number_for_each_size():
    assert {len(rates) for rates in STREAMS.values()} == {len(STREAM_KIB)}


def _rows(target, truth):
    """Rows that take exactly what the model says with other values, of kernels that tell all of them."""

    def row(index, **counts):
        misses = counts.get("l1_misses", 0)
        seen = {"accesses": 1000, "l1_prefetched": misses, "llc_prefetched": counts.get("llc_misses", 0)}
        zero = dict.fromkeys(("l1_misses", "llc_misses", "llc_writebacks"), 0)
        made = Row(
            f"{index}", f"group {index}", 0.0, 100.0 * index, Traffic(**zero | seen | counts), 1.0, vlenb=index % 3
        )
        return dataclasses.replace(made, published=fit.modelled(made, target, truth))

    for index in range(1, 5):
        yield row(index)
        yield row(index, l1_misses=100)
        yield row(index, l1_misses=100, l1_store_misses=100)
        yield row(index, l1_misses=100, llc_misses=100)
        yield row(index, l1_misses=100, l1_store_misses=100, llc_misses=100, llc_store_misses=100, llc_writebacks=100)
        yield row(index, l1_misses=200, l1_store_misses=100, llc_misses=200, llc_store_misses=100, llc_writebacks=100)


def test_a_fit_finds_the_values_that_made_the_rows(x60):
    start = fit.values(x60)
    truth = {name: value * (1.3 if index % 2 else 0.8) for index, (name, value) in enumerate(start.items())}
    rows = list(_rows(x60, truth))
    assert fit.fit(rows, x60) == pytest.approx(truth, rel=0.02)
    assert fit.left_out(rows, x60) == pytest.approx([1.0] * len(rows), rel=0.02)


def test_leaving_out_shows_what_only_one_group_tells(x60):
    """A loop that takes twice as long as the others say is predicted twice too fast by a fit that has not seen it."""
    rows = list(_rows(x60, fit.values(x60)))
    rows[1] = dataclasses.replace(rows[1], published=2 * rows[1].published)
    assert fit.left_out(rows, x60)[1] == pytest.approx(0.5, rel=0.02)


def test_only_one_reading_of_the_scalar_stream_predicts_the_other_element_type():
    by_name = {}
    for reading in readings():
        by_name.setdefault(reading.name, []).append(reading.unseen)
    port, waits, waits_alone = by_name.values()
    assert max(port) < 0.06
    assert min(waits) > 2 * max(port)
    assert min(waits_alone) > min(waits)


def test_cycles_of_a_step_by_hand():
    gemm = _named("f32 8x8 m2 u2")
    assert step_cycles(gemm, 1.0, 4.0, 10.0) == pytest.approx(16 + 4.35 + 1 + 8 + 4)
    assert step_cycles(gemm, 1.0, 4.0, 100.0) == pytest.approx(50 + 4)


def test_errors_by_hand():
    found = Errors.of([0.9, 1.0, 1.3])
    assert (found.count, found.median, found.least, found.most) == (3, pytest.approx(0.1), 0.9, 1.3)
