"""What large models ask of an exploration: nothing measured twice, progress all along."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from pathlib import Path

import pytest

from lrfdse.base.events import Event, hundredths
from lrfdse.base.store import Store
from lrfdse.explore.layers.fits import FitRequest, blind_notes, open_fits
from lrfdse.explore.layers.latencies import KernelRequest, MeasuredKernel
from lrfdse.explore.layers.options import BASELINE_RATIOS, study_layers
from lrfdse.ir.kernel import kernel_spec
from lrfdse.ir.latency import Latency, Measurement
from lrfdse.model.graph import load_model
from lrfdse.targets.catalog import load_search_space, load_target


class FakeMeter:
    name = "model"
    exclusive = False

    def key(self):
        return "fake"


def counted(log, target, meter, tries):
    """Open what writes down the kernels that it is asked for, and measures none."""

    def measure(spec):
        with Path(log).open("a") as file:
            file.write(f"{spec}\n")
        latency = Latency(1.0, 1.0, 1.0)
        return MeasuredKernel("out:8:1x1:u1", Measurement("model", latency, latency, 0.0, {}))

    return measure


@pytest.fixture(scope="module")
def studied(repeated_folder, small_space, tmp_path_factory):
    """Layers, measured specs and events of a study whose kernels are not really measured."""
    log, events = tmp_path_factory.mktemp("studied") / "measured", []
    model, cache = load_model(repeated_folder / "model.onnx"), Store(log.parent / "cache")
    fits = open_fits(FitRequest("auto"), model, None, [layer.name for layer in model.layers], cache)
    request = KernelRequest(load_target("riscv64"), FakeMeter(), opened=functools.partial(counted, str(log)))
    layers = study_layers(load_search_space(str(small_space)), request, model, fits, cache, events.append)
    return layers, log.read_text().splitlines(), events


def test_each_kernel_of_repeated_layers_is_measured_once(studied):
    layers, measured, _ = studied
    assert len(layers) == 24
    assert max(Counter(measured).values()) == 1
    wanted = {
        str(kernel_spec(each.layer, use, option.choice, corrected=False))
        for each in layers
        for option in each.options
        for use in each.layer.uses
    }
    assert set(measured) == wanted
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


def test_layers_of_too_many_inputs_for_moments_are_named(repeated_folder):
    model = load_model(repeated_folder / "model.onnx")
    names = [layer.name for layer in model.layers]
    assert blind_notes(FitRequest("auto"), model, names) == []
    (note,) = blind_notes(FitRequest("auto", most_inputs=20), model, names)
    blind = [layer.name for layer in model.layers if layer.inputs == 24]
    assert note.startswith(f"{', '.join(blind)}: over 20 inputs, so calibration data are not used")


def test_with_svd_alone_there_are_no_fronts_nor_spectra_for_them(repeated_folder, small_space, tmp_path):
    events, model, cache = [], load_model(repeated_folder / "model.onnx"), Store(tmp_path / "cache")
    fits = open_fits(FitRequest("auto"), model, None, [layer.name for layer in model.layers], cache)
    request = KernelRequest(load_target("riscv64"), FakeMeter(), opened=functools.partial(counted, str(tmp_path / "m")))
    space = load_search_space(str(small_space))
    layers = study_layers(space, request, model, fits, cache, events.append, plain=True)
    for result in layers:
        layer = result.layer
        ranks = {int(layer.weights / ratio / (layer.outputs + layer.inputs)) for ratio in BASELINE_RATIOS} - {0}
        assert {option.text for option in result.options} == {"dense", *(f"svd:r={rank}" for rank in ranks)}
        # What the space holds is counted all the same.
        assert result.funnel.stages[0][1] > 0 and "surrogate front" not in dict(result.funnel.stages)
    assert not [event for event in events if event.stage == "spectra" and event.text]
    assert not (tmp_path / "cache" / "fronts").exists() and not (tmp_path / "cache" / "spectra").exists()
