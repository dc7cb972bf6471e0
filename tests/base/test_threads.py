"""One thread a process, unless the user wants more."""

from __future__ import annotations

import os
import threading

import pytest

from lrfdse.base.threads import BLAS_VARIABLES, in_threads, one_thread_each, use_one_thread


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


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads):
    assert list(in_threads(lambda n: n * n, range(20), threads)) == [n * n for n in range(20)]
    assert list(in_threads(abs, [], threads)) == []


def test_as_many_as_threads_are_made_at_once():
    both = threading.Barrier(2)
    # One after the other they would wait for each other for ever.
    assert list(in_threads(lambda n: (both.wait(timeout=60), n)[1], [1, 2], 2)) == [1, 2]


def test_the_first_error_is_raised_and_the_rest_is_left_out():
    begun, gate = [], threading.Event()

    def run(n):
        begun.append(n)
        if n == 1:
            raise ValueError("one")
        if n > 1:
            gate.wait(timeout=60)
        return n

    found = in_threads(run, range(50), 2)
    assert next(found) == 0
    with pytest.raises(ValueError, match="one"):
        next(found)
    gate.set()
    assert len(begun) < 50


def test_who_stops_listening_ends_the_work():
    begun, gate = [], threading.Event()

    def run(n):
        begun.append(n)
        gate.wait(timeout=60 if n > 1 else 0)

    found = in_threads(run, range(50), 2)
    next(found)
    found.close()
    gate.set()
    assert len(begun) < 50
