"""T3F as an independent implementation: its TT-SVD, its product, and its trains in both directions."""

from __future__ import annotations

import importlib
import os

import numpy as np
import pytest

from lrfdse.errors import ToolError
from lrfdse.factorize.chain import dense_weight
from lrfdse.factorize.fit import Fitter
from lrfdse.factorize.t3f import from_t3f, to_t3f
from lrfdse.ir.factorization import Factorization

PATHS = [
    Factorization((3, 4), (4, 5), (4,)),
    Factorization((4, 3), (5, 4), (7,), "lr"),
    Factorization((2, 3, 2), (5, 2, 2), (3, 4)),
    Factorization((12, 1), (4, 5), (3,)),
    Factorization.svd(12, 20, 5),
]


@pytest.fixture(scope="module")
def t3f():
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    pytest.importorskip("tensorflow", reason="the t3f extra is not installed")
    return pytest.importorskip("t3f", reason="the t3f extra is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=str)
def test_tt_svd_is_that_of_t3f(t3f, path):
    weight = np.random.default_rng(0).standard_normal((12, 20))
    theirs = t3f.to_tt_matrix(weight, shape=(path.out_modes, path.in_modes), max_tt_rank=list(path.bonds))
    ours = Fitter(weight).fit(path)
    np.testing.assert_allclose(dense_weight(ours.cores), t3f.full(theirs).numpy(), atol=1e-10)
    shape, cores = from_t3f(theirs, path.direction)
    assert shape == path
    assert Fitter(weight).measured(shape, cores).weight_error == pytest.approx(ours.weight_error, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=str)
def test_the_chain_is_the_product_of_t3f(t3f, kit, path):
    import tensorflow

    rng = np.random.default_rng(1)
    factors, x = Fitter(rng.standard_normal((12, 20))).fit(path), rng.standard_normal((6, 20))
    theirs = t3f.matmul(to_t3f(factors.cores, "float64"), tensorflow.constant(x.T)).numpy().T
    np.testing.assert_allclose(kit.by_steps(factors.factorization, factors.cores, x), theirs, atol=1e-12)


@pytest.mark.slow
def test_there_and_back(t3f):
    path = PATHS[2]
    weight = np.random.default_rng(2).standard_normal((12, 20)).astype(np.float32)
    train = t3f.to_tt_matrix(weight, shape=(path.out_modes, path.in_modes), max_tt_rank=list(path.bonds))
    shape, cores = from_t3f(train)
    assert shape == path
    np.testing.assert_allclose(dense_weight(cores), t3f.full(train).numpy(), atol=1e-6)
    for ours, theirs in zip(from_t3f(to_t3f(cores))[1], train.tt_cores, strict=True):
        np.testing.assert_array_equal(ours, theirs.numpy())
    with pytest.raises(ValueError, match="not a TT-matrix"):
        from_t3f(t3f.to_tt_tensor(np.ones((3, 4, 5)), max_tt_rank=2))


def test_without_t3f_the_message_names_the_extra(monkeypatch):
    def refuse(name, *rest):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(ToolError, match=r"t3f is not installed: pip install 'lrfdse\[t3f\]'"):
        to_t3f([np.ones((1, 2, 2, 1))])
