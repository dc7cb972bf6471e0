"""Stored results come back as they were put, and a file that is damaged or absent is no result."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.base.store import Store
from lrfdse.errors import InputError


def as_it_is(value):
    return value


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None]}, [], "text", 0.1 + 0.2, False])
def test_values_come_back(value, store):
    store.put("fronts", "abc", value)
    assert store.get("fronts", "abc", as_it_is) == value
    assert Store(store.folder).get("fronts", "abc", as_it_is) == value


def test_arrays_come_back(store):
    arrays = {"core0": np.arange(6, dtype=np.float32).reshape(2, 3), "errors": np.array([np.nan, 1.0])}
    store.put_arrays("fits", "abc", arrays)
    found = store.get_arrays("fits", "abc", as_it_is)
    assert found is not None and set(found) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_kinds_and_keys_are_apart(store):
    store.put("fronts", "abc", 1)
    assert store.get("counts", "abc", as_it_is) is None
    assert store.get("fronts", "abd", as_it_is) is None
    assert store.get_arrays("fronts", "abc", as_it_is) is None


def test_what_is_damaged_counts_as_absent(store):
    store.put("fronts", "abc", [1, 2, 3])
    store.put_arrays("fits", "abc", {"core0": np.zeros(100)})
    for path in store.folder.rglob("*.*"):
        path.write_bytes(path.read_bytes()[:-2])
    assert store.get("fronts", "abc", as_it_is) is None
    assert store.get_arrays("fits", "abc", as_it_is) is None


def test_pickles_are_not_read(store):
    store.put_arrays("fits", "abc", {"core0": np.zeros(1)})
    path = next(store.folder.rglob("*.npz"))
    np.savez(path, core0=np.array([{"a": 1}], dtype=object))
    assert store.get_arrays("fits", "abc", as_it_is) is None


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        Store(tmp_path / "file").put("fronts", "abc", 1)
