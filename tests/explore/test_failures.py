"""A kernel that fails is marked with its reason, and the exploration goes on without it."""

from __future__ import annotations

import functools
import json
import os
import signal
import time
import types
from pathlib import Path

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

pytestmark = pytest.mark.slow


class BrokenMeter:
    def measure(self, artifact, arrays, expected):
        raise KernelError("the kernel hung: no end after 60 s")


def test_a_failing_kernel_has_a_reason_in_place_of_a_measurement():
    spec = KernelSpec(8, 8, Factorization.dense(8, 8), 1, False, False)
    found = latencies.measured_kernel(spec, load_target("riscv64"), BrokenMeter())
    assert found.measurement is None
    assert "hung" in found.failure


LATENCY = Latency(1.0, 1.0, 1.0)


def measured(text):
    return latencies.MeasuredKernel(text, Measurement("model", LATENCY, LATENCY, 0.0))


def dying_on_rank_3(target, meter, tries):
    """Open what ends its process over a kernel of rank 3."""

    def measure(spec):
        if spec.factorization.ranks == (3,):
            os.kill(os.getpid(), signal.SIGKILL)
        return measured("out:1:1x1:u1")

    return measure


def request_of(opened, workers, exclusive=False):
    meter = types.SimpleNamespace(name="model", exclusive=exclusive, key=lambda: "key")
    return latencies.KernelRequest(load_target("riscv64"), meter, workers, opened=opened)


def specs_of_rank(*ranks):
    return [KernelSpec(8, 8, Factorization.svd(8, 8, rank), 1, False, False) for rank in ranks]


def test_what_is_stored_and_no_latency_or_schedule_is_taken_again(tmp_path):
    (spec,), store, request = specs_of_rank(2), Store(tmp_path), request_of(dying_on_rank_3, 1)
    first = latencies.measure_kernels([spec], request, store, silent)
    (path,) = tmp_path.rglob("*.json")
    damages = [("warm", {"us": us, "low_us": 1, "high_us": 1}) for us in (-1, 0, float("nan"), float("inf"))]
    for name, value in [*damages, ("details", {"compute_cycles": {}}), ("schedule", 0)]:
        known = json.loads(path.read_text())
        (known if name == "schedule" else known["measurement"])[name] = value
        path.write_text(json.dumps(known))
        assert latencies.measure_kernels([spec], request, store, silent) == first


def test_a_worker_that_dies_costs_its_own_kernel_only(tmp_path):
    specs = specs_of_rank(*range(1, 7))
    found = latencies.measure_kernels(specs, request_of(dying_on_rank_3, 2), Store(tmp_path), silent)
    assert {spec.factorization.ranks[0] for spec in specs if found[spec].measurement is None} == {3}
    assert "died" in found[specs[2]].failure
    assert len(list(tmp_path.rglob("*.json"))) == 5


def refusing_rank_3(target, meter, tries):
    """Open what measures everything but kernels of rank 3."""
    return lambda spec: (
        latencies.MeasuredKernel(failure="hung") if spec.factorization.ranks == (3,) else measured("out:1:1x1:u1")
    )


@pytest.mark.parametrize("opened", [dying_on_rank_3, refusing_rank_3])
def test_nothing_is_begun_once_an_essential_kernel_failed(tmp_path, opened):
    specs = specs_of_rank(*range(1, 7))
    found = latencies.measure_kernels(specs, request_of(opened, 1), Store(tmp_path), silent, [specs[2]])
    assert list(found) == [specs[2]]
    assert found[specs[2]].failure
    others = latencies.measure_kernels(specs, request_of(opened, 1), Store(tmp_path), silent, [specs[0]])
    assert {spec for spec, kernel in others.items() if kernel.failure} == {specs[2]}


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


def meeting(folder, count, target, meter, tries):
    """Open what names its process, once as many processes have come as are expected."""

    def measure(spec):
        (Path(folder) / str(os.getpid())).touch()
        while len(list(Path(folder).iterdir())) < count:
            time.sleep(0.01)
        return measured(str(os.getpid()))

    return measure


@pytest.mark.parametrize(("exclusive", "processes"), [(True, 1), (False, 3)])
def test_an_exclusive_meter_has_one_process(tmp_path, exclusive, processes):
    (tmp_path / "met").mkdir()
    request = request_of(functools.partial(meeting, str(tmp_path / "met"), processes), 3, exclusive)
    found = latencies.measure_kernels(specs_of_rank(*range(1, 6)), request, Store(tmp_path / "cache"), silent)
    assert len({kernel.schedule for kernel in found.values()}) == processes
