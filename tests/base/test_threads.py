"""One thread a process, unless the user wants more."""

from __future__ import annotations

import os

import pytest

from lrfdse.base.threads import BLAS_VARIABLES, one_thread_each, use_one_thread


@pytest.fixture(autouse=True)
def unset(monkeypatch):
    for name in BLAS_VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def known():
    return {name: os.environ[name] for name in BLAS_VARIABLES if name in os.environ}


def test_a_process_and_its_children_use_one():
    use_one_thread()
    assert known() == dict.fromkeys(BLAS_VARIABLES, "1")


def test_a_while_leaves_the_environment_as_it_was(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    with pytest.raises(RuntimeError), one_thread_each():
        assert known() == {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "3", "MKL_NUM_THREADS": "1"}
        raise RuntimeError
    assert known() == {"OPENBLAS_NUM_THREADS": "3"}
