"""IREE's kernels as one C function: its dispatch functions called in order, without its runtime.

The structures that dispatch functions take are those that IREE 3.13 describes in the debug information of the LLVM IR
that it dumps (``--iree-hal-dump-executable-files-to``); what is called with which buffers is in its HAL text
(`iree_schedule`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kernels.arrays import Arrays
from benchmarks.kernels.foreign import (
    ALIGN,
    BUILD_SECONDS,
    SIGNATURE,
    Built,
    NotAvailableError,
    Pool,
    Singles,
    compile_c,
    foreign,
    joined,
    layout,
    run,
)
from benchmarks.kernels.forms import onnx_model
from benchmarks.kernels.iree_schedule import CLEAR, COPY, Buffer, Dispatch, Program, UnsupportedError, read
from benchmarks.kernels.layers import Case
from benchmarks.kernels.once import output_of
from benchmarks.machine import installed
from lrfdse.ir.kernel import Argument, Artifact, Schedule
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import find_llvm

FLAGS = {
    "default": (),
    "O2": ("--iree-opt-level=O2",),
    "O3+dt": ("--iree-opt-level=O3", "--iree-opt-data-tiling"),
    "O3+dt+uk": ("--iree-opt-level=O3", "--iree-opt-data-tiling", "--iree-llvmcpu-enable-ukernels=all"),
}
MODULE = "model.mlirbc"
"""File of an imported model in the folder that it is compiled in."""
INSTALL = 'pip install "iree-base-compiler[onnx]==3.13.*" "iree-base-runtime==3.13.*"'
_DEVICE = ("--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu")
_ABI_VERSION = "3.13"


def unavailable() -> str | None:
    """Return why IREE cannot be used, or None."""
    found = installed("iree-base-compiler")
    if found is None:
        return f"iree-base-compiler is not installed: {INSTALL}"
    if not found.startswith(_ABI_VERSION):
        return f"iree-base-compiler {found} may call its kernels in another way than {_ABI_VERSION}: {INSTALL}"
    if find_llvm("llvm-objcopy") is None:
        return "llvm-objcopy is not installed: sudo apt-get install llvm-22"
    return None


def compile_module(case: Case, numbers: Arrays, form: str, flags: str, target: Target, folder: Path) -> Path:
    """Compile a layer for IREE's own runtime; return the module's file."""
    _imported(onnx_model(case, numbers, form), folder / "model.mlirbc")
    run([_tool(), "model.mlirbc", *_options(target), *FLAGS[flags], "-o", "model.vmfb"], folder)
    return folder / "model.vmfb"


def build_direct(case: Case, numbers: Arrays, form: str, flags: str, target: Target, timeout: float) -> Built:
    """Compile a layer and return a kernel that calls IREE's dispatch functions.

    Weights that IREE packs when a module is loaded are packed here, once, by its own dispatches on the target.

    Raises
    ------
    NotAvailableError
        IREE cannot compile the layer, or does something other than dispatches.
    TooSlowError
        Compiling or packing took too long.
    """
    with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as name:
        folder = Path(name)
        _imported(onnx_model(case, numbers, form), folder / MODULE)
        return build_imported(case, numbers, FLAGS[flags], target, folder, timeout)


def build_imported(
    case: Case, numbers: Arrays, flags: Sequence[str], target: Target, folder: Path, timeout: float
) -> Built:
    """Return a kernel that calls the dispatch functions of the layer that lies as `MODULE` in a folder.

    Parameters
    ----------
    case, numbers
        The layer, and its input.
    flags
        Further options of the compiler.
    target
        The machine.
    folder
        Takes what is made, too.
    timeout
        Seconds that packing the weights may take.

    Raises
    ------
    NotAvailableError
        IREE cannot compile the model, or does something other than dispatches.
    TooSlowError
        Compiling or packing took too long.
    """
    program, kernels = dispatches(flags, target, folder, "main", BUILD_SECONDS)
    if len(program.inputs) != 1 or len(program.outputs) != 1:
        raise NotAvailableError("IREE's program has several inputs or outputs")
    (result,) = program.outputs
    if result.offset or result.length != 4 * case.rows * case.layer.outputs:
        raise NotAvailableError("IREE returns a part of a buffer")
    places = {program.inputs[0]: "(char *)x", result.buffer: "(char *)y"}
    code, weights, work = joined_calls(case, target, program, kernels, places, timeout)
    return foreign(case, target, code, numbers.x, weights, work)


def dispatches(flags: Sequence[str], target: Target, folder: Path, entry: str, seconds: int) -> tuple[Program, bytes]:
    """Compile the model that lies as `MODULE` in a folder; return what its function does and the object file for it.

    Parameters
    ----------
    flags
        Further options of the compiler.
    target
        The machine.
    folder
        Takes what is made: ``kernels.o`` has the dispatch functions, as IREE made them.
    entry
        Name of the model's function.
    seconds
        Processor time that the compiler may take.

    Raises
    ------
    NotAvailableError
        IREE cannot compile the model, or does something other than dispatches.
    TooSlowError
        Compiling took too long.
    """
    static = ("--iree-llvmcpu-link-embedded=false", "--iree-llvmcpu-link-static", "--compile-to=hal")
    files = ("--iree-llvmcpu-static-library-output-path=kernels.o", "-o", "model.mlir")
    run([_tool(), MODULE, *_options(target), *flags, *static, *files], folder, seconds)
    try:
        program = read((folder / "model.mlir").read_text(encoding="utf-8"), entry)
    except UnsupportedError as error:
        raise NotAvailableError(f"IREE's program holds {error}") from error
    names = sorted({dispatch.function for dispatch in (*program.first, *program.each)} - {CLEAR, COPY})
    shown = [f"--globalize-symbol={symbol}" for symbol in names]
    objcopy = find_llvm("llvm-objcopy")
    assert objcopy is not None
    run([objcopy.path, *shown, "kernels.o", "shown.o"], folder)
    return program, (folder / "shown.o").read_bytes()


def _tool() -> str:
    import iree.compiler

    return str(Path(iree.compiler.__file__).parent / "_mlir_libs" / "iree-compile")


def _options(target: Target) -> tuple[str, ...]:
    if target.is_native:
        return (*_DEVICE, "--iree-llvmcpu-target-cpu=host")
    features = f"--iree-llvmcpu-target-cpu-features={','.join(target.features)}"
    machine = (f"--iree-llvmcpu-target-triple={target.triple}", features)
    if target.isa == "riscv64":
        return (*_DEVICE, *machine, f"--iree-llvmcpu-target-abi={target.abi}")
    return (*_DEVICE, *machine, f"--iree-llvmcpu-target-cpu={target.cpu}")


def _imported(model: Any, path: Path) -> None:
    """Write an ONNX model as MLIR bytecode, by IREE's importer."""
    import onnx
    from iree.compiler import ir
    from iree.compiler.extras import onnx_importer

    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    with ir.Context() as context:
        described = onnx_importer.ModelInfo(inferred)
        module = described.create_module(context=context).operation
        onnx_importer.NodeImporter.define_function(described.main_graph, module).import_all()
        with path.open("wb") as file:
            module.write_bytecode(file)


def joined_calls(
    case: Case, target: Target, program: Program, kernels: bytes, places: dict[Buffer, str], timeout: float
) -> tuple[bytes, Singles, int]:
    """Return one object file that runs a program, its packed weights, and the elements of work that it takes.

    Parameters
    ----------
    case
        Names the function for messages.
    target
        The machine.
    program, kernels
        See `dispatches`.
    places
        Where inputs and outputs lie, as addresses in C.
    timeout
        Seconds that packing the weights may take.
    """
    constants = _distinct(program, "constant")
    used = set(_buffers(program.each))
    packed = [b for b in _buffers(program.first) if b.kind == "transient" and b in used]
    pool = Pool.of([np.frombuffer(_whole_floats(b.data), dtype="<f4") for b in constants])
    held = {b: f"(char *)w + {4 * offset}" for b, offset in zip(constants, pool.offsets, strict=True)}
    weights = pool.data
    if program.first:
        offsets = layout([-(-b.size // 4) for b in packed])
        made = {b: f"(char *)y + {4 * offset}" for b, offset in zip(packed, offsets, strict=False)}
        packing = _packing(case, target, program, kernels, held | made, pool, offsets[-1])
        weights = np.concatenate([pool.data, output_of(packing, target, timeout)])
        at = [4 * (pool.data.size + offset) for offset in offsets[:-1]]
        held |= {b: f"(char *)w + {start}" for b, start in zip(packed, at, strict=True)}
    text, work = _source(program.each, held | places)
    return joined([compile_c(text, target, ("-O2",)), kernels], target), weights, work


def _packing(
    case: Case, target: Target, program: Program, kernels: bytes, places: dict[Buffer, str], pool: Pool, size: int
) -> Built:
    """Return the kernel that packs weights: it reads the constants and writes the packed arrays as its output."""
    text, work = _source(program.first, places)
    code = joined([compile_c(text, target, ("-O2",)), kernels], target)
    arguments = (
        Argument("x", "input", ALIGN),
        Argument("w", "weight", pool.data.size),
        Argument("y", "output", size),
        Argument("work", "work", max(work, ALIGN)),
    )
    artifact = Artifact(case.spec, Schedule(()), target.name, "bench_kernel", arguments, code, "")
    return Built(artifact, (np.zeros(ALIGN, dtype=np.float32), pool.data))


def _buffers(dispatches: Iterable[Dispatch]) -> list[Buffer]:
    return list(dict.fromkeys(binding.buffer for one in dispatches for binding in one.bindings))


def _distinct(program: Program, kind: str) -> list[Buffer]:
    return [buffer for buffer in _buffers((*program.first, *program.each)) if buffer.kind == kind]


def _whole_floats(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _source(dispatches: Sequence[Dispatch], places: dict[Buffer, str]) -> tuple[str, int]:
    """Return C code that runs dispatches one after the other, and the elements of work that other buffers take."""
    others = [buffer for buffer in _buffers(dispatches) if buffer not in places]
    offsets = layout([-(-buffer.size // 4) for buffer in others])
    places = places | {b: f"(char *)work + {4 * offset}" for b, offset in zip(others, offsets, strict=False)}
    called = dict.fromkeys(one.function for one in dispatches if one.function not in (CLEAR, COPY))
    functions = {name: f"f{i}" for i, name in enumerate(called)}
    declared = [f'extern dispatch_function {short} __asm__("{name}");' for name, short in functions.items()]
    calls = []
    for one in dispatches:
        if one.function == CLEAR:
            (b,) = one.bindings
            calls.append(f"    __builtin_memset({places[b.buffer]} + {b.offset}, 0, {b.length});")
            continue
        if one.function == COPY:
            a, b = one.bindings
            ends = [f"{places[end.buffer]} + {end.offset}" for end in (b, a)]
            calls.append(f"    __builtin_memcpy({', '.join(ends)}, {b.length});")
            continue
        pointers = ", ".join(f"{places[b.buffer]} + {b.offset}" for b in one.bindings)
        lengths = ", ".join(str(b.length) for b in one.bindings)
        given = ", ".join(map(str, one.constants))
        x, y, z = one.workgroups
        # In a block of its own a call's arrays share the stack with those of others.
        calls.append(
            f"    {{ run({functions[one.function]}, {x}, {y}, {z}, {len(one.bindings)}, (void *[]){{{pointers}}},"
            f" (size[]){{{lengths}}}, {len(one.constants)}, "
            + (f"(const unsigned[]){{{given}}}); }}" if given else "(const unsigned *)0); }")
        )
    text = "\n".join([_ABI, *declared, SIGNATURE + " {", *calls, "}", ""])
    return text, (offsets[-1] if others else ALIGN)


_ABI = """
typedef __SIZE_TYPE__ size;
struct environment {
    const unsigned *constants;
    void *import_thunk;
    const void *const *import_functions;
    const void *const *import_contexts;
    unsigned long long processor[8];
};
struct dispatch_state {
    unsigned workgroup_size_x, workgroup_size_y;
    unsigned short workgroup_size_z, constant_count;
    unsigned workgroup_count_x, workgroup_count_y;
    unsigned short workgroup_count_z;
    unsigned char max_concurrency, binding_count;
    const unsigned *constants;
    void *const *binding_pointers;
    const size *binding_lengths;
} __attribute__((aligned(16)));
struct workgroup_state {
    unsigned workgroup_id_x, workgroup_id_y;
    unsigned short workgroup_id_z, reserved;
    unsigned processor_id;
    void *local_memory;
    unsigned local_memory_size;
} __attribute__((aligned(16)));
typedef int dispatch_function(const struct environment *, const struct dispatch_state *,
                              const struct workgroup_state *);

static const struct environment environment __attribute__((aligned(16)));
static char local_memory[1 << 16] __attribute__((aligned(64)));

__attribute__((noinline))
static void run(dispatch_function *function, unsigned x, unsigned y, unsigned short z, unsigned char bindings,
                void *const *pointers, const size *lengths, unsigned short count, const unsigned *constants) {
    struct dispatch_state dispatch = {1, 1, 1, count, x, y, z, 1, bindings, constants, pointers, lengths};
    struct workgroup_state group = {0, 0, 0, 0, 0, local_memory, sizeof local_memory};
    for (group.workgroup_id_z = 0; group.workgroup_id_z < z; group.workgroup_id_z++)
        for (group.workgroup_id_y = 0; group.workgroup_id_y < y; group.workgroup_id_y++)
            for (group.workgroup_id_x = 0; group.workgroup_id_x < x; group.workgroup_id_x++)
                function(&environment, &dispatch, &group);
}
"""
