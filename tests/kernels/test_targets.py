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
    numbers = (set(table["core"]) | set(table["memory"])) - {"core"}
    assert numbers - {"line"} - {k for k in numbers if table["core"].get(k) == ""} <= set(target.provenance)
    assert all(text.startswith(("published", "assumed")) for text in target.provenance.values())


@pytest.mark.parametrize("name", names("targets"))
def test_tvm_takes_the_target(name) -> None:
    target = load_target(name)
    assert str(tvm_target(target).attrs["mtriple"]) == target.triple
    assert target.is_native == (target.link == "")
    assert target.lanes == 1 or target.vector_registers >= 16
