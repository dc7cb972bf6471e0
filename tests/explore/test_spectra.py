"""Spectra of layers against NumPy's singular value decomposition."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrfdse.cli import run
from lrfdse.explore.layers.spectra import spectrum, thinned
from lrfdse.factorize.spectra import effective_rank


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**31))
def test_values_errors_and_effective_rank(rows, columns, seed):
    matrix = np.random.default_rng(seed).standard_normal((rows, columns)) * 1e-3
    found = spectrum(matrix)
    expected = np.linalg.svd(matrix, compute_uv=False)
    assert found.size == len(expected)
    ranks = np.array(found.ranks)
    assert found.values == pytest.approx(expected[ranks - 1] / expected[0], rel=1e-3, abs=1e-5)
    rests = [np.linalg.norm(expected[rank:]) / np.linalg.norm(expected) for rank in ranks]
    assert found.errors == pytest.approx(rests, rel=1e-3, abs=1e-5)
    assert found.effective_rank == pytest.approx(effective_rank(matrix), rel=1e-6)


def test_a_zero_matrix_has_no_rank():
    found = spectrum(np.zeros((4, 3)))
    assert (found.effective_rank, found.values, found.errors) == (0.0, (0.0,) * 3, (0.0,) * 3)


def test_inputs_that_never_vary_have_no_spectrum(small_folder, tmp_path, capsys):
    images = np.load(small_folder / "calib.npz")["x"]
    shown = []
    for samples in (images[:2], np.stack([images[0]] * 2)):
        np.savez(tmp_path / "calib.npz", x=samples)
        command = ["inspect", small_folder / "model.onnx", "--calib", tmp_path / "calib.npz", "--json"]
        assert run([str(word) for word in [*command, "--cache", tmp_path / "cache"]]) == 0
        shown.append(json.loads(capsys.readouterr().out)["layers"][0]["spectra"])
    two, one = shown
    # The rank of a covariance is at most the number of different samples less one.
    assert two["inputs"]["size"] == two["whitened"]["size"] == 1
    assert one == {"weight": two["weight"], "inputs": None, "whitened": None}


@settings(max_examples=50)
@given(st.integers(1, 5000))
def test_thinning_keeps_both_ends_and_about_a_hundred(size):
    ranks = thinned(size)
    assert ranks[0] == 1 and ranks[-1] == size
    assert list(ranks) == sorted(set(ranks))
    assert len(ranks) <= min(size, 102)
