"""Choices of layers: text forms, and bytes counted by another path."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrfdse.errors import InputError
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.int8 import Int8Matrix, levels_of
from lrfdse.ir.storage import FLOAT16, FLOAT32, INT8, QDQ, asked_storages

SHAPES = ("dense", "dense+r=5", "svd:r=7", "tt:m=6x8,n=5x12,r=4", "tt:m=2x4x6,n=5x3x4,r=3x9,lr")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("storage", [FLOAT32, FLOAT16, INT8, QDQ])
def test_texts_come_back_as_they_were(shape, storage) -> None:
    choice = Choice(Factorization.parse(shape, 48, 60), storage)
    if not storage.takes(choice.factorization):
        said = "makes up for the rounding of int8" if shape == "dense+r=5" else "multiply whole rows"
        with pytest.raises(InputError, match=said):
            Choice.parse(str(choice), 48, 60)
        assert (storage, shape[:2]) == (QDQ, "tt") or (storage != INT8 and shape == "dense+r=5")
        return
    assert Choice.parse(str(choice), 48, 60) == choice
    assert choice.is_original == (str(choice) == "dense")


@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_are_those_of_the_arrays(shape) -> None:
    f = Factorization.parse(shape, 48, 60)
    rng = np.random.default_rng(0)
    matrices = f.step_matrices([rng.standard_normal(core) for core in f.core_shapes])
    whole = [Int8Matrix(m.astype(np.int8), np.ones(len(m), np.float32)) for m in matrices]
    assert Choice(f).bytes == sum(m.astype(np.float32).nbytes for m in matrices)
    assert Choice(f, FLOAT16).bytes == sum(m.astype(np.float16).nbytes for m in matrices)
    assert Choice(f, INT8).bytes == sum(m.levels.nbytes + m.scales.nbytes for m in whole)
    # What a zero point adds to each sum is a number of 32 bits.
    starts = [m.levels.sum(axis=1, dtype=np.int32) for m in whole]
    assert Choice(f, QDQ).bytes == Choice(f, INT8).bytes + sum(each.nbytes for each in starts)


@pytest.mark.parametrize(
    "text", ["svd:r=7@", "svd:r=7@int4", "@int8", "svd:r=7@int8@int8", "dense@INT8", "dense@float16"]
)
def test_other_texts_are_refused(text) -> None:
    with pytest.raises(InputError):
        Choice.parse(text, 48, 60)


def test_several_storages_are_asked_for_at_once() -> None:
    assert asked_storages("fp16") == (FLOAT16,)
    assert asked_storages("float32,fp16,int8") == (FLOAT32, FLOAT16, INT8)
    assert asked_storages("both,fp16,int8") == (FLOAT32, INT8, FLOAT16)
    for wrong in ("", "fp16,", "float16", "float32, fp16", "int4"):
        with pytest.raises(InputError, match="--storage takes float32, fp16, int8, both, qdq, all or some"):
            asked_storages(wrong)


@pytest.mark.parametrize("shape", SHAPES)
def test_cores_come_back_from_the_matrices_of_the_steps(shape) -> None:
    f = Factorization.parse(shape, 48, 60)
    rng = np.random.default_rng(0)
    cores = [rng.standard_normal(core) for core in f.core_shapes]
    for given_core, found in zip(cores, f.step_cores(f.step_matrices(cores)), strict=True):
        np.testing.assert_array_equal(found, given_core)


@given(st.integers(0, 2**32 - 1), st.floats(1e-30, 1e30))
def test_levels_come_back_from_products_with_scales(seed, size) -> None:
    rng = np.random.default_rng(seed)
    whole = Int8Matrix(
        rng.integers(-127, 127, (3, 40), np.int8, endpoint=True), (size * rng.uniform(0.5, 2, 3)).astype(np.float32)
    )
    for matrix in (whole.dense(), whole.dense().astype(np.float32)):
        np.testing.assert_array_equal(levels_of(matrix, whole.scales), whole.levels)


def test_what_is_no_level_is_refused() -> None:
    for bad in (0.5, 128.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="levels"):
            levels_of(np.array([[1.0, bad]]), np.array([1.0]))
