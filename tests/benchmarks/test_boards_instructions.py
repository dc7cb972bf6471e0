"""Single instructions: what boards were measured to take, against LLVM's models with the targets' corrections."""

from __future__ import annotations

import collections
import dataclasses
import re

import pytest

from benchmarks.boards.instructions import compare, loop, published
from benchmarks.meter.cases import cases
from lrfdse.deploy.listing import instructions
from lrfdse.meters.mca import CoreModel
from lrfdse.meters.scheduling import open_engine
from lrfdse.targets.catalog import load_target, names

FAR = 0.2
UNCORRECTED = {
    ("riscv64", "mul"): "LLVM's model has no multiplier: a longer time would block additions, too",
    ("riscv64-c908", "mul"): "as on the X60",
    ("riscv64-x280", "add"): "0.14 cycles are the published loop's own",
    ("riscv64-x280", "mul"): "0.14 cycles are the published loop's own; each reads what few before it wrote",
    ("riscv64-x280", "vfmv.s.f"): "waits for its own result two before it, four cycles in LLVM's model",
    ("riscv64-x280", "vmv.s.x"): "waits for its own result two before it, four cycles in LLVM's model",
    ("riscv64-x100", "add"): "each reads what few before it wrote",
    ("riscv64-x100", "mul"): "each reads what few before it wrote",
    ("riscv64-x100", "vfredusum.vs"): "LLVM's model of the P670 is slower, and llvm-mca's cycles cannot be shortened",
    ("riscv64-x100", "vlseg4e32.v"): "LLVM's model of the P670 is slower, and llvm-mca's cycles cannot be shortened",
}
"""Target and mnemonic of what is further off than a fifth, and why."""


@pytest.fixture(scope="module")
def compared():
    return compare(published())


@pytest.mark.slow
def test_corrected_models_come_near_what_was_measured(compared, capsys):
    far = [c for c in compared if abs(c.error) > FAR]
    with capsys.disabled():
        for c in far:
            p = c.published
            print(f"\n{p.target} {p.instruction} {p.vtype}: {p.cycles} measured, {c.modelled:.2f} modelled", end="")
    assert {(c.published.target, c.published.instruction.partition(" ")[0]) for c in far} == UNCORRECTED.keys()
    others = [abs(c.error) for c in compared if abs(c.error) <= FAR]
    assert sum(others) / len(others) < 0.03
    assert len(far) / len(compared) < 0.06


@pytest.mark.slow
def test_corrections_are_what_brings_them_near(compared):
    """Without them every one of these cores is wrong by more for a good part of its instructions."""
    by_target = collections.defaultdict(list)
    for c in compared:
        by_target[c.published.target].append((abs(c.llvm / c.published.cycles - 1) > FAR, abs(c.error) > FAR))
    for name in ("riscv64", "riscv64-x280", "riscv64-x100", "riscv64-c908", "aarch64-a55", "armv7"):
        before, after = map(sum, zip(*by_target[name], strict=True))
        assert before > 2 * after, name
    assert not any(after for name in ("aarch64", "aarch64-a53", "aarch64-a76") for _, after in by_target[name])


@pytest.mark.slow
def test_fma_peaks_of_all_cores_are_the_measured_ones(compared):
    """Also of those whose peak was published as GFLOP/s: within a few per cent of `fma_per_cycle`, too."""
    for c in compared:
        p = c.published
        if p.source in ("cpufp", "VFP Benchmark") and p.instruction.split(" ")[0] in ("fmla", "vfmacc.vf", "vfma.f32"):
            target = load_target(p.target)
            lanes = 1 if " s{}" in p.instruction else target.lanes
            assert lanes / c.modelled == pytest.approx(target.fma_per_cycle, rel=0.05)
            assert c.modelled == pytest.approx(p.cycles, rel=0.05)


UNPUBLISHED = re.compile(r"vset|v[ls][1248]r|vlseg5")
"""Vector instructions of kernels that rvv-bench does not time, or that a whole layer has one of."""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["riscv64", "riscv64-x280"])
def test_vector_instructions_of_kernels_were_compared_where_they_were_measured(name):
    """Those of our schedules, and of plain loops that clang vectorizes."""
    target = load_target(name)
    measured = {row.instruction.partition(" ")[0] for row in published() if row.target == "riscv64"}
    found = set()
    for case in cases(target, [(128, 256, "dense", 8), (300, 784, "tt:m=10x6x5,n=7x7x16,r=8x8", 1)], 8):
        code = instructions(case.artifact.assembly, target.instruction_set)
        found |= {text.split()[0] for text in code if text.startswith("v")}
    assert {"vle32.v", "vse32.v", "vfmacc.vf", "vfmul.vf", "vfadd.vv"} <= found
    assert {mnemonic for mnemonic in found if not UNPUBLISHED.match(mnemonic)} <= measured


@pytest.mark.slow
def test_what_llvm_says_as_well_is_no_entry_of_a_target(compared):
    for c in compared:
        target = load_target(c.published.target)
        form = target.instruction_set.form(loop(c.published)[0])
        if form in dict(target.instructions) and not waits_for_itself(form):
            assert abs(c.llvm / c.modelled - 1) > 0.01, (target.name, form)


def waits_for_itself(form):
    """Whether the published loop of LMUL 4 is bound by the time until its result, not by its unit."""
    return form in ("vfmv.s.f e32m4", "vmv.s.x e32m4")


@pytest.mark.parametrize("name", [name for name in names("targets") if load_target(name).instructions])
def test_every_correction_says_where_it_is_from_and_leaves_the_engine(name):
    target = load_target(name)
    core = CoreModel.of(target)
    known = ("measured: ", "published: ", "fitted: ")
    for form, _ in target.instructions:
        # Of what half precision takes nothing is published.
        assert target.provenance[form].startswith((*known, "assumed: ") if "16" in form else known), form
    assert open_engine(core).name == open_engine(dataclasses.replace(core, instructions=())).name
