"""The surrogate front of a layer."""

from __future__ import annotations

import numpy as np
import pytest

from lrfdse.base.store import Store
from lrfdse.explore.layers.fits import Fits
from lrfdse.explore.layers.fronts import surrogate_front
from lrfdse.factorize import spectra
from lrfdse.factorize.fit import Fitter
from lrfdse.ir.layer import Layer, Use
from lrfdse.targets.catalog import load_search_space, load_target


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_the_last_bits_of_a_spectrum_decide_nothing(tmp_path, monkeypatch, seed) -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((24, 36)) * np.linspace(1, 0.1, 36)
    layer = Layer("fc", 24, 36, (Use("fc", 1, False, False),), 0, "fc")
    fits = Fits({"fc": Fitter(weight, None, "auto", name="fc")}, "", Store(tmp_path / "fits"))
    space, target = load_search_space("default"), load_target("riscv64")
    exact, _ = surrogate_front(layer, fits, space, target, Store(tmp_path / "exact"))
    made, noise = spectra.bond_tails, np.random.default_rng(seed)

    def disturbed(*given, **options):
        tails = made(*given, **options)
        return {bond: values + 1e-15 * noise.standard_normal(len(values)) for bond, values in tails.items()}

    monkeypatch.setattr(spectra, "bond_tails", disturbed)
    other, _ = surrogate_front(layer, fits, space, target, Store(tmp_path / "disturbed"))
    assert other == exact
