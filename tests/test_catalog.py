"""Targets and search spaces: what ships is valid, what is wrong is named."""

from __future__ import annotations

import pytest

from lrfdse.catalog import load_search_space, load_target, names
from lrfdse.errors import InputError

PROVEN = ("clock_mhz", "fma_per_cycle", "last_level", "l1", "dram_bytes_per_cycle", "last_level_bytes_per_cycle")


@pytest.mark.parametrize("name", names("targets"))
def test_every_shipped_target_loads_and_says_where_its_numbers_come_from(name):
    target = load_target(name)
    assert target.name == name
    assert set(PROVEN) <= set(target.provenance)
    assert all(text.startswith(("published: ", "assumed: ", "assumed")) for text in target.provenance.values())
    assert target.lanes == 1 or target.lanes & (target.lanes - 1) == 0


@pytest.mark.parametrize("name", names("search_spaces"))
def test_every_shipped_search_space_loads(name):
    assert load_search_space(name).name == name


def test_an_unknown_target_names_the_nearest():
    with pytest.raises(InputError, match="unknown target 'riscv46': did you mean riscv64"):
        load_target("riscv46")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_core = 3", "unknown key 'max_core' .did you mean 'max_cores'"),
        ("max_cores = 1", "`max_cores >= 2` must hold"),
        ("max_cores = 'x'", "'max_cores' must be a whole number"),
        ("directions = ['up']", "must be one of rl, lr"),
        ("min_ratio = 0.5", "`min_ratio >= 1` must hold"),
        ("include = 'fc*'", "must be a list"),
        ("= 3", "not a readable TOML file"),
    ],
)
def test_a_wrong_search_space_is_one_clear_line(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_search_space(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_target_of_the_users_own_needs_every_number(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("summary = 'x'\nisa = 'riscv64'\n")
    with pytest.raises(InputError, match="missing key"):
        load_target(str(path))


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"nowhere\.toml: no such target file"):
        load_target("nowhere.toml")
