"""What large models ask of an exploration: nothing measured twice, progress all along."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from lrfdse.base.events import Event, hundredths
from lrfdse.base.store import Store
from lrfdse.explore.inputs import settings_for
from lrfdse.explore.layers import latencies
from lrfdse.explore.layers.fits import blind_layers, open_fits
from lrfdse.explore.layers.latencies import MeasuredKernel
from lrfdse.explore.layers.options import study_layers
from lrfdse.ir.latency import Latency, Measurement
from lrfdse.model.graph import load_model


class FakeMeter:
    name = "model"
    exclusive = False

    def key(self):
        return "fake"


@pytest.fixture
def studied(repeated_folder, small_space, tmp_path, monkeypatch):
    """Layers, measured specs and events of a study whose kernels are not really measured."""
    measured, events = [], []

    def fake(specs, processes, target, meter):
        for spec in specs:
            measured.append(spec)
            latency = Latency(1.0, 1.0, 1.0)
            yield spec, MeasuredKernel("s", Measurement("model", latency, latency, 0.0, {}))

    monkeypatch.setattr(latencies, "_measured", fake)
    settings = settings_for(repeated_folder, "riscv64", str(small_space), output=tmp_path, cache=tmp_path / "cache")
    model, cache = load_model(settings.model), Store(settings.cache)
    fits = open_fits(settings, model, None, [layer.name for layer in model.layers], cache)
    layers = study_layers(settings, model, fits, FakeMeter(), cache, events.append)
    return layers, measured, events


def test_each_kernel_of_repeated_layers_is_measured_once(studied):
    layers, measured, _ = studied
    assert len(layers) == 24
    assert max(Counter(measured).values()) == 1
    wanted = {
        (each.layer.outputs, each.layer.inputs, option.text, use.relu)
        for each in layers
        for option in each.options
        for use in each.layer.uses
    }
    assert {(spec.outputs, spec.inputs, str(spec.factorization), spec.relu) for spec in measured} == wanted
    # Far fewer than options: layers of one shape share most of them.
    assert len(measured) < sum(len(each.options) for each in layers) / 2


def test_every_stage_of_a_study_counts_to_its_end(studied):
    _, _, events = studied
    for stage in ("layers", "spectra", "fronts", "kernels", "fit"):
        counts = [event.done for event in events if event.stage == stage]
        total = next(event.total for event in reversed(events) if event.stage == stage)
        assert counts[-1] == total and counts[0] < total
        assert stage == "kernels" or counts == sorted(counts)


def test_hundredths_follow_the_work_and_skip_what_was_known():
    events = []
    with hundredths("spectra", {"a": 30.0, "b": 50.0, "c": 20.0}, events.append) as of:
        with of("a") as worked:
            worked(15.0)
            worked(100.0)
        with of("b"):
            pass
        with of("c") as worked:
            worked(19.9)
    assert [(event.text, event.done) for event in events] == [
        ("a", 0),
        ("a", 15),
        ("a", 30),
        ("b", 80),
        ("c", 99),
        ("c", 100),
    ]
    assert all(event == dataclasses.replace(event, stage="spectra", total=100) for event in events)


def test_no_work_is_done_at_once():
    events = []
    with hundredths("fronts", {}, events.append):
        pass
    assert events == [Event("fronts", "", 100, 100)]


def test_layers_of_too_many_inputs_for_moments_are_named(repeated_folder, monkeypatch):
    model = load_model(repeated_folder / "model.onnx")
    names = [layer.name for layer in model.layers]
    assert blind_layers(model, names) == []
    monkeypatch.setattr("lrfdse.explore.layers.fits._MOST_INPUTS", 20)
    assert blind_layers(model, names) == [layer.name for layer in model.layers if layer.inputs == 24]
