"""Scores of models on the data in their roles, against onnxruntime and NumPy alone."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import numpy_helper
from scipy.stats import binomtest

from lrfdse.errors import InputError
from lrfdse.explore.evidence import evidence_notes
from lrfdse.explore.inputs import open_inputs, settings_for
from lrfdse.explore.plans.assemble import metric_of
from lrfdse.explore.plans.evaluator import Evaluator
from lrfdse.explore.plans.job import Job
from lrfdse.explore.requests import data_request, files_of
from lrfdse.ir.latency import Latency
from lrfdse.ir.plan import Design, Plan
from lrfdse.quality.scores import Grade
from lrfdse.results.settings import Limits
from lrfdse.targets.catalog import load_target


def outputs_of(content, x):
    return onnxruntime.InferenceSession(content).run(None, {"x": x})[0]


@pytest.fixture(scope="module")
def content(small_folder):
    return (small_folder / "model.onnx").read_bytes()


def noisy(content, scale):
    """Return the model with noise on its first weight."""
    model = onnx.ModelProto.FromString(content)
    weight = next(t for t in model.graph.initializer if t.name == "fc1.weight")
    noise = np.random.default_rng(0).standard_normal((32, 48)).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + scale * noise, "fc1.weight"))
    return model.SerializeToString()


@pytest.fixture(scope="module")
def spoiled(content):
    return noisy(content, 0.3)


def arrays(folder, role):
    with np.load(folder / f"{role}.npz") as data:
        return dict(data)


def opened(folder, **more):
    inputs = open_inputs(files_of(settings := settings_for(folder, "host", **more)), data_request(settings))
    return inputs, Evaluator(None, inputs)


def test_a_score_that_rests_on_few_samples_is_said_to_do_so():
    def notes(effective):
        grade = Grade(1.0, np.ones(64), effective=effective)
        inputs = SimpleNamespace(
            choosing=SimpleNamespace(count=64, labels=np.zeros(64)),
            chosen=SimpleNamespace(original=grade),
            scorer=SimpleNamespace(name="mse"),
            judging=SimpleNamespace(judged=SimpleNamespace(name="y")),
            verified=True,
        )
        return evidence_notes(inputs, None, None)

    assert notes(None) == notes(8.0) == []
    (note,) = notes(1.18)
    assert "no more than 1.2 of the 64 samples" in note and "'y'" in note


def test_accuracy_with_its_interval_and_the_error_of_its_loss(small_folder, content, spoiled):
    inputs, evaluator = opened(small_folder)
    scores = evaluator.scores_of(spoiled)
    assert metric_of(inputs) == inputs.scorer.key == "accuracy"
    for role, value, interval, error in (
        ("eval", scores.eval_accuracy, scores.eval_interval, scores.standard_error),
        ("test", scores.accuracy, scores.accuracy_interval, scores.accuracy_error),
    ):
        data = arrays(small_folder, role)
        right = outputs_of(spoiled, data["x"]).argmax(1) == data["labels"]
        before = outputs_of(content, data["x"]).argmax(1) == data["labels"]
        assert 0.3 < value < 1
        assert value == right.mean()
        wilson = binomtest(int(right.sum()), 200).proportion_ci(0.95, "wilson")
        assert interval == pytest.approx((wilson.low, wilson.high))
        assert error == pytest.approx((right.astype(float) - before).std() / 200**0.5)


def test_a_version_of_the_model_is_opened_once_for_all_data(small_folder, spoiled, monkeypatch):
    _, evaluator = opened(small_folder)
    version, made, session = onnx_ir.from_proto(onnx.ModelProto.FromString(spoiled)), [], onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *a, **k: made.append(a) or session(*a, **k))
    monkeypatch.setattr(onnx_ir, "from_proto", lambda proto: pytest.fail("a model is parsed where it is read"))
    assert evaluator.scores_of(version) == evaluator.scores_of(version)
    assert len(made) == 1
    monkeypatch.undo()
    assert evaluator.scores_of(version) == evaluator.scores_of(spoiled)


def test_the_report_can_be_left_out(small_folder, spoiled):
    _, evaluator = opened(small_folder)
    whole, part = evaluator.scores_of(spoiled), evaluator.scores_of(spoiled, report=False)
    assert (part.accuracy, part.accuracy_interval, part.accuracy_error) == (None, None, None)
    assert part.eval_accuracy == whole.eval_accuracy


def test_fewer_samples_choose_and_all_report(small_folder, content):
    inputs, _ = opened(small_folder, eval_samples=50, seed=3)
    data = arrays(small_folder, "eval")
    drawn = inputs.choosing
    places = [int(np.flatnonzero((data["x"] == row).all(axis=1))[0]) for row in drawn.inputs["x"]]
    assert len(places) == 50
    assert places == sorted(set(places)) != list(range(50))
    assert drawn.labels.tolist() == data["labels"][places].tolist()
    assert inputs.reporting.count == 200
    assert "50 of 200 evaluation samples, drawn at random, chose the designs" in inputs.notes
    assert opened(small_folder, eval_samples=50, seed=3)[0].digests == inputs.digests
    assert opened(small_folder, eval_samples=50, seed=4)[0].digests["eval"] != inputs.digests["eval"]
    assert opened(small_folder, eval_samples=1000)[0].digests == opened(small_folder)[0].digests
    with pytest.raises(InputError, match="--eval-samples must be 1 or more, but got 0"):
        opened(small_folder, eval_samples=0)


def noted(scores):
    """Return a design with these scores; the rest of it is of no account."""
    return Design(
        *("abcdef01", Plan(()), 1, 4, 2, Latency(1.0, 1.0, 1.0), "warm"),
        *(scores.eval_accuracy, scores.accuracy, scores.fidelity, scores.standard_error, "knapsack"),
        eval_interval=scores.eval_interval,
        output_error=scores.output_error,
    )


def test_the_output_error_is_that_of_numpy(small_folder, content, spoiled):
    _, evaluator = opened(small_folder)
    x = arrays(small_folder, "eval")["x"]
    before, after = (outputs_of(each, x).astype(np.float64) for each in (content, spoiled))
    wanted = np.sqrt(((after - before) ** 2).sum() / (before**2).sum())
    assert wanted > 0.01
    assert evaluator.scores_of(spoiled).output_error == pytest.approx(wanted, rel=1e-6)
    assert evaluator.scores_of(content).output_error == 0


def test_random_inputs_verify_nothing_and_the_classes_that_they_hit_are_counted(content, tmp_path):
    (tmp_path / "model.onnx").write_bytes(content)
    inputs, evaluator = opened(tmp_path, seed=5)
    assert not inputs.verified
    x = np.random.default_rng(5).standard_normal((64, 48)).astype(np.float32)
    hit = len(set(outputs_of(content, x).argmax(1)))
    assert evaluator.classes_hit == (hit, 6)
    (note,) = evidence_notes(inputs, noted(evaluator.scores_of(content)), evaluator.classes_hit)
    assert "no loss was measured" in note and f"64 random inputs, which the original model puts into {hit} of 6" in note
    assert "classes" not in evidence_notes(inputs, noted(evaluator.scores_of(content)), None)[0]


def test_fidelity_on_real_inputs_says_how_many_classes_they_hit_and_its_interval(folder_without_labels, spoiled):
    inputs, evaluator = opened(folder_without_labels)
    scores = evaluator.scores_of(spoiled)
    x = arrays(folder_without_labels, "eval")["x"]
    before, after = (outputs_of(each, x).argmax(1) for each in (inputs.model.content, spoiled))
    wilson = binomtest(int((before == after).sum()), 200).proportion_ci(0.95, "wilson")
    (note,) = evidence_notes(inputs, noted(scores), evaluator.classes_hit)
    assert f"the 200 samples fall into {len(set(before))} of 6 classes" in note
    assert f"with a 95 % interval of {wilson.low:.2%} to {wilson.high:.2%}" in note
    assert inputs.verified


def test_progress_names_no_fidelity_of_random_inputs(small_folder, content, spoiled, tmp_path):
    (tmp_path / "model.onnx").write_bytes(content)
    for folder, metric, key in ((tmp_path, "fidelity", "output error"), (small_folder, "accuracy", "accuracy")):
        inputs, evaluator = opened(folder)
        design = noted(scores := evaluator.scores_of(spoiled))
        value = scores.output_error if key == "output error" else scores.eval_accuracy
        job = Job((), load_target("host"), Limits(), metric, evaluator, inputs.verified)
        assert job.quality(design) == f"{key} {value:.4f}"


def test_few_samples_that_stay_right_are_said_to_tell_little(small_folder, content, tmp_path):
    (tmp_path / "model.onnx").write_bytes(content)
    for role in ("eval", "test"):
        held = arrays(small_folder, role)
        np.savez(tmp_path / f"{role}.npz", **{name: array[:8] for name, array in held.items()})
    inputs, evaluator = opened(tmp_path)
    # The same model again, as another design that changes no sample.
    scores = evaluator.scores_of(content)
    assert scores.standard_error == scores.accuracy_error == pytest.approx(0.1)
    unchanged = SimpleNamespace(model=inputs.model, factors=lambda plan, refined: {})
    original = Evaluator(unchanged, inputs).scores(Plan(()))
    assert original.standard_error == original.accuracy_error == 0
    (note,) = evidence_notes(inputs, noted(scores), evaluator.classes_hit, 0.01)
    assert note == (
        "8 samples are few for a limit of 1 points: a design that changes none of them may lose 16.4 points on others "
        "(95 %); 163 tell"
    )
    assert evidence_notes(inputs, noted(scores), evaluator.classes_hit, 0.2) == []


def test_labels_need_no_note(small_folder, content):
    inputs, evaluator = opened(small_folder)
    assert evidence_notes(inputs, noted(evaluator.scores_of(content)), evaluator.classes_hit) == []


@pytest.fixture
def folder_without_labels(small_folder, tmp_path):
    (tmp_path / "model.onnx").write_bytes((small_folder / "model.onnx").read_bytes())
    for role in ("eval", "test"):
        np.savez(tmp_path / f"{role}.npz", x=arrays(small_folder, role)["x"])
    return tmp_path


def test_fidelity_without_labels(folder_without_labels, content, spoiled):
    inputs, evaluator = opened(folder_without_labels)
    scores = evaluator.scores_of(spoiled)
    x = arrays(folder_without_labels, "eval")["x"]
    agrees = outputs_of(spoiled, x).argmax(1) == outputs_of(content, x).argmax(1)
    assert metric_of(inputs) == "fidelity"
    assert scores.fidelity == agrees.mean()
    assert scores.standard_error == pytest.approx(agrees.std() / 200**0.5)
    assert (scores.eval_accuracy, scores.accuracy) == (None, None)
    assert scores.eval_interval[0] < scores.fidelity < scores.eval_interval[1]


def test_another_metric_without_labels_reports_on_test_data_too(folder_without_labels, content, spoiled):
    inputs, evaluator = opened(folder_without_labels, metric="mse")
    assert evaluator.scores_of(spoiled).eval_accuracy == -1
    little = noisy(content, 0.05)
    scores = evaluator.scores_of(little)
    for role, value in (("eval", scores.eval_accuracy), ("test", scores.accuracy)):
        x = arrays(folder_without_labels, role)["x"]
        before, after = outputs_of(content, x), outputs_of(little, x)
        assert 0 < value < 1
        assert value == pytest.approx(1 - np.mean((before - after) ** 2) / np.mean(before.var(axis=0)), rel=1e-4)
    note = "mse compares with what the original model gives"
    assert any(note in each for each in evidence_notes(inputs, noted(scores), evaluator.classes_hit))


def test_targets_that_are_no_classes(small_folder, content, tmp_path):
    (tmp_path / "model.onnx").write_bytes(content)
    x = arrays(small_folder, "eval")["x"]
    targets = outputs_of(content, x) + np.random.default_rng(0).standard_normal((200, 6))
    np.savez(tmp_path / "eval.npz", x=x, labels=targets)
    inputs, _ = opened(tmp_path)
    assert metric_of(inputs) == "mse"
    assert "output 'y' is judged by explained variance (mse): labels are numbers of its shape" in inputs.notes
    _, evaluator = opened(tmp_path, metric="mse")
    expected = 1 - np.mean((outputs_of(content, x) - targets)[::2] ** 2) / np.mean(targets[::2].var(axis=0))
    assert evaluator.scores_of(content).eval_accuracy == pytest.approx(expected)
    np.savez(tmp_path / "eval.npz", x=x, labels=np.full((200, 6), np.nan))
    with pytest.raises(InputError, match="labels must be finite numbers"):
        opened(tmp_path, metric="mse")


def test_a_function_of_the_users_own_is_part_of_the_identity(small_folder, content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = "def score(outputs, batch):\n    return (outputs['y'].argmax(1) == batch['labels']) * 0.5\n"
    (tmp_path / "metric_of_test_evaluator.py").write_text(code)
    inputs, evaluator = opened(small_folder, metric="metric_of_test_evaluator:score")
    scores = evaluator.scores_of(content)
    assert scores.eval_accuracy == scores.accuracy == 0.5
    assert metric_of(inputs) == "metric_of_test_evaluator:score"
    assert inputs.scorer.key != metric_of(inputs)


def test_a_metric_that_does_not_fit_the_model_is_refused_at_once(small_folder, tmp_path, content):
    with pytest.raises(InputError, match="--metric takes"):
        opened(small_folder, metric="f1")
    (tmp_path / "model.onnx").write_bytes(content)
    np.savez(tmp_path / "eval.npz", x=arrays(small_folder, "eval")["x"], labels=np.full((200, 2), 3))
    with pytest.raises(InputError, match=r"decides \(100, 6\)|decides \(100,\) classes, but the labels are \(100, 2\)"):
        opened(tmp_path, metric="top5")
