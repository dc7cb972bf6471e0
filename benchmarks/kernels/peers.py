"""Everybody who takes part: which targets, what is needed, and how a case is built."""

from __future__ import annotations

import dataclasses
import functools
import io
import shutil
import sys
import tempfile
from collections.abc import Callable, Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.kernels import iree, loops, tvm_default
from benchmarks.kernels.arrays import Arrays, arrays
from benchmarks.kernels.foreign import (
    Built,
    NotAvailableError,
    Runtime,
    TooSlowError,
    compile_c,
    foreign,
    joined,
    run,
)
from benchmarks.kernels.forms import FORMS, onnx_model
from benchmarks.kernels.layers import Case
from benchmarks.kernels.litert_model import LITERT_FORMS, litert_model
from benchmarks.kernels.rows import Row, failed, key_of, too_slow
from benchmarks.keys import code
from benchmarks.machine import installed
from lrfdse.errors import KernelError, ToolError
from lrfdse.ir.latency import Measurement
from lrfdse.meters.meter import Meter, open_meter
from lrfdse.targets.catalog import load_target
from lrfdse.targets.target import Target

ROW_SECONDS = 60.0
"""What takes longer is too slow."""

_FAST = ("-O3", "-ffast-math")
_POLLY = ("-mllvm", "-polly", "-mllvm", "-polly-process-unprofitable")
_CLANG = "clang-19"
_PLUTO = ("--pet", "--noparallel", "--nounrolljam")


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to compute a layer."""

    group: str
    """The column of the table: the fastest variant of a group counts."""
    variant: str = ""

    @property
    def name(self) -> str:
        """Group and variant."""
        return f"{self.group}/{self.variant}" if self.variant else self.group


OURS = Peer("ours")
OURS_NARROW = Peer("ours, 256-bit")
DIRECT = tuple(Peer("IREE", f"{form} {flags}") for flags in iree.FLAGS for form in FORMS)
IREE_DEFAULT = Peer("IREE", "matmul default")
COMPILED = (
    *(Peer("TVM", form) for form in FORMS),
    Peer("clang"),
    Peer("Polly"),
    Peer("Pluto", "notile"),
    Peer("Pluto", "tile"),
    Peer("plain C"),
)
RUNTIMES = (
    *(Peer("IREE runtime", f"{form} default") for form in FORMS),
    *(Peer("onnxruntime", form) for form in ("matmul", "broadcast")),
    *(Peer("LiteRT", form) for form in LITERT_FORMS),
    Peer("NumPy"),
)


GROUPS = tuple(dict.fromkeys(peer.group for peer in (*DIRECT, *COMPILED, *RUNTIMES)))
"""Whom our kernels are compared with."""


def peers(target: Target, direct: tuple[Peer, ...] = DIRECT, groups: Container[str] | None = None) -> tuple[Peer, ...]:
    """Return who takes part on a target: ours, and of `GROUPS` those named, with the given variants of IREE."""
    ours = (OURS, OURS_NARROW) if target.name == "host-avx512" else (OURS,)
    others = (*direct, *COMPILED, *(RUNTIMES if target.is_native else ()))
    return (*ours, *(peer for peer in others if groups is None or peer.group in groups))


def missing(peer: Peer) -> str | None:
    """Return why a peer cannot take part on this machine, with the command that helps; None where it can."""
    match peer.group:
        case "IREE":
            return iree.unavailable()
        case "IREE runtime":
            return iree.unavailable() or _without("iree-base-runtime", iree.INSTALL)
        case "Polly":
            found = shutil.which(_CLANG) and list(Path("/usr/lib/llvm-19/lib").glob("*Polly*"))
            return None if found else "clang-19 with Polly is missing: sudo apt-get install clang-19 libpolly-19-dev"
        case "Pluto":
            return None if shutil.which("polycc") else "polycc is not on PATH"
        case "LiteRT":
            return _without("ai-edge-litert", "pip install 'ai-edge-litert>=2.0,<3'")
    return None


def _without(package: str, command: str) -> str | None:
    return None if installed(package) else f"{package} is not installed: {command}"


def peer_key(peer: Peer, target: Target) -> str:
    """Return what a peer's number depends on beside case and meter: code, the programs that build it, the target."""
    if peer in (OURS, OURS_NARROW):
        return key_of(peer.name, code(build_ours, arrays), target)
    programs = installed("ziglang"), shutil.which(_CLANG) if peer.group == "Polly" else None, missing(peer)
    return key_of(peer.name, *programs, code(_BUILDERS[peer.group], arrays, _made, _measured), target)


def build(peer: Peer, case: Case, numbers: Arrays, target: Target) -> Built | Runtime | Row:
    """Build a case; a row where there is nothing to measure."""
    if why := missing(peer):
        return failed(f"not available: {why}")
    return _made(_BUILDERS[peer.group], peer, case, numbers, target)


Builder = Callable[[str, Case, Arrays, Target], Built | Runtime]
"""Takes a peer's variant, the case with its numbers, and the target."""


def _made(builder: Builder, peer: Peer, case: Case, numbers: Arrays, target: Target) -> Built | Runtime | Row:
    try:
        return builder(peer.variant, case, numbers, target)
    except NotAvailableError as error:
        return failed(f"not available: {error}")
    except TooSlowError as error:
        return too_slow(str(error))
    except (ToolError, OSError, MemoryError) as error:
        return failed(str(error))


def _iree(variant: str, case: Case, numbers: Arrays, target: Target) -> Built:
    form, flags = variant.split(" ")
    return iree.build_direct(case, numbers, form, flags, target, ROW_SECONDS)


def _iree_runtime(variant: str, case: Case, numbers: Arrays, target: Target) -> Runtime:
    form, flags = variant.split(" ")
    with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as folder:
        module = iree.compile_module(case, numbers, form, flags, target, Path(folder)).read_bytes()
    beside = Path(sys.executable).parent
    programs = {"benchmark": str(beside / "iree-benchmark-module"), "run": str(beside / "iree-run-module")}
    return Runtime("iree", module, programs)


def _tvm(variant: str, case: Case, numbers: Arrays, target: Target) -> Built:
    return tvm_default.build_default(case, numbers, variant, target)


def _clang(variant: str, case: Case, numbers: Arrays, target: Target) -> Built:
    return _compiled(loops.paper(case, numbers), case, numbers, target, None)


def _polly(variant: str, case: Case, numbers: Arrays, target: Target) -> Built:
    return _compiled(loops.paper(case, numbers), case, numbers, target, _CLANG, *_POLLY)


def _pluto(variant: str, case: Case, numbers: Arrays, target: Target) -> Built:
    return _compiled(_rewritten(loops.paper(case, numbers), f"--{variant}"), case, numbers, target, None)


def _plain_c(variant: str, case: Case, numbers: Arrays, target: Target) -> Built:
    return _compiled(loops.plain(case, numbers), case, numbers, target, None)


def _onnxruntime(variant: str, case: Case, numbers: Arrays, target: Target) -> Runtime:
    return Runtime("onnxruntime", onnx_model(case, numbers, variant).SerializeToString())


def _litert(variant: str, case: Case, numbers: Arrays, target: Target) -> Runtime:
    return Runtime("litert", litert_model(case, numbers, variant))


def _numpy(variant: str, case: Case, numbers: Arrays, target: Target) -> Runtime:
    return Runtime("numpy", numpy_model(case, numbers))


_BUILDERS: dict[str, Builder] = {
    "IREE": _iree,
    "IREE runtime": _iree_runtime,
    "TVM": _tvm,
    "clang": _clang,
    "Polly": _polly,
    "Pluto": _pluto,
    "plain C": _plain_c,
    "onnxruntime": _onnxruntime,
    "LiteRT": _litert,
    "NumPy": _numpy,
}


def _compiled(
    source: loops.Source, case: Case, numbers: Arrays, target: Target, compiler: str | None, *options: str
) -> Built:
    code = compile_c(source.text, target, (*_FAST, *options), compiler=compiler)
    return foreign(case, target, joined([code], target), numbers.x, source.weights, source.work)


def _rewritten(source: loops.Source, tiling: str) -> loops.Source:
    """Return loops as Pluto rewrites them, one function at a time: it takes one static control part a file."""
    rewritten = []
    for function in source.functions:
        with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as name:
            folder = Path(name)
            (folder / "k.c").write_text(function, encoding="ascii")
            run(["polycc", "k.c", *_PLUTO, tiling, "-o", "out.c"], folder)
            rewritten.append((folder / "out.c").read_text(encoding="ascii"))
    return dataclasses.replace(source, functions=tuple(rewritten))


def numpy_model(case: Case, numbers: Arrays) -> bytes:
    """Return the weights of a chain of matrix products, in the order of its steps, as an npz file."""
    steps = case.factorization.steps(case.rows)
    matrices = case.factorization.step_matrices(list(numbers.cores))
    file = io.BytesIO()
    weights = {f"w{i}": np.ascontiguousarray(matrix, dtype=np.float32) for i, matrix in enumerate(matrices)}
    np.savez(file, allow_pickle=False, steps=np.array([(s.batch, s.out, s.inner, s.columns) for s in steps]), **weights)
    return file.getvalue()


def build_ours(case: Case, numbers: Arrays, target: Target) -> tuple[Built, Row] | Row:
    """Tune our kernel as an exploration does; return it with its row by the target's own meter."""
    from lrfdse.kernels.data import pack
    from lrfdse.tune import best_kernel

    try:
        artifact, measured = best_kernel(case.spec, target, meter_of(target))
    except KernelError as error:
        return failed(str(error))
    given = (numbers.x.astype(np.float32).ravel(), *pack(artifact, numbers.cores, None))
    return Built(artifact, given), _modelled(measured, str(artifact.schedule))


def measure_emulated(peer: Peer, case: Case, numbers: Arrays, target: Target) -> Row:
    """Build and measure a case on an emulated target."""
    if peer == OURS:
        ours = build_ours(case, numbers, target)
        return ours if isinstance(ours, Row) else ours[1]
    made = build(peer, case, numbers, target)
    if isinstance(made, Row):
        return made
    assert isinstance(made, Built)
    return _measured(made, case, numbers, target)


def _measured(made: Built, case: Case, numbers: Arrays, target: Target) -> Row:
    try:
        measured = meter_of(target).measure(made.artifact, made.given, numbers.expected)
    except KernelError as error:
        text = str(error).removeprefix(f"{case}: ")
        return too_slow(text) if "no result after" in text else failed(text)
    return _modelled(measured, "")


def _modelled(measured: Measurement, note: str) -> Row:
    warm, seen = measured.warm, measured.details
    count = seen.get("instructions")
    return Row(
        warm.us,
        warm.low_us,
        warm.high_us,
        instructions=int(count) if count is not None else None,
        max_error=measured.max_error,
        note=note,
    )


@functools.cache
def _meter(name: str) -> Meter:
    return open_meter("auto", load_target(name), timeout=ROW_SECONDS)


def meter_of(target: Target) -> Meter:
    """Return the meter of a target, opened once a process."""
    return _meter(target.name)
