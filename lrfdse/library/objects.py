"""From C text, object files and weights to one relocatable object and its archive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lrfdse.base.temporary import temporary_folder
from lrfdse.errors import KernelError
from lrfdse.ir.compiled import CompiledOperator
from lrfdse.ir.operators import Foreign
from lrfdse.library.driver import driver
from lrfdse.library.elf import undefined_symbols
from lrfdse.library.interface import Signature, header
from lrfdse.library.layout import LINE, Layout
from lrfdse.targets.target import Target
from lrfdse.toolchain import zig
from lrfdse.toolchain.programs import require_zig

_UNUSED = (".ARM.exidx*", ".ARM.extab*", ".eh_frame*", ".debug_*", ".comment", ".llvm_addrsig")
"""Sections that a library leaves out: nothing unwinds through it, and paths of who built it are nobody's business."""

_HALF = ".text.tvm.fp16.conv"
"""The section of TVM's weak functions that convert half-precision floats, which it adds to every object."""


@dataclass(frozen=True, slots=True)
class Code:
    """The code of a library."""

    object_code: bytes
    """One relocatable object that defines everything it uses; all but the interface is hidden."""
    archive: bytes
    """``libNAME.a``, with that object as its only member."""


def make_code(facts: Signature, layout: Layout, target: Target) -> Code:
    """Return the code of a library; see `make_object`, which has the parameters and the errors."""
    content, compiler = make_object(facts, layout, target), require_zig().path
    with temporary_folder() as here:
        whole, archive = here / f"{facts.name}.o", here / f"lib{facts.name}.a"
        whole.write_bytes(content)
        zig.run_zig([compiler, "ar", "rcsD", str(archive), str(whole)], "making the archive")
        return Code(content, archive.read_bytes())


def make_object(facts: Signature, layout: Layout, target: Target, *, marks: bool = False) -> bytes:
    """Compile the driver and join it with the functions of operators and, where they are inside, the weights.

    Parameters
    ----------
    facts, layout
        The library.
    target
        The machine.
    marks
        Whether ``lrf_mark()`` is called before every operator, which the object then does not define.

    Raises
    ------
    KernelError
        A function of an operator calls something outside.
    ToolError
        zig is missing or failed.
    """
    functions = {step.compiled.symbol: step.compiled for step in layout.steps}
    for function in functions.values():
        check_alone(function)
    compiler, machine = require_zig().path, target.link or target.instruction_set.zig
    with temporary_folder() as here:
        (here / f"{facts.name}.h").write_text(header(facts, target, ""), encoding="utf-8")
        (here / "driver.c").write_text(driver(facts, layout, target), encoding="utf-8")
        options = ("-target", machine, *zig.COMMON, *zig.FREESTANDING, *_OPTIONS, *(("-DLRF_MARKS",) if marks else ()))
        made = here / "driver.o"
        zig.run_zig([compiler, "cc", *options, str(here / "driver.c"), "-o", str(made)], "compiling the library")
        parts = [made]
        for number, function in enumerate(functions.values()):
            parts.append(here / f"{number}.o")
            parts[-1].write_bytes(function.object_code)
        if facts.weights_file is None:
            parts.append(_weights_object(facts.name, layout.weights, compiler, machine, here))
        return _joined(facts.name, parts, _dropped(functions.values()), compiler, here)


_OPTIONS = ("-g0", "-fPIC", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-fno-exceptions")
"""Position-independent, for compilers that make such programs by default; without what nobody reads."""


def check_alone(function: CompiledOperator) -> None:
    """Raise `KernelError` where a function calls something that it does not define."""
    if outside := undefined_symbols(function.object_code):
        kind = type(function.operator).__name__
        raise KernelError(f"operator {kind} as {function.symbol} calls what is not there: {', '.join(outside)}")


def _weights_object(name: str, content: bytes, compiler: str, machine: str, here: Path) -> Path:
    """Return an object with the weights as read-only data.

    The assembler of zig's clang reads them as they are; ``zig cc`` would keep a copy in its cache.
    """
    (here / "weights.bin").write_bytes(content)
    symbol = f"{name}_weights"
    text = [
        f'.section .rodata.{symbol},"a",%progbits',
        f".globl {symbol}",
        f".hidden {symbol}",
        f".type {symbol}, %object",
        f".balign {LINE}",
        f"{symbol}:",
        '.incbin "weights.bin"',
        f".size {symbol}, {len(content)}",
        '.section .note.GNU-stack,"",%progbits',
    ]
    source, made = here / "weights.s", here / "weights.o"
    source.write_text("\n".join(text) + "\n", encoding="ascii")
    command = [compiler, "clang", f"--target={machine}", "-c", f"-I{here}", str(source), "-o", str(made)]
    zig.run_zig(command, "storing the weights")
    return made


def _dropped(functions: Iterable[CompiledOperator]) -> list[str]:
    """Return the sections that are left out."""
    half = any(
        isinstance(function.operator, Foreign) or any(port.element == "float16" for port in function.operator.ports)
        for function in functions
    )
    return [*_UNUSED, *(() if half else (_HALF,))]


def _joined(name: str, parts: Sequence[Path], dropped: Sequence[str], compiler: str, here: Path) -> bytes:
    script, whole = here / "sections", here / f"{name}.o"
    script.write_text(f"SECTIONS {{ /DISCARD/ : {{ *({' '.join(dropped)}) }} }}\n", encoding="ascii")
    inputs = [*map(str, parts), "-o", str(whole)]
    zig.run_zig([compiler, "ld.lld", "-r", "--strip-debug", "-T", str(script), *inputs], "joining the library")
    return whole.read_bytes()
