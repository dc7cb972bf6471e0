"""How much is written to empty caches: by the machine's own account, but within what the target allows."""

from __future__ import annotations

import dataclasses

import pytest

from lrfdse.targets.catalog import load_target
from lrfdse.targets.eviction import evicted_bytes, eviction_bounds, eviction_note, largest_cache

MIB = 1 << 20


@pytest.mark.parametrize(
    ("told", "wanted"),
    [(None, 32), (0, 32), (1, 32), (32, 64), (96, 192), (128, 256), (480, 256), (1 << 20, 256)],
)
def test_a_machines_account_is_followed_up_to_eight_times_the_target(told, wanted):
    """In MiB; the shipped host target assumes 16 MiB."""
    assert evicted_bytes(load_target("host"), None if told is None else told * MIB) == wanted * MIB


@pytest.mark.parametrize(("kib", "most"), [(512, 8), (1 << 16, 1024), (1 << 20, 2048)])
def test_no_account_makes_the_buffer_larger_than_a_gibibyte(kib, most):
    """In MiB; only the target itself may ask for more."""
    host = load_target("host")
    target = dataclasses.replace(host, last_level=dataclasses.replace(host.last_level, kib=kib))
    assert evicted_bytes(target, 1 << 50) == most * MIB
    assert eviction_bounds(target) == (2048 * kib, most * MIB)


def test_the_largest_cache_is_read_as_linux_writes_it(tmp_path):
    assert largest_cache(tmp_path / "nothing") is None
    for number, size in enumerate(("32K", "480M\n", "2048K", "strange", "")):
        (tmp_path / f"index{number}").mkdir()
        (tmp_path / f"index{number}" / "size").write_text(size)
    assert largest_cache(tmp_path) == 480 * MIB


def test_cold_numbers_come_with_a_note_where_the_account_was_not_followed():
    assert eviction_note(8 * MIB, 16 * MIB) is None
    assert eviction_note(None, 16 * MIB) is None
    assert eviction_note(8 * MIB, "much") is None
    note = eviction_note(480 * MIB, 256 * MIB)
    assert note is not None
    assert note.startswith("a cache of 480 MiB by its own account, but 256 MiB were written")
