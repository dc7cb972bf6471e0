"""What the generated code contains, for every target that ships."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Artifact, KernelSpec, Schedule, StepSchedule
from lrfdse.ir.storage import INT8
from lrfdse.kernels.build import compile_kernel
from lrfdse.kernels.header import c_header
from lrfdse.kernels.schedules import schedules
from lrfdse.kernels.spills import spills
from lrfdse.targets.catalog import load_target
from tests.plugins.targets import families

GOLDEN = Path(__file__).parent / "golden"

LAYERS = {
    "dense": "dense",
    "svd": "svd:r=32",
    "tt": "tt:m=15x20,n=28x28,r=8",
}


def chosen(text: str, target_name: str, rows: int = 1) -> Artifact:
    target = load_target(target_name)
    spec = KernelSpec(300, 784, Factorization.parse(text, 300, 784), rows, bias=True, relu=True)
    return compile_kernel(spec, schedules(spec, target, 1)[0], target, "kernel", assembly=True)


def instructions(artifact: Artifact) -> Counter[str]:
    found = re.findall(r"^\s+([a-z][\w.]*)(?:\s|$)", artifact.assembly, re.MULTILINE)
    return Counter(found)


def summary(artifact: Artifact, target: str) -> str:
    """Return what matters of a kernel's code as text: its schedule, its spills, its vector and float instructions."""
    counts = instructions(artifact)
    kept = {
        name: n for name, n in sorted(counts.items()) if name.startswith(("v", "f")) and not name.startswith("vset")
    }
    spilled = spills(artifact, load_target(target))
    lines = [f"spec {artifact.spec}", f"schedule {artifact.schedule}", f"spills {spilled}"]
    return "\n".join(lines + [f"{name} {n}" for name, n in kept.items()]) + "\n"


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("target", ["riscv64", "riscv64-u74"])
def test_golden(layer, target, update_golden) -> None:
    artifact = chosen(LAYERS[layer], target)
    path = GOLDEN / f"{target}-{layer}.txt"
    found = summary(artifact, target)
    if update_golden:
        path.write_text(found, encoding="utf-8")
    assert found == path.read_text(encoding="utf-8"), "if the change is wanted, run pytest --update-golden"


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("layer", LAYERS)
def test_rvv_code_is_fused_unordered_and_in_registers(layer, rows) -> None:
    artifact = chosen(LAYERS[layer], "riscv64", rows)
    counts = instructions(artifact)
    fused = sum(n for name, n in counts.items() if re.match(r"vfm(acc|add)\.v[fv]$", name))
    assert fused >= 8
    assert counts["vfmul.vf"] + counts["vfmul.vv"] <= fused
    assert not any(name.startswith(("vfredosum", "vluxei", "vrgather")) for name in counts)
    assert counts["vlse32.v"] <= counts["vsse32.v"], "strided loads are for the bias of scattered outputs only"
    assert spills(artifact, load_target("riscv64")) == 0


def test_rvv_code_stores_scattered_outputs_by_one_instruction() -> None:
    spec = KernelSpec(80, 32, Factorization.parse("tt:m=16x5,n=4x8,r=6", 80, 32), 1, bias=True, relu=True)
    steps = Schedule((StepSchedule("out", 8, 2, 4, 1), StepSchedule("out", 8, 2, 5, 1)))
    counts = instructions(compile_kernel(spec, steps, load_target("riscv64"), "kernel", assembly=True))
    assert (counts["vsse32.v"], counts["vlse32.v"]) == (10, 10)
    assert sum(n for name, n in counts.items() if name.startswith("vslide")) < 10


def test_rvv_code_sums_across_lanes_in_any_order() -> None:
    spec = KernelSpec(6, 200, Factorization.dense(6, 200), 1, bias=True, relu=True)
    schedule = Schedule((StepSchedule("inner", 8, 6, 1, 1),))
    artifact = compile_kernel(spec, schedule, load_target("riscv64"), "kernel", assembly=True)
    assert instructions(artifact)["vfredusum.vs"] == 6


def innermost(lines: list[str]) -> list[str]:
    """Return the lines of the first loop of a kernel that ends."""
    back = next(
        i
        for i, line in enumerate(lines)
        if (m := re.match(r"\s+b\w*[. ]?.*(\.LBB\w+)$", line)) and f"{m[1]}:" in lines[:i]
    )
    label = re.match(r".*(\.LBB\w+)$", lines[back])[1]
    return lines[lines.index(f"{label}:") + 1 : back]


def test_x60_code_spreads_loads_among_products() -> None:
    """The core begins two instructions a cycle in their order: each FMA is to stand beside a load or an address."""
    machine = load_target("riscv64")
    spec = KernelSpec(3 * machine.lanes, 192, Factorization.dense(3 * machine.lanes, 192), 8, False, False)
    schedule = Schedule((StepSchedule("out", machine.lanes, 3, 8, 2),))
    body = innermost(compile_kernel(spec, schedule, machine, "kernel", assembly=True).assembly.splitlines())
    order = "".join("*" if "vfmacc" in line else "." for line in body)
    assert order.count("*") == 48
    assert order.count(".") >= 24
    assert max(map(len, order.split("*"))) <= 3, order


@pytest.mark.parametrize(("inner", "unroll"), [(2, 1), (3, 1), (4, 2), (5, 2)])
def test_short_sums_of_the_x60_do_not_wait_for_themselves(inner, unroll) -> None:
    # An addition to a sum waits for the one before it, so that those to all others have to stand between.
    spec = KernelSpec(240, inner, Factorization.dense(240, inner), 16, False, False)
    schedule = Schedule.parse(f"out:8:3x8:u{unroll}")
    text = compile_kernel(spec, schedule, load_target("riscv64"), "kernel", assembly=True).assembly
    sums = re.findall(r"^\s+vfm(?:ul|acc|add)\.vf\s+(v\d+)", text, re.MULTILINE)
    assert len(sums) == inner * 24
    for first in range(0, len(sums), 24):
        assert len(set(sums[first : first + 24])) == 24


def test_loops_load_the_operands_of_the_next_iteration() -> None:
    """The first instructions of the loop multiply what was loaded before it."""
    machine = load_target("riscv64")
    spec = KernelSpec(8 * machine.lanes, 100, Factorization.dense(8 * machine.lanes, 100), 2, False, False)
    schedule = Schedule((StepSchedule("out", machine.lanes, 8, 2, 1),))
    lines = compile_kernel(spec, schedule, machine, "kernel", assembly=True).assembly.splitlines()
    fused = re.compile(r"\s+(vfmacc|vfmadd)\b")
    loaded = re.compile(r"\s+(vle32|flw)\b")
    body = innermost(lines)
    first = {kind: next(i for i, line in enumerate(body) if kind.match(line)) for kind in (fused, loaded)}
    assert sum(bool(fused.match(line)) for line in body) == 16
    assert first[fused] < first[loaded]


@pytest.mark.parametrize(
    ("target", "fused"),
    [
        ("host", r"vfmadd\d+ps"),
        ("host-avx512", r"vfmadd\d+ps"),
        ("aarch64", r"fmla"),
        ("aarch64-a55", r"fmla"),
        ("armv7", r"vfma\.f32"),
        ("riscv64-u74", r"fmadd\.s"),
    ],
)
@pytest.mark.parametrize("layer", LAYERS)
def test_other_targets_fuse_and_keep_registers(layer, target, fused) -> None:
    artifact = chosen(LAYERS[layer], target)
    assert sum(n for name, n in instructions(artifact).items() if re.match(fused, name)) >= 8
    assert spills(artifact, load_target(target)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("text", ["dense", "tt:m=16x25,n=40x41,r=3", "tt:m=16x25,n=40x41,r=3,lr"])
@pytest.mark.parametrize("target", families())
def test_objects_call_nothing(tmp_path, text, target) -> None:
    if not (tool := shutil.which("llvm-nm-22")):
        pytest.skip("llvm-nm-22 is not installed")
    machine = load_target(target)
    spec = KernelSpec(301, 799, Factorization.parse(text, 301, 799), 3, bias=True, relu=True)
    artifact = compile_kernel(spec, schedules(spec, machine, 1)[0], machine, "kernel")
    path = tmp_path / "kernel.o"
    path.write_bytes(artifact.object_code)
    assert _output(tool, "--undefined-only", str(path)) == ""
    public = [line.split()[-2:] for line in _output(tool, "--extern-only", "--defined-only", str(path)).splitlines()]
    assert [name for kind, name in public if kind not in "wWvV"] == ["kernel"]


def test_code_does_not_grow_with_the_inner_axis() -> None:
    def lines(inputs: int) -> int:
        spec = KernelSpec(64, inputs, Factorization.dense(64, inputs), 1, True, True)
        schedule = Schedule((StepSchedule("out", 8, 4, 1, 4),))
        artifact = compile_kernel(spec, schedule, load_target("riscv64"), "kernel", assembly=True)
        return len(artifact.assembly.splitlines())

    assert lines(100_000) < 1.5 * lines(100)


@pytest.mark.parametrize(
    ("target", "line", "spilled"),
    [
        ("riscv64", "\tvs2r.v\tv8, (a0)", True),
        ("riscv64", "\tvl1re32.v\tv8, (a0)", True),
        ("riscv64", "\tvse32.v\tv8, (a0)", False),
        ("riscv64", "\tvmv1r.v\tv8, v9", False),
        ("riscv64", "\tfsw\tfs0, 12(sp)", True),
        ("riscv64", "\tfsd\tfs0, 16(sp)", False),
        ("riscv64", "\tflw\tfa5, 4(a0)", False),
        ("aarch64", "\tstp\tq8, q9, [sp, #32]", True),
        ("aarch64", "\tldr\tq1, [sp]", True),
        ("aarch64", "\tstp\td9, d8, [sp, #16]", False),
        ("aarch64", "\tldr\tq1, [x0, #16]", False),
        ("host", "\tvmovups\t%ymm1, 32(%rsp)", True),
        ("host", "\tvfmadd231ps\t-64(%rsp), %zmm1, %zmm2", True),
        ("host", "\tvmovups\t32(%rsi), %ymm1", False),
        ("host", "\tmovq\t%rax, 8(%rsp)", False),
        ("armv7", "\tvst1.64\t{d16, d17}, [r0:128]", True),
        ("armv7", "\tvld1.32\t{d6[], d7[]}, [r7:32]!", False),
        ("armv7", "\tvpush\t{d8, d9}", False),
    ],
)
def test_spills_are_recognised(target, line, spilled) -> None:
    spec = KernelSpec(8, 8, Factorization.dense(8, 8), 1, False, False)
    artifact = Artifact(spec, Schedule(()), "any", "kernel", (), b"", f"kernel:\n{line}\n\tret\n")
    assert spills(artifact, load_target(target)) == spilled


def test_assembly_is_made_on_request_and_of_the_same_code() -> None:
    with_text = chosen("svd:r=8", "host")
    without = compile_kernel(with_text.spec, with_text.schedule, load_target("host"), "kernel")
    assert (without.object_code, without.assembly) == (with_text.object_code, "")
    with pytest.raises(ValueError, match="without assembly"):
        spills(without, load_target("host"))


@pytest.mark.parametrize("compiler", [["gcc", "-x", "c", "-std=c99"], ["g++", "-x", "c++"]])
def test_the_header_compiles_and_declares_every_argument(tmp_path, compiler) -> None:
    artifact = chosen("tt:m=15x20,n=28x28,r=8", "host")
    header = c_header(artifact, load_target("host"))
    path = tmp_path / "kernel.h"
    path.write_text(header, encoding="utf-8")
    use = f'#include "{path}"\nint main(void) {{ {artifact.symbol}({", ".join("0" for _ in artifact.arguments)}); }}\n'
    command = [*compiler, "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-"]
    subprocess.run(command, input=use, text=True, check=True)
    for argument in artifact.arguments:
        assert re.search(rf"{argument.name}\s.*{argument.size} floats", header)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("columns", [1, 2])
def test_int8_weights_leave_the_floating_point_unit_of_the_x60_to_fmas(columns) -> None:
    spec = KernelSpec(64, 512, Factorization.dense(64, 512), columns, False, False, INT8)
    machine = load_target("riscv64")
    artifact = compile_kernel(spec, Schedule.parse(f"out:16:4x{columns}:u4"), machine, "kernel", assembly=True)
    made = instructions(artifact)
    products, rows = made["vle8.v"] * columns, 4
    assert made["vwmulu.vx"] == made["vwadd.wv"] >= made["vle8.v"] - rows
    assert not any(name.startswith(("vfcvt", "vfwcvt", "vsext", "vfsub")) for name in made), made
    floats = sum(n for name, n in made.items() if name.startswith("vf"))
    scaled = rows * columns
    assert floats <= products + products // 4 + scaled, "once a body what weights are raised by is taken off"
