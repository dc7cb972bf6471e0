"""Targets and search spaces: what ships is valid, what is wrong is named."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import tomlkit

from lrfdse.base.folders import data_folder
from lrfdse.calibrate.record import fixed_digest
from lrfdse.errors import InputError
from lrfdse.targets.catalog import load_search_space, load_target, names, noun_digest
from lrfdse.targets.target import CacheLevel, Target

PROVEN = ("clock_mhz", "fma_per_cycle", "last_level", "l1", "dram_bytes_per_cycle", "last_level_bytes_per_cycle")


@pytest.mark.parametrize("name", names("targets"))
def test_every_shipped_target_loads_and_says_where_its_numbers_come_from(name):
    target = load_target(name)
    assert target.name == name
    assert set(PROVEN) <= set(target.provenance)
    sources = ("measured: ", "published: ", "fitted: ", "assumed: ", "assumed")
    assert all(text.startswith(sources) for text in target.provenance.values())
    assert target.lanes == 1 or target.lanes & (target.lanes - 1) == 0


def test_digests_of_a_target_in_earlier_results_are_still_its_own():
    """They were made of the text of its fields; a fixed target's, not a file's, whose numbers may change."""
    numbers = {f.name: 1 for f in dataclasses.fields(Target) if f.default is dataclasses.MISSING}
    texts = ("name", "isa", "triple", "cpu", "abi", "link", "core", "scheduling_model")
    levels = {"l1": CacheLevel(32, 8), "last_level": CacheLevel(512, 16)}
    lists = {"features": ("+v",), "groups": (1, 2), "emulator": ("qemu-riscv64",)}
    target = Target(**numbers | dict.fromkeys(texts, "x") | levels | lists)
    assert noun_digest(target) == "6db81dc2bf1dcc4f597b53a37cd0c4bf"
    assert fixed_digest(target) == "20d4e578ce03a2406736f9a3c07142b5"
    shared = dataclasses.replace(target, last_level=CacheLevel(512, 16, share=0.25))
    assert noun_digest(shared) != noun_digest(target)
    assert fixed_digest(shared) != fixed_digest(target)
    copies = dataclasses.replace(target, dram_copy_bytes_per_cycle=0.5)
    assert noun_digest(copies) != noun_digest(target)
    assert fixed_digest(copies) == fixed_digest(target)


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
        ("max_cores = 1", "`max_cores` must be at least 2"),
        ("max_cores = 9", "`max_cores` must be at most 8"),
        ("rank_step = 9007199254740993", "'rank_step' must be a number up to 9,007,199,254,740,992 in size"),
        ("max_cores = 'x'", "'max_cores' must be a whole number"),
        ("directions = ['up']", "must be one of rl, lr"),
        ("directions = []", '`directions` must be "rl", "lr" or both'),
        ("dense_ranks_to = -5", "`dense_ranks_to` must be at least 0"),
        ("min_ratio_large = nan", "`min_ratio_large` must be at least 1"),
        ("min_ratio = 0.5", "`min_ratio` must be at least 1"),
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


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("l1 = { kb = 32 }", "key 'l1': unknown key 'kb'"),
        ("l1 = { kib = 32 }", "key 'l1': missing key 'ways'"),
        ("l1 = { kib = '32', ways = 8 }", "key 'l1': key 'kib' must be a whole number"),
        ("l1 = 32", "key 'l1' must be a table"),
        ("last_level = { kib = 512, ways = 0 }", "`last_level.ways` must be at least 1"),
        ("last_level = { kib = 0, ways = 8 }", "`last_level.kib` must be at least 1"),
        ("lanes = 0", "`lanes` must be a power of two"),
        ("lanes = 6", "`lanes` must be a power of two"),
        ("vector_registers = 0", "`vector_registers` must be at least 1"),
        ("groups = []", "`groups` must be a list of powers of two"),
        ("groups = [1, 0]", "`groups` must be a list of powers of two"),
        ("line = 0", "`line` must be a power of two"),
        ("link = ''", "`link` must be given where there is an emulator"),
        ("clock_mhz = 0", "`clock_mhz` must be a positive number"),
        ("clock_mhz = inf", "`clock_mhz` must be a positive number"),
        ("fma_per_cycle = nan", "`fma_per_cycle` must be a positive number"),
        ("dram_bytes_per_cycle = -1.5", "`dram_bytes_per_cycle` must be a positive number"),
        ("dram_latency = -1", "`dram_latency` must be zero or a positive number"),
        ("abi = 3", "key 'abi' must be a text"),
    ],
)
def test_a_wrong_number_of_a_target_is_one_clear_line(tmp_path, line, message):
    key = line.split(" ")[0]
    good = (data_folder("targets") / "riscv64.toml").read_text()
    text, found = re.subn(rf"^{key} = .*$", line, good, count=1, flags=re.MULTILINE)
    assert found == 1
    _refused(tmp_path / "mine.toml", text, message)


@pytest.mark.parametrize(
    ("section", "lines", "message"),
    [
        ("memory", "dram_copy_bytes_per_cycle = 0", "`dram_copy_bytes_per_cycle` must be a positive number"),
        ("memory", "dram_fill_bytes_per_cycle = 'x'", "'dram_fill_bytes_per_cycle' must be a number"),
        ("memory", "prefetch_lines = -1", "`prefetch_lines` must be at least 0"),
        ("core", "in_order = 1", "'in_order' must be true or false"),
        ("error", "low = 0.9\nhigh = 1.2", "key 'error': missing key 'source'"),
        ("error", "low = 1.2\nhigh = 0.9\nsource = 'x'", "`error.low` must be above 0 and at most `error.high`"),
        ("error", "low = 0\nhigh = 1\nsource = 'x'", "`error.low` must be above 0 and at most `error.high`"),
    ],
)
def test_a_wrong_optional_number_of_a_target_is_one_clear_line(tmp_path, section, lines, message):
    tables = tomlkit.parse((data_folder("targets") / "riscv64-p670.toml").read_text())
    tables[section] = {**tables.get(section, {}), **tomlkit.parse(lines)}
    _refused(tmp_path / "mine.toml", tomlkit.dumps(tables), message)


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        ("share = 0", "`last_level.share` must be above 0 and at most 1"),
        ("share = 1.5", "`last_level.share` must be above 0 and at most 1"),
        ("replacement = 'plru'", "key 'replacement' must be one of lru, random, bimodal, but got 'plru'"),
    ],
)
def test_a_wrong_cache_is_one_clear_line(tmp_path, cache, message):
    good = (data_folder("targets") / "riscv64-p670.toml").read_text()
    text = good.replace("last_level = { ", f"last_level = {{ {cache}, ")
    _refused(tmp_path / "mine.toml", text, message)


def test_instructions_of_a_target_are_forms_with_cycles_and_sources(tmp_path):
    good = (data_folder("targets") / "riscv64-p670.toml").read_text()
    path = tmp_path / "mine.toml"
    plain = _loaded(path, good)
    assert plain.instructions == ()
    listed = """
[[instructions]]
source = "measured: here"
cycles."vle32.v" = { e32m1 = 2, e32m2 = 4.5 }
cycles.mul = 3

[[instructions]]
source = "published: there"
cycles = { flw = 1 }
"""
    target = _loaded(path, good + listed)
    assert target.instructions == (("flw", 1.0), ("mul", 3.0), ("vle32.v e32m1", 2.0), ("vle32.v e32m2", 4.5))
    assert target.provenance["vle32.v e32m2"] == target.provenance["mul"] == "measured: here"
    assert target.provenance["flw"] == "published: there"
    assert target.provenance["lanes"] == plain.provenance["lanes"]
    other = _loaded(path, good + listed.replace("flw = 1", "flw = 2"))
    assert len({noun_digest(plain), noun_digest(target), noun_digest(other)}) == 3
    said_otherwise = _loaded(path, good + listed.replace("here", "elsewhere"))
    assert noun_digest(said_otherwise) == noun_digest(target)


def _loaded(path, text):
    path.write_text(text)
    return load_target(str(path))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("instructions = 3", "key 'instructions' must be a list of tables, but got 3"),
        ("instructions = [1]", "key 'instructions' must be a table, but got 1"),
        ("instructions = [{ cycles = {} }]", "each table must have the keys 'source' and 'cycles', and no others"),
        ("instructions = [{ source = 1, cycles = {} }]", "key 'source' must be a text"),
        ("instructions = [{ source = 'x', cycles = 1 }]", "key 'cycles' must be a table"),
        ("instructions = [{ source = 'x', cycles = { mul = 'x' } }]", "'mul' must be a number"),
        ("instructions = [{ source = 'x', cycles = { mul = 0 } }]", "'mul' must be a positive number"),
        ("instructions = [{ source = 'x', cycles = { a = { b = -1 } } }]", "'a b' must be a positive number"),
        ("instructions = [{ source = 'x', cycles = { 'a b' = 1, a = { b = 2 } } }]", "name each instruction once"),
    ],
)
def test_wrong_instructions_of_a_target_are_one_clear_line(tmp_path, table, message):
    good = (data_folder("targets") / "riscv64-p670.toml").read_text()
    _refused(tmp_path / "mine.toml", table + "\n" + good, message)


def test_sections_of_a_target_are_tables(tmp_path):
    good = (data_folder("targets") / "riscv64.toml").read_text()
    head, _, _ = good.partition("[memory]")
    _refused(tmp_path / "mine.toml", "memory = 3\n" + head, "key 'memory' must be a table, but got 3")
    _refused(tmp_path / "mine.toml", good.replace('lanes = "pub', 'lanes = 8 # "pub'), "'lanes' must be a text")
    before, _, _ = good.partition("[provenance]")
    _refused(tmp_path / "mine.toml", "provenance = 'me'\n" + before, "key 'provenance' must be a table")


def _refused(path, text, message):
    path.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        load_target(str(path))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"nowhere\.toml: no such target file"):
        load_target("nowhere.toml")


def test_optional_features_are_those_of_the_processor_at_hand(tmp_path):
    text = (data_folder("targets") / "host.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('optional = ["+avxvnni"]', 'optional = ["+avx512vnni", "+avxvnni"]'))
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().partition("\nflags")[2].partition("\n")[0].split() if cpuinfo.is_file() else []
    both = (("+avx512vnni", "avx512_vnni"), ("+avxvnni", "avx_vnni"))
    assert load_target(str(path)).features == tuple(feature for feature, flag in both if flag in flags)


@pytest.mark.parametrize(("name", "feature"), [("host", "+sse9"), ("riscv64", "+avxvnni"), ("aarch64-a55", "+dotprod")])
def test_what_the_machine_at_hand_cannot_be_asked_is_one_clear_line(name, feature, tmp_path):
    text = (data_folder("targets") / f"{name}.toml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("optional")]
    lines.insert(lines.index("[compile]") + 1, f'optional = ["{feature}"]')
    (tmp_path / "mine.toml").write_text("\n".join(lines))
    with pytest.raises(InputError, match=r"key 'optional'.*cannot be asked") as error:
        load_target(str(tmp_path / "mine.toml"))
    assert "\n" not in str(error.value)
