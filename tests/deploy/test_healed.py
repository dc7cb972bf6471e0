"""Trained factors come back from their file as they were, and nothing else is taken for them."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest

from lrfdse.deploy.healed import HEALED, healed_content, read_healed
from lrfdse.errors import InputError
from lrfdse.ir.choice import Choice
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.factors import packed
from lrfdse.ir.plan import Plan


@pytest.fixture
def factors(kit):
    rng = np.random.default_rng(0)
    texts = {"a/b": "tt:m=3x2,n=2x4,r=3", "head": "svd:r=2"}
    return {name: kit.random_factors(rng, Factorization.parse(text, 6, 8), 6) for name, text in texts.items()}


@pytest.fixture
def plan(factors):
    dense = Choice(Factorization.dense(5, 5))
    names = [(name, each.choice) for name, each in factors.items()]
    return Plan((names[0], ("between", dense), names[1]))


def read(folder, plan, content, digest=None):
    (folder / HEALED).write_bytes(content)
    return read_healed(folder, plan, digest or hashlib.sha256(content).hexdigest())


def test_factors_come_back_as_float32_holds_them(factors, plan, tmp_path):
    found = read(tmp_path, plan, healed_content(factors))
    assert list(found) == list(factors)
    for name, before in factors.items():
        assert found[name].choice == before.choice
        np.testing.assert_array_equal(found[name].bias_shift, before.bias_shift)
        for one, other in zip(found[name].cores, before.cores, strict=True):
            np.testing.assert_array_equal(one, other.astype(np.float32))


def test_equal_factors_give_equal_files(factors):
    assert healed_content(factors) == healed_content(dict(factors))


def saved(write, arrays):
    buffer = io.BytesIO()
    write(buffer, **arrays)
    return buffer.getvalue()


def test_what_is_damaged_or_another_file_is_refused_in_one_line(factors, plan, tmp_path):
    whole = healed_content(factors)
    arrays = {f"{n}.{k}": a for n, each in enumerate(factors.values()) for k, a in packed(each).items()}
    short = {name: array for name, array in arrays.items() if name != "1.core0"}
    wrong = arrays | {"0.core1": np.full_like(arrays["0.core1"], np.nan)}
    objects = arrays | {"0.core1": np.array([{}], dtype=object)}
    for content in (
        b"",
        whole[: len(whole) // 2],
        saved(np.savez_compressed, arrays),
        saved(np.savez, short),
        saved(np.savez, wrong),
        saved(np.savez, objects),
    ):
        with pytest.raises(InputError, match=r"healed\.npz: not the factors that training left there: .*heal again$"):
            read(tmp_path, plan, content)
    with pytest.raises(InputError, match="its digest differs"):
        read(tmp_path, plan, whole, "0" * 64)
    (tmp_path / HEALED).unlink()
    with pytest.raises(InputError, match="No such file"):
        read_healed(tmp_path, plan, "0" * 64)
