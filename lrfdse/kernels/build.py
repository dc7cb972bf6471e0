"""Compiling a scheduled kernel to an object file with one plain C symbol, through TVM's LLVM back end."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lrfdse.errors import KernelError
from lrfdse.ir.kernel import Artifact, KernelSpec, Schedule
from lrfdse.ir.storage import FLOAT32
from lrfdse.kernels.layout import tilings
from lrfdse.kernels.registers import RegisterFile
from lrfdse.targets.target import Target

if TYPE_CHECKING:
    from lrfdse.kernels.instructions import Instructions
    from lrfdse.kernels.tir import Buffer, Stmt

_LLVM_OPTIONS = (
    # Tiles need the registers that LLVM would otherwise spend on loads that it moves out of the loops over tiles:
    # without alias information it cannot cross the stores at the end of a tile.
    "-enable-tbaa:bool=false",
    # The schedule unrolls.
    "-unroll-full-max-count:uint=1",
    "-unroll-allow-partial:bool=false",
)
"""Options of LLVM for every kernel."""

_LLVM_OPTIONS_AHEAD = (
    # Short loops, whose loads LLVM would all move to the front.
    "-unroll-threshold-aggressive:uint=0",
    "-unroll-threshold-default:uint=0",
    # Scalars that lie side by side would be loaded as vectors and taken apart again.
    "-vectorize-slp:bool=false",
    # Loads are to lie among the arithmetic, not side by side.
    "-misched-cluster:bool=false",
)
"""Further options for instruction sets whose kernels load ahead (`InstructionSet.loads_ahead`)."""


def compile_kernel(
    spec: KernelSpec, schedule: Schedule, target: Target, symbol: str, assembly: bool = False
) -> Artifact:
    """Compile `spec` as ``void symbol(float *x, float *w0, ..., [float *bias,] float *y, [float *work0, ...])``.

    The object calls nothing and needs no runtime. `Artifact.arguments` gives the parameters; weights are in the order
    that `pack` writes.

    Parameters
    ----------
    spec
        What the kernel computes.
    schedule
        Its register tiling, for example one of `schedules`.
    target
        The machine.
    symbol
        Name of the C function.
    assembly
        Whether `Artifact.assembly` is wanted, for which LLVM generates the code once more.

    Raises
    ------
    KernelError
        The schedule does not fit the kernel, or the compiler refused it.
    """
    from lrfdse.kernels.chain import arguments, function

    target = target.reading(spec.storage)
    tiles = tilings(spec, schedule)
    listed = arguments(spec, tiles, target)

    def made() -> tuple[Sequence[Buffer], Stmt]:
        return function(spec, tiles, instructions_of(target), target)

    code, listing = compile_function(made, target, symbol, f"{spec} as {schedule}", assembly)
    return Artifact(spec, schedule, target.name, symbol, listed, code, listing)


def compile_function(
    function: Callable[[], tuple[Sequence[Buffer], Stmt]],
    target: Target,
    symbol: str,
    what: str,
    assembly: bool = False,
) -> tuple[bytes, str]:
    """Compile a function as ``void symbol(pointer, ...)``; return the object file and, where asked for, its assembly.

    Parameters
    ----------
    function
        Returns the buffers that the pointers stand for, in order, and the body.
    target
        The machine.
    symbol
        Name of the C function.
    what
        What is compiled, for messages.
    assembly
        Whether the assembly is wanted.

    Raises
    ------
    KernelError
        `symbol` is no name of C, or the compiler refused the function.
    """
    if not re.fullmatch(r"[A-Za-z_]\w*", symbol):
        raise KernelError(f"symbol {symbol!r} is no C identifier")
    import tvm
    from tvm import tirx

    try:
        buffers, body = function()
        machine = tvm_target(target)
        pointers = [tirx.Var(b.name, b.data.ty) for b in buffers]
        declared = [tirx.DeclBuffer(b, data=p) for b, p in zip(buffers, pointers, strict=True)]
        made = tirx.PrimFunc(pointers, tirx.SeqStmt([*declared, body]))
        made = made.with_attr({"global_symbol": symbol, "target": machine})
        lowered = tirx.transform.LowerIntrin()(tvm.IRModule({symbol: made}))
        library = tvm.get_global_func("target.build.llvm")(lowered, machine)
        # Into memory: where a disk is full, LLVM ends this process.
        with open(os.memfd_create("kernel.o"), "rb") as file:
            library.write_to_file(f"/proc/self/fd/{file.fileno()}", "o")
            object_code = file.read()
        return object_code, _body(library.inspect_source("asm"), symbol) if assembly else ""
    except (RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise KernelError(f"TVM could not compile {what} for {target.name}: {reason}") from error


def instructions_of(target: Target) -> Instructions:
    """Return what code generation for `target` does that TIR does not say by itself."""
    from lrfdse.kernels.instructions import Instructions

    instruction_set, vectors = target.instruction_set, target.vectors
    return Instructions(
        explicit_fma=instruction_set.explicit_fma in target.features,
        strided=vectors.strided,
        reducing=vectors.reducing,
        adds_to_convert=target.slow_conversions,
        widens=instruction_set.widens,
        ahead=RegisterFile.of(target) if instruction_set.loads_ahead else None,
        line=target.line // FLOAT32.bytes_of(1),
    )


def tvm_target(target: Target) -> Any:
    """Return `target` as TVM's: LLVM, one core."""
    import tvm

    instruction_set = target.instruction_set
    described: dict[str, Any] = {
        "kind": "llvm",
        "mtriple": target.triple,
        "mcpu": tvm.target.codegen.llvm_get_system_cpu() if target.cpu == "native" else target.cpu,
        "num-cores": 1,
        "cl-opt": [*_LLVM_OPTIONS, *(_LLVM_OPTIONS_AHEAD if instruction_set.loads_ahead else ())],
    }
    if instruction_set.reassociates:
        described["fast-math-reassoc"] = True
    features = list(target.features)
    if target.in_order and instruction_set.reorders and target.is_scheduled:
        # By another core's model or none, code was as often slower as faster.
        features.append(instruction_set.reorders)
    if features:
        described["mattr"] = features
    if target.abi:
        described[instruction_set.abi_option] = target.abi
    return tvm.target.Target(described)


def _body(assembly: str, symbol: str) -> str:
    """Return the kernel's own lines: no debug information, nothing of the half-precision helpers that TVM adds."""
    found = re.search(rf"^{symbol}:.*?^\s*\.size\s+{symbol},", assembly, re.MULTILINE | re.DOTALL)
    text = found[0].rsplit("\n", 1)[0] if found else assembly
    noise = re.compile(r"\s*(\.(loc|cfi_\w+|file|fnstart|fnend|save|vsave|pad|setfp)\b|\.L(tmp|func_\w+)\d*:)")
    return "\n".join(line for line in text.splitlines() if line.strip() and not noise.match(line)) + "\n"
