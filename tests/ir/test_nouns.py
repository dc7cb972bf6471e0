"""Rules that the nouns keep: a use's kernel, the look-ups of a plan, and factors on their way through a store."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import Factors, packed, unpacked
from lrfdse.ir.kernel import KernelSpec, kernel_spec
from lrfdse.ir.layer import Layer, Use
from lrfdse.ir.plan import Plan
from lrfdse.ir.storage import INT8

SVD, DENSE = Factorization.svd(6, 8, 2), Factorization.dense(6, 8)


@pytest.mark.parametrize(
    ("own_bias", "factorization", "corrected", "bias"),
    [
        (False, SVD, True, True),
        (False, SVD, False, False),
        (False, DENSE, True, False),
        (True, SVD, False, True),
        (True, DENSE, True, True),
    ],
)
def test_a_use_has_a_bias_of_its_own_or_by_the_correction_of_its_factors(own_bias, factorization, corrected, bias):
    use = Use("node", 3, own_bias, True)
    layer = Layer("fc", 6, 8, (use,), 0, "digest")
    assert kernel_spec(layer, use, Choice(factorization), corrected) == KernelSpec(6, 8, factorization, 3, bias, True)


def test_a_plan_is_what_it_chooses():
    one, other = Choice(SVD, INT8), Choice(DENSE)
    plan = Plan((("a", one), ("b", other)))
    assert (plan["a"], plan["b"]) == (one, other)
    with pytest.raises(KeyError):
        plan["c"]
    again = pickle.loads(pickle.dumps(plan))
    assert again == plan and hash(again) == hash(plan) and again["b"] == other
    assert repr(plan) == f"Plan(choices={plan.choices!r})"


@pytest.mark.parametrize(
    "errors", [(np.nan, 0, 0), (-1, 0, 0), (np.inf, 0, 0), (0, -1, 0), (0, np.inf, 0), (0, 0, np.inf)]
)
def test_stored_errors_that_are_none_are_refused(errors):
    stored = packed(Factors(SVD, tuple(np.ones(shape) for shape in SVD.core_shapes), np.ones(6), 0.5, 0.5, 0.5))
    for damage in ({"errors": np.array(errors)}, {"bias_shift": np.full(6, np.nan)}):
        with pytest.raises(ValueError, match="not finite"):
            unpacked(Choice(SVD), {**stored, **damage})


@pytest.mark.parametrize(("shift", "output_error", "loss"), [(None, None, None), (np.arange(6.0), 0.25, 0.125)])
def test_factors_come_back_from_their_stored_form_in_single_precision(shift, output_error, loss):
    rng = np.random.default_rng(0)
    cores = tuple(rng.standard_normal(shape) for shape in SVD.core_shapes)
    again = unpacked(Choice(SVD), packed(Factors(SVD, cores, shift, 0.5, output_error, loss)))
    assert (again.weight_error, again.output_error, again.loss) == (0.5, output_error, loss)
    for core, stored in zip(cores, again.cores, strict=True):
        assert stored.dtype == np.float64
        np.testing.assert_array_equal(stored, core.astype(np.float32))
    np.testing.assert_array_equal(again.bias_shift, shift)
