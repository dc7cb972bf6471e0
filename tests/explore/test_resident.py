"""In which cache regime latencies count is the target's to say."""

from __future__ import annotations

import dataclasses
import sys

import pytest

from lrfdse.base.folders import data_folder
from lrfdse.errors import InputError
from lrfdse.explore.plans.assemble import regime_of, warm_words
from lrfdse.explore.sensitivity import assumptions
from lrfdse.search.plans.knapsack import plans_by_regime
from lrfdse.search.plans.tables import Choice, LayerTable
from lrfdse.targets.catalog import load_target
from lrfdse.targets.resolution import UNCHECKED, resolution_of
from lrfdse.targets.target import CacheLevel, ModelError

TARGET = dataclasses.replace(load_target("riscv64"), last_level=CacheLevel(512, 16), error=None)
FITS = 512 * 1024 // 4


@pytest.mark.parametrize(
    ("resident", "small", "large"), [("auto", "warm", "cold"), ("warm", "warm", "warm"), ("cold", "cold", "cold")]
)
def test_a_design_is_charged_as_the_target_says(resident, small, large):
    target = dataclasses.replace(TARGET, resident=resident)
    assert (regime_of(FITS, target), regime_of(FITS + 1, target)) == (small, large)
    warm = [LayerTable("a", (Choice("dense", 100, 5.0, 0.0), Choice("svd:r=1", 10, 1.0, 0.5)))]
    cold = [LayerTable("a", (Choice("dense", 100, 9.0, 0.0), Choice("svd:r=1", 10, 2.0, 0.5)))]
    limit = warm_words(target) if resident != "auto" else 50
    front = plans_by_regime(warm, cold, limit)
    latencies = dict(zip((front.texts(k)["a"] for k in range(len(front))), front.latency_us.tolist(), strict=True))
    assert (
        latencies
        == {
            "auto": {"dense": 9.0, "svd:r=1": 1.0},
            "warm": {"dense": 5.0, "svd:r=1": 1.0},
            "cold": {"dense": 9.0, "svd:r=1": 2.0},
        }[resident]
    )


def test_a_shared_cache_holds_less():
    shared = dataclasses.replace(TARGET, last_level=dataclasses.replace(TARGET.last_level, share=0.25))
    assert warm_words(shared) == FITS // 4
    assert warm_words(dataclasses.replace(shared, resident="warm")) == sys.maxsize


def test_a_target_file_says_it(tmp_path):
    ours = tmp_path / "ours.toml"
    shipped = (data_folder("targets") / "riscv64.toml").read_text()
    ours.write_text(shipped.replace("[memory]\n", '[memory]\nresident = "cold"\n'))
    assert load_target(str(ours)).resident == "cold"
    ours.write_text(shipped.replace("[memory]\n", '[memory]\nresident = "hot"\n'))
    with pytest.raises(InputError, match="resident"):
        load_target(str(ours))


def test_the_resolution_is_half_the_model_s_error_on_a_logarithmic_scale():
    assert resolution_of(TARGET, "host", "measured") is None
    assert resolution_of(TARGET, "model", "modelled") == UNCHECKED
    # Twice too slow for all alike moves no kernel ahead of another.
    for low, high in ((0.8, 1.25), (1.6, 2.5)):
        checked = dataclasses.replace(TARGET, error=ModelError(low, high, "a board"))
        assert resolution_of(checked, "model", "modelled") == pytest.approx(0.25)


def test_the_assumptions_leave_everything_else_alone():
    cases = {words: (assumed, counted) for words, assumed, counted in assumptions(TARGET)}
    assert list(cases) == [
        "as the target says",
        "half the DRAM bandwidth",
        "twice the DRAM bandwidth",
        "a last-level cache shared by 4",
    ]
    assert cases["as the target says"] == (TARGET, TARGET)
    half, counted = cases["half the DRAM bandwidth"]
    assert counted == TARGET
    assert half.dram_bytes_per_cycle == TARGET.dram_bytes_per_cycle / 2
    assert half.dram_fill_bytes_per_cycle == TARGET.dram_fill_bytes_per_cycle / 2
    same = {"dram_bytes_per_cycle", "dram_fill_bytes_per_cycle", "dram_copy_bytes_per_cycle"}
    for field in dataclasses.fields(TARGET):
        if field.name not in same:
            assert getattr(half, field.name) == getattr(TARGET, field.name)
    shared, counted = cases["a last-level cache shared by 4"]
    assert shared == counted and shared.last_level.share == 0.25
    # Where the target says that the cache is shared, the case is one of its own.
    assert [words for words, *_ in assumptions(shared)][-1] == "a last-level cache of its own"
    assert assumptions(shared)[-1][1].last_level.share == 1
