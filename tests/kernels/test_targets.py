"""The targets that ship."""

from __future__ import annotations

import tomllib

import pytest

from lrfdse.base.folders import data_folder
from lrfdse.kernels.build import tvm_target
from lrfdse.targets.catalog import load_target, names

REQUIRED = {"riscv64", "riscv64-u74", "aarch64", "aarch64-a55", "armv7", "host"}


def test_the_promised_targets_ship() -> None:
    assert set(names("targets")) >= REQUIRED


@pytest.mark.parametrize("name", names("targets"))
def test_every_number_says_where_it_comes_from(name) -> None:
    target = load_target(name)
    table = tomllib.loads((data_folder("targets") / f"{name}.toml").read_text(encoding="utf-8"))
    said = table["core"] | table["memory"]
    numbers = {key for key, value in said.items() if not isinstance(value, bool | list)} - {"core"}
    assert numbers - {"line"} - {k for k in numbers if table["core"].get(k) == ""} <= set(target.provenance)
    kinds = ("published", "measured", "fitted", "assumed")
    assert all(text.startswith(kinds) for text in target.provenance.values())


PUBLISHED = {
    # Nobody published what reading float16 takes.
    "riscv64": (
        *(f"vle16.v {form}" for form in ("e16mf4", "e16mf2", "e16m1")),
        *(f"vle16.v {form} latency" for form in ("e16mf4", "e16mf2", "e16m1", "e16m2", "e16m4")),
    ),
    "riscv64-u74": (),
    "aarch64": ("last_level_bytes_per_cycle",),
    "aarch64-a55": ("last_level_bytes_per_cycle",),
    "armv7": ("last_level_bytes_per_cycle", "scheduling_model", "vcvt.f32.f16 q", "vcvtb.f32.f16 s"),
    "riscv64-x280": ("l1", "last_level_latency", "dram_latency"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_was_measured_is_not_assumed(name) -> None:
    """What nobody published is named here, and nothing else is assumed of cores that boards were measured with."""
    target = load_target(name)
    assert {key for key, text in target.provenance.items() if text.startswith("assumed")} == set(PUBLISHED[name])


@pytest.mark.parametrize("name", names("targets"))
def test_tvm_takes_the_target(name) -> None:
    target = load_target(name)
    assert str(tvm_target(target).attrs["mtriple"]) == target.triple
    assert target.is_native == (target.link == "")
    assert target.lanes == 1 or target.vector_registers >= 16
