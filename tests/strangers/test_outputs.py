"""What outputs are taken to hold, which of them count, and labels as people keep them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from lrfdse.errors import InputError
from tests.strangers.conftest import FLOAT, INT64, decaying, node, normal, value

MIX = (np.exp(-np.arange(32) / 6)[:, None] * np.random.default_rng(9).standard_normal((32, 32))).astype(np.float32)

pytestmark = pytest.mark.slow


def x_of(count=240, seed=0):
    return normal(count, 32, seed=seed) @ MIX


def one_layer(write, ends, outputs, arrays=None, data=None, **more):
    """Write a hidden layer h of 48 units on x, and what `ends` make of it."""
    return write(
        [node("Gemm", ["x", "w", "b"], ["a"], transB=1), node("Relu", ["a"], ["h"]), *ends],
        [value("x", FLOAT, ["n", 32])],
        outputs,
        {"w": decaying(48, 32, 1), "b": normal(48), **(arrays or {})},
        data=data,
        **more,
    )


def hidden(x):
    return np.maximum(x @ decaying(48, 32, 1).T + normal(48), 0)


def both(**arrays):
    return {"calib": {"x": arrays["x"]}, "eval": arrays}


def regression(write, **more):
    return one_layer(
        write,
        [node("Gemm", ["h", "v", "c"], ["y"], transB=1)],
        [value("y", FLOAT, ["n", 3])],
        {"v": decaying(3, 48, 2), "c": np.float32([20, 1013, 50])},
        **more,
    )


def test_a_regression_is_no_classifier(write, way):
    """Temperature, pressure and humidity: pressure is always the largest."""
    found = way(regression(write, data=both(x=x_of())), rank=2)
    judged = found.inputs.judging.judged
    assert (judged.kind, found.inputs.scorer.name) == ("numbers", "mse")
    assert "its largest number is number 1 on all 240 samples" in found.notes
    y = hidden(x_of()) @ decaying(3, 48, 2).T
    session = onnxruntime.InferenceSession(onnx_bytes(found))
    after = session.run(None, {"x": x_of()})[0] - np.float32([20, 1013, 50])
    wanted = 1 - ((after - y) ** 2).sum(axis=1).mean() / y.var(axis=0).sum()
    assert found.scores.eval_accuracy == pytest.approx(wanted, abs=1e-3)
    assert wanted < 0.999


def onnx_bytes(found):
    from lrfdse.formats.onnx import file_content

    return file_content(found.outputs())


def test_calibration_data_say_what_random_inputs_cannot(write, way):
    found = way(regression(write, data={"calib": {"x": x_of()}}))
    assert found.inputs.judging.judged.kind == "numbers" and not found.inputs.verified


def test_numbers_as_labels(write, way):
    x = x_of()
    targets = hidden(x) @ decaying(3, 48, 2).T + np.float32([20, 1013, 50]) + normal(240, 3, seed=4)
    found = way(regression(write, data=both(x=x, labels=targets)))
    assert found.inputs.scorer.name == "mse" and "labels are numbers of its shape" in found.notes
    assert 0.1 < found.original.eval_accuracy < 1


@pytest.mark.parametrize("output", ["bbox", "box_offsets", "landmarks", "image_embedding", "last_hidden_state"])
def test_names_of_other_numbers_than_scores(write, way, output):
    folder = one_layer(
        write,
        [node("MatMul", ["h", "v"], [output])],
        [value(output, FLOAT, ["n", 12])],
        {"v": decaying(48, 12, 2)},
        data=both(x=x_of(60)),
    )
    found = way(folder)
    assert found.inputs.judging.judged.kind == "numbers" and found.inputs.scorer.name == "mse"


@pytest.mark.parametrize("output", ["logits", "class_scores", "output_probabilities", "y"])
def test_names_of_scores(write, way, output):
    folder = one_layer(
        write,
        [node("MatMul", ["h", "v"], [output])],
        [value(output, FLOAT, ["n", 12])],
        {"v": decaying(48, 12, 2)},
        data=both(x=x_of(60)),
    )
    assert way(folder).inputs.scorer.name == "fidelity"


def test_vectors_of_length_1_are_compared_by_their_angles(write, way):
    folder = one_layer(
        write,
        [node("MatMul", ["h", "v"], ["e"]), node("LpNormalization", ["e"], ["y"], axis=-1, p=2)],
        [value("y", FLOAT, ["n", 24])],
        {"v": decaying(48, 24, 2)},
        data=both(x=x_of(80)),
    )
    found = way(folder)
    assert (found.inputs.judging.judged.kind, found.inputs.scorer.name) == ("direction", "cosine")
    assert 0.5 < found.scores.eval_accuracy < 1 == pytest.approx(found.original.eval_accuracy)


def sigmoid(write, width=1, data=None, activation="Sigmoid"):
    ends = [node("MatMul", ["h", "v"], ["z"]), node("Sub", ["z", "c"], ["s"]), node(activation, ["s"], ["p"])]
    return one_layer(
        write, ends, [value("p", FLOAT, ["n", width])], {"v": decaying(48, width, 2), "c": centre(width)}, data=data
    )


def centre(width):
    return np.median(hidden(x_of()) @ decaying(48, width, 2), axis=0).astype(np.float32)


@pytest.mark.parametrize("activation", ["Sigmoid", "Identity"])
@pytest.mark.parametrize("form", ["column", "flat", "signs", "floats"])
def test_one_score_and_labels_of_two_kinds(write, way, form, activation):
    x = x_of()
    truth = (hidden(x) @ decaying(48, 1, 2) > centre(1))[:, 0]
    wrong = truth.copy()
    wrong[:24] ^= True
    labels = {
        "column": wrong[:, None].astype(int),
        "flat": wrong.astype(int),
        "signs": 2 * wrong.astype(int) - 1,
        "floats": wrong.astype(np.float32),
    }[form]
    found = way(sigmoid(write, data=both(x=x, labels=labels), activation=activation))
    assert found.inputs.scorer.name == "accuracy"
    # Half of the samples choose: the even ones.
    assert found.original.eval_accuracy == pytest.approx((truth == wrong)[::2].mean())
    assert 0.5 < found.scores.eval_accuracy <= 1
    assert ("labels" in found.notes and "-1 and 1" in found.notes) is (form == "signs")


def test_one_score_without_labels(write, way):
    found = way(sigmoid(write, data=both(x=x_of())), rank=3)
    assert found.inputs.scorer.name == "fidelity"
    assert "judged by fidelity, cut at 0.5: a sigmoid makes it" in found.notes
    session = onnxruntime.InferenceSession(onnx_bytes(found))
    after = session.run(None, {"x": x_of()})[0][:, 0] > 0.5
    before = (hidden(x_of()) @ decaying(48, 1, 2) > centre(1))[:, 0]
    assert found.scores.fidelity == pytest.approx((after == before).mean(), abs=0.01)


def test_several_labels_a_sample(write, way):
    x = x_of()
    truth = (hidden(x) @ decaying(48, 9, 2) > centre(9)).astype(int)
    found = way(sigmoid(write, 9, both(x=x, labels=truth)))
    assert found.inputs.judging.judged.kind == "threshold"
    assert found.original.eval_accuracy == pytest.approx(1, abs=0.01)


def classifier(write, ends=(), outputs=None, data=None, **more):
    return one_layer(
        write,
        [node("Gemm", ["h", "v", "c"], ["y"], transB=1), *ends],
        outputs or [value("y", FLOAT, ["n", 10])],
        {"v": decaying(10, 48, 2), "c": normal(10)},
        data=data,
        **more,
    )


def classes(x):
    return (hidden(x) @ decaying(10, 48, 2).T + normal(10)).argmax(axis=1)


def test_one_hot_labels(write, way):
    y = classes(x_of())
    found = way(classifier(write, data=both(x=x_of(), labels=np.eye(10, dtype=np.float32)[y])))
    assert found.original.eval_accuracy == found.original.accuracy == 1
    assert "one-hot" in found.notes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda y: np.where(y == y.min(), 10, y + 1),
            "labels go from [1-9] to 10, but the 10 classes of output 'y' from 0 to 9",
        ),
        (lambda y: np.minimum(y + 1, 9), "they are counted from 1, subtract 1"),
        (lambda y: np.where(y == 3, -100, y), "one is -100: leave out samples without a class"),
        (lambda y: y + 0.5, "labels must be class numbers from 0"),
        (lambda y: y + 5, "labels go from 0 to 9"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_anything_is_fitted(write, way, change, said):
    y = classes(x_of())
    assert set(y) >= {0, 3}
    with pytest.raises(InputError, match=said) as caught:
        way(classifier(write, data=both(x=x_of(), labels=change(y))))
    assert "\n" not in str(caught.value)


def test_texts_as_labels_are_refused(write, way):
    with pytest.raises(InputError, match="labels must be finite numbers"):
        way(classifier(write, data=both(x=x_of(), labels=np.array(["a"] * 240))))


def test_saturated_probabilities(write, way):
    """Logits a hundred times too large: every probability is 0 or 1 in float32."""
    folder = saturated(write)
    found = way(folder)
    reference = found.inputs.chosen.reference["p"]
    assert (reference.max(axis=1) > 1 - 1e-6).mean() > 0.8
    assert found.inputs.judging.judged.chances
    assert 0.5 < found.scores.fidelity <= 1


def saturated(write):
    return one_layer(
        write,
        [node("Gemm", ["h", "v", "c"], ["y"], transB=1, alpha=100.0), node("Softmax", ["y"], ["p"])],
        [value("p", FLOAT, ["n", 10])],
        {"v": decaying(10, 48, 2), "c": normal(10)},
        data=both(x=x_of()),
    )


def two_heads(write, data=None):
    return one_layer(
        write,
        [node("Gemm", ["h", "v", "c"], ["parity"], transB=1), node("Gemm", ["h", "u", "d"], ["digit"], transB=1)],
        [value("parity", FLOAT, ["n", 2]), value("digit", FLOAT, ["n", 10])],
        {"v": decaying(2, 48, 2), "c": normal(2), "u": decaying(10, 48, 3), "d": normal(10)},
        data=data,
    )


def test_two_heads_both_count(write, way):
    x = x_of()
    parity = (hidden(x) @ decaying(2, 48, 2).T + normal(2)).argmax(axis=1)
    folder = two_heads(write, both(x=x, labels=parity))
    found = way(folder, rank=2, min_size=2)
    assert found.inputs.scorer.name == "accuracy"
    digits = (hidden(x) @ decaying(10, 48, 3).T + normal(10)).argmax(axis=1)[::2]
    got = onnxruntime.InferenceSession(onnx_bytes(found)).run(["digit"], {"x": x})[0].argmax(axis=1)[::2]
    assert found.scores.others == {"digit": pytest.approx((got == digits).mean())}
    assert found.scores.others["digit"] < 1 and found.original.others == {"digit": 1}
    assert "'digit' by agreement" in found.notes
    # All three layers are weighted by what they do to the outputs behind them.
    assert set(found.fits.weightings) == {"w", "v", "u"} and not found.idle
    one = way(folder, rank=2, min_size=2, judge=("parity",))
    assert one.scores.others == {} and one.idle == {"u": "no output that counts depends on it"}
    assert "outputs that count for nothing: 'digit'" in one.notes
    assert one.plan["u"].is_original


def test_what_every_output_needs_is_kept_better_than_what_one_needs(write, way):
    """A fit by both heads loses less of the second than one that knows the first alone."""
    folder = two_heads(write, both(x=x_of(160)))
    kept = {}
    for judge in ((), ("parity",)):
        # The heads themselves stay as they are.
        found = way(folder, rank=4, min_size=12, judge=judge)
        after = onnxruntime.InferenceSession(onnx_bytes(found)).run(["digit"], {"x": x_of(400, 7)})[0]
        truth = hidden(x_of(400, 7)) @ decaying(10, 48, 3).T + normal(10)
        kept[judge] = 1 - ((after - truth) ** 2).sum() / ((truth - truth.mean(axis=0)) ** 2).sum()
    assert kept[("parity",)] < kept[()] < 1


def test_an_output_that_no_layer_changes_is_not_judged(write, way):
    folder = write(
        [node("Tanh", ["x"], ["features"]), node("Gemm", ["x", "w", "b"], ["y"], transB=1)],
        [value("x", FLOAT, ["n", 32])],
        [value("features", FLOAT, ["n", 32]), value("y", FLOAT, ["n", 48])],
        {"w": decaying(48, 32, 1), "b": normal(48)},
        data={"eval": {"x": x_of()}},
    )
    found = way(folder, rank=1)
    assert found.inputs.judging.judged.name == "y" and found.scores.fidelity < 0.9
    assert "outputs that count for nothing: 'features'" in found.notes
    for name, said in (("features", "depends on no layer"), ("z", "there is none; the outputs that can be judged are")):
        with pytest.raises(InputError, match=f"--judge {name}: .*{said}"):
            way(folder, judge=(name,))


def zipmap(write, labels="classlabels_int64s", numbers=True, data=None):
    key = INT64 if labels.endswith("64s") else TensorProto.STRING
    named = list(range(10)) if key == INT64 else [f"c{k}" for k in range(10)]
    kind = helper.make_map_type_proto(key, helper.make_tensor_type_proto(FLOAT, None))
    maps = helper.make_value_info("probs", helper.make_sequence_type_proto(kind))
    ends = [
        node("Softmax", ["y"], ["p"], axis=1),
        node("ArgMax", ["p"], ["label"], axis=1, keepdims=0),
        node("ZipMap", ["p"], ["probs"], domain="ai.onnx.ml", **{labels: named}),
    ]
    return classifier(
        write, ends, [*([value("label", INT64, ["n"])] if numbers else []), maps], data=data, domains=["ai.onnx.ml"]
    )


@pytest.mark.parametrize("labels", ["classlabels_int64s", "classlabels_strings"])
@pytest.mark.parametrize("numbers", [True, False])
def test_a_list_of_maps(write, way, labels, numbers):
    """Scikit-learn's default: the label and a ZipMap; the file that is written has both, with their types."""
    folder = zipmap(write, labels, numbers, both(x=x_of(), labels=classes(x_of())))
    found = way(folder)
    assert found.original.eval_accuracy == 1 > found.scores.fidelity - 1e-9
    content = onnx_bytes(found)
    before, after = (onnx.ModelProto.FromString(c) for c in ((folder / "model.onnx").read_bytes(), content))
    assert [v.SerializeToString() for v in after.graph.output] == [v.SerializeToString() for v in before.graph.output]
    maps = onnxruntime.InferenceSession(content).run(["probs"], {"x": x_of(5)})[0]
    assert len(maps) == 5 and len(maps[0]) == 10


def test_texts_beside_numbers(write, way):
    """A classifier whose first output is the name of the class."""
    ends = [
        node("Softmax", ["y"], ["p"], axis=1),
        node("ArgMax", ["p"], ["k"], axis=1, keepdims=0),
        node("LabelEncoder", ["k"], ["name"], domain="ai.onnx.ml", keys_int64s=[0, 1], values_strings=["a", "b"]),
    ]
    outputs = [value("name", TensorProto.STRING, ["n"]), value("p", FLOAT, ["n", 10])]
    folder = classifier(write, ends, outputs, data=both(x=x_of()), domains=["ai.onnx.ml"])
    found = way(folder)
    assert found.inputs.judging.judged.name == "p" and found.inputs.scorer.name == "fidelity"
    assert "'name' (no numbers by sample)" in found.notes
