"""A kernel that fails is marked with its reason, and the exploration goes on without it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import types

import pytest

from lrfdse.base.events import silent
from lrfdse.base.store import Store
from lrfdse.cli import run
from lrfdse.errors import KernelError
from lrfdse.explore.layers import latencies, options
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.ir.latency import Latency, Measurement
from lrfdse.targets.catalog import load_target


class BrokenMeter:
    name = "model"

    def measure(self, artifact, arrays, expected):
        raise KernelError("the kernel hung: no end after 60 s")


def test_a_worker_turns_a_failing_kernel_into_a_reason(monkeypatch):
    monkeypatch.setattr(latencies, "_worker", {"target": load_target("riscv64"), "meter": BrokenMeter()})
    found = latencies._measure(KernelSpec(8, 8, Factorization.dense(8, 8), 1, False, False))
    assert found.measurement is None
    assert "hung" in found.failure


LATENCY = Latency(1.0, 1.0, 1.0)
really_get_context = multiprocessing.get_context


def die_on_rank_3(spec):
    if spec.factorization.ranks == (3,):
        os.kill(os.getpid(), signal.SIGKILL)
    return latencies.MeasuredKernel("out:1:1x1:u1", Measurement("model", LATENCY, LATENCY, 0.0))


def test_a_worker_that_dies_costs_its_own_kernel_only(monkeypatch, tmp_path):
    monkeypatch.setattr(latencies, "_measure", die_on_rank_3)
    monkeypatch.setattr(latencies, "_start_worker", print)
    monkeypatch.setattr(multiprocessing, "get_context", lambda _: really_get_context("fork"))
    specs = [KernelSpec(8, 8, Factorization.svd(8, 8, rank), 1, False, False) for rank in range(1, 7)]
    meter = types.SimpleNamespace(name="model", exclusive=False, key=lambda: "key")
    cache = Store(tmp_path)
    found = latencies.measure_kernels(specs, load_target("riscv64"), meter, cache, 2, lambda event: None)
    assert {spec.factorization.ranks[0] for spec in specs if found[spec].measurement is None} == {3}
    assert "died" in found[specs[2]].failure
    assert len(list(tmp_path.rglob("*.json"))) == 5


def failing(really, fails):
    def measure(specs, *rest):
        found = really(specs, *rest)
        return {
            spec: latencies.MeasuredKernel(failure="illegal instruction") if fails(spec) else kernel
            for spec, kernel in found.items()
        }

    return measure


@pytest.fixture
def explore(small_folder, small_space, shared_cache, tmp_path):
    options = ["--target", "riscv64", "-o", tmp_path, "--space", small_space, "--cache", shared_cache, "--budget", 12]
    return lambda: run([str(argument) for argument in ["explore", small_folder, *options]])


def test_failed_candidates_are_marked_and_the_run_goes_on(explore, tmp_path, monkeypatch):
    monkeypatch.setattr(
        options, "measure_kernels", failing(options.measure_kernels, lambda spec: "r=2" in str(spec.factorization))
    )
    assert explore() == 0
    document = json.loads((tmp_path / "front.json").read_text())
    failures = {each["factorization"]: each["reason"] for layer in document["layers"] for each in layer["failures"]}
    assert failures
    assert set(failures.values()) == {"illegal instruction"}
    assert not any(
        choice["factorization"] in failures for design in document["designs"] for choice in design["plan"].values()
    )
    for layer in (layer for layer in document["layers"] if layer["kept_dense"] is None):
        counts = {stage["stage"]: stage["designs"] for stage in layer["funnel"]["stages"]}
        assert counts["compiled"] - counts["measured"] == len(layer["failures"])


def test_a_dense_kernel_that_fails_ends_the_run_with_code_4(explore, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        options, "measure_kernels", failing(options.measure_kernels, lambda spec: spec.factorization.is_dense)
    )
    assert explore() == 4
    assert "fails on riscv64: illegal instruction" in capsys.readouterr().err
    assert not (tmp_path / "front.json").exists()


@pytest.mark.parametrize(("exclusive", "processes"), [(True, 1), (False, 3)])
def test_an_exclusive_meter_has_one_process(tmp_path, monkeypatch, exclusive, processes):
    class Opened(Exception):
        """Holds the number of processes that were wanted."""

    def opened(count, **_):
        raise Opened(count)

    monkeypatch.setattr(latencies, "ProcessPoolExecutor", opened)
    meter = types.SimpleNamespace(name="model", exclusive=exclusive, key=lambda: "key")
    specs = [KernelSpec(8, 8, Factorization.svd(8, 8, rank), 1, False, False) for rank in range(1, 6)]
    with pytest.raises(Opened) as caught:
        latencies.measure_kernels(specs, load_target("riscv64"), meter, Store(tmp_path), 3, silent)
    assert caught.value.args == (processes,)
