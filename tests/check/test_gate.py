"""Limits, baselines, and explorations that failed: which verdict, which exit code."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.base.codec import to_plain
from lrfdse.check.gate import Request, check
from lrfdse.check.limits import check_limits
from lrfdse.check.regress import check_regressions
from lrfdse.errors import InputError
from lrfdse.ir.latency import Latency
from lrfdse.results.asked import Asked, Limits, MeterFacts, ModelFile, TargetFacts
from lrfdse.results.designs import DesignFacts
from lrfdse.results.document import Document
from lrfdse.results.layers import Latencies
from lrfdse.results.read import document_of_plain, read_document


def verdicts(checked):
    return {each.name: each.verdict for each in checked.checks}


def test_the_limits_of_the_exploration_are_the_default(front):
    checked = check(Request(front()))
    assert verdicts(checked) == {"loss": "pass"}
    assert checked.exit_code == 0
    tighter = front(change=lambda d: d["settings"].update(max_params=49_999, max_latency_us=20.0))
    checked = check(Request(tighter))
    assert verdicts(checked) == {"latency": "pass", "params": "fail", "loss": "pass"}
    assert checked.exit_code == 1


@pytest.mark.parametrize(
    ("limits", "name", "verdict"),
    [
        (Limits(max_latency_us=20.0), "latency", "pass"),
        (Limits(max_latency_us=19.99), "latency", "fail"),
        (Limits(max_params=50_000), "params", "pass"),
        (Limits(max_params=49_999), "params", "fail"),
        (Limits(max_size=200_000), "size", "pass"),
        (Limits(max_size=199_999), "size", "fail"),
        (Limits(max_drop=0.0075), "loss", "pass"),
        (Limits(max_drop=0.007), "loss", "fail"),
    ],
)
def test_a_value_of_exactly_the_limit_is_within_it(limits, name, verdict, front):
    checked = check(Request(front(), limits=limits))
    assert verdicts(checked) == {name: verdict}
    assert checked.exit_code == (verdict == "fail")


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        # Without a limit of their own, that of the metric is theirs.
        (Limits(max_drop=0.03), {"loss": "pass", "other-loss": "pass"}),
        (Limits(max_drop=0.02), {"loss": "pass", "other-loss": "fail"}),
        (Limits(max_drop=0.02, max_other_drop=0.03), {"loss": "pass", "other-loss": "pass"}),
        (Limits(max_other_drop=0.029), {"other-loss": "fail"}),
        (Limits(max_params=50_000), {"params": "pass"}),
    ],
)
def test_outputs_beside_the_judged_one_have_a_limit(limits, expected, front):
    document = read_document(front(), whole=False)
    best = dataclasses.replace(document.best, others={"boxes": 0.97, "mask": 0.99})
    checks = check_limits(document, best, limits)
    assert {each.name: each.verdict for each in checks} == expected
    for each in checks:
        if each.name == "other-loss":
            assert (each.value, each.unit) == ("3 points", "points")
            assert each.measurement == pytest.approx(3) and each.reason.startswith("of boxes, by agreement")


def test_other_outputs_that_nobody_measured_are_skipped(front):
    document = read_document(front(), whole=False)
    (found,) = check_limits(document, document.best, Limits(max_other_drop=0.01))
    assert (found.verdict, found.reason, found.unmeasured) == ("skip", "no output counts but the judged one", False)
    best = dataclasses.replace(document.best, others={"mask": 0.99})
    blind = dataclasses.replace(document, verified=False)
    (found,) = check_limits(blind, best, Limits(max_other_drop=0.5))
    assert (found.verdict, found.unmeasured) == ("skip", True)


def test_a_bracket_that_reaches_over_the_limit_is_said(front):
    (found,) = check(Request(front(), limits=Limits(max_latency_us=22.0))).checks
    assert (found.verdict, found.reason) == ("pass", "the bracket reaches over the limit; counted warm")


def test_the_latency_in_the_other_cache_regime_is_said(front):
    document = read_document(front(), whole=False)
    both = Latencies(warm=document.best.latency.warm, cold=Latency(80.25, 80.25, 90.0))
    (found,) = check_limits(document, dataclasses.replace(document.best, latency=both), Limits(max_latency_us=100.0))
    assert found.reason == "counted warm, cold it is 80.25 us"


def test_what_is_lost_on_the_test_data_is_said(front):
    (found,) = check(Request(front(accuracy_loss_standard_error=0.0045))).checks
    assert found.value == "0.75 ± 0.39 points"
    assert found.reason == "on the test data: 1.1 ± 0.88 points"


def test_another_design_can_be_named(front):
    checked = check(Request(front(), design="0ther000", limits=Limits(max_params=55_000)))
    assert verdicts(checked) == {"params": "fail"}
    assert checked.design.id == "0ther000"
    with pytest.raises(InputError, match=r"no design of .* has this id"):
        check(Request(front(), design="nothere"))


def test_no_recommended_design_is_a_broken_limit(front):
    folder = front(change=lambda d: d.update(recommended=None))
    checked = check(Request(folder, limits=Limits(max_params=1)))
    assert verdicts(checked) == {"design": "fail", "params": "skip"}
    assert checked.exit_code == 1


def test_a_missing_accuracy_is_skipped_not_passed(front):
    checked = check(Request(front(eval_accuracy=None)))
    assert verdicts(checked) == {"loss": "skip"}


def regressed(front, most=0.05, before=None, after=None, change=None):
    old = front("old", **(before or {}))
    new = front("new", change=change, **(after or {}))
    return check(Request(new, baseline=old, max_regression=most))


def latency(us, low, high):
    return {"latency_us": us, "latency_low_us": low, "latency_high_us": high}


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (latency(20.0, 16.0, 24.0), "pass"),
        (latency(20.9, 16.7, 25.1), "pass"),
        (latency(21.2, 16.9, 25.5), "fail"),
        # Only one end grew: there is a place in the bracket where nothing got slower.
        (latency(23.0, 16.0, 30.0), "pass"),
        (latency(21.5, 19.0, 24.0), "pass"),
        (latency(10.0, 8.0, 12.0), "pass"),
    ],
)
def test_a_modelled_latency_regresses_where_both_ends_do(after, verdict, front):
    checked = regressed(front, after=after)
    assert verdicts(checked)["latency-regression"] == verdict
    assert checked.exit_code == (verdict == "fail")


def measured(document):
    document["meter"], document["latency"]["kind"] = "host", "measured"
    document["versions"]["machine"] = "board 1"


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        (latency(26.0, 24.1, 27.0), "fail"),
        (latency(26.0, 24.0, 27.0), "pass"),
        (latency(20.5, 24.1, 27.0), "pass"),
        (latency(15.0, 14.0, 15.5), "pass"),
    ],
)
def test_a_measured_latency_regresses_where_the_spreads_are_disjoint(after, verdict, front):
    old = front("old", change=measured)
    checked = check(Request(front("new", change=measured, **after), baseline=old))
    assert verdicts(checked)["latency-regression"] == verdict


def test_measurements_of_two_machines_are_not_compared(front):
    def elsewhere(document):
        measured(document)
        document["versions"]["machine"] = "board 2"

    checked = check(Request(front("new", change=elsewhere), baseline=front("old", change=measured)))
    assert verdicts(checked)["latency-regression"] == "skip"


positive = st.floats(0.001, 1e6)


def entry(us, low, high):
    latency = Latencies(warm=Latency(us, low, high))
    return DesignFacts(id="x", params=10, weight_bytes=40, flops=10, cache_regime="warm", latency=latency)


def result(kind="modelled"):
    return Document(
        model=ModelFile(),
        target=TargetFacts(name="t"),
        meter=MeterFacts(name="m", kind=kind),
        metric="accuracy",
        settings=Asked(),
        recommended=None,
        original=entry(1.0, 1.0, 1.0),
        designs=(),
    )


@given(positive, positive, positive, positive, st.floats(0, 1), st.floats(0, 1))
def test_what_regresses_is_slower_wherever_in_the_bracket_the_core_lies(a, b, c, d, most, place):
    old, new = sorted((a, b)), sorted((c, d))
    before, design = entry(sum(old) / 2, *old), entry(sum(new) / 2, *new)
    found = check_regressions(result(), design, result(), before, most)[0]
    at = [low + place * (high - low) for low, high in (old, new)]
    if found.verdict == "fail":
        assert at[1] >= at[0] * (1 + most) * (1 - 1e-9)
    elif old[0] * (1 + most) < new[0]:
        assert new[1] <= old[1] * (1 + most)


@given(positive, positive, st.booleans())
def test_a_run_never_regresses_against_itself(a, b, modelled):
    low, high = sorted((a, b))
    same, run = entry((low + high) / 2, low, high), result("modelled" if modelled else "measured")
    assert {each.verdict for each in check_regressions(run, same, run, same, 0.0)} <= {"pass", "skip"}


@pytest.mark.parametrize(("params", "most", "verdict"), [(52_500, 0.05, "pass"), (52_501, 0.05, "fail")])
def test_params_have_no_noise(params, most, verdict, front):
    assert verdicts(regressed(front, most, after={"params": params}))["params-regression"] == verdict


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        # Two standard errors of the difference are 2 * sqrt(0.002**2 + 0.002**2) = 0.00566.
        ({"eval_accuracy": 0.8945 - 0.0055}, "pass"),
        ({"eval_accuracy": 0.8945 - 0.0058}, "fail"),
        ({"eval_accuracy": 0.8945 - 0.0058, "loss_standard_error": 0.004}, "pass"),
        ({"eval_accuracy": None}, "skip"),
        ({"loss_standard_error": None}, "skip"),
    ],
)
def test_a_loss_regresses_by_its_standard_error(after, verdict, front):
    assert verdicts(regressed(front, after=after))["loss-regression"] == verdict


def test_another_metric_is_not_compared(front):
    checked = regressed(front, change=lambda d: d.update(metric="fidelity"))
    assert verdicts(checked)["loss-regression"] == "skip"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda d: d.update(target="aarch64"), "target"),
        (lambda d: d.update(meter="host"), "meter"),
        (lambda d: d["model"].update(path="../other.onnx"), "model"),
        (lambda d: (d["model"].update(path="../model.onnx", sha256="0"), d.update(layers=[])), "layers"),
    ],
)
def test_a_baseline_of_something_else_is_refused(change, word, front):
    old = front("old")
    with pytest.raises(InputError, match=f"its {word} is"):
        check(Request(front("new", change=change), baseline=old))


def test_a_changed_target_description_is_said(front):
    checked = regressed(front, change=lambda d: d["settings"].update(target_digest="d2"))
    assert verdicts(checked)["latency-regression"] == "skip"
    assert verdicts(checked)["params-regression"] == "pass"


def test_another_compiler_is_noted(front):
    checked = regressed(front, change=lambda d: d["versions"].update(llvm="23.1.0"))
    assert checked.notes == ("versions differ from the baseline's: llvm 22.1.8 -> 23.1.0",)


def test_the_baseline_is_made_and_replaced_on_demand_only(front, tmp_path):
    stored = tmp_path / "ci" / "baseline.json"
    run = front("run")
    with pytest.raises(InputError, match="--update-baseline makes it"):
        check(Request(run, baseline=stored))
    first = check(Request(run, baseline=stored, update_baseline=True))
    assert first.exit_code == 0
    assert stored.read_bytes() == (run / "front.json").read_bytes()
    slower = front("slower", **latency(40.0, 32.0, 48.0))
    assert check(Request(slower, baseline=stored)).exit_code == 1
    assert stored.read_bytes() == (run / "front.json").read_bytes()
    accepted = check(Request(slower, baseline=stored, update_baseline=True))
    assert accepted.exit_code == 0
    assert "accepted" in next(each.reason for each in accepted.checks if each.name == "latency-regression")
    assert stored.read_bytes() == (slower / "front.json").read_bytes()


def test_a_run_that_breaks_a_limit_does_not_become_the_baseline(front, tmp_path):
    stored = tmp_path / "baseline.json"
    checked = check(Request(front(), limits=Limits(max_params=1), baseline=stored, update_baseline=True))
    assert checked.exit_code == 1
    assert not stored.exists()


def test_a_baseline_folder_is_one_with_a_front(front):
    old, new = front("old"), front("new", params=1)
    check(Request(new, baseline=old, update_baseline=True))
    assert json.loads((old / "front.json").read_text())["designs"][0]["params"] == 1


STARTED = {"time": "t", "stage": "started", "model": "nets/lenet/model.onnx", "target": "riscv64"}


def failed(kind):
    return {"time": "t", "stage": "failed", "kind": kind, "text": "no qemu", "target": "riscv64", "model": "m.onnx"}


@pytest.mark.parametrize(
    ("log", "verdict", "code"),
    [
        ([STARTED, {"stage": "finished"}], None, 0),
        ([STARTED, {"stage": "finished"}, STARTED, failed("tool")], "error", 4),
        ([STARTED, {"stage": "finished"}, failed("tool")], "error", 4),
        ([STARTED, failed("device")], "skip", 4),
        ([STARTED, failed("interrupted")], "error", 4),
        ([STARTED, failed("crash")], "error", 4),
        ([STARTED, failed("input")], "error", 2),
        ([STARTED], "error", 4),
        ([failed("tool"), STARTED, {"stage": "finished"}], None, 0),
        # A log of an older lrfdse, or one that was cut, says nothing.
        ([{"stage": "plans", "done": 1}], None, 0),
    ],
)
def test_an_older_result_beside_a_failed_run_is_not_taken_for_it(log, verdict, code, front):
    folder = front(log=log)
    for source in (folder, folder / "front.json"):
        checked = check(Request(source, limits=Limits(max_params=60_000)))
        assert checked.exit_code == code
        assert verdicts(checked) == ({"exploration": verdict, "params": "skip"} if verdict else {"params": "pass"})


def test_a_folder_without_anything_is_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"holds no front\.json"):
        check(Request(tmp_path))


def put(path, value):
    def change(document):
        *parents, last = path
        for key in parents:
            document = document[key]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "word"),
    [
        (("versions",), [1], "versions"),
        (("baseline", "params"), 10**400, "params"),
        (["schema_version"], 99, "or a newer one"),
        (["schema_version"], "1", "schema_version"),
        (["target"], None, "target"),
        (["designs"], {}, "designs"),
        (["designs", 0], 3, r"designs\[0\]"),
        (["designs", 0, "params"], "many", r"designs\[0\]\.params"),
        (["designs", 0, "latency_us"], float("nan"), "NaN is no number"),
        (["designs", 0, "latency_us"], True, "finite"),
        (["recommended"], "nobody", "recommended"),
        (["settings"], [], "settings"),
        (["baseline"], None, "baseline"),
        (["model"], "x", "model"),
    ],
)
def test_a_document_of_another_form_is_one_line(path, value, word, front):
    with pytest.raises(InputError, match=word):
        check(Request(front(change=put(path, value))))


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"[" * 100_000, b'"x"'])
def test_a_file_that_is_no_document(content, tmp_path):
    (tmp_path / "front.json").write_bytes(content)
    with pytest.raises(InputError):
        check(Request(tmp_path))


def unverify(document):
    """Make the document that of an exploration without evaluation data that recommends nothing."""
    document |= {"metric": "fidelity", "verified": False, "recommended": None}


def accept(document):
    """Make it one that was told to recommend all the same."""
    unverify(document)
    document["recommended"] = "5d8446bf"
    document["settings"]["accept_unverified"] = True


LIMITS = Limits(max_params=49_999, max_drop=0.5)


def test_a_loss_that_nobody_measured_is_skipped_and_fails_only_where_that_is_asked_for(front):
    folder = front(change=accept)
    checked = check(Request(folder, limits=LIMITS))
    assert verdicts(checked) == {"params": "fail", "loss": "skip"}
    assert "no loss was measured" in checked.checks[1].reason
    easy = Limits(max_params=50_000, max_drop=0.5)
    assert check(Request(folder, limits=easy)).exit_code == 0
    strict = check(Request(folder, limits=easy, strict=True))
    assert (verdicts(strict), strict.exit_code) == ({"params": "pass", "loss": "fail"}, 1)


def test_where_nothing_is_recommended_for_want_of_data_all_is_skipped(front):
    folder = front(change=unverify)
    checked = check(Request(folder, limits=LIMITS))
    assert verdicts(checked) == {"design": "skip", "params": "skip", "loss": "skip"}
    assert checked.exit_code == 0
    assert check(Request(folder, limits=LIMITS, strict=True)).exit_code == 1
    named = check(Request(folder, design="5d8446bf", limits=LIMITS))
    assert verdicts(named) == {"params": "fail", "loss": "skip"}


def test_limits_that_nothing_meets_are_broken_also_where_unverified_was_accepted(front):
    checked = check(Request(front(change=lambda d: (accept(d), d.update(recommended=None))), limits=LIMITS))
    assert verdicts(checked) == {"design": "fail", "params": "skip", "loss": "skip"}


def test_a_loss_that_nobody_measured_never_regresses(front):
    for old, new in (({}, {"change": accept}), ({"change": accept}, {})):
        before, after = front("old", **old), front("new", **new)
        request = Request(after, baseline=before, limits=Limits(max_params=50_000))
        assert verdicts(check(request))["loss-regression"] == "skip"
        assert verdicts(check(dataclasses.replace(request, strict=True)))["loss-regression"] == "fail"


def test_strict_is_about_what_nobody_measured_alone(front, tmp_path):
    request = Request(front(), baseline=tmp_path / "new.json", update_baseline=True, strict=True)
    checked = check(request)
    assert {"skip", "pass"} == set(verdicts(checked).values())


def test_a_document_from_before_the_key_is_known_by_its_data(front):
    def old(document):
        document["metric"] = "fidelity"
        document["settings"]["eval"] = None

    assert verdicts(check(Request(front(change=old)))) == {"loss": "skip"}
    given = front("given", change=lambda d: d["settings"].update(eval="../eval.npz"))
    assert verdicts(check(Request(given))) == {"loss": "pass"}


def test_verified_is_true_or_false(front):
    with pytest.raises(InputError, match="verified must be true or false"):
        check(Request(front(change=lambda d: d.update(verified="no"))))


def with_whole(us, kind="modelled"):
    """Give the recommended design of a document the latency of a whole model."""
    latency = {"warm": {"us": us, "low_us": 0.8 * us, "high_us": 1.2 * us}, "cold": None}

    def change(document):
        document.update(read_again(document))
        best = next(each for each in document["designs"] if each["id"] == document["recommended"])
        best["whole_model"] = {"latency": latency, "kind": kind, "meter": "model"}

    return change


def read_again(document):
    return to_plain(document_of_plain(copy.deepcopy(document), whole=False))


@pytest.mark.parametrize(("most", "verdict"), [(500.0, "pass"), (450.0, "pass"), (399.9, "fail")])
def test_the_latency_of_the_whole_model_has_a_limit_of_its_own(most, verdict, front):
    folder = front(change=with_whole(400.0))
    (found,) = check(Request(folder, max_model_latency_us=most)).checks
    assert (found.name, found.verdict, found.measurement, found.unit) == ("whole-model-latency", verdict, 400.0, "us")
    assert ("reaches over" in found.reason) == (most == 450.0)
    assert "modelled" in found.reason


@pytest.mark.parametrize(("strict", "verdict", "code"), [(False, "skip", 0), (True, "fail", 1)])
def test_a_whole_model_that_was_not_compiled_is_skipped_and_fails_only_where_asked_for(strict, verdict, code, front):
    checked = check(Request(front(), max_model_latency_us=400.0, strict=strict))
    (found,) = checked.checks
    assert (found.name, found.verdict, found.measurement) == ("whole-model-latency", verdict, None)
    assert checked.exit_code == code
