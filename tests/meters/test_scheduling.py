"""Cycles of the core models: what is known of X60, the self-test of every shipped core, and the decomposition."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lrfdse.errors import KernelError
from lrfdse.meters import scheduling
from lrfdse.meters.disassemble import Disassembler
from lrfdse.meters.mca import CoreModel, InstructionCost, Mca
from lrfdse.meters.nest import flatten
from lrfdse.meters.scheduling import McaCycles, SelfTest, compute, open_engine, self_test
from lrfdse.meters.scoreboard import Scoreboard
from lrfdse.meters.trace import parse, record
from lrfdse.targets.catalog import load_target, names
from lrfdse.targets.isa import instruction_set
from lrfdse.targets.isa.code import Instruction

VTYPE = {"m1": 0b010_000, "m2": 0b010_001, "m4": 0b010_010}


@pytest.fixture(scope="module")
def x60():
    return Scoreboard(Mca(CoreModel.of(load_target("riscv64"))))


@pytest.mark.parametrize(("group", "occupied", "load"), [("m1", 1, 2), ("m2", 2, 4), ("m4", 4, 8)])
def test_x60_vector_fmas_by_register_group(x60, group, occupied, load):
    def loop(text, registers):
        return x60.loops([tuple(Instruction(text.format(i), VTYPE[group]) for i in registers)])[0]

    assert loop("vfmacc.vf v{}, fa0, v0", [8]) == 5
    assert loop("vfmacc.vf v{}, fa0, v0", range(4, 32, 4)) == max(7 * occupied, 5)
    assert loop("vle32.v v{}, (a0)", [8]) == load


def test_x60_issues_an_addition_beside_each_fma(x60):
    """llvm-mca makes the additions wait for the FMAs in front of them: 12 cycles."""
    pairs = [(f"fmadd.s fa{i}, ft0, ft1, ft2", f"addi a{i}, a{i}, 1") for i in range(3)]
    body = tuple(Instruction(text) for pair in pairs for text in pair)
    assert x60.loops([body])[0] == 3
    assert McaCycles(Mca(CoreModel.of(load_target("riscv64")))).loops([body])[0] == pytest.approx(12, abs=0.5)


_VECTOR_FMA = {
    "riscv64": "vfmacc.vf v{}, fa0, v31",
    "aarch64": "fmla v{}.4s, v30.4s, v31.4s",
    "armv7": "vfma.f32 q{}, q14, q15",
    "x86_64": "vfmadd231ps %ymm14, %ymm15, %ymm{}",
}


@pytest.mark.parametrize(
    ("name", "window", "dependent", "peak"),
    [
        ("riscv64", 0, 5, 8),
        ("riscv64-p670", 192, 6, 8),
        ("riscv64-x280", 0, 8, 8),
        ("riscv64-x100", 192, 6, 8),
        ("riscv64-c908", 0, 5, 4),
        ("aarch64", 128, 4, 4),
        ("aarch64-a53", 0, 10, 4),
        ("aarch64-a55", 0, 4, 4),
        ("aarch64-a76", 128, 4, 8),
        ("armv7", 128, 4, 1),
        ("x86-64-v3", 320, 4, 16),
    ],
)
def test_vector_fmas_wait_for_each_other_and_reach_a_peak(name, window, dependent, peak, measured_target):
    """By LLVM, and by what the targets of X280, X100, A55 and ARMv7 say of single instructions."""
    target = measured_target(name)
    assert target.fma_per_cycle == peak
    engine = open_engine(CoreModel.of(target))
    text, vtype = _VECTOR_FMA[target.isa], VTYPE["m1"] if target.isa == "riscv64" else None

    def cycles(registers):
        return engine.loops([tuple(Instruction(text.format(i), vtype) for i in registers)])[0]

    assert cycles([2] * 12) == pytest.approx(12 * dependent, abs=0.2)
    assert 12 * target.lanes / cycles(range(12)) == pytest.approx(peak, rel=0.01)
    assert engine.window == window


def test_the_numbers_in_an_instruction_cost_nothing_on_any_core():
    """What tables are kept under has one number for all, so every number must cost the same."""
    forms = [
        *("addi a0, a0, {}", "addi a0, a1, {}", "addi sp, sp, {}", "li a0, {}", "bne a0, a1, {}", "bnez a0, {}"),
        *("blt a0, a1, {}", "bgeu a0, a1, {}", "j {}"),
    ]
    texts = [form.format(number) for form in forms for number in (-2048, -48, 16, 32, 1024)]
    small = ["lui a0, {}", "slli a0, a0, {}", "srli a0, a1, {}"]
    texts += [form.format(number) for form in small for number in (1, 31)]
    given = [Instruction(text) for text in texts]
    kept = [instruction_set("riscv64").canonical(instruction) for instruction in given]
    assert len(set(kept)) == len(forms) + len(small)
    for name in names("targets"):
        target = load_target(name)
        if target.isa == "riscv64":
            mca = Mca(CoreModel.of(target))
            assert mca.table(given) == mca.table(kept), name


def test_a_dependent_chain_costs_its_latencies(x60):
    body = (Instruction("fadd.s fa0, fa0, fa1"), Instruction("fadd.s fa0, fa0, fa2"))
    (cost,) = x60._mca.table([body[0]])
    assert x60.loops([body])[0] == 2 * cost.latency


def test_the_engine_of_every_shipped_core():
    found = {}
    for name in names("targets"):
        target = load_target(name)
        if not target.is_native:
            found[name] = open_engine(CoreModel.of(target)).name
    expected = {
        "riscv64": "scoreboard",
        "riscv64-u74": "scoreboard",
        "riscv64-c908": "scoreboard",
        "riscv64-p550": "llvm-mca",
        "riscv64-p670": "llvm-mca",
        "riscv64-x100": "llvm-mca",
        "riscv64-x280": "scoreboard",
        "aarch64": "llvm-mca",
        "aarch64-a53": "scoreboard",
        "aarch64-a55": "llvm-mca",
        "aarch64-a76": "llvm-mca",
        "armv7": "llvm-mca",
    }
    assert found == expected


def test_an_instruction_every_so_many_cycles_keeps_its_busiest_units_and_no_other_for_longer():
    cost = InstructionCost(8, (((4,), 3), ((5,), 1), ((6, 7), 2)))
    assert cost.every(2) == InstructionCost(8, (((4,), 2), ((5,), 1), ((6, 7), 2)))
    assert cost.every(4.5) == InstructionCost(8, (((4,), 4.5), ((5,), 1), ((6, 7), 2)))
    assert cost.every(0.5) == InstructionCost(8, (((4,), 0.5), ((5,), 0.5), ((6, 7), 1)))
    assert InstructionCost(4, (((7, 8), 1),)).every(1) == InstructionCost(4, (((7, 8), 2),))


@pytest.mark.parametrize(("name", "engine"), [("riscv64", "scoreboard"), ("riscv64-p670", "llvm-mca")])
def test_both_engines_take_what_the_target_says_of_an_instruction(name, engine):
    """A loop of loads and FMAs is bound by whichever of the two is said to take longer."""
    core = CoreModel.of(load_target(name))
    body = tuple(
        Instruction(text, VTYPE["m1"])
        for i in range(8)
        for text in (f"vfmacc.vf v{8 + i}, fa0, v16", f"vle32.v v{24 + i}, (a0)")
    )
    for form, cycles in (("vfmacc.vf e32m1", 5), ("vle32.v e32m1", 6.5)):
        corrected = open_engine(replace(core, instructions=((form, cycles),)))
        assert corrected.name == engine
        assert corrected.loops([body])[0] == pytest.approx(8 * cycles)
        head, tail = 4 * body, body
        assert corrected.edges([(head, tail)])[0] == pytest.approx(8 * cycles)
        other = replace(core, instructions=((form.replace("e32", "e16"), cycles),))
        plain = replace(core, instructions=())
        assert open_engine(other).loops([body]) == open_engine(plain).loops([body])


@pytest.mark.parametrize(("core", "isa"), [("cortex-a53", "aarch64-a55"), ("cortex-r52", "armv7")])
def test_other_cores_whose_results_llvm_orders_take_the_scoreboard(core, isa):
    model = CoreModel.of(load_target(isa))
    test = self_test(CoreModel(model.isa, core, model.features, is_vector=False))
    assert test.engine == "scoreboard"
    assert test.mca > 2 * test.scoreboard


def test_a_core_that_fails_both_engines_has_none(monkeypatch):
    assert SelfTest(bound=8, mca=20, scoreboard=16).engine is None
    monkeypatch.setattr(scheduling, "self_test", lambda core: SelfTest(bound=8, mca=20, scoreboard=16))
    with pytest.raises(Exception, match="20 cycles by llvm-mca and 16 by the scoreboard, where 8 are due"):
        open_engine(CoreModel.of(load_target("riscv64")))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("riscv64", 1e-12),
        ("riscv64-u74", 0),
        ("riscv64-x280", 1e-12),
        ("riscv64-c908", 1e-12),
        ("aarch64-a53", 1e-12),
        ("aarch64-a55", 0.003),
        ("aarch64", 0.015),
        ("armv7", 0.015),
        ("riscv64-p550", 0.12),
        ("riscv64-p670", 0.015),
        ("riscv64-x100", 0.035),
        ("x86-64-v3", 0.015),
    ],
)
def test_the_pieces_add_up_to_the_whole_trace(name, deviation, matvec, measured_target):
    """One kernel as a single sequence of all its executed instructions, against the pieces it is cut into.

    The X100's corrected units bound each piece, not only the whole. On the P550 the ends of scalar loops, which are
    chains of FMAs, overlap for longer than the pieces show.
    """
    target = measured_target(name)
    trace = record(*_case(matvec, target), timeout=600)
    sequences = Disassembler(target).sequences(trace)
    engine = open_engine(CoreModel.of(target))
    decomposed = compute(trace, sequences, engine, "kernel")
    first, *others = flatten(trace.nest)
    executed = tuple(instruction for run in others for instruction in sequences[run])
    assert len(executed) == decomposed.instructions
    (whole,) = engine.edges([(sequences[first], executed)])
    assert decomposed.cycles == pytest.approx(whole, rel=deviation, abs=0)


@pytest.mark.slow
@pytest.mark.parametrize("core", ["cortex-a55", "cortex-a510"])
def test_both_engines_agree_on_in_order_cores_that_pass_the_probe(core, matvec):
    target = load_target("aarch64-a55")
    trace = record(*_case(matvec, target), timeout=600)
    sequences = Disassembler(target).sequences(trace)
    # What the target says of an A55 beyond LLVM is not of other cores, and the engines make different use of it.
    mca = Mca(replace(CoreModel.of(target), name=core, instructions=(), alone=()))
    by_mca, by_scoreboard = (compute(trace, sequences, e, "kernel").cycles for e in (McaCycles(mca), Scoreboard(mca)))
    assert by_scoreboard == pytest.approx(by_mca, rel=0.08)


def _case(matvec, target):
    artifact, arrays, expected = matvec(target, outputs=24, inputs=96)
    return artifact, target, arrays, expected


def _document(count):
    return (
        '{"regions":[' + ",".join(['{"accesses":0,"l1_misses":0,"l1_prefetched":0,"llc_misses":0,"llc_prefetched":0,'
        '"llc_writebacks":0}'] * 2) + '],"runs":[[1,4096,4100,-1],[2,4100,4108,-1]],"nest":[1,[' + str(count)
        + ',2]],"blocks":[[4096,"00150513 0ff0000f 00150513 "]]}'
    )  # fmt: skip


def test_instructions_that_the_model_does_not_know_are_refused():
    target = load_target("riscv64")
    trace = parse(_document(10))
    with pytest.raises(KernelError, match=r"50\.0% are"):
        compute(trace, Disassembler(target).sequences(trace), open_engine(CoreModel.of(target)), "kernel")


def test_the_scoreboard_reads_only_sets_with_in_order_cores(measured_target):
    with pytest.raises(ValueError, match="x86_64 has no reader of registers"):
        Scoreboard(Mca(CoreModel.of(measured_target("x86-64-v3"))))


def _cycles(body, **corrections):
    core = replace(
        CoreModel.of(load_target("riscv64")), instructions=(), latencies=(), memory_ports=None, serializing=()
    )
    return Scoreboard(Mca(replace(core, **corrections))).loops([tuple(map(Instruction, body))])[0]


def test_loads_and_stores_share_the_ports_that_a_target_says():
    body = [f"flw fa{i}, {4 * i}(a0)" for i in range(4)] + [f"sw a{i}, {4 * i}(s1)" for i in range(1, 5)]
    assert [_cycles(body, memory_ports=ports) for ports in (None, 2, 1)] == [4, 4, 8]
    scalar = Instruction("flw fa0, 0(a0)")
    vector = Instruction("vle32.v v8, (a0)", VTYPE["m2"])
    core = replace(CoreModel.of(load_target("riscv64")), instructions=(("vle32.v e32m2", 4),))
    mixed = [Scoreboard(Mca(replace(core, memory_ports=ports))).loops([(scalar, vector)])[0] for ports in (None, 1)]
    assert mixed == [4, 5]
    additions = [f"addi a{i}, a{i}, 1" for i in range(4)]
    assert _cycles(additions, memory_ports=1) == _cycles(additions) == 2


def test_a_later_result_delays_what_needs_it_and_nothing_else():
    needed, other = ["csrr t0, vlenb", "addi t1, t0, 1"], ["csrr t0, vlenb", "addi t2, t2, 1"]
    for latency in (3, 9):
        assert _cycles(needed, latencies=(("csrr", latency),)) == latency
        assert _cycles(other, latencies=(("csrr", latency),)) == _cycles(other)


def test_a_serializing_instruction_waits_for_all_before_and_keeps_all_after_waiting():
    additions = [f"addi a{i}, a{i}, 1" for i in range(4)]
    corrections = {"latencies": (("csrr", 7),), "serializing": ("csrr",)}
    assert _cycles([*additions, "csrr t0, vlenb"], **corrections) == 2 + 7
    slow = [*additions, "fdiv.s fa0, fa1, fa2", "csrr t0, vlenb"]
    (cost,) = Mca(CoreModel.of(load_target("riscv64"))).table([Instruction(slow[-2])])
    assert _cycles(slow, **corrections) == pytest.approx(2 + cost.latency + 7, abs=1)
    assert _cycles(slow, latencies=corrections["latencies"]) < cost.latency + 7


def test_nothing_begins_beside_an_instruction_that_begins_alone():
    """Four loads of whole registers with four FMAs, and the same numbers in eight halves."""
    whole = [text for i in range(4) for text in (f"ldr q{i}, [x0]", f"fmla v{16 + i}.4s, v8.4s, v9.4s")]
    halves = [text for i in range(8) for text in (f"ldr d{i}, [x0]", f"fmla v{16 + i}.2s, v8.2s, v9.2s")]
    core = CoreModel.of(load_target("aarch64-a55"))
    assert core.alone
    for engine in (McaCycles, Scoreboard):
        cycles = {
            (len(body), bool(alone)): engine(Mca(replace(core, alone=alone))).loops([tuple(map(Instruction, body))])[0]
            for body in (whole, halves)
            for alone in ((), core.alone)
        }
        # A load takes its two cycles, and the FMA another where nothing begins beside the load.
        assert cycles[8, False] == pytest.approx(8, abs=0.5)
        assert cycles[8, True] == pytest.approx(12, abs=0.5)
        assert cycles[16, True] == cycles[16, False] == pytest.approx(8, abs=0.5)
