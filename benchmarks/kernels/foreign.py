"""Kernels that lrfdse did not make, as artifacts that its meters measure.

All have one C signature, ``void k(const float *x, const float *w, float *y, float *work)``: whatever a kernel needs to
know beside x (packed or not, one array or many) lies in w at offsets that its code holds.
"""

from __future__ import annotations

import functools
import resource
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels.layers import Case
from lrfdse.ir.kernel import Argument, Artifact, Schedule
from lrfdse.targets.target import Target
from lrfdse.toolchain.programs import require_zig

SYMBOL = "bench_kernel"
SIGNATURE = f"void {SYMBOL}(const float *restrict x, const float *restrict w, float *restrict y, float *restrict work)"
ALIGN = 16
"""Elements of a cache line: every array of a pool starts at a multiple."""
BUILD_SECONDS = 60
"""Processor time that a compiler may take."""
_WAITING = 20
"""How much longer than its processor time a program may take on a machine that does other things too."""

Singles = NDArray[np.float32]


class NotAvailableError(Exception):
    """A peer cannot be had on this machine or for this case; the message says why."""


class TooSlowError(Exception):
    """A peer took longer than a row may."""


@dataclass(frozen=True, slots=True)
class Built:
    """A kernel with the arrays of its arguments of role input and weight."""

    artifact: Artifact
    given: tuple[Singles, ...]


@dataclass(frozen=True, slots=True)
class Runtime:
    """A peer that is called through a runtime of its own."""

    kind: str
    """"onnxruntime", "litert", "numpy" or "iree"."""
    model: bytes
    """What the runtime loads."""
    programs: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """Arrays laid out one after the other in one."""

    data: Singles
    offsets: tuple[int, ...]
    """In elements."""

    @classmethod
    def of(cls, parts: Sequence[NDArray[np.floating]]) -> Pool:
        """Lay arrays out, each at a multiple of `ALIGN`.

        >>> Pool.of([np.ones(3), np.ones(20)]).offsets
        (0, 16)
        """
        offsets = layout([part.size for part in parts])
        data = np.zeros(offsets[-1], dtype=np.float32)
        for offset, part in zip(offsets, parts, strict=False):
            data[offset : offset + part.size] = part.ravel()
        return cls(data, offsets[:-1])


def layout(sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the offset of each array of a pool, and behind them its size (at least one line)."""
    offsets = [0]
    for size in sizes:
        offsets.append(offsets[-1] + -(-size // ALIGN) * ALIGN)
    return (*offsets[:-1], max(offsets[-1], ALIGN))


def foreign(
    case: Case, target: Target, object_code: bytes, x: NDArray[np.floating], weights: Singles, work: int
) -> Built:
    """Return an object file with `SYMBOL` as a kernel of `case`."""
    arguments = (
        Argument("x", "input", case.rows * case.layer.inputs),
        Argument("w", "weight", weights.size),
        Argument("y", "output", case.rows * case.layer.outputs),
        Argument("work", "work", max(work, ALIGN)),
    )
    artifact = Artifact(case.spec, Schedule(()), target.name, SYMBOL, arguments, object_code, "")
    return Built(artifact, (x.astype(np.float32).ravel(), weights))


def compile_c(source: str, target: Target, options: Sequence[str] = (), *, compiler: str | None = None) -> bytes:
    """Return the object file of C code; `compiler` is clang under another path, or Pluto's output goes through it."""
    with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as folder:
        here = Path(folder)
        (here / "k.c").write_text(source, encoding="ascii")
        command = [*compiler_command(target, compiler), "-c", "-std=gnu11", "-fPIC", *options, "k.c", "-o", "k.o"]
        run(command, here)
        return (here / "k.o").read_bytes()


def joined(objects: Sequence[bytes], target: Target) -> bytes:
    """Return several object files as one, with memset and memcpy where no C library is at hand."""
    parts = [*objects] if target.is_native else [*objects, _memory_functions(target)]
    if len(parts) == 1:
        return parts[0]
    with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as folder:
        here = Path(folder)
        names = [f"{i}.o" for i in range(len(parts))]
        for name, part in zip(names, parts, strict=True):
            (here / name).write_bytes(part)
        run([require_zig().path, "ld.lld", "-r", *names, "-o", "all.o"], here)
        return (here / "all.o").read_bytes()


def run(command: Sequence[str], folder: Path, seconds: int = BUILD_SECONDS) -> str:
    """Run a program in a folder and return what it prints.

    Raises
    ------
    NotAvailableError
        It is missing or failed.
    TooSlowError
        It took longer than so many seconds of processor time.
    """
    too_slow = TooSlowError(f"{Path(command[0]).name} took more than {seconds} s")

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))

    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_WAITING * seconds,
            check=False,
            preexec_fn=limit,
        )
    except subprocess.TimeoutExpired as error:
        raise too_slow from error
    except OSError as error:
        raise NotAvailableError(f"{command[0]}: {error}") from error
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise too_slow
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        message = lines[0].strip()[:200] if lines else "no message"
        raise NotAvailableError(f"{Path(command[0]).name} failed: {message}")
    return done.stdout


def compiler_command(target: Target, compiler: str | None = None) -> list[str]:
    """Return clang (zig's, unless another is given) with the options of a target's instruction set."""
    native = ["-march=native"]
    if compiler is None:
        cpu = "generic_rv64" if target.isa == "riscv64" else target.cpu.replace("-", "_")
        features = "".join(target.features) if target.isa == "riscv64" else ""
        zig = [require_zig().path, "cc", "-fno-sanitize=undefined"]
        return zig + (native if target.is_native else ["-target", target.link, f"-mcpu={cpu}{features}"])
    if target.is_native:
        return [compiler, *native]
    if target.isa == "riscv64":
        return [compiler, "--target=riscv64-linux-gnu", f"-march={riscv_march(target.features)}", f"-mabi={target.abi}"]
    return [compiler, "--target=aarch64-linux-gnu", f"-mcpu={target.cpu}"]


def riscv_march(features: Sequence[str]) -> str:
    """Return LLVM's features as the text of ``-march``.

    >>> riscv_march(("+m", "+a", "+f", "+d", "+c", "+v", "+zvl256b"))
    'rv64imafdcv_zvl256b'
    """
    names = [feature[1:] for feature in features if feature.startswith("+")]
    single, long = [n for n in names if len(n) == 1], [n for n in names if len(n) > 1]
    return "_".join(["rv64i" + "".join(single), *long])


_MEMORY = """
typedef __SIZE_TYPE__ size;
void *memset(void *to, int value, size count) {
    unsigned char *out = to;
    for (size i = 0; i < count; i++) out[i] = (unsigned char)value;
    return to;
}
void *memcpy(void *restrict to, const void *restrict from, size count) {
    unsigned char *restrict out = to;
    const unsigned char *restrict in = from;
    for (size i = 0; i < count; i++) out[i] = in[i];
    return to;
}
void *memmove(void *to, const void *from, size count) {
    unsigned char *out = to;
    const unsigned char *in = from;
    if (out < in) for (size i = 0; i < count; i++) out[i] = in[i];
    else while (count--) out[count] = in[count];
    return to;
}
"""
"""Vectorized by the compiler: byte loops would hold every kernel back that clears its output through memset."""


@functools.cache
def _memory_functions_of(name: str, options: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="lrfdse-bench-") as folder:
        here = Path(folder)
        (here / "memory.c").write_text(_MEMORY, encoding="ascii")
        run([*options, "-c", "-O3", "-fno-builtin", "-ffreestanding", "-fPIC", "memory.c", "-o", "memory.o"], here)
        return (here / "memory.o").read_bytes()


def _memory_functions(target: Target) -> bytes:
    return _memory_functions_of(target.name, tuple(compiler_command(target)))
