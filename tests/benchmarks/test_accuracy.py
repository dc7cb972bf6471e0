"""The parts of the accuracy benchmark against oracles: NumPy, enumeration, and the model that was not cut."""

from __future__ import annotations

import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.accuracy import bert, columns, pooled, probe, report, shapes, tail
from lrfdse.ir.factorization import Factorization
from lrfdse.model.data import Dataset
from lrfdse.model.runtime import Runtime


def tiny_bert(rng, hidden, inner, layers, words=11, places=9):
    def drawn(*shape):
        return rng.normal(size=shape).astype(np.float32) / 2

    weights = {
        "embeddings.word_embeddings.weight": drawn(words, hidden),
        "embeddings.position_embeddings.weight": drawn(places, hidden),
        "embeddings.token_type_embeddings.weight": drawn(2, hidden),
    }
    norms = ["embeddings.LayerNorm"]
    for number in range(layers):
        name = f"encoder.layer.{number}"
        norms += [f"{name}.attention.output.LayerNorm", f"{name}.output.LayerNorm"]
        square = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
        sizes = {**dict.fromkeys(square, (hidden, hidden)), "intermediate.dense": (inner, hidden)}
        sizes["output.dense"] = (hidden, inner)
        for part, (outputs, inputs) in sizes.items():
            weights[f"{name}.{part}.weight"], weights[f"{name}.{part}.bias"] = drawn(outputs, inputs), drawn(outputs)
    for norm in norms:
        weights[f"{norm}.weight"], weights[f"{norm}.bias"] = 1 + drawn(hidden), drawn(hidden)
    return weights


def bert_in_numpy(weights, ids, heads, layers):
    """Encode one unpadded text in float64."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    x = w["embeddings.word_embeddings.weight"][ids] + w["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    width = x.shape[1] // heads
    for number in range(layers):
        name = f"encoder.layer.{number}"
        q, k, v = (dense(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value"))
        mixed = np.zeros_like(x)
        for head in range(heads):
            at = slice(head * width, (head + 1) * width)
            scores = np.exp(q[:, at] @ k[:, at].T / math.sqrt(width))
            mixed[:, at] = scores / scores.sum(1, keepdims=True) @ v[:, at]
        x = norm(dense(mixed, f"{name}.attention.output.dense") + x, f"{name}.attention.output.LayerNorm")
        inner = dense(x, f"{name}.intermediate.dense")
        gelu = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        x = norm(dense(gelu, f"{name}.output.dense") + x, f"{name}.output.LayerNorm")
    mean = x.mean(0)
    return mean / np.linalg.norm(mean)


def test_encoder_computes_what_numpy_does_and_padding_changes_nothing():
    rng = np.random.default_rng(0)
    weights = tiny_bert(rng, hidden=8, inner=12, layers=2)
    model = bert.encoder(weights, bert.Sizes(layers=2, heads=2, hidden=8))
    session = onnxruntime.InferenceSession(model.SerializeToString())
    texts = [rng.integers(0, 11, length) for length in (7, 4, 1)]
    ids, mask = np.zeros((3, 7), np.int64), np.zeros((3, 7), np.int64)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    (found,) = session.run(None, {"input_ids": ids, "attention_mask": mask})
    expected = [bert_in_numpy(weights, text, heads=2, layers=2) for text in texts]
    np.testing.assert_allclose(found, expected, atol=2e-5)


def all_shapes(outputs, inputs, tails, params, cores):
    """Enumerate every train of the given number of cores, every rank, with its surrogate error."""
    found = []
    for bonds in itertools.product(tails, repeat=cores - 1):
        path = [(1, 1), *bonds, (outputs, inputs)]
        steps = list(itertools.pairwise(path))
        if any(b[0] % a[0] or b[1] % a[1] or a == b for a, b in steps):
            continue
        modes = [b[0] // a[0] for a, b in steps], [b[1] // a[1] for a, b in steps]
        for ranks in itertools.product(*(range(1, len(tails[bond])) for bond in bonds)):
            for direction in ("rl", "lr"):
                shape = Factorization(tuple(modes[0]), tuple(modes[1]), ranks, direction)
                sizes = [m * n for m, n in zip(*modes, strict=True)]
                around = (1, *ranks, 1)
                consistent = all(
                    around[k + 1] < around[k] * size and around[k] < size * around[k + 1]
                    for k, size in enumerate(sizes)
                )
                if consistent and shape.params <= params and shape.macs() < outputs * inputs and not shape.is_svd:
                    found.append(sum(tails[bond][rank] for bond, rank in zip(bonds, ranks, strict=True)))
    return sorted(found)


@pytest.mark.parametrize("cores", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_best_shapes_are_those_of_an_enumeration(cores, seed):
    outputs, inputs = 6, 8
    rng = np.random.default_rng(seed)
    bonds = [(a, b) for a in (1, 2, 3, 6) for b in (1, 2, 4, 8) if (a, b) not in ((1, 1), (6, 8))]
    tails = {}
    for a, b in bonds:
        rank = min(a * b, outputs * inputs // (a * b), 5)
        tails[a, b] = np.sort(rng.random(rank + 1))[::-1]
    for params in (20, 30, 40):
        every = all_shapes(outputs, inputs, tails, params, cores)
        found = shapes.best_shapes(outputs, inputs, tails, params, cores, 3)
        for error, shape in found:
            assert shape.params <= params and shape.macs() < outputs * inputs and not shape.is_svd
            path = np.cumprod(shape.out_modes)[:-1], np.cumprod(shape.in_modes)[:-1]
            sums = sum(tails[a, b][r] for a, b, r in zip(*path, shape.ranks, strict=True))
            assert error == pytest.approx(sums)
        assert [error for error, _ in found][:1] == pytest.approx(every[:1])


def branched():
    """Return a model whose last layers read three values, one of them through its shape."""
    rng = np.random.default_rng(0)
    stored = {
        "first": rng.normal(size=(6, 8)).astype(np.float32),
        "second": rng.normal(size=(8, 8)).astype(np.float32),
        "third": rng.normal(size=(8, 3)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Shape", ["a"], ["size"], name="shape"),
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2)), name="two"),
        helper.make_node("Mul", ["a", "two"], ["twice"], name="mul"),
        helper.make_node("MatMul", ["b", "second"], ["c"], name="wanted"),
        helper.make_node("Add", ["c", "twice"], ["d"], name="skip"),
        helper.make_node("Reshape", ["d", "size"], ["e"], name="reshape"),
        helper.make_node("MatMul", ["e", "third"], ["y"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "branched",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(value, name) for name, value in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_head_and_tail_together_are_the_model():
    content = branched()
    parted = tail.split(content, ["c"])
    assert parted is not None and set(parted.names) == {"a", "b", "twice"}
    data = Dataset({"x": np.random.default_rng(1).normal(size=(5, 6)).astype(np.float32)}, None)
    runtime = Runtime()
    carried = parted.carried(data, runtime)
    after = parted.tail(carried.inputs)
    onnx.checker.check_model(after, full_check=True)
    assert {node.name for node in after.graph.node} == {"shape", "wanted", "skip", "reshape", "last"}
    outputs = runtime.run(after.SerializeToString(), carried)["y"]
    np.testing.assert_allclose(outputs, runtime.run(content, data)["y"], rtol=1e-5)


def test_a_model_that_begins_with_the_layer_is_not_cut():
    assert tail.split(branched(), ["a"]) is None


def test_monotone_fit_is_the_closest_one():
    rng = np.random.default_rng(0)
    order, values = rng.random(6).tolist(), rng.normal(size=6).tolist()
    found = np.array(probe._monotone(order, values))[np.argsort(order)]
    assert (np.diff(found) >= -1e-12).all() and found.min() >= 0
    wanted = np.array(values)[np.argsort(order)]
    # Pooled neighbours: the least squares fit is the largest lower mean of the upper ones (min-max formula).
    exact = [max(min(wanted[a : b + 1].mean() for b in range(k, 6)) for a in range(k + 1)) for k in range(6)]
    np.testing.assert_allclose(found, np.maximum(exact, 0), atol=1e-12)


def row(family="asvd", ratio=2.0, seed=1, choosing=90.0, test=89.0, params=500, **more):
    return columns.Row(
        key=f"{family}{ratio}{seed}{sorted(more.items())}",
        model="lenet300",
        seed=seed,
        family=family,
        ratio=ratio,
        allocated=more.get("allocated", False),
        corrected=False,
        sweeps=0,
        more=False,
        plan={} if family == "dense" else {"fc1": "svd:r=2"},
        costs={"params": params, "macs": params, "all_params": params, "all_macs": params},
        scores={"eval": choosing, "test": test},
        seconds=0.0,
    )


def test_choice_is_made_on_validation_and_reported_on_test():
    rows = [
        row("asvd", seed=1, choosing=90, test=80),
        row("svd", seed=1, choosing=89, test=99),
        row("asvd", seed=2, choosing=70, test=60),
        row("svd", seed=2, choosing=71, test=50),
    ]
    best = pooled.chosen(pooled.pooled(rows, {}))
    assert sorted(best.tests) == [50, 80]


def test_report_names_the_smallest_at_equal_accuracy():
    rows = [
        row("dense", 1.0, choosing=90.0, test=89.5, params=1000),
        row("svd", 2.0, choosing=89.5, test=89.0, params=500),
        row("asvd", 8.0, choosing=88.9, test=89.4, params=125),
        row("asvd", 4.0, choosing=89.2, test=88.0, params=250),
    ]
    timed = {r.key: {"fc1": r.costs["params"] / 10, "": r.costs["params"] / 10} for r in rows if r.family != "dense"}
    timed[rows[0].key] = {"fc1": 120.0, "": 120.0}
    runs = {"lenet300": columns.Runs((2.0, 4.0, 8.0))}
    lines, found = report.document(rows, probe.summary({}), timed, runs, "riscv64", {"cores": 2})
    text = "\n".join(lines)
    assert "smallest is activation-aware SVD (uniform 4x), 4.0 times below dense" in text
    assert "fastest is activation-aware SVD (uniform 4x), 4.8 times the dense speed" in text
    assert [r.key for r in report.smallest_rows(rows)] == [rows[1].key, rows[3].key]
    assert json.loads(json.dumps(found))["rows"][1]["latency_us"] == {"fc1": 50.0, "": 50.0}
    assert "| lenet300 | 8x | 88.9 | 89.40 | yes |" in text


def test_columns_that_say_nothing_are_left_out():
    def jobs(layers, **runs):
        case = SimpleNamespace(layers=layers, more_calib=None)
        return columns.jobs(case, columns.Runs((4.0, 16.0), **runs))

    one, two = jobs(("fc1",)), jobs(("fc1", "fc2"))
    assert not any(job.allocated for job in one) and any(job.allocated for job in two)
    for job in (*one, *two):
        assert not job.corrected or columns.FAMILIES[job.family].data
        assert not job.sweeps or (job.corrected and job.ratio == 16.0)
    assert {
        (job.family, job.ratio, job.allocated)
        for job in jobs(("a", "b"), corrected_at=(4.0,), sweeps=0)
        if job.corrected
    } == {("any", 4.0, True)}
    assert len(set(two)) == len(two)
