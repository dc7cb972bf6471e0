"""What every instruction set promises, as tests for pytest; LLVM and zig are the oracles.

>>> class TestMine(InstructionSetContract):
...     spilled = ("st.d $a0, $sp, 8",)
...
...     @pytest.fixture
...     def target(self):
...         return load_target("my-core.toml")
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrfdse.errors import InputError
from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Artifact, KernelSpec
from lrfdse.targets.isa import instruction_set, names
from lrfdse.targets.isa.classes import BRANCH, CLASSES, INTEGER, OTHER_VECTOR, SCALAR_FMA, VECTOR_FMA
from lrfdse.targets.isa.code import Instruction, Registers
from lrfdse.targets.isa.description import InstructionSet
from lrfdse.targets.target import Target

_SPECS = (
    KernelSpec(300, 784, Factorization.dense(300, 784), 1, bias=True, relu=True),
    KernelSpec(300, 784, Factorization.svd(300, 784, 32), 1, bias=True, relu=True),
    KernelSpec(300, 784, Factorization((15, 20), (28, 28), (8,)), 1, bias=True, relu=True),
)
"""LeNet-300-100's first layer, dense, as an SVD and as a tensor train: single vectors, and steps with columns."""


class InstructionSetContract:
    """Tests of an instruction set; a subclass whose name begins with ``Test`` runs them.

    The set has to be found by name: it is installed, or registered while the tests run. LLVM's tools and zig have to be
    installed; kernels are compiled, but none is run.
    """

    spilled: tuple[str, ...] = ()
    """Lines of assembly that move a vector or a float between a register and the stack, at least one a pattern."""

    @pytest.fixture
    def target(self) -> Target:
        """Return a target whose `isa` is the set; to be overridden."""
        raise NotImplementedError("give the contract a fixture `target`")

    @pytest.fixture
    def isa(self, target: Target) -> InstructionSet:
        """Return the instruction set that is tested."""
        return target.instruction_set

    def test_it_is_found_by_its_own_name(self, isa: InstructionSet) -> None:
        """A target finds the set under the name that it gives itself."""
        assert isa.name in names()
        assert instruction_set(isa.name) == isa

    def test_llvm_reads_its_text(self, isa: InstructionSet, target: Target) -> None:
        """LLVM assembles the probe's instructions, and takes the comment sign for one."""
        texts = [instruction.text for instruction in _probe(isa, target)]
        assert _assembled([f"{isa.comment} a comment", *texts], isa, target) == len(texts)

    def test_instructions_of_the_probe_have_their_classes(self, isa: InstructionSet) -> None:
        """The listing calls the probe's instructions what they are."""
        first = isa.probe.first
        assert isa.class_of(isa.probe.fma.format(first)) == SCALAR_FMA
        assert isa.class_of(isa.probe.addition.format(first)) == INTEGER
        assert isa.class_of(isa.probe.vector.text) in (VECTOR_FMA, OTHER_VECTOR)
        assert {name for name, _ in isa.classes} <= set(CLASSES)

    def test_every_pattern_of_spills_is_met_and_arithmetic_is_none(self, isa: InstructionSet, target: Target) -> None:
        """Each pattern finds one of the lines in `spilled`, all of them are found, and the probe spills nothing."""
        for pattern in isa.spills:
            assert any(re.search(pattern, line) for line in self.spilled), pattern
        for line in self.spilled:
            assert any(re.search(pattern, line) for pattern in isa.spills), line
        for instruction in _probe(isa, target):
            assert not any(re.search(pattern, instruction.text) for pattern in isa.spills), instruction.text

    def test_the_probe_is_of_independent_chains(self, isa: InstructionSet) -> None:
        """Every FMA and addition adds to a register of its own that nothing else of the probe touches."""
        if isa.registers is None:
            pytest.skip(f"{isa.name} has no reader of registers")
        used = [_registers(isa, text) for text in _scalar_probe(isa)]
        written = [register for one in used for register in one.writes]
        assert len(written) == len(set(written)) == len(used)
        for one in used:
            assert set(one.writes) <= set(one.reads)
            assert not set(one.reads) & (set(written) - set(one.writes))
            assert not one.updates

    def test_canonical_instructions_are_of_the_same_class(self, isa: InstructionSet, target: Target) -> None:
        """What a scheduling table is kept under is of the same class, runs alike, and stays as it is."""
        probe = _probe(isa, target)
        for instruction in probe:
            kept = isa.canonical(instruction)
            assert isa.class_of(kept.text) == isa.class_of(instruction.text)
            assert kept.vtype == instruction.vtype
            assert isa.form(kept) == isa.form(instruction)
            assert isa.canonical(kept) == kept
        assert _assembled([isa.canonical(instruction).text for instruction in probe], isa, target) == len(probe)

    def test_sequences_keep_the_text_and_hints_are_lines(self, isa: InstructionSet, target: Target) -> None:
        """Sequences hold all instructions in their order, and LLVM takes hints to llvm-mca for comments."""
        probe = _probe(isa, target)
        texts = [instruction.text for instruction in probe]
        assert [instruction.text for instruction in isa.sequence(texts, None)] == texts
        hints = [f"{isa.comment} {hint}" for hint in isa.hints(probe)]
        assert _assembled([*hints, texts[0]], isa, target) == 1

    def test_a_core_model_passes_its_probe(self, isa: InstructionSet, target: Target) -> None:
        """LLVM's model of the target's core knows the probe, and one of the engines orders it as the core does."""
        from lrfdse.meters.mca import CoreModel
        from lrfdse.meters.scheduling import self_test

        if not target.scheduling_model:
            pytest.skip(f"target {target.name} is measured only: it has no core model")
        test = self_test(CoreModel.of(target))
        assert test.bound > 0
        assert test.engine is not None, test

    def test_kernels_compile(self, isa: InstructionSet, target: Target) -> None:
        """The best schedules compile to FMAs and branches without comments; that of a dense layer spills nothing."""
        from lrfdse.deploy.listing import instructions, mix
        from lrfdse.kernels.spills import spills

        for artifact in _kernels(target):
            code = instructions(artifact.assembly, isa)
            counts = mix(code, isa)
            assert artifact.spec.factorization.ranks or spills(artifact, target) == 0, artifact.spec
            assert counts.get(VECTOR_FMA if target.lanes > 1 else SCALAR_FMA, 0) > 0, artifact.spec
            assert any(isa.class_of(text) == BRANCH for text in code), artifact.spec
            assert not any(isa.comment in text for text in code), artifact.spec

    def test_zig_links_what_llvm_compiles(self, isa: InstructionSet, target: Target) -> None:
        """Kernels are for the machine of zig's triple, for which the emulator's harness has entry code."""
        from lrfdse.toolchain import zig

        harness = zig.harness(dataclasses.replace(target, link=isa.zig), 1).read_bytes()
        kernel = next(_kernels(target)).object_code
        assert _elf_machine(kernel) == _elf_machine(harness)

    def test_needs_are_words_and_c_of_its_own(self, isa: InstructionSet, target: Target) -> None:
        """What kernels need is said in sentences; C that asks is taken for the set and left out for others."""
        needs = isa.needs(target.cpu, target.features, target.lanes)
        for text in (needs.words, *([needs.unchecked] if needs.unchecked else [])):
            assert text.strip() == text and text.endswith(".") and "\n" not in text and "*/" not in text, text
        assert _checked_c([f"#if !({needs.macro})", '#error "left out"', "#endif"], isa.zig)
        others = [instruction_set(name) for name in names()]
        for zig in {other.zig for other in others if other.llvm != isa.llvm}:
            assert _checked_c([f"#if {needs.macro}", '#error "taken for another set"', "#endif"], zig)
        assert _checked_c([*needs.guard, "int supported(void)", "{", *needs.body, "}"], isa.zig)

    def test_a_misspelt_name_is_refused(self, isa: InstructionSet) -> None:
        """No other set answers to a name that is not its own."""
        with pytest.raises(InputError, match=re.escape(f"{isa.name}-none")):
            instruction_set(f"{isa.name}-none")


def _scalar_probe(isa: InstructionSet) -> list[str]:
    numbers = range(isa.probe.first, isa.probe.first + 8)
    return [text.format(number) for number in numbers for text in (isa.probe.fma, isa.probe.addition)]


def _probe(isa: InstructionSet, target: Target) -> tuple[Instruction, ...]:
    vector = (isa.probe.vector,) if target.lanes > 1 else ()
    return (*(Instruction(text) for text in _scalar_probe(isa)), *vector)


def _registers(isa: InstructionSet, text: str) -> Registers:
    assert isa.registers is not None
    return isa.registers(Instruction(text))


def _assembled(lines: list[str], isa: InstructionSet, target: Target) -> int:
    """Return how many instructions LLVM makes of lines of assembly; it must refuse none."""
    from lrfdse.toolchain.programs import require_llvm

    command = [require_llvm("llvm-mc").path, f"-triple={isa.llvm}", f"-mattr={','.join(target.features)}"]
    ended = subprocess.run(
        [*command, "-show-encoding"], input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.count("encoding: [")


def _checked_c(lines: list[str], link: str) -> bool:
    """Return whether zig takes C99 for a triple, without any header and without a warning."""
    from lrfdse.toolchain.programs import require_zig

    options = ("-std=c99", "-ffreestanding", "-Wall", "-Wextra", "-Wconversion", "-Wundef", "-pedantic", "-Werror")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "asked.c")
        source.write_text("\n".join((*lines, "typedef int end_of_file;", "")), encoding="ascii")
        command = [require_zig().path, "cc", "-target", link, *options, "-c", str(source), "-o", f"{folder}/asked.o"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _kernels(target: Target) -> Iterator[Artifact]:
    from lrfdse.kernels.build import compile_kernel
    from lrfdse.kernels.schedules import schedules

    for spec in _SPECS:
        yield compile_kernel(spec, schedules(spec, target, 1)[0], target, "kernel", assembly=True)


def _elf_machine(content: bytes) -> bytes:
    """Return the field that names the machine in an ELF file's header."""
    assert content[:4] == b"\x7fELF"
    return content[18:20]
