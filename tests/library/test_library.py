"""Libraries as C users meet them: built by `make`, run on every target, linked side by side, refused with a code."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import shutil
import subprocess
import threading

import numpy as np
import pytest

from lrfdse.base.folders import private_folder
from lrfdse.errors import KernelError
from lrfdse.ir.ports import ELEMENT_SIZE
from lrfdse.library.elf import undefined_symbols
from lrfdse.library.example import example
from lrfdse.library.folder import write_library
from lrfdse.library.interface import ERRORS, Signature, header
from lrfdse.library.make import Origin, make_library
from lrfdse.library.objects import check_alone
from lrfdse.library.tensor import Tensor
from lrfdse.library.vectors import Vectors, vectors_files
from lrfdse.targets.catalog import load_target
from lrfdse.toolchain.programs import require_zig
from tests.library.conftest import TARGETS, compile_c

pytestmark = pytest.mark.slow

CODES = {name: number for number, (name, _) in enumerate(ERRORS)}
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")


@pytest.fixture(scope="session")
def shell():
    """Run a command; zig keeps the C libraries that it makes, which takes minutes, where lrfdse has it keep its own."""
    cache = str(private_folder("zig"))

    def run(*command, **options):
        environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": cache, "ZIG_LOCAL_CACHE_DIR": cache}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, **options)

    return run


def zig_for(target):
    return [require_zig().path, "cc", "-target", target.link or target.instruction_set.zig]


@pytest.mark.parametrize("weights_file", [False, True])
@pytest.mark.parametrize("name", TARGETS)
def test_make_builds_the_example_and_it_is_right(name, weights_file, c_library, native, shell, tmp_path):
    target = native(name)
    library = c_library(target, weights_file=weights_file)
    write_library(tmp_path / "out", library.files, library.last)
    arguments = (f"CC={' '.join(zig_for(target))}", f"CFLAGS=-O1 {' '.join(STRICT)}")
    made = shell("make", *arguments, "check", cwd=tmp_path / "out")
    assert made.returncode == 0, made.stderr
    assert made.stdout.endswith("net: right\n")
    assert 0 < library.facts.max_error < 1e-6


@pytest.mark.parametrize("compiler", ["gcc", "clang", "zig cc"])
def test_compilers_take_the_example_as_c99_and_as_cpp(compiler, c_library, native, shell, tmp_path):
    words = zig_for(native("host")) if compiler.startswith("zig") else [compiler]
    if shutil.which(words[0]) is None:
        pytest.skip(f"there is no {compiler}")
    library = c_library(native("host"), weights_file=True)
    write_library(tmp_path / "out", library.files, library.last)
    for standard in ("-std=c99", "-std=c11"):
        assert shell(*words, standard, *STRICT, "-c", "example.c", "-o", "e.o", cwd=tmp_path / "out").stderr == ""
    for standard in ("-std=c++11", "-std=c++20"):
        cpp = [words[0], "c++", *words[2:]] if compiler.startswith("zig") else words
        made = shell(*cpp, "-x", "c++", standard, *STRICT, "-c", "example.c", "-o", "e.o", cwd=tmp_path / "out")
        assert made.stderr == ""


def test_the_example_takes_outputs_of_every_element_type(shell, native, tmp_path):
    """The example alone, with a function in the place of the library that copies inputs to outputs."""
    target = native("host")
    rng = np.random.default_rng(1)
    arrays = tuple(rng.integers(0, 2, 5).astype(element) for element in ELEMENT_SIZE)
    tensors = tuple(
        Tensor(f"t{number}", element, (5,), 5 * size) for number, (element, size) in enumerate(ELEMENT_SIZE.items())
    )
    half = np.array([1.5, -0.25, 65504, 6e-8, np.inf], np.float16)
    arrays = tuple(half if array.dtype == np.float16 else array for array in arrays)
    facts = Signature("net", tensors, tensors, 64, 64, None)
    text, _ = vectors_files(facts, Vectors(arrays, arrays))
    (tmp_path / "net.h").write_text(header(facts, target, "m"))
    (tmp_path / "test_vectors.h").write_text(text)
    (tmp_path / "example.c").write_text(example(facts, vectors_file=False))
    (tmp_path / "net.c").write_text(f"""
        #include <string.h>
        #include "net.h"
        int net_run(const void *const *inputs, void *const *outputs, void *arena) {{
            static const int bytes[] = {{{", ".join(str(tensor.bytes) for tensor in tensors)}}};
            (void)arena;
            for (int i = 0; i < NET_INPUTS; i++) memcpy(outputs[i], inputs[i], bytes[i]);
            if (WRONG >= 0) ((unsigned char *)outputs[WRONG])[bytes[WRONG] / 5 - 1] ^= 0x40;
            return 0;
        }}
    """)
    words = zig_for(target)
    checked = shell(words[0], "c++", *words[2:], "-x", "c++", *STRICT, "-c", "example.c", "-o", "e.o", cwd=tmp_path)
    assert checked.stderr == ""
    for wrong in range(-1, len(tensors)):
        made = shell(*words, *STRICT, f"-DWRONG={wrong}", "example.c", "net.c", "-o", "example", cwd=tmp_path)
        assert made.returncode == 0, made.stderr
        assert shell("./example", cwd=tmp_path).returncode == (wrong >= 0), wrong


def test_plain_make_takes_the_machines_own_compiler(c_library, native, shell, tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("there is no cc")
    library = c_library(native("host"))
    write_library(tmp_path / "out", library.files, library.last)
    made = shell("make", cwd=tmp_path / "out")
    assert made.returncode == 0, made.stderr
    assert shell("./example", "3", cwd=tmp_path / "out").stdout.count("ms of processor time a run") == 1


@pytest.mark.parametrize("weights_file", [False, True])
@pytest.mark.parametrize("name", TARGETS)
def test_the_archive_needs_nothing_and_shows_two_functions(name, weights_file, c_library, native, shell, tmp_path):
    library = c_library(native(name), weights_file=weights_file)
    archive = library.files["libnet.a"]
    # A member begins behind its header, which ends so (ar(5)); the first member is the table of symbols.
    member = archive[archive.index(b"\x7fELF") :]
    assert undefined_symbols(member) == []
    if shutil.which("readelf") is None:
        pytest.skip("there is no readelf to ask as well")
    (tmp_path / "libnet.a").write_bytes(archive)
    lines = shell("readelf", "-sW", "libnet.a", cwd=tmp_path).stdout.splitlines()
    symbols = [line.split() for line in lines if len(line.split()) == 8 and line.split()[0][:-1].isdigit()]
    shown = {symbol[7] for symbol in symbols if symbol[4] != "LOCAL" and symbol[5] == "DEFAULT"}
    others = {symbol[7] for symbol in symbols if symbol[4] != "LOCAL"} - shown
    assert shown == {"net_run", "net_supported"}
    assert all(other.startswith("net_") for other in others)
    assert ("net_weights" in others) != weights_file
    sections = shell("readelf", "-SW", "libnet.a", cwd=tmp_path).stdout
    weights = [line for line in sections.splitlines() if ".rodata.net_weights" in line]
    assert len(weights) == (not weights_file)
    assert all(" A " in line and " WA " not in line for line in weights)


class Loaded:
    """A library of this machine, called through ctypes."""

    def __init__(self, library, folder, name="net"):
        (folder / f"lib{name}.a").write_bytes(library.files[f"lib{name}.a"])
        whole = ["--whole-archive", str(folder / f"lib{name}.a")]
        command = [require_zig().path, "ld.lld", "-shared", "-z", "defs", *whole, "-o", str(folder / f"{name}.so")]
        subprocess.run(command, check=True)
        self.run_c = getattr(ctypes.CDLL(str(folder / f"{name}.so")), f"{name}_run")
        facts = library.facts
        self.inputs = [np.zeros(tensor.bytes // 8, np.int64) for tensor in facts.inputs]
        self.outputs = [np.full(tensor.bytes // 4, -1, np.float32) for tensor in facts.outputs]
        self.memory = np.full(facts.arena_bytes + 64, 7, np.uint8)
        self.weights = None
        if facts.weights_in == "file":
            self.weights = np.zeros(len(library.files[f"{name}_weights.bin"]) + 64, np.uint8)
            start = -self.weights.ctypes.data % 64
            stored = self.weights[start : start + len(library.files[f"{name}_weights.bin"])]
            stored[:] = np.frombuffer(library.files[f"{name}_weights.bin"], np.uint8)
            self.weights = stored

    @property
    def arena(self):
        return self.memory.ctypes.data + -self.memory.ctypes.data % 64

    def run(self, **changed):
        """Run with addresses of its own arrays, or with what is given in their place."""
        given = {
            "inputs": [array.ctypes.data for array in self.inputs],
            "outputs": [array.ctypes.data for array in self.outputs],
            "arena": self.arena,
        }
        if self.weights is not None:
            given["weights"] = self.weights.ctypes.data
        given |= changed

        def pointer(value):
            if isinstance(value, list):
                return (ctypes.c_void_p * len(value))(*value)
            return ctypes.c_void_p(value)

        return self.run_c(*map(pointer, given.values()))


@pytest.fixture
def loaded(c_library, native, tmp_path):
    return lambda **options: Loaded(c_library(native("host"), **options), tmp_path)


@pytest.mark.parametrize("weights_file", [False, True])
def test_every_misuse_has_its_code_and_writes_nothing(loaded, weights_file):
    net = loaded(weights_file=weights_file)
    x, y, z = net.inputs[0].ctypes.data, *(array.ctypes.data for array in net.outputs)
    null, wrong, overlap = (CODES[name] for name in ("NULL_POINTER", "MISALIGNED", "OVERLAP"))
    cases = [
        ({"inputs": None}, null),
        ({"outputs": None}, null),
        ({"arena": None}, null),
        ({"inputs": [None]}, null),
        ({"outputs": [y, None]}, null),
        ({"arena": net.arena + 4}, wrong),
        ({"inputs": [x + 4]}, wrong),
        ({"outputs": [y + 2, z]}, wrong),
        ({"outputs": [y, y]}, overlap),
        ({"outputs": [y, y + 4]}, overlap),
        ({"inputs": [y]}, overlap),
        ({"outputs": [net.arena + 128, z]}, overlap),
        ({"inputs": [net.arena + 248]}, overlap),
    ]
    if weights_file:
        start = net.weights.ctypes.data
        cases += [
            ({"weights": None}, null),
            ({"weights": start + 16}, wrong),
            ({"outputs": [start + 64, z]}, overlap),
            ({"arena": start}, overlap),
            ({"weights": start + 64}, CODES["WRONG_WEIGHTS"]),
        ]
    for changed, code in cases:
        assert net.run(**changed) == code, changed
    assert (net.memory == 7).all()
    assert all((array == -1).all() for array in net.outputs)
    assert net.run() == CODES["OK"]


def test_weights_of_another_library_are_refused(loaded):
    net = loaded(weights_file=True)
    net.weights[20] ^= 1
    assert net.run() == CODES["WRONG_WEIGHTS"]


def test_indices_out_of_range_are_clipped(loaded):
    net = loaded()
    net.inputs[0][:] = [2**62, -(2**62), 6]
    assert net.run() == 0
    high, low, last = net.outputs[0].reshape(3, 6).copy()
    assert np.array_equal(high, last)
    net.inputs[0][:] = [0, 0, 0]
    assert net.run() == 0
    assert np.array_equal(net.outputs[0][:6], low)


def test_runs_at_the_same_time_do_not_disturb_each_other(c_library, native, tmp_path):
    library = c_library(native("host"))
    nets = [Loaded(library, tmp_path) for _ in range(2)]
    due = []
    for number, net in enumerate(nets):
        net.inputs[0][:] = [number, number + 2, number + 4]
        assert net.run() == 0
        due.append([array.copy() for array in net.outputs])
    assert not np.array_equal(due[0][0], due[1][0])
    wrong = []

    def work(net, expected):
        for _ in range(3000):
            for array in net.outputs:
                array[:] = 0
            if net.run() or not all(map(np.array_equal, net.outputs, expected)):
                wrong.append(net)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(nets, due, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_two_libraries_in_one_program(c_library, native, shell, tmp_path):
    target = native("host")
    for name in ("one", "two"):
        library = c_library(target, name)
        for file in (f"lib{name}.a", f"{name}.h"):
            (tmp_path / file).write_bytes(library.files[file])
    (tmp_path / "main.c").write_text("""
        #include <stdint.h>
        #include "one.h"
        #include "two.h"
        static float y[2][18], z[2][18];
        static unsigned char arena[ONE_ARENA_BYTES + TWO_ARENA_BYTES + 64];
        int main(void) {
            int64_t ids[] = {1, 2, 3};
            const void *inputs[] = {ids};
            void *first[] = {y[0], z[0]}, *second[] = {y[1], z[1]};
            void *memory = arena + 64 - (uintptr_t)arena % 64;
            if (one_run(inputs, first, memory) != ONE_OK || two_run(inputs, second, memory) != TWO_OK) return 1;
            for (int i = 0; i < 18; i++) if (y[0][i] != y[1][i] || z[0][i] != z[1][i]) return 2;
            return y[0][0] == 0;
        }
    """)
    made = shell(*zig_for(target), *STRICT, "main.c", "libone.a", "libtwo.a", "-o", "main", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert shell("./main", cwd=tmp_path).returncode == 0


def test_a_machine_that_lacks_something_is_an_error(c_library, native, shell, tmp_path):
    """Vectors of 128 bits where 256 are needed: a kernel would compute wrong numbers without any error."""
    target = native("riscv64")
    library = c_library(target)
    write_library(tmp_path / "out", library.files, library.last)
    made = shell("make", f"CC={' '.join(zig_for(target))}", cwd=tmp_path / "out")
    assert made.returncode == 0, made.stderr
    small = "rv64,v=true,vlen=128,elen=64,vext_spec=v1.0"
    ended = shell("qemu-riscv64", "-cpu", small, "./example", cwd=tmp_path / "out")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"net_run() returned {CODES['UNSUPPORTED']}" in ended.stderr


def test_a_compiler_for_another_machine_is_told_so(c_library, native, shell, tmp_path):
    library = c_library(native("aarch64"))
    write_library(tmp_path / "out", library.files, library.last)
    made = shell(*zig_for(load_target("riscv64")), "-c", "example.c", "-o", "e.o", cwd=tmp_path / "out")
    assert made.returncode != 0
    assert "net.h and libnet.a are for aarch64" in made.stderr


def test_wrong_outputs_are_an_error(c_layout, native):
    target = native("riscv64")
    made, layout = c_layout(target)
    y, z = made.vectors.outputs
    wrong = Vectors(made.vectors.inputs, (y, z * np.float32(1.001)))
    with pytest.raises(KernelError, match="output 'z' is wrong"):
        make_library("net", made.program, made.plan, layout, wrong, target, Origin("m", ""), meter="none")
    loose = dataclasses.replace(wrong, tolerance=2e-3)
    library = make_library("net", made.program, made.plan, layout, loose, target, Origin("m", ""), meter="none")
    assert 9e-4 < library.facts.max_error < library.facts.tolerance == 2e-3
    assert "#define NET_TOLERANCE 0.002" in library.files["test_vectors.h"].decode()


def test_an_operator_that_calls_something_is_an_error(c_layout, native, tmp_path):
    target = native("armv7")
    _, layout = c_layout(target)
    content = compile_c("float expf(float); void net_000(float *x) { *x = expf(*x); }", target, tmp_path)
    function = dataclasses.replace(layout.steps[0].compiled, object_code=content)
    with pytest.raises(KernelError, match="Gather as net_000 calls what is not there: expf"):
        check_alone(function)


@pytest.mark.parametrize("name", ["riscv64", "aarch64", "armv7"])
def test_the_modelled_latency_is_the_sum_of_the_operators(name, c_library, native):
    facts = c_library(native(name), meter="auto").facts
    assert (facts.meter.name, facts.meter.kind) == ("model", "modelled")
    for whole, each in ((facts.warm, "warm"), (facts.cold, "cold")):
        parts = sum(getattr(operator, each).us for operator in facts.operators)
        # What is left are the checks before the first operator.
        assert 0.3 < parts / whole.us < 1
    assert facts.cold.us > facts.warm.us
    # The same function twice: the second time it finds its code's data warm, and what it executes is the same.
    third, fourth = facts.operators[2:4]
    assert third.symbol == fourth.symbol
    assert third.warm.us == pytest.approx(fourth.warm.us, rel=0.2)
    assert facts.operators[1].warm.us == max(operator.warm.us for operator in facts.operators)


def test_the_host_is_measured_operator_by_operator(c_library, native):
    facts = c_library(native("host"), meter="auto").facts
    assert (facts.meter.name, facts.meter.kind) == ("host", "measured")
    assert all(0 <= operator.warm.us < 1e4 for operator in facts.operators)
    assert facts.warm.us > 0


def test_parts_add_up_to_what_the_plugin_saw(c_layout, native, tmp_path):
    from lrfdse.library.interface import signature
    from lrfdse.library.trial import trial
    from lrfdse.meters.emulator import emulate, plugin_options
    from lrfdse.meters.nest import flatten
    from lrfdse.meters.trace import parse
    from lrfdse.toolchain import zig

    target = native("riscv64")
    made, layout = c_layout(target)
    facts = signature("net", made.program, layout, weights_file=False)
    whole = trial(facts, layout, target, made.vectors)
    zig.link_object("net", whole.object_code, "lrf_whole", zig.harness(target, 1), tmp_path)
    whole.write(tmp_path / "image")
    seen = parse(emulate("net", tmp_path, target, 60, plugin_options(target, 0)))
    assert whole.check(tmp_path / "image") < 1e-6
    assert len(seen.parts) == 2 * whole.parts == 12
    for region, parts in ((seen.cold, seen.parts[:6]), (seen.warm, seen.parts[6:])):
        for name in ("accesses", "l1_misses", "llc_misses", "llc_writebacks"):
            assert getattr(region, name) == sum(getattr(part, name) for part in parts)
    # Each part begins where the mark returns: the same run.
    ends = (*seen.starts[1:], len(seen.nest))
    first = [flatten(seen.nest[a:b])[0] for a, b in zip(seen.starts, ends, strict=True)]
    assert len(set(first[1:])) == 1
    # The third and the fourth operator are one function, called from two places and left for two.
    third, fourth = (flatten(seen.nest[seen.starts[i] : ends[i]]) for i in (3, 4))
    assert len(third) > 3
    assert third[2:-1] == fourth[2:-1]


@pytest.mark.parametrize("where", ["before", "behind"])
def test_what_is_written_beside_the_outputs_is_noticed(where, c_layout, native):
    from lrfdse.library.interface import signature
    from lrfdse.library.trial import trial
    from lrfdse.meters.whole import run_once

    target = native("aarch64")
    made, layout = c_layout(target)
    facts = signature("net", made.program, layout, weights_file=False)
    whole = trial(facts, layout, target, made.vectors)
    output = whole.outputs[0]
    moved = 64 if where == "before" else -64
    shifted = dataclasses.replace(
        whole, outputs=(dataclasses.replace(output, start=output.start + moved), whole.outputs[1])
    )
    with pytest.raises(KernelError, match=r"is wrong|wrote outside"):
        run_once(shifted, target)
