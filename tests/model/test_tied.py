"""Tied embeddings: one table that is looked up and multiplied by, as two factors that both uses share."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from lrfdse.errors import InputError
from lrfdse.factorize.fit import Fitter
from lrfdse.healing.part import part_of
from lrfdse.ir.factorization import Factorization
from lrfdse.model.data import Dataset
from lrfdse.model.graph import load_model
from lrfdse.model.passes.factor import rewrite
from lrfdse.model.runtime import Runtime
from lrfdse.program.lower import program
from lrfdse.repair.correct import Corrector
from lrfdse.repair.moments import moments
from tests.model.test_carried import stored, truncated
from tests.program.interpreter import run as interpreted

WORDS, WIDE = 40, 12
KINDS = ("fc", "embedding", "tied")

FORMS = {
    "transposed": "t = Transpose <perm = [1, 0]> (words)  y = MatMul (p, t)",
    "with a bias": "t = Transpose (words)  l = MatMul (p, t)  y = Add (l, shift)",
    "a Gemm": "y = Gemm <transB = 1> (p, words, shift)",
    "on the left": "q = Transpose <perm = [1, 0]> (p)  y = MatMul (words, q)",
}


def language_model(make, form="transposed", lookups=1, **options):
    """Write a model that guesses the next word: one layer between an embedding and the same table."""
    rng = np.random.default_rng(0)
    arrays = {
        # Words are far from equally long, and most lie in few directions.
        "words": (rng.standard_normal((WORDS, WIDE)) * 0.8 ** np.arange(WIDE)) * rng.uniform(0.2, 2, (WORDS, 1)),
        "w": rng.standard_normal((WIDE, WIDE)) / 2,
        "shift": rng.standard_normal(WORDS) / 4,
    }
    arrays = {
        name: array.astype(np.float32) for name, array in arrays.items() if name in FORMS[form] or name != "shift"
    }
    second = "f = Gather (words, j)  s = Add (e, f)" if lookups == 2 else "s = Identity (e)"
    fed = "int64[n] i" + (", int64[n] j" if lookups == 2 else "")
    size = f"{WORDS}, n" if form == "on the left" else f"n, {WORDS}"
    text = f"""g ({fed}) => (float[{size}] y)
        {{ e = Gather (words, i)  {second}  a = MatMul (s, w)  p = Tanh (a)  {FORMS[form]} }}"""
    return make(text, arrays, **options)


def fed(model, count=9, seed=1):
    rng = np.random.default_rng(seed)
    return {port.name: rng.integers(0, WORDS, count) for port in model.inputs}


def results(model, feeds):
    runtime = Runtime()
    session = runtime.session(model.SerializeToString() if isinstance(model, onnx.ModelProto) else model)
    return list(runtime.call(session, feeds).values())


def with_table(model, table):
    """Return the original with another table: the oracle, which knows of no factors."""
    made = onnx.ModelProto.FromString(model.content)
    for tensor in made.graph.initializer:
        if tensor.name == "words":
            tensor.CopyFrom(onnx.numpy_helper.from_array(table.astype(np.float32), "words"))
    return made


@pytest.mark.parametrize("lookups", [1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_both_uses_read_the_same_factors(make, form, lookups):
    model = load_model(language_model(make, form, lookups), dict.fromkeys("ij"[:lookups], (9,)), KINDS)
    layer = model.layer("words")
    assert (layer.kind, layer.outputs, layer.inputs, layer.weights) == ("tied", WORDS, WIDE, WORDS * WIDE)
    assert not model.untouched and {each.name for each in model.layers} == {"words", "w"}
    shift = np.linspace(-1, 1, WORDS)
    factors = truncated(model.weight("words"), 4, shift)
    table = factors.cores[0][0, :, 0, :] @ factors.cores[1][:, 0, :, 0]
    (wanted,) = results(with_table(model, table), fed(model))
    wanted = wanted + (shift[:, None] if form == "on the left" else shift)
    for closed in (False, True):
        made = rewrite(model, {"words": factors}, closed=closed)
        (got,) = results(made, fed(model))
        np.testing.assert_allclose(got, wanted, atol=1e-5)
    # Something was lost: the comparison is not one of two originals.
    assert np.abs(wanted - results(model.original, fed(model))[0]).max() > 0.1
    held = stored(made)
    assert "words" not in held
    floats = [array.shape for array in held.values() if array.dtype == np.float32]
    biases = (WORDS, 1) if form == "on the left" else (WORDS,)
    assert sorted(floats) == sorted([(WORDS, 4), (4, WIDE), (WIDE, WIDE), biases])


def test_whole_tables_stay_as_they_are(make):
    model = load_model(language_model(make), {"i": (9,)}, KINDS)
    made = rewrite(model, {})
    assert stored(made).keys() == stored(model.original).keys()
    np.testing.assert_array_equal(results(made, fed(model))[0], results(model.original, fed(model))[0])


def test_a_table_is_left_where_nobody_asks(make):
    model = load_model(language_model(make), {"i": (9,)})
    assert [layer.name for layer in model.layers] == ["w"]
    reasons = {part.op: part.reason for part in model.untouched}
    assert reasons["MatMul"] == "a tied embedding, which `--layers fc,recurrent,attention,embedding,tied` explores"


COPIES = {
    "a product": "y = MatMul (p, copy)",
    "a Gemm": "y = Gemm (p, copy)",
    "a Gemm that turns it": "y = Gemm <transB = 1> (p, copy)",
    "on the left": "q = Transpose <perm = [1, 0]> (p)  y = MatMul (copy, q)",
}


def copied(make, form, copy):
    """Write a model whose product has a copy of the table of its own, as exporters fold transpositions."""
    words = np.random.default_rng(0).standard_normal((WORDS, WIDE)).astype(np.float32)
    copy = copy(words if form in ("a Gemm that turns it", "on the left") else words.T).copy()
    size = f"{WORDS}, n" if form == "on the left" else f"n, {WORDS}"
    text = f"g (int64[n] i) => (float[{size}] y) {{ e = Gather (words, i)  p = Tanh (e)  {COPIES[form]} }}"
    return load_model(make(text, {"words": words, "copy": copy}), {"i": (9,)}, KINDS)


@pytest.mark.parametrize("form", COPIES)
def test_a_table_that_is_stored_twice_is_one_layer_as_well(make, form):
    model = copied(make, form, lambda copy: copy)
    (layer,) = model.layers
    assert (layer.kind, layer.outputs, layer.inputs) == ("tied", WORDS, WIDE)
    # Whole, it is stored once, and gives the same.
    whole = rewrite(model, {})
    assert sorted(stored(whole)) == ["words"]
    np.testing.assert_array_equal(results(whole, fed(model))[0], results(model.original, fed(model))[0])
    factors = truncated(model.weight(layer.name), 4, np.zeros(WORDS))
    held = [array.shape for array in stored(rewrite(model, {layer.name: factors})).values() if array.ndim == 2]
    assert sorted(each for each in held if 1 not in each) == [(4, WIDE), (WORDS, 4)]


@pytest.mark.parametrize("form", COPIES)
def test_a_matrix_that_is_no_copy_of_the_table_is_a_layer_of_its_own(make, form):
    def other(copy):
        copy = copy.copy()
        copy[3, 5] += 1e-3
        return copy

    model = copied(make, form, other)
    assert sorted(layer.kind for layer in model.layers) == ["embedding", "fc"]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("y = Gemm <transB = 1, alpha = 0.5> (p, words)", "and the product scales it"),
        ("y = MatMul (k, words)", "whose rows are what the product sums over"),
    ],
    ids=["scaled", "the other way round"],
)
def test_what_cannot_share_factors_says_why(make, output, reason):
    arrays = {"words": np.random.default_rng(0).standard_normal((WORDS, WIDE)).astype(np.float32)}
    arrays["v"] = np.eye(5, dtype=np.float32)
    text = f"""g (int64[n] i, float[n, {WORDS}] k, float[n, 5] u) => (float[n, m] y, float[n, 5] z)
        {{ p = Gather (words, i)  {output}  z = MatMul (u, v) }}"""
    model = load_model(make(text, arrays), {"i": (3,), "k": (3, WORDS), "u": (3, 5)}, KINDS)
    assert [layer.name for layer in model.layers] == ["v"]
    assert any(part.reason.endswith(reason) for part in model.untouched)


def data(model, count=400):
    """Return samples in which few words are common."""
    rng = np.random.default_rng(3)
    chances = 1 / np.arange(1, WORDS + 1)
    return Dataset({"i": rng.choice(WORDS, count, p=chances / chances.sum())}, None)


def losses(model, table, samples):
    """Return the relative errors of what a table gives looked up, all rows alike, and of its products, means apart."""
    words = model.weight("words")
    (hidden,) = (np.tanh(words[samples.inputs["i"]] @ stored(model.original)["w"]),)
    apart = hidden - hidden.mean(axis=0)
    found = np.sum((words - table) ** 2) / np.sum(words**2)
    return found, np.sum((apart @ (words - table).T) ** 2) / np.sum((apart @ words.T) ** 2)


def fitted(model, samples, rank):
    seen = moments(model, samples)["words"]
    factors = Fitter(model.weight("words"), seen, "auto").fit(Factorization.svd(WORDS, WIDE, rank))
    return factors.cores[0][0, :, 0, :] @ factors.cores[1][:, 0, :, 0], factors


@pytest.mark.parametrize("rank", [2, 4, 8])
def test_the_fit_weighs_lookups_and_products_alike(make, rank):
    """In closed form: the best table of a rank under the sum of both relative errors, whitened by their metric."""
    model = load_model(language_model(make), {"i": (1,)}, KINDS)
    samples, words = data(model), model.weight("words")
    hidden = np.tanh(words[samples.inputs["i"]] @ stored(model.original)["w"].astype(np.float64))
    spread = np.cov(hidden.T, bias=True)
    metric = spread / np.trace(words @ spread @ words.T) + np.eye(WIDE) / np.sum(words**2)
    root = np.linalg.cholesky(metric)
    u, s, v = np.linalg.svd(words @ root, full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ v[:rank] @ np.linalg.inv(root)
    table, factors = fitted(model, samples, rank)
    np.testing.assert_allclose(table, best, atol=1e-4)
    ours = losses(model, table, samples)
    assert factors.output_error**2 == pytest.approx(sum(ours) / 2, rel=1e-3)
    u, s, v = np.linalg.svd(words, full_matrices=False)
    plain = losses(model, (u[:, :rank] * s[:rank]) @ v[:rank], samples)
    # Less of the products' error, for a little of the lookups'.
    assert sum(ours) < sum(plain) and ours[1] < plain[1] and ours[0] >= plain[0]


def test_a_corrected_plan_keeps_lookups_and_products_together(make):
    model = load_model(language_model(make), {"i": (1,)}, KINDS)
    samples = data(model)
    _, table = fitted(model, samples, 5)
    factors = {"w": truncated(model.weight("w"), 4, np.zeros(WIDE)), "words": table}
    found = Corrector(model, samples, weightings={}).correct(factors)
    assert found.after < found.before
    made = rewrite(model, found.factors)
    held = [array.shape for array in stored(made).values() if array.dtype == np.float32]
    assert held.count((WORDS, 5)) == held.count((5, WIDE)) == 1


def test_healing_says_that_it_does_not_train_lookups(make):
    model = load_model(language_model(make), {"i": (9,)}, KINDS)
    factors = {"words": truncated(model.weight("words"), 4, None)}
    with pytest.raises(InputError, match="healing does not reach layer 'words', a tied embedding"):
        part_of(model, factors, ["y"])


def test_the_program_multiplies_by_both_factors(make):
    model = load_model(language_model(make), {"i": (9,)}, KINDS)
    made = rewrite(model, {"words": truncated(model.weight("words"), 4, None)})
    feeds = fed(model)
    lowered = program(made, {"i": (9,)})
    np.testing.assert_allclose(next(iter(interpreted(lowered, feeds).values())), results(made, feeds)[0], atol=1e-5)
    # The lookup's second factor, the layer between, and the two of the product.
    assert lowered.macs == 9 * (4 * WIDE + WIDE * WIDE + WIDE * 4 + 4 * WORDS)
