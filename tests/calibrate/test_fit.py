"""Fitting a target to measurements whose truth is known, and the target file that comes of it."""

from __future__ import annotations

import dataclasses
import json
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

from lrfdse.base.folders import data_folder
from lrfdse.calibrate.fit import FEWEST, calibrate
from lrfdse.calibrate.record import fixed_digest, read_record
from lrfdse.calibrate.target_file import write_target
from lrfdse.cli import run
from lrfdse.errors import InputError
from lrfdse.targets.catalog import load_target

CLOCK, LAST_LEVEL, DRAM = "clock_mhz", "last_level_bytes_per_cycle", "dram_bytes_per_cycle"
TRUTH = {CLOCK: 1320.0, LAST_LEVEL: 9.5, DRAM: 1.8}
LINE = 64


def traffic(lines: int, from_dram: int) -> dict[str, int]:
    """A sequential reader's: one line in fifty comes unforeseen."""
    return {
        "accesses": 4 * lines,
        "l1_misses": lines,
        "l1_prefetched": lines - lines // 50,
        "llc_misses": from_dram,
        "llc_prefetched": from_dram - from_dram // 50,
        "llc_writebacks": 0,
    }


def microseconds(cycles: float, seen: dict[str, int], truth: dict[str, float]) -> float:
    """docs/meter.md written down once more for a core in order, from the latencies of the riscv64 target."""
    last_level = LINE * seen["l1_misses"] / truth[LAST_LEVEL]
    dram = LINE * (seen["llc_misses"] + seen["llc_writebacks"]) / truth[DRAM]
    unforeseen_dram = seen["llc_misses"] - seen["llc_prefetched"]
    unforeseen = seen["l1_misses"] - seen["l1_prefetched"] - unforeseen_dram
    waiting = 341 * unforeseen_dram + 40 * max(0, unforeseen)
    return (max(cycles, dram) + last_level + waiting) / truth[CLOCK]


@pytest.fixture
def record(tmp_path):
    """Write a board.json of made-up kernels that a board of the given truth took, with noise."""

    def write(truth=TRUTH, kinds=("small", "cached", "large"), count=24, noise=0.03, seed=0, first=64, **more):
        rng, kernels = np.random.default_rng(seed), []
        for number in range(count):
            kind = kinds[number % len(kinds)]
            low, high = {"small": (12, 14.5), "cached": (15.5, 18.5), "large": (20, 22), "compute": (12, 14)}[kind]
            size = int(2 ** rng.uniform(low, high))
            lines = size // LINE
            # Of a large kernel, what is computed hides behind what is loaded.
            cycles = size / 32 * (20 if kind == "compute" else rng.uniform(1, 3) if kind != "large" else 0.5)
            cold = traffic(0 if kind == "compute" else lines, 0 if kind == "compute" else lines)
            warm = {"small": traffic(0, 0), "cached": traffic(lines, 0)}.get(kind, cold)
            entry = {"design": "0123abcd", "layer": f"fc{number}", "use": 0, "bias": True, "relu": True, "rows": 1}
            entry |= {"outputs": first + number, "inputs": 64, "factorization": "dense", "schedule": "out:8:1x1:u1"}
            entry["max_error"] = 1e-7
            entry["modelled"] = {"compute_cycles": cycles, "warm": {"traffic": warm}, "cold": {"traffic": cold}}
            for regime, seen in (("warm", warm), ("cold", cold)):
                us = microseconds(cycles, seen, truth) * math.exp(noise * rng.standard_normal())
                entry[f"{regime}_us"] = [us, 0.99 * us, 1.02 * us]
            kernels.append(entry)
        target = load_target("riscv64")
        document = {"schema_version": 1, "target": target.name, "target_digest": fixed_digest(target)}
        path = tmp_path / more.pop("name", "board.json")
        document |= {"board": {"governor": "performance", "frequency_khz": 1600000}, "kernels": kernels, **more}
        path.write_text(json.dumps(document))
        return path

    return write


def fitted(*paths: Path):
    found = calibrate([read_record(path) for path in paths], load_target("riscv64"))
    return found, {parameter.name: parameter for parameter in found.parameters}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "truth", [TRUTH, {CLOCK: 1600.0, LAST_LEVEL: 16.0, DRAM: 2.7}, {CLOCK: 480.0, LAST_LEVEL: 12.0, DRAM: 6.0}]
)
def test_clock_and_bandwidths_are_recovered_within_a_tenth(truth, seed, record):
    found, parameters = fitted(record(truth, seed=seed))
    for name, value in truth.items():
        assert parameters[name].held == ""
        assert parameters[name].after == pytest.approx(value, rel=0.1)
        assert parameters[name].standard_error < 0.1
    assert found.error_after < 0.05
    assert found.error_after <= found.error_before + 0.01
    assert found.scale == pytest.approx(1600 / truth[CLOCK], rel=0.1)
    assert found.notes == ()


def test_without_noise_the_truth_comes_back(record):
    found, parameters = fitted(record(noise=0))
    for name, value in TRUTH.items():
        assert parameters[name].after == pytest.approx(value, rel=1e-3)
    assert found.error_after < 1e-3


def test_two_records_count_together(record):
    small = record(kinds=("small",), count=8, name="small.json")
    large = record(kinds=("large",), count=8, first=100, seed=1, name="large.json")
    _, parameters = fitted(small, large)
    assert parameters[CLOCK].after == pytest.approx(TRUTH[CLOCK], rel=0.1)
    assert parameters[DRAM].after == pytest.approx(TRUTH[DRAM], rel=0.1)


def test_designs_that_share_a_kernel_count_once(record):
    """Of three measurements of one kernel the middle one counts, however far off the others are."""
    path = record(noise=0)
    document = json.loads(path.read_text())
    shared = document["kernels"][0]
    for factor in (0.1, 3.0):
        document["kernels"].append({**shared, "warm_us": [factor * us for us in shared["warm_us"]]})
    path.write_text(json.dumps(document))
    found, parameters = fitted(path)
    assert len(found.residuals) == 48
    assert found.error_after < 1e-3
    assert parameters[CLOCK].after == pytest.approx(TRUTH[CLOCK], rel=1e-3)


def test_a_kernel_that_is_modelled_badly_does_not_spoil_the_others(record):
    path = record(noise=0.01)
    document = json.loads(path.read_text())
    for entry in document["kernels"][:3]:
        entry["warm_us"] = [10 * us for us in entry["warm_us"]]
    path.write_text(json.dumps(document))
    _, parameters = fitted(path)
    for name, value in TRUTH.items():
        assert parameters[name].after == pytest.approx(value, rel=0.1)


def test_bandwidths_that_no_kernel_depends_on_keep_their_values(record):
    found, parameters = fitted(record(kinds=("compute",)))
    assert parameters[CLOCK].after == pytest.approx(TRUTH[CLOCK], rel=0.05)
    for name in (LAST_LEVEL, DRAM):
        value = getattr(load_target("riscv64"), name)
        assert parameters[name].held == "no measurement depends on it"
        assert parameters[name].after == getattr(found.target, name) == value
        assert parameters[name].standard_error is None


def test_a_clock_that_stands_for_a_bandwidth_keeps_its_value(record):
    """All from DRAM: only the product of clock and bandwidth is told, and latencies are few."""
    found, parameters = fitted(record(kinds=("large",)))
    assert parameters[CLOCK].held == "the measurements do not tell it"
    assert parameters[CLOCK].after == 1600
    bytes_per_us = parameters[DRAM].after * parameters[CLOCK].after
    assert bytes_per_us == pytest.approx(TRUTH[DRAM] * TRUTH[CLOCK], rel=0.1)
    assert found.scale is None


@pytest.mark.parametrize(
    ("board", "said"),
    [
        ({}, "do not tell one frequency"),
        ({"governor": "ondemand", "frequency_khz": 1600000}, "governor was ondemand"),
        (
            {"frequency_khz": 1600000, "largest_cache_bytes": 64 << 20, "evicted_bytes": 8 << 20},
            "a board tells of a cache of 64 MiB by its own account, but 8 MiB were written",
        ),
    ],
)
def test_what_is_not_known_of_the_board_is_said(board, said, record):
    found, _ = fitted(record(board=board))
    assert any(said in note for note in found.notes)
    assert (found.scale is None) == (not board)


def test_a_board_that_the_model_does_not_explain_is_said(record):
    path = record()
    document, rng = json.loads(path.read_text()), np.random.default_rng(0)
    for entry in document["kernels"]:
        for regime in ("warm_us", "cold_us"):
            entry[regime] = [float(us * np.exp(0.7 * rng.standard_normal())) for us in entry[regime]]
    path.write_text(json.dumps(document))
    found, _ = fitted(path)
    assert any("is the board what the target describes?" in note for note in found.notes)


def slower(document, factor: float) -> None:
    for entry in document["kernels"]:
        for regime in ("warm_us", "cold_us"):
            entry[regime] = [factor * us for us in entry[regime]]


def nothing_counted(modelled) -> None:
    modelled["compute_cycles"] = 0
    for regime in ("warm", "cold"):
        modelled[regime]["traffic"] = traffic(0, 0)


def without_a_pattern(document) -> None:
    """Times that have nothing to do with what was computed: no parameter explains them."""
    rng = np.random.default_rng(0)
    for entry in document["kernels"]:
        for regime in ("warm_us", "cold_us"):
            entry[regime] = [float(us * np.exp(2 * rng.standard_normal())) for us in entry[regime]]


def test_tables_fit_80_columns(record, tmp_path, capsys):
    """With layers and factorizations that are longer than a column."""
    path = record()
    document = json.loads(path.read_text())
    for number, entry in enumerate(document["kernels"]):
        entry |= {"layer": "encoder.layers.11.attention.output.dense/MatMul", "factorization": "tt:m=8x8,n=8x8,r=8"}
        entry |= {"outputs": 64, "rows": number + 1, "schedule": "inner:16:5x1:u4|out:16:7x1:u4"}
    path.write_text(json.dumps(document))
    assert cli("--target", "riscv64", "--measured", path, "-o", tmp_path / "my.toml") == 0
    shown = capsys.readouterr().out
    tables, _, _ = shown.partition("Scale: ")
    assert "Assumptions" in tables
    assert max(len(line.rstrip()) for line in tables.splitlines()) <= 80
    assert "tt:m=8x8,n=8x8,r=8" in "".join(shown.split()), "nothing is cut"


def cli(*arguments: object) -> int:
    return run([str(argument) for argument in ("calibrate", *arguments)])


def test_the_target_file_is_taken_by_target_and_says_where_numbers_are_from(record, tmp_path, capsys):
    output = tmp_path / "my board.toml"
    board = {"uname": {"machine": "riscv64\n[core]\nclock_mhz = 1", "nodename": "\x1b[31m\u2028"}, "governor": "x\n# y"}
    assert cli("--target", "riscv64", "--measured", record(kinds=("small", "cached"), board=board), "-o", output) == 0
    shown = capsys.readouterr().out
    assert "Median absolute error of the modelled latency" in shown
    assert shown.splitlines()[-1] == str(output)
    assert "\x1b" not in shown
    original, made = load_target("riscv64"), load_target(str(output))
    assert made.name == "my board"
    assert made.clock_mhz == pytest.approx(TRUTH[CLOCK], rel=0.1)
    assert fixed_digest(made) == fixed_digest(original)
    assert made.core == f"{original.core}, calibrated on a board"
    text = output.read_text()
    assert "# fitted: was 1600, standard error" in text
    assert made.provenance[CLOCK].startswith("fitted: ")
    assert made.provenance["lanes"] == original.provenance["lanes"]
    head = [line for line in text.splitlines() if line.startswith("# ")]
    assert any("board.json" in line for line in head)
    rest = {field.name for field in dataclasses.fields(made)} - {*TRUTH, "name", "summary", "core", "provenance"}
    assert all(getattr(made, name) == getattr(original, name) for name in rest)

    # Calibrating what was calibrated starts from there, and marks it once.
    again = tmp_path / "again.toml"
    assert cli("--target", output, "--measured", record(kinds=("small", "cached")), "-o", again) == 0
    assert load_target(str(again)).core == made.core
    assert load_target(str(again)).clock_mhz == pytest.approx(TRUTH[CLOCK], rel=0.1)


def test_the_file_has_a_name_where_none_is_given(record, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli("--target", "riscv64", "--measured", record()) == 0
    assert load_target("riscv64-board.toml").name == "riscv64-board"


def test_a_target_of_the_users_own_keeps_its_layout(record, tmp_path):
    """Keys outside of tables, a name of its own, comments."""
    table = tomllib.loads((data_folder("targets") / "riscv64.toml").read_text())
    lines = ['name = "mine"', "# my own comment", 'summary = "mine"', 'isa = "riscv64"']
    for section in ("compile", "vector", "run", "core", "memory"):
        lines += [f"{key} = {toml(value)}" for key, value in table[section].items() if key != "core"]
    lines += ["[provenance]", "[core]", 'core = "mine"']
    own = tmp_path / "own.toml"
    own.write_text("\n".join(lines) + "\n")
    path = record(target_digest=fixed_digest(load_target(str(own))))
    output = tmp_path / "fitted.toml"
    assert cli("--target", own, "--measured", path, "-o", output) == 0
    made = load_target(str(output))
    assert (made.name, made.dram_bytes_per_cycle) == ("fitted", pytest.approx(TRUTH[DRAM], rel=0.1))
    assert "# my own comment" in output.read_text()


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(part)}" for key, part in value.items()) + " }"
    return json.dumps(value)


def one_line(capsys) -> str:
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d["kernels"].__delitem__(slice(FEWEST // 2 - 1, None)), f"at least {FEWEST} kernels"),
        (lambda d: d.update(target_digest="0" * 32), "not for riscv64 as it is described now"),
        (lambda d: d["kernels"][3].update(max_error=2e-4), "layer 'fc3' of design 0123abcd gave wrong numbers"),
        (lambda d: d["kernels"][3].update(max_error=float("nan")), "gave wrong numbers"),
        (lambda d: d["kernels"][3].update(modelled=None), "holds no modelled numbers"),
        (lambda d: d["kernels"][3].update(warm_us=["fast"]), "damaged"),
        (lambda d: d["kernels"][3]["modelled"]["warm"].update(traffic={"l1_misses": -1}), "damaged"),
        (lambda d: d["kernels"][3].update(schedule=None), "damaged"),
        (lambda d: d.pop("board"), "damaged"),
        (lambda d: d.update(kernels=[True]), "damaged"),
        (lambda d: d["board"].update(uname="x"), "damaged"),
        (lambda d: d["board"].update(frequency_khz=float("nan")), "damaged"),
        (lambda d: d.update(kernels=True), "damaged"),
        (lambda d: d["kernels"][3].update(modelled=[1]), "damaged"),
        (lambda d: d.update(schema_version=2), "schema version 1"),
        (lambda d: d["board"].update(cpuinfo={"vendor_id": "AuthenticAMD"}), "measured under an emulator"),
        (lambda d: d["kernels"][3].update(warm_us=[float("inf")] * 3), "damaged"),
        (lambda d: d["kernels"][3]["modelled"].update(compute_cycles=1e300), "damaged"),
        (lambda d: d["kernels"][3]["modelled"]["cold"]["traffic"].update(l1_misses=10**400), "damaged"),
        (lambda d: nothing_counted(d["kernels"][0]["modelled"]), "layer 'fc0': nothing was counted of it"),
        (lambda d: slower(d, 40), "the median kernel took"),
        (lambda d: without_a_pattern(d), "nothing is fitted: "),
        (lambda d: d.pop("kernels"), "not a board.json"),
    ],
)
def test_what_cannot_be_fitted_to_is_one_line_and_exit_code_2(change, said, record, tmp_path, capsys):
    path = record()
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    output = tmp_path / "my.toml"
    assert cli("--target", "riscv64", "--measured", path, "-o", output) == 2
    assert said in one_line(capsys)
    assert not output.exists()


def test_other_mistakes_are_one_line_and_exit_code_2(record, tmp_path, capsys):
    path, output = record(), tmp_path / "my.toml"
    assert cli("--target", "aarch64", "--measured", path, "-o", output) == 2
    assert "measured for target riscv64, not for aarch64" in one_line(capsys)
    assert cli("--target", "riscv64", "--measured", tmp_path / "none.json", "-o", output) == 2
    assert "none.json: cannot be read" in one_line(capsys)
    assert cli("--target", "riscv64", "--measured", path, "-o", tmp_path / "my.json") == 2
    assert "ends in .toml" in one_line(capsys)
    path.write_text("[" * 100000)
    assert cli("--target", "riscv64", "--measured", path, "-o", output) == 2
    assert "not a board.json" in one_line(capsys)
    assert not output.exists()


def test_an_earlier_file_stays_where_the_new_one_cannot_be_written(record, tmp_path, capsys, monkeypatch):
    output = tmp_path / "my.toml"
    output.write_text("earlier")
    found, _ = fitted(record())
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left"):
        write_target(found, "riscv64", [], output)
    assert output.read_text() == "earlier"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board.json", "my.toml"]
