"""What stages are asked: derived from the settings, and nothing of a machine in what workers are told."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import typing
from pathlib import Path

import numpy as np
import pytest

from lrfdse.base.codec import from_plain, to_plain
from lrfdse.errors import InputError
from lrfdse.explore.identity import study_identity
from lrfdse.explore.inputs import open_inputs, settings_for
from lrfdse.explore.layers.latencies import kernel_keys
from lrfdse.explore.plans.job import TrialRequest
from lrfdse.explore.requests import (
    data_request,
    effort_of,
    files_of,
    fit_request,
    kept_of,
    kernel_request,
    search_request,
    space_of,
    study_place,
)
from lrfdse.explore.run import explore
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.meters.meter import open_meter
from lrfdse.model.graph import load_model
from lrfdse.results.effort import EFFORTS, LARGE
from lrfdse.results.settings import Limits, Settings
from lrfdse.targets.resolution import UNCHECKED
from lrfdse.targets.target import ModelError


@pytest.fixture
def settings(small_folder, small_space, tmp_path):
    return settings_for(small_folder, "riscv64", str(small_space), output=tmp_path / "out", cache=tmp_path / "cache")


def asked_of_workers(settings):
    inputs = open_inputs(files_of(settings), data_request(settings))
    fit = fit_request(settings, inputs)
    return TrialRequest(data_request(settings), fit, settings.target, settings.limits, ())


def test_workers_are_told_what_decides_scores_and_nothing_else(settings, tmp_path):
    told = asked_of_workers(settings)
    others = {
        "cache": tmp_path / "other",
        "workers": 99,
        "helped_after": 1.0,
        "budget": 7,
        "keep": 1,
        "minutes": 3.0,
        "sampler": "random",
        "proxy": "output",
        "study": "sqlite:///elsewhere.db",
        "study_name": "demo",
        "artifacts": tmp_path / "store",
        "output": tmp_path / "elsewhere",
        "runner": "ssh board {program}",
        "accept_unverified": True,
        "effort": "quick",
        "target_source": "./mine.toml",
        "space_source": "./space.toml",
    }
    assert asked_of_workers(dataclasses.replace(settings, **others)) == told
    deciding = {
        "metric": "top5",
        "seed": 1,
        "correct": False,
        "eval_samples": 50,
        "limits": Limits(max_drop=0.5),
    }
    for name, value in deciding.items():
        assert asked_of_workers(dataclasses.replace(settings, **{name: value})) != told, name


def test_a_request_survives_the_way_to_a_worker(settings):
    told = asked_of_workers(settings)
    assert from_plain(TrialRequest, json.loads(json.dumps(to_plain(told)))) == told


def fields_below(kind, where):
    """Yield the types of all fields below a dataclass, with their places."""
    for name, hint in typing.get_type_hints(kind).items():
        for part in {hint, *typing.get_args(hint), *itertools.chain(*map(typing.get_args, typing.get_args(hint)))}:
            yield f"{where}.{name}", part
            if dataclasses.is_dataclass(part):
                yield from fields_below(part, f"{where}.{name}")


def test_what_workers_are_told_has_no_place_for_a_path_or_for_settings():
    held = dict(fields_below(TrialRequest, "request"))
    assert "request.data.metric" in held and "request.layers.layer.name" in held
    assert not [where for where, kind in fields_below(TrialRequest, "request") if kind in (Path, Settings)]


@pytest.mark.parametrize(
    ("metric", "proxy", "calib", "loss"),
    [
        (None, "loss", True, "softmax"),
        ("mse", "loss", True, "squared"),
        ("top5", "output", True, "softmax"),
        (None, "loss", False, "softmax"),
        (None, "output", False, None),
    ],
)
def test_how_outputs_are_compared_is_decided_where_somebody_asks(settings, metric, proxy, calib, loss):
    data = settings.data if calib else dataclasses.replace(settings.data, calib=None)
    chosen = dataclasses.replace(settings, metric=metric, proxy=proxy, data=data)
    fitted = asked_of_workers(chosen).fit.loss
    assert [part.loss for part in fitted or ()] == ([] if loss is None else [loss])


@pytest.mark.parametrize("effort", ["quick", "normal", "thorough"])
def test_small_steps_are_of_thorough_effort_and_studies_with_them_are_others(settings, effort):
    inputs = open_inputs(files_of(settings), data_request(settings))
    fit = fit_request(dataclasses.replace(settings, effort=effort), inputs)
    assert (fit.small_steps > 0) == (effort == "thorough") and fit.small_steps == EFFORTS[effort].small_steps
    # Of a large model the effort is given.
    assert fit_request(settings, inputs, EFFORTS[effort]).small_steps == fit.small_steps
    meter = open_meter("model", settings.target)
    one, other = (
        study_identity(each, "riscv64", "auto", inputs, meter) for each in (fit_request(settings, inputs), fit)
    )
    assert (one == other) == (effort != "thorough")


def test_a_study_lies_in_the_output_folder_or_where_the_user_says(settings, tmp_path):
    inputs = open_inputs(files_of(settings), data_request(settings))
    fit = fit_request(settings, inputs)
    identity = study_identity(fit, "riscv64", "auto", inputs, open_meter("model", settings.target))
    own = study_place(settings, identity)
    assert (own.url, own.artifacts) == (f"sqlite:///{tmp_path}/out/study.db", tmp_path / "out" / "artifacts")
    assert (own.sole, own.shared) == (True, False)
    folder = settings.model.parent.name
    assert settings.model.name == "model.onnx" and re.fullmatch(rf"{folder}/riscv64/[0-9a-f]{{8}}", own.name)
    named = dataclasses.replace(settings, model=settings.model.with_name("lenet.onnx"))
    assert study_place(named, identity).name == own.name.replace(folder, "lenet", 1)
    given = study_place(dataclasses.replace(settings, study="sqlite:///x.db", study_name="demo"), identity)
    assert (given.url, given.name, given.sole, given.shared) == ("sqlite:///x.db", "demo", False, True)
    stored = study_place(dataclasses.replace(settings, artifacts=tmp_path / "store"), identity)
    assert (stored.url, stored.artifacts, stored.sole, stored.shared) == (own.url, tmp_path / "store", True, True)


def test_no_such_proxy(settings):
    with pytest.raises(InputError, match="--proxy takes loss, output, weight, fidelity, score, but got 'rank'"):
        explore(dataclasses.replace(settings, proxy="rank"))


def test_modelled_latencies_are_told_apart_by_the_model_s_resolution_and_measured_ones_by_their_spreads(settings):
    unchecked = dataclasses.replace(settings, target=dataclasses.replace(settings.target, error=None))
    checked = dataclasses.replace(
        settings, target=dataclasses.replace(settings.target, error=ModelError(0.9, 1.6, "a board"))
    )
    assert search_request(unchecked, "model", "modelled").resolution == UNCHECKED
    assert search_request(checked, "model", "modelled").resolution == pytest.approx(1 / 3)
    # The error is that of the built-in model, not of a meter that a plug-in brings.
    assert search_request(checked, "counted", "modelled").resolution == UNCHECKED
    assert search_request(settings, "host", "measured").resolution is None


def test_more_effort_asks_for_more_and_never_for_more_than_the_user_allows(settings):
    meter = open_meter("model", settings.target)
    asked = {
        effort: dataclasses.replace(settings, effort=effort, budget=30) for effort in ("quick", "normal", "thorough")
    }
    assert [kernel_request(each, meter).tries for each in asked.values()] == [1, 2, 4]
    searches = [search_request(each, "model", "modelled") for each in asked.values()]
    assert [(each.budget, each.refined) for each in searches] == [(20, 0), (30, 4), (30, 8)]
    few = dataclasses.replace(asked["quick"], budget=5, space=dataclasses.replace(settings.space, max_compiled=3))
    assert search_request(few, "model", "modelled").budget == 5 and space_of(few).max_compiled == 3
    many = dataclasses.replace(settings.space, max_compiled=40)
    compiled = [space_of(dataclasses.replace(each, space=many)).max_compiled for each in asked.values()]
    assert compiled == [12, 40, 40]


def test_of_a_large_model_quick_leaves_out_more_and_says_what(settings, make):
    small = load_model(settings.model)
    sizes = (2100, 2000)
    text = "g (float[n, 2000] x) => (float[n, 2100] y) { y = Gemm <transB = 1> (x, w) }"
    large = load_model(make(text, {"w": np.zeros(sizes, np.float32)}))
    quick = dataclasses.replace(settings, effort="quick", budget=60, keep=8)
    assert effort_of(quick, small) == EFFORTS["quick"] and effort_of(settings, large) == EFFORTS["normal"]
    left = effort_of(quick, large)
    assert left == EFFORTS["quick"].large and math.prod(sizes) >= LARGE
    assert space_of(quick, left).max_cores == 2 and space_of(quick, left).max_compiled == 6
    assert search_request(quick, "model", "modelled", left).budget == 12
    assert (kept_of(quick, left), kept_of(dataclasses.replace(quick, keep=1), left)) == (2, 1)
    assert kept_of(quick, effort_of(quick, small)) == 8
    (note,) = left.left_out
    assert "the model is large" in note and "--effort normal" in note


def test_a_kernel_tuned_with_less_effort_is_not_taken_for_one_with_more(settings):
    meter = open_meter("model", settings.target)
    spec = KernelSpec(4, 4, Factorization.dense(4, 4), 1, False, False)
    quick, normal = (
        kernel_keys([spec], kernel_request(dataclasses.replace(settings, effort=effort), meter))
        for effort in ("quick", "normal")
    )
    assert quick[spec] != normal[spec]


def test_an_unknown_effort_is_refused(small_folder):
    with pytest.raises(InputError, match="--effort takes quick, normal, thorough, but got 'heroic'"):
        settings_for(small_folder, "riscv64", effort="heroic")
