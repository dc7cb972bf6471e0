"""Instruction sets: the contract over those that ship, a made-up fifth, and no set's name outside of targets/."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lrfdse
from lrfdse.base.folders import data_folder
from lrfdse.deploy.bench_data import program_data
from lrfdse.deploy.listing import kernel_text
from lrfdse.errors import InputError
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import KernelSpec
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.header import c_header
from lrfdse.kernels.schedules import schedules
from lrfdse.meters.mca import CoreModel
from lrfdse.meters.scheduling import self_test
from lrfdse.targets.catalog import load_target
from lrfdse.targets.isa import REGISTRY, instruction_set, names
from lrfdse.targets.isa.classes import INTEGER
from lrfdse.targets.isa.code import Instruction, Registers
from lrfdse.targets.isa.needs import Needs
from lrfdse.testing.isa import InstructionSetContract

PACKAGE = Path(lrfdse.__file__).parent


class TestRiscv64(InstructionSetContract):
    spilled = ("\tvs2r.v\tv8, (a0)", "\tfsw\tfs0, 12(sp)")

    @pytest.fixture(params=["riscv64", "riscv64-u74", "riscv64-p670"])
    def target(self, request):
        return load_target(request.param)


class TestAarch64(InstructionSetContract):
    spilled = ("\tldr\tq1, [sp]",)

    @pytest.fixture(params=["aarch64", "aarch64-a55"])
    def target(self, request):
        return load_target(request.param)


class TestArmv7(InstructionSetContract):
    spilled = ("\tvst1.64\t{d16, d17}, [r0:128]", "\tvldr\ts0, [sp, #4]")

    @pytest.fixture
    def target(self):
        return load_target("armv7")


class TestX86(InstructionSetContract):
    spilled = ("\tvmovups\t%ymm1, 32(%rsp)",)

    @pytest.fixture
    def target(self):
        return load_target("host")


@pytest.mark.parametrize(
    ("change", "method"),
    [
        ({"name": "riscv"}, "it_is_found_by_its_own_name"),
        ({"comment": "&"}, "llvm_reads_its_text"),
        ({"llvm": "aarch64"}, "llvm_reads_its_text"),
        ({"classes": ((INTEGER, "."),)}, "instructions_of_the_probe_have_their_classes"),
        ({"spills": ("nothing",)}, "every_pattern_of_spills_is_met_and_arithmetic_is_none"),
        ({"spills": ("v|f",)}, "every_pattern_of_spills_is_met_and_arithmetic_is_none"),
        ({"registers": lambda instruction: Registers(("a0",), ("a0",))}, "the_probe_is_of_independent_chains"),
        ({"canonical": lambda instruction: Instruction("nop")}, "canonical_instructions_are_of_the_same_class"),
        ({"form": lambda instruction: instruction.text}, "canonical_instructions_are_of_the_same_class"),
        ({"sequence": lambda texts, vtype: ()}, "sequences_keep_the_text_and_hints_are_lines"),
        ({"hints": lambda sequence: ("two\nlines",)}, "sequences_keep_the_text_and_hints_are_lines"),
        ({"zig": "aarch64-linux-musl"}, "zig_links_what_llvm_compiles"),
        *(
            ({"needs": lambda cpu, features, lanes, made=made: made}, "needs_are_words_and_c_of_its_own")
            for made in (
                Needs("much", "", "defined(__riscv)", ["return 1;"]),
                Needs("Much.", "Nothing */ of it.", "defined(__riscv)", ["return 1;"]),
                Needs("Much.", "", "defined(__arm__)", ["return 1;"]),
                Needs("Much.", "", "1", ["return 1;"]),
                Needs("Much.", "", "defined(__riscv)", ["return unknown;"]),
                Needs("Much.", "", "defined(__riscv)", ["return 1;"], ["#if defined(__riscv)", "#error", "#endif"]),
            )
        ),
    ],
)
def test_the_contract_refuses_what_is_wrong(change, method):
    contract, target = TestRiscv64(), load_target("riscv64")
    given = {"isa": dataclasses.replace(instruction_set("riscv64"), **change), "target": target}
    checked = getattr(contract, f"test_{method}")
    with pytest.raises(AssertionError):
        checked(**{name: given[name] for name in inspect.signature(checked).parameters})


@pytest.fixture
def fifth():
    """Another name for RISC-V, as a plug-in would add it; everything else of it is what RISC-V's object says."""
    made = dataclasses.replace(instruction_set("riscv64"), name="kestrel64", machine="kestrel")
    with REGISTRY.register(made.name, made):
        yield made


def test_the_four_that_ship_come_first_and_a_fifth_is_listed(fifth):
    assert names()[:4] == ("riscv64", "aarch64", "armv7", "x86_64")
    assert fifth.name in names()


def test_an_unknown_set_is_one_clear_line(tmp_path):
    path = _target_file(tmp_path, "mips")
    message = "isa 'mips' is unknown: riscv64, aarch64, armv7, x86_64 or a plug-in's"
    with pytest.raises(InputError, match=message) as caught:
        load_target(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fifth_set_is_one_object_and_a_target_file(fifth, tmp_path):
    """All that asks for an instruction set gives the made-up one what it gives RISC-V: none knows it by name."""
    target, known = load_target(str(_target_file(tmp_path, fifth.name))), load_target("riscv64")
    assert target.isa == "kestrel64"
    spec = KernelSpec(64, 48, Factorization.svd(64, 48, 12), 3, True, True)
    assert schedules(spec, target) == schedules(spec, known)
    made, usual = (compile_kernel(spec, schedules(spec, t)[0], t, "kernel", assembly=True) for t in (target, known))
    assert made.object_code == usual.object_code
    assert kernel_text("fc1", made, target) == kernel_text("fc1", usual, known)
    assert self_test(CoreModel.of(target)) == self_test(CoreModel.of(known))
    assert program_data([], target, {}) == program_data([], known, {})
    assert c_header(dataclasses.replace(made, target=known.name), target) == c_header(usual, known)


def test_a_plug_in_brings_a_set_with_one_module(tmp_path):
    info = tmp_path / "kestrel-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kestrel\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lrfdse.instruction_sets]\nkestrel64 = kestrel:KESTREL64\n")
    (tmp_path / "kestrel.py").write_text(
        "import dataclasses\nfrom lrfdse.targets.isa.riscv64 import RISCV64\n"
        "KESTREL64 = dataclasses.replace(RISCV64, name='kestrel64', comment=';')\n"
    )
    code = (
        "import sys; from lrfdse.targets.catalog import load_target\n"
        "print(load_target(sys.argv[1]).instruction_set.comment)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(_target_file(tmp_path, "kestrel64"))],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PACKAGE.parent}"},
        capture_output=True,
        text=True,
    )
    assert (ran.stdout, ran.stderr) == (";\n", "")


def _target_file(folder, isa):
    text = (data_folder("targets") / "riscv64.toml").read_text()
    path = folder / "mine.toml"
    path.write_text(text.replace('isa = "riscv64"', f'isa = "{isa}"'))
    return path


def _nodes(path):
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def _asks_for_a_set(node):
    """Whether a node compares a target's `isa`, matches on it, or looks something up by it."""
    if isinstance(node, ast.Compare):
        asked = [node.left, *node.comparators]
    elif isinstance(node, ast.Match):
        asked = [node.subject]
    elif isinstance(node, ast.Subscript):
        asked = [node.slice]
    else:
        return False
    return any(isinstance(one, ast.Attribute) and one.attr == "isa" for one in asked)


def _outside_targets():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if PACKAGE / "targets" not in path.parents]


def test_no_set_is_asked_for_outside_of_targets():
    known = set(map(repr, names()))
    found = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in _outside_targets()
        for node in _nodes(path)
        if _asks_for_a_set(node) or (isinstance(node, ast.Constant) and repr(node.value) in known)
    ]
    assert found == []


@pytest.mark.parametrize(
    "code", ["t.isa == 'a'", "'a' != t.isa", "t.isa in ('a', 'b')", "table[t.isa]", "match t.isa:\n    case _: pass"]
)
def test_what_asks_for_a_set_is_seen(code):
    assert any(map(_asks_for_a_set, ast.walk(ast.parse(code))))


@pytest.mark.parametrize("package", ["kernels", "measure", "toolchain", "board", "explore", "tune"])
def test_targets_import_nothing_that_uses_them(package):
    for path in (PACKAGE / "targets").rglob("*.py"):
        for node in _nodes(path):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            assert not any(module.startswith(f"lrfdse.{package}") for module in modules), path
