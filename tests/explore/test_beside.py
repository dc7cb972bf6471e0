"""Fronts that other processes make are those that this one makes, and no process outlives who asked."""

from __future__ import annotations

import multiprocessing
from concurrent.futures.process import BrokenProcessPool
from functools import partial

import numpy as np
import pytest

from lrfdse.base.store import Store
from lrfdse.explore.layers.beside import fronts_beside
from lrfdse.explore.layers.fits import Fits
from lrfdse.explore.layers.fronts import prepare_spectra, surrogate_front
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.layer import Layer, Use
from lrfdse.targets.catalog import load_search_space, load_target

SPACE, TARGET = load_search_space("default"), load_target("riscv64")


@pytest.fixture
def layers(tmp_path):
    """Return two layers, their fits, and a cache that holds their spectra."""
    rng = np.random.default_rng(0)
    fits, found = {}, []
    for name, outputs, inputs in (("a", 24, 36), ("b", 20, 32)):
        weight = rng.standard_normal((outputs, inputs)) * np.linspace(1, 0.1, inputs)
        fits[name] = Fitter(weight, None, "auto", name=name)
        found.append(Layer(name, outputs, inputs, (Use(name, 1, False, False),), 0, name))
    cache = Store(tmp_path / "cache")
    for layer in found:
        prepare_spectra(layer, Fits(fits, "", cache), SPACE, TARGET, cache, lambda work: None)
    return found, Fits(fits, "", cache), cache


@pytest.mark.slow
def test_fronts_of_other_processes_are_those_of_this_one(layers, tmp_path):
    listed, fits, cache = layers
    with fronts_beside(listed, fits, SPACE, TARGET, cache, 2) as begun:
        assert list(begun) == ["a", "b"]
        made = {name: wait() for name, wait in begun.items()}
    assert multiprocessing.active_children() == []
    for layer in listed:
        alone = surrogate_front(layer, fits, SPACE, TARGET, cache)
        again = surrogate_front(
            layer, fits, SPACE, TARGET, Store(tmp_path / "other"), begun=partial(made.get, layer.name)
        )
        assert again == alone and len(alone[0]) > 5
    with fronts_beside(listed, fits, SPACE, TARGET, cache, 2) as begun:
        assert begun == {}, "the cache holds them"


def test_nothing_is_begun_where_that_gains_nothing(layers):
    listed, fits, cache = layers
    for some, processes in ((listed, 1), (listed[:1], 2)):
        with fronts_beside(some, fits, SPACE, TARGET, cache, processes) as begun:
            assert begun == {}


@pytest.mark.slow
def test_what_is_not_waited_for_is_ended_and_what_died_is_made_here(layers):
    listed, fits, cache = layers
    with pytest.raises(KeyError), fronts_beside(listed, fits, SPACE, TARGET, cache, 2):
        raise KeyError
    assert multiprocessing.active_children() == []
    with fronts_beside(listed, fits, SPACE, TARGET, cache, 2) as begun:
        for process in multiprocessing.active_children():
            process.kill()
        try:
            found = begun["a"]()
        except BrokenProcessPool:
            pytest.fail("a process that died is no error")
    assert found == surrogate_front(listed[0], fits, SPACE, TARGET, cache)
