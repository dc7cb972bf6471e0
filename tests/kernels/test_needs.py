"""What a kernel's header says that it needs, and the C function of it that asks the machine, without any library."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from lrfdse.ir.factorization import Factorization
from lrfdse.ir.kernel import Argument, Artifact, KernelSpec, Schedule
from lrfdse.kernels.header import c_header
from lrfdse.targets.catalog import load_target, names
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_zig

STRICT = ("-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wundef", "-pedantic", "-Werror")
LANGUAGES = {
    "c": ("-x", "c", "-std=c99", "-Wstrict-prototypes", "-Wmissing-prototypes"),
    "c++": ("-x", "c++", "-std=c++17", "-Wold-style-cast"),
}
START = {
    "riscv64": "call answer\\nli a7, 93\\necall",
    "aarch64": "bl answer\\nmov x8, #93\\nsvc 0",
    "armv7": "bl answer\\nmov r7, #1\\nsvc 0",
    "x86_64": "call answer\\nmov %eax, %edi\\nmov $60, %eax\\nsyscall",
}
"""Leave with what answer() returns."""
LINK = {"x86_64": "x86_64-linux-musl"}
USE = """
#ifdef __cplusplus
extern "C"
#endif
int answer(void);
int answer(void)
{
    static float x[8], w0[64], y[8];
    if (!lrf_fc_supported())
        return 0;
    lrf_fc(x, w0, y);
    return y[0] > 0 ? 1 : 2;
}
"""


def header_of(target: Target) -> str:
    """Return the header of a dense 8x8 kernel of the target."""
    arguments = tuple(
        Argument(name, role, size) for name, role, size in (("x", "input", 8), ("w0", "weight", 64), ("y", "output", 8))
    )
    spec = KernelSpec(8, 8, Factorization.dense(8, 8), 1, False, False)
    schedule = Schedule.parse("out:1:1x1:u1")
    return c_header(Artifact(spec, schedule, target.name, "lrf_fc", arguments, b""), target)


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """Compile the user's code above with warnings as errors; link it with nothing but a kernel that says y = 1."""
    folder: Path = tmp_path_factory.mktemp("needs")

    def built(target: Target, language: str = "c", *options: str) -> Path:
        link = target.link or LINK[target.isa]
        (folder / "fc.h").write_text(header_of(target))
        (folder / "use.c").write_text(f'#include "fc.h"\n{USE}')
        (folder / "start.c").write_text(
            f'__asm__(".globl _start\\n_start:\\n{START[target.isa]}\\n");\n'
            "void lrf_fc(float *x, float *w0, float *y) { (void)x; (void)w0; y[0] = 1; }\n"
        )
        zig = [require_zig().path, "cc", "-target", link, "-O1", "-ffreestanding", "-fno-sanitize=undefined"]
        zig += ["-fno-stack-protector"]
        made = folder / "program"
        for name, more in (("use", (*LANGUAGES[language], *STRICT, *options)), ("start", ())):
            subprocess.run([*zig, *more, "-c", f"{name}.c", "-o", f"{name}.o"], cwd=folder, check=True)
        subprocess.run([*zig, "-nostdlib", "-static", "use.o", "start.o", "-o", str(made)], cwd=folder, check=True)
        return made

    return built


def run_on(emulator: str, cpu: str, path: Path) -> int:
    """Return the exit code under QEMU, negative for a signal."""
    if shutil.which(emulator) is None:
        pytest.skip(f"no {emulator} here")
    return subprocess.run([emulator, "-cpu", cpu, str(path)], timeout=600, check=False).returncode


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("name", "answers"),
    [
        ("riscv64", {128: 0, 256: 1, 512: 1}),
        ("riscv64-p670", {128: 1, 256: 1}),
        ("riscv64-x280", {128: 0, 256: 0, 512: 1}),
        ("riscv64-u74", {128: 1}),
    ],
)
def test_short_vectors_are_not_supported(name, answers, language, program):
    path = program(load_target(name), language)
    for vlen, answer in answers.items():
        assert run_on("qemu-riscv64", f"rv64,v=true,vlen={vlen},elen=64,vext_spec=v1.0", path) == answer, vlen


def test_code_that_uses_vectors_itself_asks_too(program):
    path = program(load_target("riscv64"), "c", "-mcpu=baseline_rv64+v")
    assert run_on("qemu-riscv64", "rv64,v=true,vlen=128,elen=64,vext_spec=v1.0", path) == 0
    assert run_on("qemu-riscv64", "rv64,v=true,vlen=256,elen=64,vext_spec=v1.0", path) == 1


def test_a_core_without_vectors_answers_no_or_ends_the_program(program):
    """An emulator that is older than the system call of Linux 6.4 cannot be asked: then the illegal instruction."""
    assert run_on("qemu-riscv64", "rv64,v=false", program(load_target("riscv64"))) in (0, -4)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("name", "emulator", "cpu", "answer"),
    [
        ("aarch64", "qemu-aarch64", "cortex-a53", 1),
        ("aarch64-a55", "qemu-aarch64", "max", 1),
        ("armv7", "qemu-arm", "cortex-a7", 1),
        ("host", "qemu-x86_64", "qemu64", 0),
        ("host", "qemu-x86_64", "Nehalem", 0),
        ("host", "qemu-x86_64", "max", 1),
        ("host-avx512", "qemu-x86_64", "qemu64", 0),
        ("host-avx512", "qemu-x86_64", "max", 0),
    ],
)
def test_other_instruction_sets_answer_for_themselves(name, emulator, cpu, answer, language, program):
    """QEMU's most capable x86 core has AVX2 and neither AVX-512 nor VNNI."""
    target = load_target(name)
    if target.isa == "x86_64":
        target = dataclasses.replace(target, features=())
    assert run_on(emulator, cpu, program(target, language)) == answer


@pytest.mark.parametrize("feature", ["+avxvnni", "+avx512vnni"])
def test_a_processor_without_vnni_is_not_supported(feature, program):
    """QEMU's most capable x86 core has leaf 7 of cpuid, and AVX2."""
    target = dataclasses.replace(load_target("host"), features=(feature,))
    assert run_on("qemu-x86_64", "max", program(target)) == 0
    assert "VNNI" in target.needs.words
    assert "vnni" not in target.needs.unchecked


AVX2 = "avx2 fma bmi1 bmi2 f16c movbe abm"
AVX512 = f"{AVX2} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("name", "features", "flags"),
    [
        ("host", (), AVX2),
        ("host", ("+avxvnni",), f"{AVX2} avx_vnni"),
        ("host-avx512", (), AVX512),
        ("host-avx512", ("+avx512vnni",), f"{AVX512} avx512_vnni"),
    ],
)
def test_this_machine_answers_as_linux_says(name, features, flags, program):
    if platform.machine() != "x86_64":
        pytest.skip("this machine is no x86_64")
    told = Path("/proc/cpuinfo").read_text().partition("\nflags")[2].partition("\n")[0].split()
    target = dataclasses.replace(load_target(name), features=features)
    answer = subprocess.run([program(target)], timeout=600, check=False).returncode
    assert answer == int(set(flags.split()) <= set(told))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", names("targets"))
def test_headers_compile_without_warnings_anywhere(name, language, tmp_path):
    """With the compiler of this machine, too, for which most kernels are of another instruction set."""
    (tmp_path / "fc.h").write_text(header_of(load_target(name)))
    (tmp_path / "use.c").write_text(f'#include "fc.h"\n#include "fc.h"\n{USE}')
    compiler = {"c": "gcc", "c++": "g++"}[language]
    subprocess.run([compiler, *LANGUAGES[language], *STRICT, "-c", "use.c"], cwd=tmp_path, check=True)


@pytest.mark.parametrize(("bits", "code"), [(128, 1), (256, 0), (512, 0)])
def test_a_compiler_that_was_told_of_short_vectors_stops(bits, code, tmp_path):
    (tmp_path / "fc.h").write_text(header_of(load_target("riscv64")))
    command = ["gcc", f"-D__riscv_v_fixed_vlen={bits}", "-fsyntax-only", "-x", "c", "fc.h"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, "needs VLEN >= 256" in ended.stderr) == (code, bool(code))


@pytest.mark.parametrize("name", names("targets"))
def test_a_header_begins_with_what_the_kernel_needs(name):
    target = load_target(name)
    first, second, *rest = header_of(target).splitlines()
    assert first.startswith(f"/* Needs {target.needs.words.partition(':')[0]}")
    assert second == f" * Made for: {target.core}."
    assert "lrf_fc_supported() returns 1" in rest[0]
    assert max(map(len, rest[: rest.index(" */")])) <= 120


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("riscv64", "RVV 1.0 with VLEN >= 256"),
        ("riscv64-p670", "RVV 1.0 with VLEN >= 128"),
        ("riscv64-x280", "RVV 1.0 with VLEN >= 512"),
        ("riscv64-u74", "RV64GC with Zba and Zbb"),
        ("armv7", "ARMv7-A with NEON and VFPv4"),
        ("host-avx512", "x86-64-v4 (AVX-512"),
    ],
)
def test_needs_are_said_in_words(name, words):
    assert load_target(name).needs.words.startswith(words)


def test_a_core_of_another_name_is_held_to_the_level_of_its_vectors():
    host = dataclasses.replace(load_target("host-avx512"), features=("+avx512fp16", "-aes"))
    needs = dataclasses.replace(host, cpu="sapphirerapids").needs
    assert list(needs.body) == list(host.needs.body)
    assert "what sapphirerapids has beyond x86-64-v4, avx512fp16;" in needs.unchecked
    assert "aes" not in needs.unchecked


def test_words_of_a_target_file_cannot_end_the_comment():
    target = dataclasses.replace(load_target("aarch64"), core="a core */ int oops;\n/*")
    assert header_of(target).partition("#ifndef")[0].count("*/") == 1
